//! Hashes and sets: named rows, packed while small, indexed beyond.
//!
//! What OBJECT ENCODING says is kept apart from the true shape: Redis's conversions are decided by its own limits and
//! never undone, so `compact` follows those, while the shape follows what is cheap here.

use super::index::{Hashed, Index};
use super::number;
use super::packed::Packed;
use crate::hash::hash;
use crate::memory::Blob;
use std::ops::ControlFlow;

/// Above either, rows move to an index for good.
const PACKED_ROWS: usize = 128;
const PACKED_BYTES: usize = 8 * 1024;

/// Where Redis's compact encodings end (`hash-max-listpack-*`, `set-max-intset-entries`).
const COMPACT_ROWS: usize = 512;
const COMPACT_BYTES: usize = 64;

/// One row of a large collection.
pub(super) trait Row: Hashed {
    /// Packed elements in a row.
    const WIDTH: usize;
    /// A new row.
    fn new(name: &[u8], value: &[u8], hash: u32) -> Self;
    /// What it is found by.
    fn name(&self) -> &[u8];
    /// What it holds.
    fn value(&self) -> &[u8];
    /// Exchanges what it holds.
    fn set(&mut self, value: &[u8]);
    /// Bytes that it owns.
    fn heap(&self) -> usize;
    /// Whether Redis would keep this row in the compact encoding.
    fn is_compact(name: &[u8], value: &[u8]) -> bool;
}

/// A field of a hash.
#[derive(Clone)]
pub(super) struct Field {
    name: Blob,
    value: Blob,
    hash: u32,
}

impl Hashed for Field {
    fn hash(&self) -> u32 {
        self.hash
    }
}

impl Row for Field {
    const WIDTH: usize = 2;

    fn new(name: &[u8], value: &[u8], hash: u32) -> Self {
        Field { name: Blob::new(name), value: Blob::new(value), hash }
    }

    fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    fn value(&self) -> &[u8] {
        self.value.bytes()
    }

    fn set(&mut self, value: &[u8]) {
        self.value = Blob::new(value);
    }

    fn heap(&self) -> usize {
        self.name.heap() + self.value.heap()
    }

    fn is_compact(name: &[u8], value: &[u8]) -> bool {
        name.len() <= COMPACT_BYTES && value.len() <= COMPACT_BYTES
    }
}

/// A member of a set; its value is empty.
#[derive(Clone)]
pub(super) struct Member {
    name: Blob,
    hash: u32,
}

impl Hashed for Member {
    fn hash(&self) -> u32 {
        self.hash
    }
}

impl Row for Member {
    const WIDTH: usize = 1;

    fn new(name: &[u8], _: &[u8], hash: u32) -> Self {
        Member { name: Blob::new(name), hash }
    }

    fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    fn value(&self) -> &[u8] {
        &[]
    }

    fn set(&mut self, _: &[u8]) {}

    fn heap(&self) -> usize {
        self.name.heap()
    }

    fn is_compact(name: &[u8], _: &[u8]) -> bool {
        number::parse(name).is_some()
    }
}

/// A hash.
pub(super) type Hash = Collection<Field>;

/// A set.
pub(super) type Set = Collection<Member>;

/// Rows with distinct names.
#[derive(Clone)]
pub(super) struct Collection<R> {
    shape: Shape<R>,
    compact: bool,
}

#[derive(Clone)]
enum Shape<R> {
    Packed(Packed),
    /// The rows, and the bytes that they own.
    Table(Index<R>, usize),
}

impl<R: Row> Default for Collection<R> {
    fn default() -> Self {
        Collection { shape: Shape::Packed(Packed::default()), compact: true }
    }
}

impl<R: Row> Collection<R> {
    pub fn len(&self) -> usize {
        match &self.shape {
            Shape::Packed(packed) => packed.len() / R::WIDTH,
            Shape::Table(index, _) => index.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether Redis would hold this in the compact encoding.
    pub fn is_compact(&self) -> bool {
        self.compact
    }

    /// Bytes from the allocator, this struct not counted.
    pub fn heap(&self) -> usize {
        match &self.shape {
            Shape::Packed(packed) => packed.heap(),
            Shape::Table(index, owned) => index.heap() + owned,
        }
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// The value of row `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        match &self.shape {
            Shape::Packed(packed) => rows::<R>(packed).find(|(other, _)| *other == name).map(|(_, value)| value),
            Shape::Table(index, _) => find(index, name, hash(name) as u32).map(|number| index.get(number).value()),
        }
    }

    /// Sets row `name`. True if it is new.
    pub fn put(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.unpack_for(name.len() + value.len());
        let new = match &mut self.shape {
            Shape::Packed(packed) => put_packed::<R>(packed, name, value),
            Shape::Table(index, owned) => put_indexed(index, owned, name, value),
        };
        self.compact = self.compact && R::is_compact(name, value) && self.len() <= COMPACT_ROWS;
        new
    }

    /// Takes row `name` out. False if there was none.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        match &mut self.shape {
            Shape::Packed(packed) => return remove_packed::<R>(packed, name),
            Shape::Table(index, owned) => match find(index, name, hash(name) as u32) {
                Some(number) => *owned -= index.remove(number).heap(),
                None => return false,
            },
        }
        true
    }

    /// Row `number`, in an order that lasts until the next change.
    pub fn at(&self, number: usize) -> (&[u8], &[u8]) {
        match &self.shape {
            Shape::Packed(packed) => rows::<R>(packed).nth(number).expect("the number is below the length"),
            Shape::Table(index, _) => (index.get(number).name(), index.get(number).value()),
        }
    }

    /// All rows: in the order of their first insertion while they are few.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (packed, table) = match &self.shape {
            Shape::Packed(packed) => (Some(packed), None),
            Shape::Table(index, _) => (None, Some(index)),
        };
        let indexed = table.into_iter().flat_map(|index| index.iter().map(|row| (row.name(), row.value())));
        packed.into_iter().flat_map(rows::<R>).chain(indexed)
    }

    /// One step of HSCAN or SSCAN: see [`Index::scan`]. A packed collection is visited whole, and so is one of few
    /// enough rows that Redis would still hold it in a compact encoding.
    pub fn scan(&self, below: usize, count: usize, mut visit: impl FnMut(&[u8], &[u8])) -> usize {
        let Shape::Table(index, _) = &self.shape else {
            self.iter().for_each(|(name, value)| visit(name, value));
            return 0;
        };
        let mut left = if self.compact { usize::MAX } else { count };
        index.scan(below, |row| {
            visit(row.name(), row.value());
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    fn unpack_for(&mut self, more: usize) {
        let Shape::Packed(packed) = &self.shape else { return };
        if packed.len() / R::WIDTH < PACKED_ROWS && packed.size() + more <= PACKED_BYTES {
            return;
        }
        let (mut index, mut owned) = (Index::default(), 0);
        for (name, value) in rows::<R>(packed) {
            put_indexed::<R>(&mut index, &mut owned, name, value);
        }
        self.shape = Shape::Table(index, owned);
    }
}

fn rows<R: Row>(packed: &Packed) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut elements = packed.iter();
    std::iter::from_fn(move || {
        let name = elements.next()?;
        let value = if R::WIDTH == 2 { elements.next().expect("a field is followed by its value") } else { &[] };
        Some((name, value))
    })
}

fn put_packed<R: Row>(packed: &mut Packed, name: &[u8], value: &[u8]) -> bool {
    let known = rows::<R>(packed).position(|(other, _)| other == name);
    if R::WIDTH == 1 && known.is_some() {
        return false;
    }
    if let Some(number) = known {
        let (whole, old) = packed.locate(number * 2 + 1).expect("the row is there");
        if old != value {
            packed.replace(whole, value);
        }
        return false;
    }
    packed.push(name);
    if R::WIDTH == 2 {
        packed.push(value);
    }
    true
}

fn remove_packed<R: Row>(packed: &mut Packed, name: &[u8]) -> bool {
    let known = rows::<R>(packed).position(|(other, _)| other == name);
    let Some(number) = known else { return false };
    let first = packed.locate(number * R::WIDTH).expect("the row is there").0;
    let last = packed.locate(number * R::WIDTH + R::WIDTH - 1).expect("the row is there").0;
    packed.remove(first.start..last.end, R::WIDTH);
    true
}

fn find<R: Row>(index: &Index<R>, name: &[u8], hash: u32) -> Option<usize> {
    index.find(hash, |row| row.name() == name)
}

fn put_indexed<R: Row>(index: &mut Index<R>, owned: &mut usize, name: &[u8], value: &[u8]) -> bool {
    let hash = hash(name) as u32;
    let Some(number) = find(index, name, hash) else {
        let row = R::new(name, value, hash);
        *owned += row.heap();
        index.push(row);
        return true;
    };
    let row = index.get_mut(number);
    *owned -= row.heap();
    row.set(value);
    *owned += row.heap();
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_as_a_map_in_both_shapes() {
        for (names, size) in [(40, 20), (300, 20), (20, 3000)] {
            fastrand::seed(11);
            let (mut hash, mut model) = (Hash::default(), BTreeMap::new());
            for _ in 0..20_000 {
                let name = format!("field{}", fastrand::usize(..names)).into_bytes();
                let value = vec![b'v'; fastrand::usize(..size)];
                if fastrand::bool() {
                    assert_eq!(hash.remove(&name), model.remove(&name).is_some());
                } else {
                    assert_eq!(hash.put(&name, &value), model.insert(name, value).is_none());
                }
            }
            let rows: BTreeMap<_, _> = hash.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            assert_eq!(rows, model);
            assert!((0..hash.len()).all(|number| model[hash.at(number).0] == hash.at(number).1));
        }
    }

    #[test]
    fn counts_what_it_owns_and_gives_it_back() {
        let mut set = Set::default();
        for number in 0..1000 {
            set.put(format!("a member that needs an allocation: {number}").as_bytes(), b"");
        }
        assert!(set.heap() > 1000 * (48 + 32));
        for number in 0..1000 {
            set.remove(format!("a member that needs an allocation: {number}").as_bytes());
        }
        assert_eq!((set.len(), set.heap()), (0, 0));
    }

    #[test]
    fn says_when_redis_would_convert() {
        let mut set = Set::default();
        for number in 0..512 {
            set.put(number.to_string().as_bytes(), b"");
        }
        assert!(set.is_compact());
        set.put(b"512", b"");
        assert!(!set.is_compact());
        set.remove(b"512");
        assert!(!set.is_compact(), "never undone");

        let mut hash = Hash::default();
        hash.put(b"f", &[b'v'; 64]);
        assert!(hash.is_compact());
        hash.put(b"f", &[b'v'; 65]);
        assert!(!hash.is_compact());
    }
}
