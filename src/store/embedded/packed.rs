//! A short list of byte strings in one allocation: the shape of a small hash or set.
//!
//! Each element is its length (LEB128) and its bytes. Everything is found by walking, which beats a table as long as
//! the list is a few cache lines, and a hash of ten columns costs one allocation instead of twenty.

use crate::memory::allocated;
use std::ops::Range;

/// See the module's page.
#[derive(Clone, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: usize,
}

impl Packed {
    /// How many elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes of all elements and their lengths.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        Walk { bytes: &self.bytes, at: 0 }.map(|(_, payload)| &self.bytes[payload])
    }

    /// Appends an element.
    pub fn push(&mut self, element: &[u8]) {
        self.reserve(element.len() + 5);
        encode(&mut self.bytes, element);
        self.count += 1;
    }

    /// The whole range and the payload of element `number`.
    pub fn locate(&self, number: usize) -> Option<(Range<usize>, &[u8])> {
        let (whole, payload) = Walk { bytes: &self.bytes, at: 0 }.nth(number)?;
        Some((whole, &self.bytes[payload]))
    }

    /// Puts `element` in the place of the one that fills `whole`.
    pub fn replace(&mut self, whole: Range<usize>, element: &[u8]) {
        let mut encoded = Vec::with_capacity(element.len() + 5);
        encode(&mut encoded, element);
        self.reserve(encoded.len());
        self.bytes.splice(whole, encoded);
    }

    /// Takes out `count` elements that together fill `whole`.
    pub fn remove(&mut self, whole: Range<usize>, count: usize) {
        self.bytes.drain(whole);
        self.count -= count;
        if self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to_fit();
        }
    }

    /// Bytes from the allocator.
    pub fn heap(&self) -> usize {
        allocated(self.bytes.capacity())
    }

    /// Grows by an eighth more than needed, not to double: most small hashes are written once.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(more + needed / 8);
        }
    }
}

fn encode(out: &mut Vec<u8>, element: &[u8]) {
    let mut length = element.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(element);
}

/// Walks the elements: the range of the whole element, and that of its payload.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Walk<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let whole = self.at;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let payload = self.at;
        self.at += length;
        Some((whole..self.at, payload..self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::Packed;

    #[test]
    fn behaves_as_a_list() {
        fastrand::seed(3);
        let (mut packed, mut model) = (Packed::default(), Vec::<Vec<u8>>::new());
        for _ in 0..5000 {
            let element = vec![b'x'; fastrand::usize(..300)];
            match fastrand::u8(..3) {
                0 if !model.is_empty() => {
                    let number = fastrand::usize(..model.len());
                    let whole = packed.locate(number).expect("there").0;
                    packed.remove(whole, 1);
                    model.remove(number);
                }
                1 if !model.is_empty() => {
                    let number = fastrand::usize(..model.len());
                    let whole = packed.locate(number).expect("there").0;
                    packed.replace(whole, &element);
                    model[number] = element;
                }
                _ => {
                    packed.push(&element);
                    model.push(element);
                }
            }
            assert_eq!(packed.len(), model.len());
            if model.len() > 40 {
                (packed, model) = Default::default();
            }
            assert!(packed.iter().eq(model.iter().map(Vec::as_slice)));
        }
    }
}
