//! One shard: for each database the keys whose hash falls here, and beside them the side entries of the cache protocol.
//!
//! Nothing in here locks; the shard's owner does. Whoever changes an entry does it through [`Space::change`],
//! [`Space::put`] or [`Space::take`], which keep the memory account.

use super::evict::{Access, Draws};
use super::index::{Hashed, Index};
use super::notes::Notes;
use super::object::Object;
use super::side::Sides;
use crate::memory::Blob;
use crate::memory::warm::beginning;

/// Databases, as in Redis's default configuration.
pub(super) const DATABASES: usize = 16;

/// The deadline of a key without one.
pub(super) const NEVER: i64 = i64::MAX;

/// A key and what it holds; one cache line.
pub(super) struct Entry {
    name: Blob,
    pub object: Object,
    /// Milliseconds on the store's clock, or [`NEVER`].
    pub expires: i64,
    pub access: Access,
    hash: u32,
}

impl Entry {
    #[inline]
    pub fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    #[inline]
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires <= now
    }

    #[inline]
    fn heap(&self) -> usize {
        self.name.heap() + self.object.heap()
    }
}

impl Hashed for Entry {
    fn hash(&self) -> u32 {
        self.hash
    }
}

/// The part of one database that lies in one shard.
#[derive(Default)]
pub(super) struct Space {
    entries: Index<Entry>,
    /// Leases and negative entries.
    pub sides: Sides,
    /// What is noted beside values.
    pub notes: Notes,
    /// Bytes that the entries own.
    owned: usize,
    /// What the store's total already counts of this space.
    pub reported: usize,
    /// Keys that reached their deadline, since the store last collected the number.
    pub expired: u64,
    /// Look-ups that found their key, and those that did not.
    pub hits: u64,
    pub misses: u64,
    /// Where the sweep goes on, downwards.
    pub swept: usize,
    /// Chance, for the counters of use.
    draws: Draws,
}

impl Space {
    pub fn entries(&self) -> &Index<Entry> {
        &self.entries
    }

    /// Bytes from the allocator.
    #[inline]
    pub fn heap(&self) -> usize {
        self.owned + self.entries.heap() + self.sides.heap() + self.notes.heap()
    }

    /// The number of the entry called `name`; an expired one is removed on the way.
    #[inline(always)]
    pub fn find(&mut self, hash: u64, name: &[u8], now: i64) -> Option<usize> {
        let number = self.entries.find(hash as u32, |entry| entry.name == *name)?;
        if self.entries.get(number).is_expired(now) {
            self.expire(number);
            return None;
        }
        Some(number)
    }

    /// The entry called `name`, nothing changed.
    pub fn peek(&self, hash: u64, name: &[u8], now: i64) -> Option<&Entry> {
        let number = self.entries.find(hash as u32, |entry| entry.name == *name)?;
        Some(self.entries.get(number)).filter(|entry| !entry.is_expired(now))
    }

    /// Reads what a look-up with this hash will read, but for the name.
    #[inline]
    pub fn warm(&self, hash: u64) -> u8 {
        let entry = self.entries.first(hash as u32);
        entry.and_then(|entry| entry.object.as_text()).map_or(0, beginning)
    }

    /// The entry called `name`, which counts as accessed.
    #[inline]
    pub fn touch(&mut self, hash: u64, name: &[u8], now: i64) -> Option<&Entry> {
        let Some(number) = self.find(hash, name, now) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let entry = self.entries.get_mut(number);
        entry.access.touch(now, self.draws.next());
        Some(entry)
    }

    /// Changes the entry called `name`, if there is one.
    pub fn change<T>(&mut self, hash: u64, name: &[u8], now: i64, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let number = self.find(hash, name, now)?;
        let entry = self.entries.get_mut(number);
        entry.access.touch(now, self.draws.next());
        self.owned -= entry.heap();
        let outcome = change(entry);
        self.owned += entry.heap();
        Some(outcome)
    }

    /// Sets `name` to `object`, whatever it held.
    pub fn put(&mut self, hash: u64, name: &[u8], object: Object, expires: i64, now: i64) {
        match self.find(hash, name, now) {
            Some(number) => self.exchange(number, expires, now, |held| *held = object),
            None => self.add(hash, name, object, expires, now),
        }
    }

    /// Sets `name` to a string, whatever it held.
    #[inline]
    pub fn put_text(&mut self, hash: u64, name: &[u8], text: &[u8], expires: i64, now: i64) {
        match self.find(hash, name, now) {
            Some(number) => self.exchange(number, expires, now, |held| held.set_text(text)),
            None => self.add(hash, name, Object::text(text), expires, now),
        }
    }

    #[inline]
    fn exchange(&mut self, number: usize, expires: i64, now: i64, set: impl FnOnce(&mut Object)) {
        let entry = self.entries.get_mut(number);
        entry.access.touch(now, self.draws.next());
        entry.expires = expires;
        let before = entry.object.heap();
        set(&mut entry.object);
        self.owned = self.owned - before + entry.object.heap();
    }

    /// Adds `name`, which holds nothing.
    fn add(&mut self, hash: u64, name: &[u8], object: Object, expires: i64, now: i64) {
        let entry = Entry { name: Blob::new(name), object, expires, access: Access::new(now), hash: hash as u32 };
        self.owned += entry.heap();
        self.entries.push(entry);
    }

    /// Takes `name` out.
    pub fn take(&mut self, hash: u64, name: &[u8], now: i64) -> Option<Entry> {
        let number = self.find(hash, name, now)?;
        Some(self.remove(number))
    }

    /// Takes entry `number` out, for it has reached its deadline.
    pub fn expire(&mut self, number: usize) {
        self.remove(number);
        self.expired += 1;
    }

    /// Takes entry `number` out.
    pub fn remove(&mut self, number: usize) -> Entry {
        let entry = self.entries.remove(number);
        self.owned -= entry.heap();
        self.notes.drop(entry.name());
        entry
    }

    /// Drops everything, side entries too. What the store counts of this space is left to be settled.
    pub fn clear(&mut self) {
        let fresh = Space { reported: self.reported, expired: self.expired, ..Space::default() };
        *self = fresh;
    }
}

/// One shard: a space for each database.
pub(super) struct Shard {
    pub spaces: [Space; DATABASES],
}

impl Default for Shard {
    fn default() -> Self {
        Shard { spaces: std::array::from_fn(|_| Space::default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
