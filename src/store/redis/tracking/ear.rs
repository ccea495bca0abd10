//! Listens to one server: connects, asks to be told, and hands on what is told, for ever.

use super::super::handshake::{self, Upstream};
use super::probe::Probe;
use super::{Coverage, Heard, Sign, prefixes};
use crate::resp::scan::{ReplyScanner, bulk, elements};
use crate::resp::write::{self, Protocol};
use crate::store::{Identity, StoreError};
use crate::transport::Transport;
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// See the module's page.
pub struct Ear {
    upstream: Arc<Upstream>,
    slot: u16,
    prefixes: Vec<Vec<u8>>,
    coverage: Arc<Coverage>,
    delay: metrics::Histogram,
    /// What was logged last, so that it is logged once.
    told: String,
}

/// Why listening has ended.
struct Ended {
    /// Label of metrics.
    reason: &'static str,
    error: StoreError,
}

/// The pauses before connecting again, as those of other links.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Size of one read.
const READ: usize = 16 << 10;
/// A push that is longer tells of so many keys that all may as well have changed.
const MOST_PUSH: usize = 4 << 20;
/// `>2 invalidate [key …]`, and no reply to what is asked here is deeper.
const MOST_DEPTH: usize = 8;

impl Ear {
    pub(super) fn new(upstream: Arc<Upstream>, slot: u16, prefixes: &[Vec<u8>], coverage: Arc<Coverage>) -> Self {
        let delay = metrics::histogram!("weir_near_push_delay_seconds");
        Ear { upstream, slot, prefixes: prefixes.to_vec(), coverage, delay, told: String::new() }
    }

    /// Runs for as long as it is let.
    pub async fn listen(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut moves = self.upstream.moves();
        // The probe's database; changes are told of all.
        let identity = Identity { protocol: Protocol::Resp3, db: self.upstream.db(), user: None };
        loop {
            let mut begun = None;
            let ended = match handshake::connect_private(&self.upstream, &identity, &mut moves).await {
                Ok((stream, _)) => {
                    begun = Some(Instant::now());
                    let session = Session::new(&self, stream);
                    let heard = async {
                        tokio::select! {
                            biased;
                            ended = session.run() => ended,
                            error = moves.next() => Ended { reason: "moved", error },
                        }
                    };
                    // A fault of our own must not leave behind what looks as if it heard.
                    let heard = AssertUnwindSafe(heard).catch_unwind().await;
                    heard.unwrap_or_else(|_| Ended::lost("the listening task failed".into()))
                }
                Err(error) => Ended { reason: "lost", error },
            };
            if begun.is_some_and(|begun| begun.elapsed() > LONGEST_PAUSE) {
                // All was well meanwhile: the trouble is new.
                pause = FIRST_PAUSE;
                self.told.clear();
            }
            self.tell(&ended);
            sleep(pause.mul_f64(1.0 + fastrand::f64() / 3.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The same trouble is logged once.
    fn tell(&mut self, ended: &Ended) {
        let text = ended.error.to_string();
        if text != self.told {
            let (upstream, reason) = (self.upstream.address(), ended.reason);
            tracing::warn!(%upstream, reason, error = %text, "changes are not heard of: the near cache is closed");
            self.told = text;
        }
    }
}

impl Ended {
    fn lost(text: String) -> Self {
        Ended { reason: "lost", error: StoreError::Unavailable(text) }
    }

    fn broke(error: &io::Error) -> Self {
        Ended::lost(format!("the link broke: {error}"))
    }

    fn stalled() -> Self {
        Ended { reason: "stalled", error: StoreError::Timeout }
    }
}

/// One connection.
struct Session<'a> {
    ear: &'a Ear,
    stream: Transport,
    probe: Probe,
    /// Once the server has agreed to tell.
    heard: Option<Heard>,
    /// Those who ask for a sign.
    signs: mpsc::UnboundedReceiver<Sign>,
    /// To be given to those who may ask.
    door: mpsc::UnboundedSender<Sign>,
    /// What the server has been asked, in order.
    asked: VecDeque<Asked>,
    scanner: ReplyScanner,
    bytes: Vec<u8>,
}

/// What a reply is the answer to.
enum Asked {
    /// CLIENT TRACKING.
    ToTell,
    /// The probe.
    Probe,
    /// A PING on behalf of these.
    Sign(Vec<Sign>),
}

impl<'a> Session<'a> {
    fn new(ear: &'a Ear, stream: Transport) -> Self {
        let probe = Probe::new(ear.slot, ear.upstream.timeout);
        let scanner = ReplyScanner::new(MOST_DEPTH);
        let (door, signs) = mpsc::unbounded_channel();
        let (bytes, asked) = Default::default();
        Session { ear, stream, probe, heard: None, signs, door, asked, scanner, bytes }
    }

    /// Listens until that ends, and says so at once.
    async fn run(mut self) -> Ended {
        let ended = match self.work().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if let Some(heard) = &mut self.heard {
            heard.reason = ended.reason;
        }
        ended
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Ended> {
        let request = self.request();
        self.ask(&request, Asked::ToTell).await?;
        let agreed_by = Instant::now() + self.ear.upstream.timeout;
        // Bytes of `self.bytes` that the scanner has seen.
        let mut scanned = 0;
        loop {
            let due = if self.heard.is_some() { self.probe.due() } else { agreed_by };
            self.bytes.reserve(READ);
            tokio::select! {
                // What has come before the time was up has come in time.
                biased;
                read = self.stream.read_buf(&mut self.bytes) => match read {
                    Ok(0) => return Err(Ended::lost("the upstream closed the connection".into())),
                    Ok(_) => scanned = self.take(scanned)?,
                    Err(error) => return Err(Ended::broke(&error)),
                },
                () = sleep_until(due) => {
                    if self.heard.is_none() {
                        return Err(Ended::stalled());
                    }
                    let command = self.probe.send(Instant::now()).ok_or_else(Ended::stalled)?;
                    self.ask(&command, Asked::Probe).await?;
                }
                Some(sign) = self.signs.recv() => {
                    let mut waiting = vec![sign];
                    while let Ok(sign) = self.signs.try_recv() {
                        waiting.push(sign);
                    }
                    self.ask(b"*1\r\n$4\r\nPING\r\n", Asked::Sign(waiting)).await?;
                }
            }
        }
    }

    /// CLIENT TRACKING, for the routes' prefixes and the probe's.
    fn request(&self) -> Vec<u8> {
        let mut heads: Vec<&[u8]> = self.ear.prefixes.iter().map(Vec::as_slice).collect();
        heads.push(self.probe.key());
        let prefixes = prefixes::reduce(&heads);
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST"];
        words.extend(prefixes.iter().flat_map(|prefix| [&b"PREFIX"[..], prefix]));
        write::whole_command(words)
    }

    async fn ask(&mut self, command: &[u8], asked: Asked) -> Result<(), Ended> {
        self.asked.push_back(asked);
        let sent = async {
            self.stream.write_all(command).await?;
            self.stream.flush().await
        };
        match timeout(self.ear.upstream.timeout, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::broke(&error)),
            Err(_) => Err(Ended::stalled()),
        }
    }

    /// Acts on every whole frame of what has come, of which `scanned` bytes are known to be of the first; answers how many
    /// bytes of the rest are known.
    fn take(&mut self, mut scanned: usize) -> Result<usize, Ended> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut begin = 0;
        loop {
            let progress = self
                .scanner
                .advance(&bytes[scanned..])
                .map_err(|error| Ended { reason: "protocol", error: StoreError::Protocol(error.to_string()) })?;
            scanned += progress.consumed;
            if !progress.complete {
                break;
            }
            self.act(&bytes[begin..scanned])?;
            begin = scanned;
        }
        self.bytes = bytes;
        self.bytes.drain(..begin);
        if self.bytes.len() > MOST_PUSH {
            let error = StoreError::Protocol(format!("a push of more than {MOST_PUSH} bytes"));
            return Err(Ended { reason: "too_long", error });
        }
        // What one long push has needed is not kept for short ones.
        self.bytes.shrink_to(2 * READ);
        Ok(scanned - begin)
    }

    fn act(&mut self, frame: &[u8]) -> Result<(), Ended> {
        if frame.starts_with(b">") {
            self.hear(frame);
            return Ok(());
        }
        let is_error = frame.starts_with(b"-") || frame.starts_with(b"!");
        let refused = |reason| {
            Err(Ended { reason, error: StoreError::Refused(String::from_utf8_lossy(frame).trim_end().to_owned()) })
        };
        match self.asked.pop_front() {
            Some(Asked::ToTell) if is_error => return refused("refused"),
            Some(Asked::ToTell) => {
                tracing::debug!(upstream = %self.ear.upstream.address(), "changes are heard of");
                self.heard = Some(self.ear.coverage.heard(self.door.clone()));
            }
            // It has become a replica, or lost the probe's slot: what changes now may change elsewhere.
            Some(Asked::Probe) if frame.starts_with(b"-READONLY") || frame.starts_with(b"-MOVED") => {
                return refused("no_master");
            }
            Some(Asked::Probe) => self.probe.answered(is_error),
            // Whatever the answer is, it came behind all that was told before.
            Some(Asked::Sign(waiting)) => waiting.into_iter().for_each(|sign| {
                // Who asked may have left.
                let _ = sign.send(());
            }),
            None => {
                let error = StoreError::Protocol("a reply that nobody asked for".into());
                return Err(Ended { reason: "protocol", error });
            }
        }
        Ok(())
    }

    /// `>2 invalidate [key …]`, or nil in place of the keys: all of them.
    fn hear(&mut self, frame: &[u8]) {
        let mut parts = elements(frame).map(|range| &frame[range]);
        if parts.next().and_then(bulk) != Some(b"invalidate") {
            return;
        }
        let Some(keys) = parts.next() else { return };
        let hears = &self.ear.coverage.hears;
        if !keys.starts_with(b"*") || keys.starts_with(b"*-") {
            self.ear.upstream.trust().look_again();
            return hears.all_changed();
        }
        for key in elements(keys).filter_map(|range| bulk(&keys[range])) {
            match key == self.probe.key() {
                true => self.probe.heard(Instant::now()).map_or((), |delay| self.ear.delay.record(delay.as_secs_f64())),
                false => hears.changed(key),
            }
        }
    }
}
