//! A look at what a store holds of a key, from the side: for those who check what clients are given, and never on a client's
//! way. It takes no lease and changes nothing but what the store remembers of the use of keys.

use super::{Backend, StoreError, StoreKey};
use crate::value::Value;
use std::future::Future;

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Neither a value nor a negative entry.
    Absent,
    /// The absence of its row is remembered.
    Negative,
    /// A value of a type that is loaded. Of a hash, the fields are in the order of their names.
    Value(Value),
    /// A value of another type: somebody's own.
    Foreign,
}

/// A store that may be looked into.
pub trait Look {
    /// What stands at `key`. Value and negative entry need not be seen at one moment.
    fn look(&self, key: &StoreKey) -> impl Future<Output = Result<Seen, StoreError>>;
}

impl Seen {
    /// A value, as it is compared: a store keeps the fields of a hash in an order of its own.
    pub fn value(mut value: Value) -> Seen {
        if let Value::Hash(fields) = &mut value {
            fields.sort_unstable();
        }
        Seen::Value(value)
    }
}

impl Look for Backend {
    async fn look(&self, key: &StoreKey) -> Result<Seen, StoreError> {
        match self {
            Backend::Redis(redis) => redis.look(key).await,
            Backend::Embedded(embedded) => Ok(embedded.look(key)),
        }
    }
}
