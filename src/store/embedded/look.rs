//! [`Seen`] of a key of the embedded store: it counts as no use, and nothing is locked but the key's shard.

use super::Embedded;
use super::object::Object;
use super::shard_of;
use super::side::Side;
use crate::hash::hash;
use crate::store::StoreKey;
use crate::store::look::Seen;
use crate::value::Value;
use bytes::Bytes;

impl Embedded {
    /// What stands at `key`.
    pub fn look(&self, key: &StoreKey) -> Seen {
        let (hash, now) = (hash(&key.name), self.time.now());
        let mut shard = self.shards[shard_of(hash)].lock();
        let space = &mut shard.spaces[key.db as usize];
        if let Some(entry) = space.peek(hash, &key.name, now) {
            return seen(&entry.object);
        }
        match space.sides.get(hash, &key.name, now) {
            Some(Side::Negative) => Seen::Negative,
            Some(Side::Lease(_)) | None => Seen::Absent,
        }
    }
}

fn seen(object: &Object) -> Seen {
    if let Some(text) = object.as_text() {
        return Seen::value(Value::String(Bytes::copy_from_slice(text)));
    }
    let copy = |(name, value): (&[u8], &[u8])| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    object.as_hash().map_or(Seen::Foreign, |hash| Seen::value(Value::Hash(hash.iter().map(copy).collect())))
}

#[cfg(test)]
mod tests {
    use super::super::Context;
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::resp::write::Protocol;
    use crate::store::{Fill, Token};
    use std::time::Duration;

    fn seen(store: &Embedded, name: &'static str) -> Seen {
        store.look(&StoreKey { db: 0, name: name.into() })
    }

    #[test]
    fn what_stands_at_a_key_is_seen_and_left_alone() {
        let store = Embedded::new(1 << 20);
        for line in ["SET text hello", "HSET hash b 2 a 1", "SADD set member"] {
            let context = Context { db: 0, protocol: Protocol::Resp2 };
            store.execute(context, line.split(' ').collect::<OwnedArgs>().as_args(), &mut Vec::new());
        }
        let (key, minute) = (StoreKey { db: 0, name: "none".into() }, Duration::from_secs(60));
        store.acquire(&key, Token(1), minute);
        let hits = store.stats().hits;
        assert_eq!(seen(&store, "none"), Seen::Absent, "a lease alone");
        store.fill(&key, Token(1), Fill::Negative { ttl: minute });
        assert_eq!(seen(&store, "none"), Seen::Negative);
        assert_eq!(seen(&store, "text"), Seen::Value(Value::String("hello".into())));
        let fields = vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        assert_eq!(seen(&store, "hash"), Seen::Value(Value::Hash(fields)));
        assert_eq!((seen(&store, "set"), seen(&store, "nothing")), (Seen::Foreign, Seen::Absent));
        assert_eq!(store.stats().hits, hits);
    }
}
