//! What a key holds.

use super::collection::{Hash, Set};
use super::number;
use crate::memory::Blob;
use crate::memory::{allocated, vec_allocated};

/// A value of one of the three types.
#[derive(Clone)]
pub(super) enum Object {
    /// A string as it was set.
    Text(Blob),
    /// A sum of INCRBYFLOAT, which Redis never holds as an integer, not even where it looks like one. Boxed, for this is
    /// rare and an object has three words.
    Sum(Box<Blob>),
    /// A string that was changed in place (APPEND, SETRANGE, SETBIT), with room to grow.
    #[expect(clippy::box_collection, reason = "an object has three words, and most strings are never changed")]
    Raw(Box<Vec<u8>>),
    Hash(Box<Hash>),
    Set(Box<Set>),
}

impl Object {
    /// A string.
    pub fn text(bytes: &[u8]) -> Self {
        Object::Text(Blob::new(bytes))
    }

    /// Becomes a string, whatever it was.
    #[inline]
    pub fn set_text(&mut self, bytes: &[u8]) {
        match self {
            Object::Text(blob) => blob.set(bytes),
            _ => *self = Object::text(bytes),
        }
    }

    /// The bytes, if this is a string.
    #[inline]
    pub fn as_text(&self) -> Option<&[u8]> {
        match self {
            Object::Text(blob) => Some(blob.bytes()),
            Object::Sum(blob) => Some(blob.bytes()),
            Object::Raw(bytes) => Some(bytes),
            Object::Hash(_) | Object::Set(_) => None,
        }
    }

    pub fn as_hash(&self) -> Option<&Hash> {
        if let Object::Hash(hash) = self { Some(hash) } else { None }
    }

    pub fn as_set(&self) -> Option<&Set> {
        if let Object::Set(set) = self { Some(set) } else { None }
    }

    /// What TYPE answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::Text(_) | Object::Sum(_) | Object::Raw(_) => "string",
            Object::Hash(_) => "hash",
            Object::Set(_) => "set",
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> &'static str {
        match self {
            Object::Text(blob) if number::parse(blob.bytes()).is_some() => "int",
            Object::Text(blob) if blob.bytes().len() <= 44 => "embstr",
            Object::Sum(blob) if blob.bytes().len() <= 44 => "embstr",
            Object::Text(_) | Object::Sum(_) | Object::Raw(_) => "raw",
            Object::Hash(hash) if hash.is_compact() => "listpack",
            Object::Set(set) if set.is_compact() => "intset",
            Object::Hash(_) | Object::Set(_) => "hashtable",
        }
    }

    /// Bytes from the allocator.
    #[inline]
    pub fn heap(&self) -> usize {
        match self {
            Object::Text(blob) => blob.heap(),
            Object::Sum(blob) => vec_allocated::<Blob>(1) + blob.heap(),
            Object::Raw(bytes) => vec_allocated::<Vec<u8>>(1) + allocated(bytes.capacity()),
            Object::Hash(hash) => allocated(size_of::<Hash>()) + hash.heap(),
            Object::Set(set) => allocated(size_of::<Set>()) + set.heap(),
        }
    }
}
