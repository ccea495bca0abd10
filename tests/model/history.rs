//! What clients could know, and whether an answer contradicts it. Shares no code with the engine.
//!
//! For each key: the newest version whose change was *acknowledged* (committed, then invalidated) is the floor of every
//! read that begins afterwards; and of the clients' own SETs, those that were acknowledged before an invalidation began
//! may not be read after its acknowledgement.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct History {
    keys: BTreeMap<String, Known>,
    sets: u64,
    pub violations: Vec<String>,
    pub reads: u64,
    pub negatives: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// A row older than this may not be read any more.
    floor: u64,
    /// Every version committed so far; the row's absences among them are told by `absent`.
    newest: u64,
    /// The newest version at which the row was absent, and the newest at which it was there.
    newest_absent: Option<u64>,
    newest_present: Option<u64>,
    /// SETs up to this number may not be read any more.
    sets_over: u64,
    /// The newest acknowledged SET.
    sets_acknowledged: u64,
}

/// What a read may return, as known when it began.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    floor: u64,
    sets_over: u64,
}

/// What an invalidation will have promised once it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Invalidation {
    version: u64,
    sets: u64,
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
        Invalidation { version: known.newest, sets: known.sets_acknowledged }
    }

    /// It was acknowledged.
    pub fn invalidated(&mut self, key: &str, invalidation: Invalidation) {
        let known = self.keys.entry(key.into()).or_default();
        known.floor = known.floor.max(invalidation.version);
        known.sets_over = known.sets_over.max(invalidation.sets);
    }

    /// A number for a new SET.
    pub fn next_set(&mut self) -> u64 {
        self.sets += 1;
        self.sets
    }

    /// A SET was acknowledged.
    pub fn set(&mut self, key: &str, number: u64) {
        let known = self.keys.entry(key.into()).or_default();
        known.sets_acknowledged = known.sets_acknowledged.max(number);
    }

    /// A client is about to send a GET.
    pub fn reading(&mut self, key: &str) -> Begun {
        let known = self.keys.entry(key.into()).or_default();
        Begun { floor: known.floor, sets_over: known.sets_over }
    }

    /// The GET was answered.
    pub fn read(&mut self, key: &str, begun: Begun, answer: Option<&str>) {
        self.reads += 1;
        let known = *self.keys.entry(key.into()).or_default();
        let wrong = match answer.map(|text| text.split_once(':').expect("values name their kind")) {
            None => {
                self.negatives += 1;
                // The row must have been absent at some version that is not too old: the newest absence decides.
                let since = if known.newest_present.is_none() { Some(known.newest) } else { known.newest_absent };
                since.is_none_or(|absent| absent < begun.floor)
            }
            Some(("row", version)) => number(version) < begun.floor,
            Some(("set", set)) => number(set) <= begun.sets_over,
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
