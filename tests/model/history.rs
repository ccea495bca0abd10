//! What clients could know, and whether an answer contradicts it. Shares no code with the engine.
//!
//! For each key: the newest version whose change was *acknowledged* (committed, then invalidated) is the floor of every
//! read that begins afterwards; and of the clients' own SETs, those that were acknowledged before an invalidation began
//! may not be read after its acknowledgement.
//!
//! A read that a process answers with what it keeps itself (*near*) may contradict what another process has acknowledged: until
//! all that the store has told of by then has reached it, and no longer than a value may be kept. Not what was acknowledged through it.

use crate::pushes::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
pub struct History {
    keys: BTreeMap<String, Known>,
    sets: u64,
    /// What has reached each process, and what it has not heard of yet, or may not have.
    heard: BTreeMap<usize, Moment>,
    unheard: Vec<Unheard>,
    /// How long a value may be kept near at most.
    near: Duration,
    pub violations: Vec<String>,
    pub reads: u64,
    pub negatives: u64,
    /// Reads that were answered from near, and those of them that another process's acknowledgement has forbidden elsewhere.
    pub near_hits: u64,
    pub near_behind: u64,
    /// Values that were kept though no push would have told of their end.
    pub kept_unheard: u64,
    /// Reads that were answered, or failed, without the store.
    pub unstored: u64,
    /// Reads whose load was shed, and those whose load was not begun, for the database fails; and how often it was found asked again.
    pub shed: u64,
    pub not_asked: u64,
    pub asked_again: u64,
    /// Invalidations by tag.
    pub tags: u64,
    /// Changes that the store did not acknowledge.
    pub failed_changes: u64,
    /// Processes that were killed.
    pub killed: u64,
    /// How long a read has taken at most.
    pub longest: Duration,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// What may not be read any more.
    over: Over,
    /// Every version committed so far; the row's absences among them are told by `absent`.
    newest: u64,
    /// The newest version at which the row was absent, and the newest at which it was there.
    newest_absent: Option<u64>,
    newest_present: Option<u64>,
    /// SETs that were acknowledged.
    sets_acknowledged: BTreeSet<u64>,
    /// What reads through a process may not return any more, for its clients have failed to change it.
    missed: BTreeMap<usize, Over>,
    /// What reads from near may not return any more, by process.
    near: BTreeMap<usize, Over>,
}

/// What may not be read any more: rows of older versions than this, and these SETs. By number each, for a SET that was sent
/// early may arrive late.
#[derive(Clone, Debug, Default)]
struct Over {
    floor: u64,
    sets: BTreeSet<u64>,
}

impl Over {
    fn add(&mut self, other: &Over) {
        self.floor = self.floor.max(other.floor);
        self.sets.extend(&other.sets);
    }

    fn and(mut self, other: Option<&Over>) -> Over {
        other.into_iter().for_each(|other| self.add(other));
        self
    }
}

/// What a read may not return, as known when it began: from near, and from anywhere else.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    over: Over,
    near: Over,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What the process keeps itself.
    Near,
    Elsewhere,
}

/// What an invalidation will have promised once it is acknowledged.
#[derive(Clone, Debug)]
pub struct Invalidation(Over);

/// An acknowledged invalidation that a process has not heard of yet.
struct Unheard {
    process: usize,
    /// It has once this has reached it …
    moment: Moment,
    /// … and needs not to from here on.
    until: Instant,
    key: String,
    over: Over,
}

impl History {
    /// `near`: how long a value may be kept there at most.
    pub fn new(near: Duration) -> Self {
        History { near, ..History::default() }
    }

    /// The database has committed a version.
    pub fn committed(&mut self, key: &str, version: u64, present: bool) {
        let known = self.keys.entry(key.into()).or_default();
        known.newest = version;
        *(if present { &mut known.newest_present } else { &mut known.newest_absent }) = Some(version);
    }

    /// A client is about to send a DEL, or a SET.
    pub fn invalidating(&mut self, key: &str) -> Invalidation {
        let known = self.keys.entry(key.into()).or_default();
        Invalidation(Over { floor: known.newest, sets: known.sets_acknowledged.clone() })
    }

    /// An invalidation of what was loaded alone: it promises nothing of SETs.
    pub fn invalidating_rows(&mut self, key: &str) -> Invalidation {
        let Invalidation(Over { floor, .. }) = self.invalidating(key);
        Invalidation(Over { floor, sets: BTreeSet::new() })
    }

    /// It was acknowledged through a process; `told`: how far the store was then with what it tells each process.
    pub fn invalidated(&mut self, key: &str, process: usize, Invalidation(over): Invalidation, told: &[Moment]) {
        let known = self.keys.entry(key.into()).or_default();
        known.over.add(&over);
        known.near.entry(process).or_default().add(&over);
        let until = Instant::now() + self.near;
        for (other, &moment) in told.iter().enumerate().filter(|(other, _)| *other != process) {
            if self.heard.get(&other).is_some_and(|heard| *heard >= moment) {
                known.near.entry(other).or_default().add(&over);
            } else {
                self.unheard.push(Unheard { process: other, moment, until, key: key.into(), over: over.clone() });
            }
        }
    }

    /// It was not: nobody knows what the store has done, but this process must not serve what was.
    pub fn missed(&mut self, key: &str, process: usize, Invalidation(over): Invalidation) {
        self.keys.entry(key.into()).or_default().missed.entry(process).or_default().add(&over);
    }

    /// All that the store has told a process until then has reached it.
    pub fn heard(&mut self, process: usize, moment: Moment) {
        self.heard.insert(process, moment);
        self.hear(|unheard| unheard.process == process && unheard.moment <= moment);
    }

    /// A process was killed, and with it all that it kept and remembered.
    pub fn killed(&mut self, process: usize) {
        self.killed += 1;
        self.hear(|unheard| unheard.process == process);
        self.keys.values_mut().for_each(|known| drop(known.missed.remove(&process)));
    }

    fn hear(&mut self, is_heard: impl Fn(&Unheard) -> bool) {
        for unheard in self.unheard.extract_if(.., |unheard| is_heard(unheard)) {
            let known = self.keys.entry(unheard.key).or_default();
            known.near.entry(unheard.process).or_default().add(&unheard.over);
        }
    }

    /// A number for a new SET.
    pub fn next_set(&mut self) -> u64 {
        self.sets += 1;
        self.sets
    }

    /// A SET was acknowledged.
    pub fn set(&mut self, key: &str, number: u64) {
        let known = self.keys.entry(key.into()).or_default();
        known.sets_acknowledged.insert(number);
    }

    /// A client is about to send a GET through a process.
    pub fn reading(&mut self, key: &str, process: usize) -> Begun {
        let now = Instant::now();
        self.hear(|unheard| unheard.until <= now);
        let known = self.keys.entry(key.into()).or_default();
        let missed = known.missed.get(&process);
        let near = Over::default().and(missed).and(known.near.get(&process));
        Begun { over: known.over.clone().and(missed), near }
    }

    /// The GET was answered.
    pub fn read(&mut self, key: &str, begun: &Begun, answer: Option<&str>, from: From) {
        self.reads += 1;
        let known = self.keys.entry(key.into()).or_default();
        let over = match from {
            From::Near => &begun.near,
            From::Elsewhere => &begun.over,
        };
        self.negatives += u64::from(answer.is_none());
        self.near_hits += u64::from(from == From::Near);
        self.near_behind += u64::from(from == From::Near && known.contradicts(&begun.over, answer));
        if known.contradicts(over, answer) {
            let text = format!("GET {key} answered {answer:?} from {from:?}, and knew {begun:?}; the key: {known:?}");
            self.violations.push(text);
        }
    }
}

impl Known {
    fn contradicts(&self, over: &Over, answer: Option<&str>) -> bool {
        match answer.map(|text| text.split_once(':').expect("values name their kind")) {
            None => {
                // The row must have been absent at some version that is not too old: the newest absence decides.
                let since = if self.newest_present.is_none() { Some(self.newest) } else { self.newest_absent };
                since.is_none_or(|absent| absent < over.floor)
            }
            Some(("row", version)) => number(version) < over.floor,
            Some(("set", set)) => over.sets.contains(&number(set)),
            Some(_) => true,
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("values end in a number")
}
