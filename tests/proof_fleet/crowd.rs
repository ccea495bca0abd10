//! Readers and writers on all Weirs, without a pause, until enough was read and whatever is to go wrong has.

use crate::fleet::{Fleet, WEIRS};
use crate::harness::{Client, PATIENCE, Reply, lasts, size};
use crate::history::{Change, Moment, Read};
use crate::readers::Reader;
use crate::scenario::Scenario;
use crate::shop::Shop;
use crate::writers::Writer;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What all of them share.
pub struct Crowd<'a> {
    pub scenario: &'a Scenario,
    pub shop: &'a Shop,
    ports: [u16; WEIRS],
    born: Instant,
    ends: AtomicBool,
    pub counts: Counts,
    history: Mutex<History>,
}

/// What a client has seen, or all of them.
#[derive(Debug, Default)]
pub struct History {
    pub reads: Vec<Read>,
    pub changes: Vec<Change>,
    /// Answers that are none, whatever was read before.
    pub wrong: Vec<String>,
}

impl History {
    fn add(&mut self, other: History) {
        self.reads.extend(other.reads);
        self.changes.extend(other.changes);
        self.wrong.extend(other.wrong);
    }
}

/// What has happened to all so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub reads: AtomicU64,
    /// Invalidations, by what became of them. Of those that are told over a channel nobody hears.
    pub acknowledged: AtomicU64,
    pub remembered: AtomicU64,
    pub failed: AtomicU64,
    pub told: AtomicU64,
    /// Commands that were answered an error which the scenario allows for, and connections that ended.
    pub refused: AtomicU64,
    pub cut: AtomicU64,
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

/// What a Weir may answer instead of the truth, where the scenario lets things fail.
const REFUSALS: [&str; 6] =
    ["UPSTREAM ", "LOAD ", "OVERLOADED ", "CLUSTERDOWN ", "EXECABORT ", "ERR EXEC without MULTI"];

impl<'a> Crowd<'a> {
    pub fn new(scenario: &'a Scenario, shop: &'a Shop, fleet: &Fleet) -> Crowd<'a> {
        Crowd {
            scenario,
            shop,
            ports: std::array::from_fn(|number| fleet.weirs[number].port()),
            born: Instant::now(),
            ends: AtomicBool::new(false),
            counts: Counts::default(),
            history: Mutex::default(),
        }
    }

    /// Until so many reads were answered, and the fault has struck in so many rounds, and has bitten. Answers the rounds.
    pub fn work(&self, fleet: &mut Fleet, reads: u64, rounds: usize, seed: u64) -> usize {
        let (readers, writers) = (size("WEIR_PROOF_CLIENTS", 9), size("WEIR_PROOF_WRITERS", 3));
        let mut struck = 0;
        std::thread::scope(|threads| {
            // Also when this thread panics; else the scope would wait for ever.
            let ends = EndOnDrop(&self.ends);
            for number in 0..readers {
                let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
                threads.spawn(move || self.run(|history| Reader::new(self, number as u16, random).read(history)));
            }
            for number in 0..writers {
                let random = fastrand::Rng::with_seed(seed.wrapping_add(1_000_000 + number));
                let client = (readers + number) as u16;
                let all = writers as usize;
                let writer =
                    move |history: &mut History| Writer::new(self, client, number as usize, all, random).write(history);
                threads.spawn(move || self.run(writer));
            }
            let mut deadline = None;
            loop {
                let enough = struck >= rounds && self.counts.reads.load(SeqCst) >= reads;
                if self.ends() || enough && self.scenario.fault.hits(fleet, &self.counts).0 > 0 {
                    break;
                }
                if enough && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) {
                    break;
                }
                self.scenario.fault.strike(fleet, struck);
                fleet.wait_until_all_hear(self.scenario.near);
                // Time to work before the next.
                lasts(Duration::from_millis(300));
                struck += 1;
            }
            drop(ends);
        });
        struck
    }

    fn run(&self, work: impl FnOnce(&mut History)) {
        let _ends = EndOnPanic(&self.ends);
        let mut history = History::default();
        work(&mut history);
        self.history.lock().expect("no thread panics with it").add(history);
    }

    pub fn ends(&self) -> bool {
        self.ends.load(SeqCst)
    }

    pub fn now(&self) -> Moment {
        self.born.elapsed().as_nanos() as Moment
    }

    /// Until the crowd has read so much more, so that something is kept between two changes.
    pub fn wait_for_reads(&self, reads: u64) {
        let until = self.counts.reads.load(SeqCst) + reads;
        while self.counts.reads.load(SeqCst) < until && !self.ends() {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }

    /// A connection to a Weir, as soon as it lets anybody in; `None` if the crowd's time is over first.
    pub fn connect(&self, weir: usize, speaks_resp3: bool) -> Option<Client> {
        while !self.ends() {
            let client = Client::try_connect(self.ports[weir]).ok().and_then(|mut client| {
                if speaks_resp3 {
                    client.try_cmd(&["HELLO", "3"]).ok()?;
                }
                Some(client)
            });
            if client.is_some() {
                return client;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    pub fn into_history(self) -> (History, Counts) {
        (self.history.into_inner().expect("no thread panics with it"), self.counts)
    }
}

/// Commands to one Weir, over a connection that is made anew when it has ended.
pub struct Line<'a> {
    crowd: &'a Crowd<'a>,
    pub weir: usize,
    speaks_resp3: bool,
    client: Option<Client>,
}

impl<'a> Line<'a> {
    pub fn new(crowd: &'a Crowd<'a>, weir: usize, speaks_resp3: bool) -> Line<'a> {
        Line { crowd, weir, speaks_resp3, client: None }
    }

    /// The answers, all sent in one piece; `None` if the connection has ended instead.
    pub fn ask(&mut self, commands: &[Vec<String>], history: &mut History) -> Option<Vec<Reply>> {
        if self.client.is_none() {
            self.client = self.crowd.connect(self.weir, self.speaks_resp3);
        }
        match self.client.as_mut()?.try_pipeline(commands) {
            Ok(replies) => Some(replies),
            Err(error) => {
                self.client = None;
                count(&self.crowd.counts.cut);
                if !self.crowd.scenario.fault.may_fail() {
                    history.wrong.push(format!("Weir {}: {commands:?}: {error}", self.weir));
                }
                None
            }
        }
    }

    /// Of an answer that is not what was hoped for: an error, which some scenarios allow for, or nonsense.
    pub fn note_failure(&self, command: &[String], reply: &Reply, history: &mut History) {
        let is_refusal = REFUSALS.iter().any(|prefix| reply.is_error(prefix));
        match is_refusal && self.crowd.scenario.fault.may_fail() {
            true => count(&self.crowd.counts.refused),
            false => history.wrong.push(format!("Weir {}: {command:?} answered {reply:?}", self.weir)),
        }
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
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
