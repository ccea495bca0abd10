//! A routed read that stands in a slot, and what becomes of it.

use crate::server::aside::Patience;
use crate::server::keys::KeyHashes;
use crate::server::sampling::DrawnKeys;
use crate::server::timed::{Due, Timed};
use crate::server::unstored::may_do_without;
use crate::store::{StoreError, Way};

/// A routed read that went to the store as it is.
pub struct Read {
    /// The whole command, not inline.
    pub command: Vec<u8>,
    /// Its keys, routed or not.
    pub keys: KeyHashes,
    /// Index of the first routed one's route.
    pub route: usize,
    /// Indices of the others' routes.
    pub other_routes: Box<[usize]>,
    /// How many keys it has, routed or not: EXISTS counts those that are there.
    pub all_keys: usize,
    /// Where it runs.
    pub way: Way,
    /// The server must see the read itself, for it remembers what this client has read.
    pub seen: bool,
    /// … and only if CLIENT CACHING YES stands before it.
    pub opts_in: bool,
    /// What was asked with it, and is answered behind its own reply.
    pub timed: Option<Box<Timed>>,
    /// Which of its keys are to be checked, if it is a hit.
    pub drawn: Option<Box<DrawnKeys>>,
    /// How it waits for another client to fill its key; `None`: not at all.
    pub patience: Option<Patience>,
}

impl Read {
    /// Whether it may be answered without the store that has failed it so: see [`super::unstored`].
    pub fn may_do_without(&self, failure: &StoreError) -> bool {
        !self.seen && may_do_without(&self.way, failure)
    }
}

/// Where a reply goes: a slot, and if that is a run of reads, the number of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) slot: u64,
    pub(super) read: usize,
}

impl From<u64> for Place {
    fn from(slot: u64) -> Self {
        Place { slot, read: 0 }
    }
}

/// A routed read that found nothing, or not even the store, and where its answer is waited for.
pub struct Missed {
    /// There.
    pub place: Place,
    /// The read.
    pub read: Read,
    /// What the store answered.
    pub reply: Result<Vec<u8>, StoreError>,
}

/// A read of which keys are to be refreshed.
pub struct DueRead {
    /// The whole command, not inline.
    pub command: Vec<u8>,
    /// The database that it was run in.
    pub db: u32,
    /// Which keys.
    pub keys: Vec<Due>,
}
