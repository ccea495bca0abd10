//! What clients could know, and whether an answer contradicts it. Shares no code with the engine.
//!
//! For each key: the newest version whose change was *acknowledged* (committed, then invalidated) is the floor of every
//! read that begins afterwards; and of the clients' own SETs, those that were acknowledged before an invalidation began
//! may not be read after its acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Default)]
pub struct History {
    keys: BTreeMap<String, Known>,
    sets: u64,
    pub violations: Vec<String>,
    pub reads: u64,
    pub negatives: u64,
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
    /// How long a read has taken at most.
    pub longest: Duration,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// A row older than this may not be read any more.
    floor: u64,
    /// Every version committed so far; the row's absences among them are told by `absent`.
    newest: u64,
    /// The newest version at which the row was absent, and the newest at which it was there.
    newest_absent: Option<u64>,
    newest_present: Option<u64>,
    /// SETs that may not be read any more. By number each, for a SET that was sent early may arrive late.
    sets_over: BTreeSet<u64>,
    /// SETs that were acknowledged.
    sets_acknowledged: BTreeSet<u64>,
    /// What reads through a process may not return any more, for its clients have failed to change it.
    missed: BTreeMap<usize, Begun>,
}

/// What a read may return, as known when it began.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    floor: u64,
    sets_over: BTreeSet<u64>,
}

/// What an invalidation will have promised once it is acknowledged.
#[derive(Clone, Debug)]
pub struct Invalidation {
    version: u64,
    sets: BTreeSet<u64>,
}

impl History {
    /// The database has committed a version.
    pub fn committed(&mut self, key: &str, version: u64, present: bool) {
        let known = self.keys.entry(key.into()).or_default();
        known.newest = version;
        *(if present { &mut known.newest_present } else { &mut known.newest_absent }) = Some(version);
    }

    /// A client is about to send a DEL, or a SET.
    pub fn invalidating(&mut self, key: &str) -> Invalidation {
        let known = self.keys.entry(key.into()).or_default();
        Invalidation { version: known.newest, sets: known.sets_acknowledged.clone() }
    }

    /// An invalidation of what was loaded alone: it promises nothing of SETs.
    pub fn invalidating_rows(&mut self, key: &str) -> Invalidation {
        Invalidation { sets: BTreeSet::new(), ..self.invalidating(key) }
    }

    /// It was acknowledged.
    pub fn invalidated(&mut self, key: &str, invalidation: Invalidation) {
        let known = self.keys.entry(key.into()).or_default();
        known.floor = known.floor.max(invalidation.version);
        known.sets_over.extend(invalidation.sets);
    }

    /// It was not: nobody knows what the store has done, but this process must not serve what was.
    pub fn missed(&mut self, key: &str, process: usize, invalidation: Invalidation) {
        let missed = self.keys.entry(key.into()).or_default().missed.entry(process).or_default();
        missed.floor = missed.floor.max(invalidation.version);
        missed.sets_over.extend(invalidation.sets);
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
        let known = self.keys.entry(key.into()).or_default();
        let missed = known.missed.get(&process).cloned().unwrap_or_default();
        let sets_over = known.sets_over.union(&missed.sets_over).copied().collect();
        Begun { floor: known.floor.max(missed.floor), sets_over }
    }

    /// The GET was answered.
    pub fn read(&mut self, key: &str, begun: Begun, answer: Option<&str>) {
        self.reads += 1;
        let known = self.keys.entry(key.into()).or_default().clone();
        let wrong = match answer.map(|text| text.split_once(':').expect("values name their kind")) {
            None => {
                self.negatives += 1;
                // The row must have been absent at some version that is not too old: the newest absence decides.
                let since = if known.newest_present.is_none() { Some(known.newest) } else { known.newest_absent };
                since.is_none_or(|absent| absent < begun.floor)
            }
            Some(("row", version)) => number(version) < begun.floor,
            Some(("set", set)) => begun.sets_over.contains(&number(set)),
            Some(_) => true,
        };
        if wrong {
            self.violations.push(format!("GET {key} answered {answer:?}, and knew {begun:?}; the key: {known:?}"));
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("values end in a number")
}
