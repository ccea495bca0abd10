//! A hash table whose elements lie densely in one numbered row: the shape of a keyspace and of a large hash or set.
//!
//! The row gives what a plain hash table cannot: a uniform random element in one step (eviction, RANDOMKEY, SPOP) and
//! cursors that survive growth. An element is removed by moving the last one into its place, so an element's number
//! only ever falls. Hence the promise of [`Index::scan`], which walks the row **downwards**: whatever is present from
//! the first step to the last is seen, for an element not yet passed can only move to numbers not yet passed.
//!
//! The row is cut into chunks, so that growing it never copies it and never holds two copies of it in memory.
//! Held by this file's tests, and through SCAN by `tests/embedded_scan.rs`.

use crate::memory::{allocated, vec_allocated};
use hashbrown::HashTable;
use std::ops::ControlFlow;

/// Elements in a chunk. Keyspace entries are 64 bytes, so a chunk is 4 KiB.
const CHUNK: usize = 64;

/// What the table holds for an element: where it is, and its hash, so that neither growth nor most mismatches
/// touch the row.
#[derive(Clone)]
struct Link {
    hash: u32,
    number: u32,
}

/// Spreads the 32 bits over the 64 that the table wants (it takes the place from the low end, a tag from the high one).
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// An element that knows its own hash.
pub(super) trait Hashed {
    /// 32 bits of the hash of what it is found by.
    fn hash(&self) -> u32;
}

/// See the module's page.
pub(super) struct Index<T> {
    table: HashTable<Link>,
    chunks: Vec<Vec<T>>,
    length: usize,
    /// What [`Index::heap`] tells: it is asked for after each change of an element, and changes only where one comes or goes.
    heap: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Index { table: HashTable::new(), chunks: Vec::new(), length: 0, heap: 0 }
    }
}

impl<T: Clone> Clone for Index<T> {
    /// A copy has no spare room, so it takes other memory than what it is a copy of.
    fn clone(&self) -> Self {
        let (table, chunks) = (self.table.clone(), self.chunks.clone());
        let mut copy = Index { table, chunks, length: self.length, heap: 0 };
        copy.heap = copy.measured();
        copy
    }
}

impl<T: Hashed> Index<T> {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The number of the element with this hash that satisfies `same`.
    #[inline]
    pub fn find(&self, hash: u32, same: impl Fn(&T) -> bool) -> Option<usize> {
        if self.length == 0 {
            return None;
        }
        let link = self.table.find(spread(hash), |link| link.hash == hash && same(self.get(link.number as usize)))?;
        Some(link.number as usize)
    }

    /// An element with this hash: nearly always what is sought, whatever that is.
    #[inline]
    pub fn first(&self, hash: u32) -> Option<&T> {
        let link = self.table.find(spread(hash), |link| link.hash == hash)?;
        Some(self.get(link.number as usize))
    }

    /// Element `number`.
    #[inline]
    pub fn get(&self, number: usize) -> &T {
        &self.chunks[number / CHUNK][number % CHUNK]
    }

    /// Element `number`. Whoever changes it leaves what it is found by as it is.
    #[inline]
    pub fn get_mut(&mut self, number: usize) -> &mut T {
        &mut self.chunks[number / CHUNK][number % CHUNK]
    }

    /// Adds an element that is not there yet.
    pub fn push(&mut self, element: T) -> usize {
        let (number, hash) = (self.length, element.hash());
        if number.is_multiple_of(CHUNK) {
            self.chunks.push(if number == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        self.chunks[number / CHUNK].push(element);
        let link = Link { hash, number: u32::try_from(number).expect("an index holds less than 2^32 elements") };
        self.table.insert_unique(spread(hash), link, |link| spread(link.hash));
        self.length += 1;
        self.heap = self.measured();
        number
    }

    /// Takes element `number` out; the last one gets its number.
    pub fn remove(&mut self, number: usize) -> T {
        self.unlink(number);
        let last = self.length - 1;
        if number != last {
            self.relink(last, number);
        }
        let mut element = self.chunks[last / CHUNK].pop().expect("the last chunk holds the last element");
        if last.is_multiple_of(CHUNK) {
            self.chunks.pop();
        }
        self.length = last;
        if number != last {
            std::mem::swap(&mut element, self.get_mut(number));
        }
        self.shrink();
        element
    }

    fn unlink(&mut self, number: usize) {
        let hash = self.get(number).hash();
        self.table
            .find_entry(spread(hash), |link| link.number as usize == number)
            .ok()
            .expect("every element has its link")
            .remove();
    }

    fn relink(&mut self, from: usize, to: usize) {
        let hash = self.get(from).hash();
        self.table
            .find_mut(spread(hash), |link| link.number as usize == from)
            .expect("every element has its link")
            .number = to as u32;
    }

    /// Gives memory back once three quarters of the table lie idle.
    fn shrink(&mut self) {
        if self.length == 0 {
            *self = Index::default();
        } else if self.length < CHUNK && self.length < self.chunks[0].capacity() / 4 {
            self.chunks[0].shrink_to(self.length * 2);
        }
        if self.table.capacity() > 64 && self.length < self.table.capacity() / 4 {
            self.table.shrink_to(self.length * 2, |link| spread(link.hash));
        }
        self.heap = self.measured();
    }

    /// All elements in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// A uniformly random element's number. The index is not empty.
    pub fn random(&self) -> usize {
        fastrand::usize(..self.length)
    }

    /// Visits the elements with numbers below `below`, downwards, until `visit` breaks; answers below which number
    /// to go on, 0 at the end.
    pub fn scan(&self, below: usize, mut visit: impl FnMut(&T) -> ControlFlow<()>) -> usize {
        for number in (0..below.min(self.length)).rev() {
            if visit(self.get(number)).is_break() {
                return number;
            }
        }
        0
    }

    /// Bytes that the table and the row take from the allocator, not what the elements own.
    #[inline]
    pub fn heap(&self) -> usize {
        self.heap
    }
}

impl<T> Index<T> {
    fn measured(&self) -> usize {
        let Some(last) = self.chunks.last() else { return 0 };
        allocated(self.table.allocation_size())
            + vec_allocated::<Vec<T>>(self.chunks.capacity())
            + vec_allocated::<T>(CHUNK) * (self.chunks.len() - 1)
            + vec_allocated::<T>(last.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    impl Hashed for u32 {
        fn hash(&self) -> u32 {
            // Collisions on purpose.
            self % 1000
        }
    }

    #[test]
    fn finds_exactly_what_was_put_in_and_not_removed() {
        fastrand::seed(7);
        let (mut index, mut model) = (Index::<u32>::default(), BTreeSet::new());
        for _ in 0..200_000 {
            let element = fastrand::u32(..5000);
            match index.find(element.hash(), |&other| other == element) {
                Some(number) => {
                    assert!(model.remove(&element));
                    assert_eq!(index.remove(number), element);
                }
                None => {
                    assert!(model.insert(element));
                    index.push(element);
                }
            }
        }
        assert_eq!(index.len(), model.len());
        assert_eq!(index.iter().copied().collect::<BTreeSet<_>>(), model);
    }

    #[test]
    fn scan_sees_whatever_stays_though_others_come_and_go() {
        for seed in 0..200 {
            fastrand::seed(seed);
            let mut index = Index::<u32>::default();
            (0..1000).for_each(|element| {
                index.push(element);
            });
            let (mut seen, mut below) = (BTreeSet::new(), usize::MAX);
            while below > 0 {
                let mut left = 10;
                below = index.scan(below, |&element| {
                    seen.insert(element);
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                for _ in 0..fastrand::usize(..12) {
                    let element = fastrand::u32(500..3000);
                    match index.find(element.hash(), |&other| other == element) {
                        Some(number) => drop(index.remove(number)),
                        None => {
                            index.push(element);
                        }
                    }
                }
            }
            assert!((0..500).all(|element| seen.contains(&element)), "seed {seed}");
        }
    }

    #[test]
    fn gives_its_memory_back() {
        let mut index = Index::<u32>::default();
        for element in 0..10_000 {
            index.push(element);
        }
        let full = index.heap();
        while index.len() > 100 {
            index.remove(index.random());
        }
        assert!(index.heap() < full / 20);
        while !index.is_empty() {
            index.remove(0);
        }
        assert_eq!(index.heap(), 0);
    }

    #[test]
    fn what_it_takes_is_known_at_every_moment_of_a_copy_too() {
        fastrand::seed(11);
        let mut index = Index::<u32>::default();
        for element in 0..20_000 {
            if fastrand::u32(..20_000) < element && !index.is_empty() {
                index.remove(index.random());
            } else {
                index.push(element);
            }
            assert_eq!(index.heap(), index.measured());
        }
        let mut copy = index.clone();
        assert_eq!(copy.heap(), copy.measured());
        copy.push(1);
        assert_eq!(copy.heap(), copy.measured());
    }
}
