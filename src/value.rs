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

impl Value {
    /// Payload size in bytes: what `max_value` is compared with.
    pub fn len(&self) -> usize {
        match self {
            Value::String(bytes) => bytes.len(),
            Value::Hash(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        }
    }

    /// Whether there is no payload at all. An empty string is a value and not an absence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
