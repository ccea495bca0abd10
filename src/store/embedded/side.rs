//! Side entries: a key's lease, or its negative entry.
//!
//! A key has at most one of value, negative entry and lease, since each is only made where there is none of the
//! others and every change of a key drops its side entry. Side entries live in a table of their own, so that nothing
//! that clients can see of a keyspace ever meets them. They are counted in memory, expire, and are bounded: beyond
//! their share a new one takes the place of an old one (G4). To lose a lease is always safe, for the fill is refused.

use super::super::Token;
use super::index::{Hashed, Index};
use crate::memory::Blob;

/// How many are looked at to find one that can go.
const SAMPLES: usize = 8;

/// What an index takes for an element beside the element.
const LINK: usize = 16;

/// What stands beside a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Somebody has the right to load it.
    Lease(Token),
    /// There is no such row.
    Negative,
}

struct SideEntry {
    name: Blob,
    side: Side,
    /// Milliseconds on the store's clock.
    until: i64,
    hash: u32,
}

impl Hashed for SideEntry {
    fn hash(&self) -> u32 {
        self.hash
    }
}

/// The side entries of one space.
#[derive(Default)]
pub(super) struct Sides {
    entries: Index<SideEntry>,
    owned: usize,
    swept: usize,
}

impl Sides {
    /// Bytes from the allocator.
    #[inline]
    pub fn heap(&self) -> usize {
        self.entries.heap() + self.owned
    }

    /// What stands beside `name` now.
    pub fn get(&mut self, hash: u64, name: &[u8], now: i64) -> Option<Side> {
        let number = self.find(hash, name)?;
        let entry = self.entries.get(number);
        if entry.until > now {
            return Some(entry.side);
        }
        self.remove(number);
        None
    }

    /// About what the entries themselves need: unlike [`Sides::heap`] it falls with each one that goes.
    pub fn used(&self) -> usize {
        self.entries.len() * (size_of::<SideEntry>() + LINK) + self.owned
    }

    /// Puts `side` beside `name`. Where they already take `limit` bytes or more, another one makes room.
    pub fn put(&mut self, hash: u64, name: &[u8], side: Side, until: i64, limit: usize) {
        self.drop(hash, name);
        while self.used() >= limit && self.evict() {}
        let entry = SideEntry { name: Blob::new(name), side, until, hash: hash as u32 };
        self.owned += entry.name.heap();
        self.entries.push(entry);
    }

    /// Drops what stands beside `name`.
    #[inline]
    pub fn drop(&mut self, hash: u64, name: &[u8]) {
        if let Some(number) = self.find(hash, name) {
            self.remove(number);
        }
    }

    /// Drops the entry that is missed least among a few: a negative one before a lease, the earlier deadline first.
    pub fn evict(&mut self) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let worth = |number: &usize| {
            let entry = self.entries.get(*number);
            (matches!(entry.side, Side::Lease(_)), entry.until)
        };
        let number = (0..SAMPLES).map(|_| self.entries.random()).min_by_key(worth).expect("there are samples");
        self.remove(number);
        true
    }

    /// Looks at up to `count` entries, drops the expired ones.
    pub fn sweep(&mut self, now: i64, count: usize) {
        for _ in 0..count.min(self.entries.len()) {
            self.swept = self.swept.min(self.entries.len()).checked_sub(1).unwrap_or(self.entries.len() - 1);
            if self.entries.get(self.swept).until <= now {
                self.remove(self.swept);
            }
            if self.entries.is_empty() {
                return;
            }
        }
    }

    fn find(&self, hash: u64, name: &[u8]) -> Option<usize> {
        self.entries.find(hash as u32, |entry| entry.name == *name)
    }

    fn remove(&mut self, number: usize) {
        self.owned -= self.entries.remove(number).name.heap();
    }
}
