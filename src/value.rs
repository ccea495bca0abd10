//! What a database row becomes and what a store keeps: the one type that both sides of the engine share.

use bytes::Bytes;

/// A loaded value in the form in which it is stored, raw: a client that bypasses Weir reads the plain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A Redis string: JSON, MessagePack or one column's text.
    String(Bytes),
    /// A Redis hash, one field a column, in the column order of the statement; never empty.
    Hash(Vec<(Bytes, Bytes)>),
}

/// A value in whatever form it is kept, to be read and not to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View<'a> {
    /// See [`Value::String`].
    String(&'a [u8]),
    /// See [`Value::Hash`].
    Hash(&'a [(Bytes, Bytes)]),
}

impl View<'_> {
    /// A copy that owns its bytes, and no more than those.
    pub fn to_value(self) -> Value {
        match self {
            View::String(text) => Value::String(Bytes::copy_from_slice(text)),
            View::Hash(fields) => {
                let copy =
                    |(name, value): &(Bytes, Bytes)| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
                Value::Hash(fields.iter().map(copy).collect())
            }
        }
    }

    /// Payload size in bytes.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            View::String(text) => text.len(),
            View::Hash(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        }
    }

    /// Whether there is no payload at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// What is in it.
    #[inline]
    pub fn view(&self) -> View<'_> {
        match self {
            Value::String(text) => View::String(text),
            Value::Hash(fields) => View::Hash(fields),
        }
    }

    /// Payload size in bytes: what `max_value` is compared with.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no payload at all. An empty string is a value and not an absence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
