//! One part of the near cache: names, and under each what is kept of it, or who has asked for it, or that it is barred.
//!
//! Names lie in a row of numbered seats, so that a marker finds its own again without the name, and a hand can go round to
//! find what makes way: a name is passed over as often as it was asked for since, three times at most (the CLOCK rule with a count).

use super::Key;
use crate::store::Credentials;
use crate::value::Value;
use bytes::Bytes;
use hashbrown::HashTable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Instant;

/// See the module's page.
#[derive(Default)]
pub struct Shard {
    /// Numbers of seats, by the hash of the name there.
    index: HashTable<u32>,
    seats: Vec<Option<Name>>,
    empty: Vec<u32>,
    hand: usize,
    last_marker: u64,
}

/// A key of whatever database.
struct Name {
    hash: u64,
    name: Box<[u8]>,
    /// Changes of it that are under way. While there is any, there are no copies.
    bars: u32,
    /// How often since the hand came by, at most [`MOST_ASKED`]: those who only look count it, and do not write to what is
    /// asked for all the time.
    asked: AtomicU8,
    copies: Vec<Copy>,
    /// Taken of the room; nothing while there are no copies.
    bytes: usize,
}

/// One user's in one database.
struct Copy {
    db: u32,
    user: Option<Arc<Credentials>>,
    state: State,
}

enum State {
    /// A read of it is under way, by the holder of this marker.
    Marked(u64),
    /// It was read.
    Kept { value: Value, until: Instant, bytes: usize },
}

/// Where a marker stands. No two markers of a shard are the same, so that a seat may change hands.
#[derive(Clone, Copy)]
pub struct Place {
    number: u32,
    marker: u64,
}

/// A name that was asked for more often is passed over no more often than so.
pub const MOST_ASKED: u8 = 3;
/// What a name takes beside its bytes: seats and index grow by doubling, and allocations are rounded up.
const NAME: usize = 2 * size_of::<Option<Name>>() + 32;
/// What a copy takes beside its value.
const COPY: usize = size_of::<Copy>() + 16;
/// What an allocation takes beside its bytes.
const ALLOCATION: usize = 32;

/// What keeping a value takes beside its marker.
pub fn bytes_of_value(value: &Value) -> usize {
    let fields = if let Value::Hash(fields) = value { size_of::<(Bytes, Bytes)>() * fields.len() } else { 0 };
    value.len() + fields + ALLOCATION
}

impl Shard {
    /// What a marker for `key` takes at most.
    pub fn bytes_of_marker(key: Key<'_>) -> usize {
        NAME + COPY + key.name.len()
    }

    /// The value that is kept for a key.
    #[inline]
    pub fn value(&self, hash: u64, key: Key<'_>, now: Instant) -> Option<&Value> {
        let number = self.find(hash, key.name)?;
        let name = self.seats[number as usize].as_ref()?;
        let copy = name.copies.iter().find(|copy| copy.is_of(key))?;
        match &copy.state {
            State::Kept { value, until, .. } if now < *until => {
                let asked = name.asked.load(Relaxed);
                if asked < MOST_ASKED {
                    // Two at once may count as one.
                    name.asked.store(asked + 1, Relaxed);
                }
                Some(value)
            }
            _ => None,
        }
    }

    /// Until when it is kept.
    pub fn until(&self, hash: u64, key: Key<'_>) -> Option<Instant> {
        let name = self.seats[self.find(hash, key.name)? as usize].as_ref()?;
        match &name.copies.iter().find(|copy| copy.is_of(key))?.state {
            State::Kept { until, .. } => Some(*until),
            State::Marked(_) => None,
        }
    }

    /// Puts a marker, unless there is one or a fresh value; for it `bytes` are taken. Answers the bytes that are free then. `None`: it is not put.
    pub fn mark(&mut self, hash: u64, key: Key<'_>, now: Instant, bytes: usize) -> Option<(Place, usize)> {
        let number = self.find(hash, key.name).unwrap_or_else(|| self.seat(hash, key.name));
        let name = self.seats[number as usize].as_mut().expect("whoever is found has a seat");
        if name.bars > 0 {
            return None;
        }
        let mut freed = 0;
        if let Some(index) = name.copies.iter().position(|copy| copy.is_of(key)) {
            match name.copies[index].state {
                State::Kept { until, bytes, .. } if until <= now => freed = bytes,
                State::Kept { .. } | State::Marked(_) => return None,
            }
            name.copies.swap_remove(index);
        }
        self.last_marker += 1;
        let state = State::Marked(self.last_marker);
        // Most names have one, and a row would make room for four.
        name.copies.reserve_exact(1);
        name.copies.push(Copy { db: key.db, user: key.user.cloned(), state });
        name.bytes = name.bytes + bytes - freed;
        name.asked = 1.into();
        Some((Place { number, marker: self.last_marker }, freed))
    }

    /// Keeps a value in the place of its marker. False: the marker is gone.
    pub fn keep(&mut self, place: Place, value: Value, until: Instant, bytes: usize) -> bool {
        let Some((name, index)) = self.marked(place) else { return false };
        let marker = Shard::marker_bytes(name);
        name.copies[index].state = State::Kept { value, until, bytes: bytes + marker };
        name.bytes += bytes;
        // Whoever is asked for once makes way before those that are asked for again.
        name.asked = 0.into();
        true
    }

    /// Takes a marker away, if it is still there; answers the bytes that are free then.
    pub fn unmark(&mut self, place: Place) -> usize {
        let Some((name, index)) = self.marked(place) else { return 0 };
        let freed = Shard::marker_bytes(name);
        name.copies.swap_remove(index);
        name.bytes -= freed;
        self.leave_if_idle(place.number);
        freed
    }

    /// A change of the name begins: its number, and the bytes that are free then.
    pub fn bar(&mut self, hash: u64, name: &[u8]) -> (u32, usize) {
        let number = self.find(hash, name).unwrap_or_else(|| self.seat(hash, name));
        let name = self.seats[number as usize].as_mut().expect("whoever is found has a seat");
        name.bars += 1;
        (number, name.clear())
    }

    /// A change is over.
    pub fn unbar(&mut self, number: u32) {
        let name = self.seats[number as usize].as_mut().expect("who is barred keeps its seat");
        name.bars -= 1;
        self.leave_if_idle(number);
    }

    /// Drops all that is kept of a name, and its markers; answers the bytes that are free then.
    pub fn forget(&mut self, hash: u64, name: &[u8]) -> usize {
        self.find(hash, name).map_or(0, |number| self.drop_copies(number))
    }

    /// The same of all names.
    pub fn clear(&mut self) -> usize {
        if self.seats.iter().flatten().all(|name| name.bars == 0) {
            let freed = self.seats.iter().flatten().map(|name| name.bytes).sum();
            *self = Shard { last_marker: self.last_marker, ..Shard::default() };
            return freed;
        }
        (0..self.seats.len() as u32).map(|number| self.drop_copies(number)).sum()
    }

    /// Makes room: what one name holds whose turn it is. 0: it is no name's turn yet.
    pub fn evict(&mut self) -> usize {
        for _ in 0..self.seats.len() {
            self.hand = (self.hand + 1) % self.seats.len();
            let Some(name) = self.seats[self.hand].as_mut().filter(|name| name.bytes > 0) else { continue };
            let asked = name.asked.get_mut();
            if *asked == 0 {
                return self.drop_copies(self.hand as u32);
            }
            *asked -= 1;
        }
        0
    }

    /// How many values are kept.
    pub fn values(&self) -> usize {
        let copies = self.seats.iter().flatten().flat_map(|name| &name.copies);
        copies.filter(|copy| matches!(copy.state, State::Kept { .. })).count()
    }

    #[inline]
    fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let is = |&number: &u32| self.seats[number as usize].as_ref().is_some_and(|known| *known.name == *name);
        self.index.find(hash, is).copied()
    }

    /// A seat for a name that has none.
    fn seat(&mut self, hash: u64, name: &[u8]) -> u32 {
        let name = Name { hash, name: name.into(), bars: 0, asked: 0.into(), copies: Vec::new(), bytes: 0 };
        let number = match self.empty.pop() {
            Some(number) => {
                self.seats[number as usize] = Some(name);
                number
            }
            None => {
                self.seats.push(Some(name));
                u32::try_from(self.seats.len() - 1).expect("a shard holds less than 2^32 names")
            }
        };
        let Shard { index, seats, .. } = self;
        index.insert_unique(hash, number, |&number| seats[number as usize].as_ref().map_or(0, |name| name.hash));
        number
    }

    fn marked(&mut self, place: Place) -> Option<(&mut Name, usize)> {
        let name = self.seats.get_mut(place.number as usize)?.as_mut()?;
        let is = |copy: &Copy| matches!(copy.state, State::Marked(marker) if marker == place.marker);
        let index = name.copies.iter().position(is)?;
        Some((name, index))
    }

    /// What was taken for a marker on this name.
    fn marker_bytes(name: &Name) -> usize {
        NAME + COPY + name.name.len()
    }

    fn drop_copies(&mut self, number: u32) -> usize {
        let freed = self.seats[number as usize].as_mut().map_or(0, Name::clear);
        self.leave_if_idle(number);
        freed
    }

    /// Whoever has neither copies nor bars gives its seat back.
    fn leave_if_idle(&mut self, number: u32) {
        let idle = |name: &&Name| name.copies.is_empty() && name.bars == 0;
        let Some(name) = self.seats[number as usize].as_ref().filter(idle) else { return };
        if let Ok(link) = self.index.find_entry(name.hash, |&known| known == number) {
            link.remove();
        }
        self.seats[number as usize] = None;
        self.empty.push(number);
    }
}

impl Name {
    /// Drops all copies; answers the bytes that are free then.
    fn clear(&mut self) -> usize {
        self.copies = Vec::new();
        std::mem::take(&mut self.bytes)
    }
}

impl Copy {
    #[inline]
    fn is_of(&self, key: Key<'_>) -> bool {
        self.db == key.db
            && match (&self.user, key.user) {
                (None, None) => true,
                (Some(own), Some(user)) => Arc::ptr_eq(own, user) || own == user,
                _ => false,
            }
    }
}
