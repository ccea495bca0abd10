//! One pipelined connection to the upstream, shared by all clients of a worker that have the same identity.
//!
//! Whoever has commands to send appends their bytes and one *entry* that says how many replies are owed and to whom.
//! The link's task writes everything that has gathered with one write per wake-up, and hands the bytes of the replies
//! back, entry by entry, in order. It never waits for a whole reply: bytes go on as they come.
//!
//! Promises: an entry is answered exactly once, by its own replies or by one failure; once nothing has moved on the link
//! for `timeout`, what has waited so long has failed, and its late replies reach nobody; a broken link fails what was in flight and reconnects with
//! jittered back-off; what is queued is bounded, because a link that has stopped answering takes nothing more.
//! Everything here stays on one thread. tests/serve_upstream.rs holds it to this with a stopped and a restarted Redis.

use super::handshake::{self, Upstream};
use crate::resp::scan::{Advanced, ReplyScanner};
use crate::store::{Identity, StoreError};
use crate::transport::Transport;
use futures_util::FutureExt;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Who is owed replies. Called on the link's thread, while nothing of the link is borrowed.
pub trait Sink {
    /// Some more bytes of the replies to entry `id`.
    fn reply(&self, id: u64, part: Part<'_>);

    /// Entry `id` will get no more: `missing` replies did not come, or not to their end.
    fn failed(&self, id: u64, missing: u32, error: &StoreError);
}

/// Bytes of an entry's replies, as they came.
pub struct Part<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// So many of them go up to the end of a reply; the others belong to a reply that is not yet whole.
    pub whole: usize,
    /// These are the last.
    pub done: bool,
    /// Which of the entry's replies, counted from its first, begin here and are errors.
    pub errors: &'a [u32],
}

/// Takes replies that nobody wants.
struct Discard;

impl Sink for Discard {
    fn reply(&self, _: u64, _: Part<'_>) {}
    fn failed(&self, _: u64, _: u32, _: &StoreError) {}
}

struct Entry {
    replies: u32,
    missing: u32,
    sink: Rc<dyn Sink>,
    id: u64,
    sent: Instant,
}

impl Entry {
    /// Replies that are complete, and those that are not.
    fn progress(&self) -> (u32, u32) {
        (self.replies - self.missing, self.missing)
    }
}

/// A handle to the link; clones share it.
#[derive(Clone)]
pub struct Link(Rc<Inner>);

struct Inner {
    upstream: Arc<Upstream>,
    identity: Identity,
    state: Cell<State>,
    why_down: RefCell<StoreError>,
    /// Bytes that wait for the next write.
    out: RefCell<Vec<u8>>,
    entries: RefCell<VecDeque<Entry>>,
    discard: Rc<dyn Sink>,
    /// The driver's waker, taken when it is woken, so that a wake-up with many commands wakes it once.
    driver: Cell<Option<Waker>>,
    /// When bytes last moved, in either direction. A reply that is long in coming, or a command that is long in going,
    /// is no reason to give up while it comes or goes.
    progress: Cell<Instant>,
    /// Clients that wait until `out` has room.
    waiting_for_room: RefCell<Vec<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Never connected yet, or connecting again at once: commands may queue for it.
    Connecting,
    /// Connected.
    Up,
    /// Connected, but the oldest entry has waited longer than the timeout: takes nothing until bytes come.
    Stalled,
    /// Known to be down: commands fail at once.
    Down,
}

/// Above this many unwritten bytes clients stop being read.
const ROOM: usize = 8 << 20;
/// First pause before connecting again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A Redis that is back is found within this, or a third more.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A stalled link is given up after this many timeouts without a byte.
const STALLED_TIMEOUTS: u32 = 4;
/// Size of one read.
const READ: usize = 64 << 10;
/// Nesting that a reply may have: deeper than any Redis makes.
const MOST_DEPTH: usize = 128;

impl Link {
    /// A link that connects as soon as its worker's runtime gets to it.
    pub fn open(upstream: Arc<Upstream>, identity: Identity) -> Self {
        let link = Link(Rc::new(Inner {
            upstream,
            identity,
            state: Cell::new(State::Connecting),
            why_down: RefCell::new(StoreError::Unavailable("not connected yet".into())),
            out: RefCell::default(),
            entries: RefCell::default(),
            discard: Rc::new(Discard),
            driver: Cell::new(None),
            progress: Cell::new(Instant::now()),
            waiting_for_room: RefCell::default(),
        }));
        tokio::task::spawn_local(drive(link.0.clone()));
        link
    }

    /// Appends whole commands that will be answered by `replies` replies, all of them for entry `id` of `sink`.
    pub fn send(&self, commands: &[u8], replies: u32, sink: &Rc<dyn Sink>, id: u64) {
        let inner = &self.0;
        match inner.state.get() {
            State::Up | State::Connecting => inner.enqueue(commands, replies, sink.clone(), id),
            State::Stalled => sink.failed(id, replies, &StoreError::Timeout),
            State::Down => sink.failed(id, replies, &inner.why_down.borrow().clone()),
        }
    }

    /// Appends whole commands whose replies nobody wants.
    pub fn send_and_forget(&self, commands: &[u8], replies: u32) {
        self.send(commands, replies, &self.0.discard.clone(), 0);
    }

    /// Ready once the link has room for more; clients wait for it before they are read.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.out.borrow().len() < ROOM {
            return Poll::Ready(());
        }
        self.0.waiting_for_room.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Whether anybody but one holder of this handle, and the link's own task, has one.
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 2
    }
}

impl Inner {
    fn enqueue(&self, commands: &[u8], replies: u32, sink: Rc<dyn Sink>, id: u64) {
        self.out.borrow_mut().extend_from_slice(commands);
        self.entries.borrow_mut().push_back(Entry { replies, missing: replies, sink, id, sent: Instant::now() });
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Hands bytes to the entries that they answer; returns how many were used.
    fn deliver(&self, scanner: &mut ReplyScanner, bytes: &[u8]) -> Result<usize, StoreError> {
        let mut used = 0;
        let mut errors = Vec::new();
        while used < bytes.len() {
            let (answered, missing) = self.entries.borrow().front().map_or((0, 0), Entry::progress);
            errors.clear();
            let advanced = scanner
                .advance_many(&bytes[used..], missing as usize, |reply| errors.push(answered + reply as u32))
                .map_err(broken)?;
            if advanced.consumed == 0 {
                match self.skip_push(scanner, &bytes[used..])? {
                    0 => break,
                    skipped => used += skipped,
                }
                continue;
            }
            self.hand_over(&bytes[used..used + advanced.consumed], advanced, &errors);
            used += advanced.consumed;
        }
        Ok(used)
    }

    /// A push frame at the top level is nobody's reply.
    fn skip_push(&self, scanner: &mut ReplyScanner, bytes: &[u8]) -> Result<usize, StoreError> {
        if !scanner.is_push() && bytes[0] != b'>' {
            let unasked = self.entries.borrow().is_empty();
            return if unasked { Err(StoreError::Protocol("a reply that nobody asked for".into())) } else { Ok(0) };
        }
        Ok(scanner.advance(bytes).map_err(broken)?.consumed)
    }

    fn hand_over(&self, bytes: &[u8], advanced: Advanced, errors: &[u32]) {
        let (sink, id, done) = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.front_mut().expect("bytes are consumed only for an entry that misses replies");
            entry.missing -= advanced.completed as u32;
            let done = entry.missing == 0;
            let answered = (entry.sink.clone(), entry.id, done);
            if done {
                entries.pop_front();
            }
            answered
        };
        sink.reply(id, Part { bytes, whole: advanced.whole, done, errors });
    }

    /// The instant at which the oldest entry that still waits will have waited too long.
    fn next_deadline(&self) -> Option<Instant> {
        let entries = self.entries.borrow();
        let waiting = entries.iter().find(|entry| !Rc::ptr_eq(&entry.sink, &self.discard))?;
        Some(self.deadline(waiting))
    }

    /// An entry has waited too long once nothing has moved for the timeout since it was sent.
    fn deadline(&self, entry: &Entry) -> Instant {
        entry.sent.max(self.progress.get()) + self.upstream.timeout
    }

    /// Fails the entries that have waited too long. They stay in the queue, so that their late replies are swallowed.
    fn time_out(&self, now: Instant) {
        loop {
            let overdue = {
                let mut entries = self.entries.borrow_mut();
                let waiting = entries.iter_mut().find(|entry| !Rc::ptr_eq(&entry.sink, &self.discard));
                waiting
                    .filter(|entry| self.deadline(entry) <= now)
                    .map(|entry| (std::mem::replace(&mut entry.sink, self.discard.clone()), entry.id, entry.missing))
            };
            let Some((sink, id, missing)) = overdue else { return };
            self.state.set(State::Stalled);
            sink.failed(id, missing, &StoreError::Timeout);
        }
    }

    /// Fails everything in flight: the link is gone, or could not be made.
    fn fail_all(&self, error: &StoreError) {
        *self.why_down.borrow_mut() = error.clone();
        self.out.borrow_mut().clear();
        let entries = std::mem::take(&mut *self.entries.borrow_mut());
        for entry in entries {
            entry.sink.failed(entry.id, entry.missing, error);
        }
        self.wake_waiting_for_room();
    }

    fn wake_waiting_for_room(&self) {
        for waker in self.waiting_for_room.take() {
            waker.wake();
        }
    }
}

/// Connects, carries bytes until the link breaks, and begins again, for as long as anybody holds a handle.
async fn drive(inner: Rc<Inner>) {
    let mut pause = FIRST_PAUSE;
    while Rc::strong_count(&inner) > 1 {
        let error = match handshake::connect(&inner.upstream, &inner.identity).await {
            Ok(stream) => {
                pause = FIRST_PAUSE;
                inner.state.set(State::Up);
                inner.upstream.note_link(true);
                tracing::debug!(protocol = ?inner.identity.protocol, db = inner.identity.db, "upstream link is up");
                // A fault of our own must not leave a link behind that looks alive and carries nothing.
                let ended = AssertUnwindSafe(carry(&inner, stream)).catch_unwind().await;
                inner.upstream.note_link(false);
                ended.unwrap_or_else(|_| StoreError::Unavailable("the link's task failed".into()))
            }
            Err(error) => error,
        };
        inner.state.set(State::Down);
        inner.upstream.note_failure(&error);
        inner.fail_all(&error);
        tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 3.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Carries bytes in both directions; returns why the link ended.
async fn carry(inner: &Rc<Inner>, mut stream: Transport) -> StoreError {
    let mut wire = Wire {
        scanner: ReplyScanner::new(MOST_DEPTH),
        scratch: vec![0; READ].into_boxed_slice(),
        tail: Vec::new(),
        writing: Vec::new(),
        written: 0,
    };
    let mut timer = pin!(tokio::time::sleep(inner.upstream.timeout));
    poll_fn(|cx| {
        inner.driver.set(Some(cx.waker().clone()));
        if let Poll::Ready(error) = wire.poll_write(inner, &mut stream, cx) {
            return Poll::Ready(error);
        }
        if let Poll::Ready(error) = wire.poll_read(inner, &mut stream, cx) {
            return Poll::Ready(error);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            inner.time_out(now);
            if inner.state.get() == State::Stalled
                && inner.progress.get() + inner.upstream.timeout * STALLED_TIMEOUTS <= now
            {
                return Poll::Ready(StoreError::Timeout);
            }
            let next = inner.next_deadline().unwrap_or(now + inner.upstream.timeout).max(now + TICK);
            timer.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await
}

/// The finest step in which timeouts are looked at.
const TICK: Duration = Duration::from_millis(1);

/// One connection's buffers.
struct Wire {
    scanner: ReplyScanner,
    scratch: Box<[u8]>,
    /// Bytes that the scanner could not use yet: part of one header line.
    tail: Vec<u8>,
    writing: Vec<u8>,
    written: usize,
}

impl Wire {
    fn poll_write(&mut self, inner: &Inner, stream: &mut Transport, cx: &mut Context<'_>) -> Poll<StoreError> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                if self.writing.capacity() > READ {
                    self.writing = Vec::new();
                }
                std::mem::swap(&mut self.writing, &mut inner.out.borrow_mut());
                if self.writing.is_empty() {
                    return Poll::Pending;
                }
                inner.wake_waiting_for_room();
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.writing[self.written..])) {
                Ok(count) => {
                    self.written += count;
                    inner.progress.set(Instant::now());
                }
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
    }

    fn poll_read(&mut self, inner: &Inner, stream: &mut Transport, cx: &mut Context<'_>) -> Poll<StoreError> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.scratch);
            if let Err(error) = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                return Poll::Ready(lost(&error));
            }
            let count = buffer.filled().len();
            if count == 0 {
                return Poll::Ready(StoreError::Unavailable("the upstream closed the connection".into()));
            }
            inner.progress.set(Instant::now());
            if inner.state.get() == State::Stalled {
                inner.state.set(State::Up);
            }
            if let Err(error) = self.take(inner, count) {
                return Poll::Ready(error);
            }
        }
    }

    fn take(&mut self, inner: &Inner, count: usize) -> Result<(), StoreError> {
        let fresh = &self.scratch[..count];
        if self.tail.is_empty() {
            let used = inner.deliver(&mut self.scanner, fresh)?;
            self.tail.extend_from_slice(&fresh[used..]);
        } else {
            self.tail.extend_from_slice(fresh);
            let used = inner.deliver(&mut self.scanner, &self.tail)?;
            self.tail.drain(..used);
        }
        Ok(())
    }
}

fn broken(error: crate::resp::scan::ProtocolError) -> StoreError {
    StoreError::Protocol(error.to_string())
}

fn lost(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("the link broke: {error}"))
}
