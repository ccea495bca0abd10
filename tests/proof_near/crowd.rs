//! Readers and writers on all Weirs, without a pause. A writer commits a row's next version and then invalidates its key, or
//! sets it, through whichever Weir; a reader judges every answer.

use crate::harness::{Client, Reply, Weir, size};
use crate::shop::Shop;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub struct Crowd<'a> {
    shop: &'a Shop,
    weirs: &'a [Weir],
    /// The longest that anything is kept near.
    near: Duration,
    seed: u64,
    reads: AtomicU64,
    ends: AtomicBool,
    figures: Mutex<Figures>,
}

#[derive(Debug, Default)]
pub struct Figures {
    pub reads: u64,
    pub changes: u64,
    /// Of answers that did not show what another Weir had acknowledged: how long ago that was when the read began.
    pub delays: Vec<Duration>,
    pub wrong: Vec<String>,
}

impl Figures {
    fn add(&mut self, other: Figures) {
        self.reads += other.reads;
        self.changes += other.changes;
        self.delays.extend(other.delays);
        self.wrong.extend(other.wrong);
    }

    #[track_caller]
    pub fn assert_right(&self) {
        let stories: Vec<&str> = self.wrong.iter().take(20).map(String::as_str).collect();
        assert!(stories.is_empty(), "{} wrong answers:\n{}", self.wrong.len(), stories.join("\n"));
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let at = |share: f64| delays.get(((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1)));
        let at = |share: f64| at(share).copied().unwrap_or_default();
        write!(
            f,
            "{} reads and {} changes, {} wrong answers; {} reads before the push of another Weir's change was there, by \
             p50 {:?}, p99 {:?}, max {:?}",
            self.reads,
            self.changes,
            self.wrong.len(),
            delays.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

impl<'a> Crowd<'a> {
    pub fn new(shop: &'a Shop, weirs: &'a [Weir], near: Duration, seed: u64) -> Crowd<'a> {
        let (reads, ends, figures) = Default::default();
        Crowd { shop, weirs, near, seed, reads, ends, figures }
    }

    /// Until so many reads are judged; `disturb` is run again and again meanwhile.
    pub fn work(&self, reads: u64, mut disturb: impl FnMut()) -> Figures {
        let (readers, writers) = (size("WEIR_PROOF_CLIENTS", 9), size("WEIR_PROOF_WRITERS", 3));
        std::thread::scope(|threads| {
            // Also when a thread panics; else the scope would wait for ever.
            let ends = EndOnDrop(&self.ends);
            for number in 0..readers {
                threads.spawn(move || self.read(number));
            }
            for number in 0..writers {
                threads.spawn(move || self.write(number, writers));
            }
            while self.reads.load(SeqCst) < reads && !self.ends.load(SeqCst) {
                disturb();
                std::thread::park_timeout(Duration::from_millis(5));
            }
            drop(ends);
        });
        std::mem::take(&mut *self.figures.lock().expect("no thread panics with it"))
    }

    fn read(&self, number: u64) {
        let _ends = EndOnPanic(&self.ends);
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(number));
        let weir = number as usize % self.weirs.len();
        let mut client = self.weirs[weir].client();
        let mut figures = Figures::default();
        while !self.ends.load(SeqCst) {
            let row = self.shop.pick(&mut random);
            let (bounds, begun) = (self.shop.bounds(row, weir), Instant::now());
            let reply = client.run(&format!("GET row:{row}"));
            let version = match &reply {
                Reply::Bulk(bytes) => std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| text.strip_prefix(&format!("row {row} version "))?.parse::<u64>().ok()),
                _ => None,
            };
            figures.reads += 1;
            self.reads.fetch_add(1, SeqCst);
            let missed = version.and_then(|version| bounds.missed(version));
            let delay = missed.map(|change| begun.saturating_duration_since(change.at));
            if version.is_none_or(|version| version < bounds.own) || delay.is_some_and(|delay| delay >= self.near) {
                let own = bounds.own;
                figures.wrong.push(format!(
                    "Weir {weir}: GET row:{row} answered {reply:?}; it had acknowledged version {own} itself, and \
                     {missed:?} was acknowledged {delay:?} before"
                ));
            }
            figures.delays.extend(delay);
        }
        self.figures.lock().expect("no thread panics with it").add(figures);
    }

    fn write(&self, number: u64, writers: u64) {
        let _ends = EndOnPanic(&self.ends);
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(1_000_000 + number));
        let mut clients: Vec<Client> = self.weirs.iter().map(Weir::client).collect();
        let mut figures = Figures::default();
        while !self.ends.load(SeqCst) {
            // Each row has one writer, whose versions come in order.
            let row = self.shop.pick(&mut random);
            let row = row - row % writers as usize + number as usize;
            if row >= self.shop.rows() {
                continue;
            }
            let (version, weir) = (self.shop.change(row), random.usize(..self.weirs.len()));
            let reply = match random.bool() {
                true => clients[weir].run(&format!("DEL row:{row}")),
                false => clients[weir].cmd(&["SET", &format!("row:{row}"), &format!("row {row} version {version}")]),
            };
            match reply {
                Reply::Int(0 | 1) => self.shop.acknowledged(row, version, weir),
                reply if reply == Reply::ok() => self.shop.acknowledged(row, version, weir),
                reply => figures.wrong.push(format!("Weir {weir}: a change of row:{row} answered {reply:?}")),
            }
            figures.changes += 1;
            // Nine reads for each change, so that something is kept between two.
            let until = self.reads.load(SeqCst) + 9;
            while self.reads.load(SeqCst) < until && !self.ends.load(SeqCst) {
                std::thread::park_timeout(Duration::from_micros(200));
            }
        }
        self.figures.lock().expect("no thread panics with it").add(figures);
    }
}

struct EndOnPanic<'a>(&'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, SeqCst);
        }
    }
}
