//! One part of the near cache: names, and under each what is kept of it, or who has asked for it, or that it is barred.
//!
//! Names lie in a row of numbered seats, so that a marker finds its own again without the name, and a hand can go round to
//! find what makes way: a name is passed over as often as it was asked for since, three times at most (the CLOCK rule with a count).

use super::Key;
use super::copies::{Copies, Copy, Own};
use super::moment::Moment;
use crate::memory::Blob;
use crate::memory::warm::beginning;
use crate::value::{Value, View};
use hashbrown::HashTable;
use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// See the module's page.
#[derive(Default)]
pub struct Shard {
    index: HashTable<Link>,
    seats: Vec<Option<Name>>,
    empty: Vec<u32>,
    hand: usize,
    last_marker: u64,
}

/// Where a name sits, and its hash, so that neither growth nor most mismatches touch the seats.
struct Link {
    hash: u32,
    number: u32,
}

/// A key of whatever database. A hit reads this, and the value's bytes; hence it is one cache line, and begins with one.
#[repr(align(64))]
struct Name {
    name: Blob,
    copies: Copies,
    hash: u32,
    /// How often since the hand came by, at most [`MOST_ASKED`]: those who only look count it, and do not write to what is
    /// asked for all the time.
    asked: AtomicU8,
}

const _: () = assert!(size_of::<Option<Name>>() == 64);

/// Where a marker stands. No two markers of a shard are the same, so that a seat may change hands.
#[derive(Clone, std::marker::Copy)]
pub struct Place {
    number: u32,
    marker: u64,
}

/// A name that was asked for more often is passed over no more often than so.
pub const MOST_ASKED: u8 = 3;
/// What a name takes beside its bytes: seats and index grow by doubling, and allocations are rounded up.
const NAME: usize = 2 * (size_of::<Option<Name>>() + size_of::<Link>()) + 32;
/// What a copy takes beside its value.
const COPY: usize = size_of::<Own>() + 16;
/// What an allocation takes beside its bytes.
const ALLOCATION: usize = 32;

/// What keeping a value takes beside its marker.
pub fn bytes_of_value(value: View<'_>) -> usize {
    let fields = if let View::Hash(fields) = value { size_of_val(fields) } else { 0 };
    value.len() + fields + ALLOCATION
}

/// Spreads the 32 bits over the 64 that the table wants: it takes a place from the low end, and from the high one, which is
/// the same for all of a shard, what tells most names of a group apart.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Shard {
    /// What a marker for `key` takes at most.
    pub fn bytes_of_marker(key: Key<'_>) -> usize {
        NAME + COPY + key.name.len()
    }

    /// The value that is kept for a key.
    #[inline]
    pub fn value(&self, key: Key<'_>, now: Moment) -> Option<View<'_>> {
        self.name(self.find(key.hash, key.name)?)?.value(key, now)
    }

    /// The same of a key whose name sits there, or nobody. In place by force, as the search for a key's route is
    /// (`Routes::find_index`).
    #[inline(always)]
    pub fn value_at(&self, number: u32, key: Key<'_>, now: Moment) -> Option<View<'_>> {
        self.name(number).filter(|name| name.name == *key.name)?.value(key, now)
    }

    /// Until when it is kept.
    pub fn until(&self, key: Key<'_>) -> Option<Moment> {
        let name = self.name(self.find(key.hash, key.name)?)?;
        name.copies.of(key)?.value().map(|(_, until)| until)
    }

    /// Puts a marker, unless there is one or a fresh value. Answers the bytes that are free then. `None`: it is not put.
    pub fn mark(&mut self, key: Key<'_>, now: Moment) -> Option<(Place, usize)> {
        let number = self.find(key.hash, key.name).unwrap_or_else(|| self.seat(key.hash, key.name));
        let name = self.seats[number as usize].as_mut().expect("whoever is found has a seat");
        if let Copies::None { bars: 1.. } = name.copies {
            return None;
        }
        let (marker, own) = (self.last_marker + 1, name.bytes_of_marker());
        let mut freed = 0;
        match name.copies.of_mut(key) {
            None => name.copies.add(key, marker),
            Some(copy) => {
                let (old, _) = copy.value().filter(|(_, until)| *until <= now)?;
                freed = own + bytes_of_value(old);
                *copy = Copy::Marked { db: key.db, marker };
            }
        }
        self.last_marker = marker;
        name.asked = 1.into();
        Some((Place { number, marker }, freed))
    }

    /// Keeps a value in the place of its marker. False: the marker is gone.
    pub fn keep(&mut self, place: Place, value: Value, until: Moment) -> bool {
        let Some(name) = self.seats.get_mut(place.number as usize).and_then(Option::as_mut) else { return false };
        let Some(copy) = name.copies.marked(place.marker) else { return false };
        *copy = Copy::kept(copy.db(), until, value);
        // Whoever is asked for once makes way before those that are asked for again.
        name.asked = 0.into();
        true
    }

    /// Takes a marker away, if it is still there; answers the bytes that are free then.
    pub fn unmark(&mut self, place: Place) -> usize {
        let Some(name) = self.seats.get_mut(place.number as usize).and_then(Option::as_mut) else { return 0 };
        if name.copies.marked(place.marker).is_none() {
            return 0;
        }
        let freed = name.bytes_of_marker();
        name.copies.remove(place.marker);
        self.leave_if_idle(place.number);
        freed
    }

    /// A change of the name begins: its number, and the bytes that are free then.
    pub fn bar(&mut self, hash: u64, name: &[u8]) -> (u32, usize) {
        let number = self.find(hash, name).unwrap_or_else(|| self.seat(hash, name));
        let name = self.seats[number as usize].as_mut().expect("whoever is found has a seat");
        let freed = name.clear();
        if let Copies::None { bars } = &mut name.copies {
            *bars += 1;
        }
        (number, freed)
    }

    /// A change is over.
    pub fn unbar(&mut self, number: u32) {
        let name = self.seats[number as usize].as_mut().expect("who is barred keeps its seat");
        if let Copies::None { bars } = &mut name.copies {
            *bars -= 1;
        }
        self.leave_if_idle(number);
    }

    /// Drops all that is kept of a name, and its markers; answers the bytes that are free then.
    pub fn forget(&mut self, hash: u64, name: &[u8]) -> usize {
        self.find(hash, name).map_or(0, |number| self.drop_copies(number))
    }

    /// The same of all names.
    pub fn clear(&mut self) -> usize {
        if self.seats.iter().flatten().all(Name::has_copies) {
            let freed = self.seats.iter().flatten().map(Name::bytes).sum();
            *self = Shard { last_marker: self.last_marker, ..Shard::default() };
            return freed;
        }
        (0..self.seats.len() as u32).map(|number| self.drop_copies(number)).sum()
    }

    /// Makes room: what one name holds whose turn it is. 0: it is no name's turn yet.
    pub fn evict(&mut self) -> usize {
        for _ in 0..self.seats.len() {
            self.hand = (self.hand + 1) % self.seats.len();
            let Some(name) = self.seats[self.hand].as_mut().filter(|name| name.has_copies()) else { continue };
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
        let copies = self.seats.iter().flatten().flat_map(|name| name.copies.iter());
        copies.filter(|copy| copy.value().is_some()).count()
    }

    /// Where the name with this hash sits, or another that has the same 32 bits of it.
    #[inline]
    pub fn probable_seat(&self, hash: u64) -> Option<u32> {
        Some(self.index.find(spread(hash as u32), |link| link.hash == hash as u32)?.number)
    }

    /// What [`Shard::value_at`] will read is read, so that it is near then: the seat, and the beginning of a string.
    #[inline]
    pub fn warm(&self, number: u32) {
        if let Some(Name { copies: Copies::One(Copy::String { text, .. }), .. }) = self.name(number) {
            black_box(beginning(text));
        }
    }

    #[inline]
    fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let is =
            |link: &Link| link.hash == hash as u32 && self.name(link.number).is_some_and(|known| known.name == *name);
        self.index.find(spread(hash as u32), is).map(|link| link.number)
    }

    #[inline]
    fn name(&self, number: u32) -> Option<&Name> {
        self.seats[number as usize].as_ref()
    }

    /// A seat for a name that has none.
    fn seat(&mut self, hash: u64, name: &[u8]) -> u32 {
        let hash = hash as u32;
        let name = Name { name: Blob::new(name), copies: Copies::NONE, hash, asked: 0.into() };
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
        self.index.insert_unique(spread(hash), Link { hash, number }, |link| spread(link.hash));
        number
    }

    fn drop_copies(&mut self, number: u32) -> usize {
        let freed = self.seats[number as usize].as_mut().map_or(0, Name::clear);
        self.leave_if_idle(number);
        freed
    }

    /// Whoever has neither copies nor bars gives its seat back.
    fn leave_if_idle(&mut self, number: u32) {
        let idle = |name: &&Name| matches!(name.copies, Copies::None { bars: 0 });
        let Some(name) = self.seats[number as usize].as_ref().filter(idle) else { return };
        if let Ok(link) = self.index.find_entry(spread(name.hash), |link| link.number == number) {
            link.remove();
        }
        self.seats[number as usize] = None;
        self.empty.push(number);
    }
}

impl Name {
    /// The value that is kept of it for a key.
    #[inline]
    fn value(&self, key: Key<'_>, now: Moment) -> Option<View<'_>> {
        let (value, until) = self.copies.of(key)?.value()?;
        if until <= now {
            return None;
        }
        let asked = self.asked.load(Relaxed);
        if asked < MOST_ASKED {
            // Two at once may count as one.
            self.asked.store(asked + 1, Relaxed);
        }
        Some(value)
    }

    fn has_copies(&self) -> bool {
        !matches!(self.copies, Copies::None { .. })
    }

    /// What was taken for a marker on it.
    fn bytes_of_marker(&self) -> usize {
        NAME + COPY + self.name.bytes().len()
    }

    /// What is taken of the room; nothing while there are no copies.
    fn bytes(&self) -> usize {
        let value = |copy: &Copy| copy.value().map_or(0, |(value, _)| bytes_of_value(value));
        self.copies.iter().map(|copy| self.bytes_of_marker() + value(copy)).sum()
    }

    /// Drops all copies; answers the bytes that are free then. Bars stay.
    fn clear(&mut self) -> usize {
        let freed = self.bytes();
        if self.has_copies() {
            self.copies = Copies::NONE;
        }
        freed
    }
}
