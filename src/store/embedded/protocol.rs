//! The steps of the cache protocol on the embedded store, each atomic under the lock of the key's shard.

use super::call::shard_of;
use super::collection::Hash;
use super::keyspace::{NEVER, Space};
use super::notes::Note;
use super::object::Object;
use super::side::Side;
use super::{Embedded, SHARDS};
use crate::hash::hash;
use crate::store::{Acquired, Fill, Filled, ListId, Sequence, Store, StoreError, StoreKey, Token};
use crate::value::{Value, View};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

/// The part of `max_memory` that side entries may take.
const SIDE_SHARE: usize = 8;

/// However little memory there is, a shard has room for this many bytes of them.
const SIDE_FLOOR: usize = 8 * 1024;

impl Embedded {
    /// Looks for the value, then the negative entry, then a lease; where there is none of them, takes the lease.
    pub fn acquire(&self, key: &StoreKey, token: Token, lease: Duration) -> Acquired {
        self.step(key, |space, hash, now| {
            if space.find(hash, &key.name, now).is_some() {
                return Acquired::Present;
            }
            match space.sides.get(hash, &key.name, now) {
                Some(Side::Negative) => Acquired::Negative,
                Some(Side::Lease(holder)) => Acquired::Held(holder.into()),
                None => {
                    let until = deadline(now, lease);
                    space.sides.put(hash, &key.name, Side::Lease(token), until, self.side_limit());
                    Acquired::Granted
                }
            }
        })
    }

    /// Takes the lease, whatever else stands there, unless somebody holds it. A negative entry makes way for it: who reads
    /// meanwhile waits for the load.
    pub fn acquire_to_refresh(&self, key: &StoreKey, token: Token, lease: Duration) -> Acquired {
        self.step(key, |space, hash, now| {
            if let Some(Side::Lease(holder)) = space.sides.get(hash, &key.name, now) {
                return Acquired::Held(holder.into());
            }
            let until = deadline(now, lease);
            space.sides.put(hash, &key.name, Side::Lease(token), until, self.side_limit());
            Acquired::Granted
        })
    }

    /// Takes the lease, whatever else stands there and whoever holds it.
    pub fn seize(&self, key: &StoreKey, token: Token, lease: Duration) {
        self.step(key, |space, hash, now| {
            space.sides.put(hash, &key.name, Side::Lease(token), deadline(now, lease), self.side_limit());
        });
    }

    /// Stores the outcome of a load, if `token` is still the lease and the key is absent; drops that lease. A value
    /// that is larger than the whole store counts as stored and evicted at once.
    pub fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> Filled {
        self.put(key, token, fill, |_, _| false)
    }

    /// The same in the place of what is there; or only if that has no more than `due` left to live.
    pub fn replace(&self, key: &StoreKey, token: Token, fill: Fill, due: Option<Duration>) -> Filled {
        self.put(key, token, fill, |expires, now| due.is_none_or(|due| expires <= deadline(now, due)))
    }

    /// `may_replace` says of the end of what is there whether that makes way now.
    fn put(&self, key: &StoreKey, token: Token, fill: Fill, may_replace: impl FnOnce(i64, i64) -> bool) -> Filled {
        if let Fill::Value { value, .. } = &fill {
            self.make_room(if value.len() <= self.limit { value.len() } else { 0 });
        }
        self.step(key, |space, hash, now| {
            if space.sides.get(hash, &key.name, now) != Some(Side::Lease(token)) {
                return Filled::LeaseLost;
            }
            space.sides.drop(hash, &key.name);
            let there = space.peek(hash, &key.name, now).map(|entry| entry.expires);
            let mut by_clients = BTreeSet::new();
            if let Some(expires) = there.filter(|_| !matches!(fill, Fill::Nothing)) {
                if !may_replace(expires, now) {
                    return Filled::Occupied;
                }
                by_clients = space.notes.get(&key.name).map(|note| note.tags.clone()).unwrap_or_default();
                space.take(hash, &key.name, now);
            }
            match fill {
                Fill::Value { value, .. } if !value_fits(&value, self.limit) => drop(value),
                Fill::Value { value, ttl, tags } => {
                    space.put(hash, &key.name, object(value.view()), deadline(now, ttl), now);
                    if !(tags.is_empty() && by_clients.is_empty()) {
                        let of_row = tags.into_iter().collect();
                        space.notes.change(&key.name, |note| (note.tags, note.of_row) = (by_clients, of_row));
                    }
                }
                Fill::Negative { ttl } => {
                    space.sides.put(hash, &key.name, Side::Negative, deadline(now, ttl), self.side_limit());
                }
                Fill::Nothing | Fill::Gone => {}
            }
            Filled::Stored
        })
    }

    /// Deletes value, lease and negative entry. True if there was a value.
    pub fn invalidate(&self, key: &StoreKey) -> bool {
        self.step(key, |space, hash, now| {
            space.sides.drop(hash, &key.name);
            space.take(hash, &key.name, now).is_some()
        })
    }

    /// Notes beside a value that it has these tags too; answers all that are noted. Beside no value, nothing is noted.
    pub fn note_tags(&self, key: &StoreKey, tags: &[Bytes]) -> Vec<Bytes> {
        self.step(key, |space, hash, now| {
            if !tags.is_empty() && space.find(hash, &key.name, now).is_some() {
                space.notes.change(&key.name, |note| note.tags.extend(tags.iter().cloned()));
            }
            noted(space, key)
        })
    }

    /// Lets a value live for `life`, unless it lives longer, has no more than `grace` left, or its end is held; answers
    /// the tags that are noted beside it.
    pub fn renew(&self, key: &StoreKey, life: Duration, grace: Duration) -> Option<Vec<Bytes>> {
        self.step(key, |space, hash, now| {
            let until = deadline(now, life);
            let held = space.notes.get(&key.name).is_some_and(|note| note.held_until > now);
            let expires = space.peek(hash, &key.name, now)?.expires;
            if held || expires >= until || expires <= deadline(now, grace) {
                return None;
            }
            space.change(hash, &key.name, now, |entry| entry.expires = until);
            Some(noted(space, key))
        })
    }

    /// For so long [`Embedded::renew`] leaves a value alone.
    pub fn hold_end(&self, key: &StoreKey, time: Duration) {
        self.step(key, |space, hash, now| {
            let matters = !time.is_zero() || space.notes.get(&key.name).is_some();
            if matters && space.find(hash, &key.name, now).is_some() {
                space.notes.change(&key.name, |note| note.held_until = deadline(now, time));
            }
        });
    }

    fn step<T>(&self, key: &StoreKey, step: impl FnOnce(&mut Space, u64, i64) -> T) -> T {
        let hash = hash(&key.name);
        let mut shard = self.shards[shard_of(hash)].lock();
        let outcome = step(&mut shard.spaces[key.db as usize], hash, self.time.now());
        self.settle(&mut shard, 1 << key.db);
        drop(shard);
        self.make_room(0);
        outcome
    }

    /// Bytes of side entries in a shard.
    pub(super) fn side_limit(&self) -> usize {
        (self.limit / SIDE_SHARE / SHARDS).max(SIDE_FLOOR)
    }
}

impl Store for Arc<Embedded> {
    /// It lives and ends with this process.
    fn epoch(&self) -> Option<u64> {
        Some(0)
    }

    fn acquire(
        &self,
        key: &StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Acquired, StoreError>> {
        ready(Ok(Embedded::acquire(self, key, token, lease)))
    }

    fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> impl Future<Output = Result<Filled, StoreError>> {
        ready(Ok(Embedded::fill(self, key, token, fill)))
    }

    fn acquire_to_refresh(
        &self,
        key: &StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Acquired, StoreError>> {
        ready(Ok(Embedded::acquire_to_refresh(self, key, token, lease)))
    }

    fn replace(
        &self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        due: Option<Duration>,
    ) -> impl Future<Output = Result<Filled, StoreError>> {
        ready(Ok(Embedded::replace(self, key, token, fill, due)))
    }

    fn seize(&self, key: &StoreKey, token: Token, lease: Duration) -> impl Future<Output = Result<(), StoreError>> {
        Embedded::seize(self, key, token, lease);
        ready(Ok(()))
    }

    fn invalidate(&self, key: &StoreKey) -> impl Future<Output = Result<bool, StoreError>> {
        ready(Ok(Embedded::invalidate(self, key)))
    }

    fn invalidate_all(&self, db: u32, keys: &[Bytes]) -> impl Future<Output = Result<usize, StoreError>> {
        let had_value = |name: &&Bytes| Embedded::invalidate(self, &StoreKey { db, name: (*name).clone() });
        ready(Ok(keys.iter().filter(had_value).count()))
    }

    fn sequence(&self, db: u32) -> impl Future<Output = Result<Sequence, StoreError>> {
        ready(Ok(Embedded::sequence(self, db)))
    }

    fn next_sequence(&self, db: u32) -> impl Future<Output = Result<Sequence, StoreError>> {
        ready(Ok(Embedded::next_sequence(self, db)))
    }

    fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> impl Future<Output = Result<Sequence, StoreError>> {
        ready(Embedded::index(self, key, tag, life))
    }

    fn set_aside(
        &self,
        db: u32,
        tag: &[u8],
        number: Sequence,
        list: ListId,
    ) -> impl Future<Output = Result<Vec<ListId>, StoreError>> {
        ready(Ok(Embedded::set_aside(self, db, tag, number, list)))
    }

    fn listed(
        &self,
        db: u32,
        tag: &[u8],
        list: ListId,
        from: usize,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, StoreError>> {
        ready(Ok(Embedded::listed(self, db, tag, list, from, count)))
    }

    fn drop_list(&self, db: u32, tag: &[u8], list: ListId) -> impl Future<Output = Result<(), StoreError>> {
        Embedded::drop_list(self, db, tag, list);
        ready(Ok(()))
    }

    fn note_tags(
        &self,
        key: &StoreKey,
        tags: &[Bytes],
        _: Duration,
    ) -> impl Future<Output = Result<Vec<Bytes>, StoreError>> {
        ready(Ok(Embedded::note_tags(self, key, tags)))
    }

    fn renew(
        &self,
        key: &StoreKey,
        life: Duration,
        grace: Duration,
    ) -> impl Future<Output = Result<Option<Vec<Bytes>>, StoreError>> {
        ready(Ok(Embedded::renew(self, key, life, grace)))
    }

    fn hold_end(&self, key: &StoreKey, time: Duration) -> impl Future<Output = Result<(), StoreError>> {
        Embedded::hold_end(self, key, time);
        ready(Ok(()))
    }
}

/// A loaded value as the store keeps it.
pub(super) fn object(value: View<'_>) -> Object {
    match value {
        View::String(bytes) => Object::text(bytes),
        View::Hash(fields) => {
            let mut hash = Box::<Hash>::default();
            for (name, value) in fields {
                hash.put(name, value);
            }
            Object::Hash(hash)
        }
    }
}

fn noted(space: &Space, key: &StoreKey) -> Vec<Bytes> {
    space.notes.get(&key.name).map(Note::all_tags).unwrap_or_default()
}

/// An empty hash does not exist as a key.
fn value_fits(value: &Value, limit: usize) -> bool {
    value.len() <= limit && !matches!(value, Value::Hash(fields) if fields.is_empty())
}

fn deadline(now: i64, after: Duration) -> i64 {
    now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::super::{Context, TimeSource};
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::resp::write::Protocol;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    const LEASE: Duration = Duration::from_secs(3);
    const TTL: Duration = Duration::from_secs(60);

    fn key(name: &str) -> StoreKey {
        StoreKey { db: 0, name: Bytes::copy_from_slice(name.as_bytes()) }
    }

    fn value(text: &str) -> Fill {
        Fill::Value { value: Value::String(Bytes::copy_from_slice(text.as_bytes())), ttl: TTL, tags: Vec::new() }
    }

    fn run(store: &Embedded, line: &str) -> String {
        let mut out = Vec::new();
        let args: OwnedArgs = line.split(' ').collect();
        store.execute(Context { db: 0, protocol: Protocol::Resp2 }, args.as_args(), &mut out);
        String::from_utf8(out).expect("text")
    }

    fn store() -> (Embedded, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let hand = clock.clone();
        (Embedded::with_time(1 << 24, TimeSource::from_fn(move || hand.load(Relaxed))), clock)
    }

    #[test]
    fn a_load_is_granted_once_and_its_value_is_stored_with_its_ttl() {
        let (store, clock) = store();
        assert_eq!(store.acquire(&key("k"), Token(1), LEASE), Acquired::Granted);
        assert_eq!(store.acquire(&key("k"), Token(2), LEASE), Acquired::Held(Token(1).into()));
        assert_eq!(store.fill(&key("k"), Token(1), value("v")), Filled::Stored);
        assert_eq!(store.acquire(&key("k"), Token(2), LEASE), Acquired::Present);
        assert_eq!(run(&store, "PTTL k"), ":60000\r\n");
        clock.fetch_add(60_000, Relaxed);
        assert_eq!(run(&store, "GET k"), "$-1\r\n");
        assert_eq!(store.acquire(&key("k"), Token(2), LEASE), Acquired::Granted);
    }

    #[test]
    fn every_change_of_a_key_refuses_the_fill_of_a_load_begun_before() {
        let changes = [
            "DEL k",
            "UNLINK k",
            "SET k v",
            "SET k v XX",
            "SETNX k v",
            "SETEX k 10 v",
            "PSETEX k 10 v",
            "GETSET k v",
            "GETDEL k",
            "MSET a 1 k v",
            "MSETNX a 1 k v",
            "APPEND k v",
            "SETRANGE k 1 v",
            "INCR k",
            "DECR k",
            "INCRBY k 1",
            "DECRBY k 1",
            "HSET k f v",
            "HMSET k f v",
            "HSETNX k f v",
            "HDEL k f",
            "HINCRBY k f 1",
            "SADD k m",
            "SREM k m",
            "SPOP k",
            "SMOVE k o m",
            "SUNIONSTORE k nobody",
            "SINTERSTORE k nobody",
            "SDIFFSTORE k nobody",
            "EXPIRE k 10",
            "PEXPIRE k 10",
            "EXPIREAT k 10",
            "PEXPIREAT k 10",
            "PERSIST k",
            "RENAME k o",
            "RENAME o k",
            "RENAMENX o k",
            "COPY o k",
            "COPY o k REPLACE",
            "FLUSHDB",
            "FLUSHALL",
            "SWAPDB 0 1",
            "MOVE k 1",
        ];
        for change in changes {
            let (store, _) = store();
            run(&store, "SET o 1");
            assert_eq!(store.acquire(&key("k"), Token(1), LEASE), Acquired::Granted);
            run(&store, change);
            assert_eq!(store.fill(&key("k"), Token(1), value("the row")), Filled::LeaseLost, "{change}");
            assert!(!run(&store, "GET k").contains("the row"), "{change}");
        }
    }

    #[test]
    fn reads_leave_a_lease_alone() {
        let (store, _) = store();
        store.acquire(&key("k"), Token(1), LEASE);
        for read in ["GET k", "MGET k a", "EXISTS k", "TTL k", "HGETALL k", "SCAN 0", "KEYS *", "DBSIZE", "GETEX k"] {
            run(&store, read);
        }
        assert_eq!(store.fill(&key("k"), Token(1), value("v")), Filled::Stored);
    }

    #[test]
    fn a_lease_ends_with_its_time() {
        let (store, clock) = store();
        store.acquire(&key("k"), Token(1), LEASE);
        clock.fetch_add(3000, Relaxed);
        assert_eq!(store.fill(&key("k"), Token(1), value("late")), Filled::LeaseLost);
        assert_eq!(store.acquire(&key("k"), Token(2), LEASE), Acquired::Granted);
        assert_eq!(store.fill(&key("k"), Token(1), value("late")), Filled::LeaseLost);
    }

    #[test]
    fn a_negative_entry_stands_until_its_ttl_or_a_change() {
        let (store, clock) = store();
        let negative = |token| {
            assert_eq!(store.acquire(&key("k"), token, LEASE), Acquired::Granted);
            assert_eq!(store.fill(&key("k"), token, Fill::Negative { ttl: TTL }), Filled::Stored);
            assert_eq!(store.acquire(&key("k"), Token(9), LEASE), Acquired::Negative);
        };
        negative(Token(1));
        clock.fetch_add(60_000, Relaxed);
        negative(Token(2));
        assert!(!store.invalidate(&key("k")));
        negative(Token(3));
        run(&store, "SET k v");
        assert_eq!(store.acquire(&key("k"), Token(4), LEASE), Acquired::Present);
        assert!(store.invalidate(&key("k")));
        assert_eq!(store.acquire(&key("k"), Token(4), LEASE), Acquired::Granted);
        assert_eq!(store.fill(&key("k"), Token(4), Fill::Nothing), Filled::Stored);
        assert_eq!(store.acquire(&key("k"), Token(5), LEASE), Acquired::Granted);
    }

    #[test]
    fn clients_never_see_side_entries() {
        let (store, _) = store();
        store.acquire(&key("leased"), Token(1), LEASE);
        store.acquire(&key("negative"), Token(2), LEASE);
        store.fill(&key("negative"), Token(2), Fill::Negative { ttl: TTL });
        assert_eq!(run(&store, "DBSIZE"), ":0\r\n");
        assert_eq!(run(&store, "KEYS *"), "*0\r\n");
        assert_eq!(run(&store, "SCAN 0 COUNT 1000"), "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(run(&store, "RANDOMKEY"), "$-1\r\n");
        assert_eq!(run(&store, "EXISTS leased negative"), ":0\r\n");
        assert!(store.stats().bytes > 0, "but they are counted");
    }

    #[test]
    fn side_entries_are_bounded() {
        let (store, _) = store();
        for number in 0..200_000u64 {
            let key = key(&format!("a key of some length that nobody has: {number}"));
            store.acquire(&key, Token(number + 1), LEASE);
            store.fill(&key, Token(number + 1), Fill::Negative { ttl: TTL });
        }
        assert!(store.stats().bytes < (1 << 24) / 6, "{}", store.stats().bytes);
    }

    #[test]
    fn a_flood_of_absent_keys_leaves_the_keys_in_use_where_they_are() {
        let (store, _) = store();
        let used = |number: u64| run(&store, &format!("GET used:{number}"));
        (0..1000).for_each(|number| drop(run(&store, &format!("SET used:{number} {}", "v".repeat(1000)))));
        (0..20).for_each(|_| (0..1000).for_each(|number| drop(used(number))));
        for number in 0..40_000u64 {
            run(&store, &format!("SET filler:{number} {}", "v".repeat(1000)));
            let absent = key(&format!("absent:{number}"));
            store.acquire(&absent, Token(number + 1), LEASE);
            store.fill(&absent, Token(number + 1), Fill::Negative { ttl: TTL });
        }
        assert!((0..1000).filter(|&number| used(number) != "$-1\r\n").count() > 980);
    }

    #[test]
    fn a_value_larger_than_the_store_is_gone_at_once() {
        let store = Embedded::new(1 << 20);
        run(&store, "SET other v");
        store.acquire(&key("k"), Token(1), LEASE);
        assert_eq!(store.fill(&key("k"), Token(1), value(&"v".repeat(2 << 20))), Filled::Stored);
        assert_eq!(store.acquire(&key("k"), Token(2), LEASE), Acquired::Granted);
    }

    #[test]
    fn a_loaded_hash_is_read_field_by_field_in_the_order_of_its_columns() {
        let (store, _) = store();
        let fields = vec![("id".into(), "7".into()), ("name".into(), "Ada".into()), ("empty".into(), "".into())];
        store.acquire(&key("k"), Token(1), LEASE);
        store.fill(&key("k"), Token(1), Fill::Value { value: Value::Hash(fields), ttl: TTL, tags: Vec::new() });
        assert_eq!(run(&store, "HGET k name"), "$3\r\nAda\r\n");
        let all = "*6\r\n$2\r\nid\r\n$1\r\n7\r\n$4\r\nname\r\n$3\r\nAda\r\n$5\r\nempty\r\n$0\r\n\r\n";
        assert_eq!(run(&store, "HGETALL k"), all);
    }

    #[test]
    fn a_note_goes_with_its_value() {
        let (store, clock) = store();
        let before = store.stats().bytes;
        assert!(store.note_tags(&key("k"), &["t".into()]).is_empty(), "there is no value");
        let fill =
            |tag: &'static str| Fill::Value { value: Value::String("v".into()), ttl: TTL, tags: vec![tag.into()] };
        store.acquire(&key("k"), Token(1), LEASE);
        store.fill(&key("k"), Token(1), fill("a"));
        assert_eq!(store.note_tags(&key("k"), &["b".into()]), ["a", "b"]);
        run(&store, "SET k other");
        assert_eq!(store.note_tags(&key("k"), &[]), ["a", "b"], "it may still be what was loaded, or part of it");
        store.acquire_to_refresh(&key("k"), Token(2), LEASE);
        store.replace(&key("k"), Token(2), fill("c"), None);
        assert_eq!(store.note_tags(&key("k"), &[]), ["b", "c"], "what a client noted stays, what the row told goes");
        clock.fetch_add(60_000, Relaxed);
        assert_eq!(run(&store, "GET k"), "$-1\r\n");
        assert!(store.note_tags(&key("k"), &[]).is_empty());
        run(&store, "SET k v");
        store.note_tags(&key("k"), &["t".into()]);
        run(&store, "DEL k");
        run(&store, "FLUSHALL");
        assert_eq!(store.stats().bytes, before);
    }

    #[test]
    fn a_value_is_renewed_unless_it_is_stale_or_its_end_is_held() {
        let (store, clock) = store();
        let (life, grace) = (Duration::from_secs(100), Duration::from_secs(40));
        let renew = || store.renew(&key("k"), life, grace).is_some();
        assert!(!renew(), "it is absent");
        run(&store, "SET k v");
        assert!(!renew(), "it has no end");
        run(&store, "PEXPIRE k 90000");
        assert!(renew());
        assert_eq!(run(&store, "PTTL k"), ":100000\r\n");
        assert!(!renew());
        run(&store, "PEXPIRE k 40000");
        assert!(!renew(), "it is in its grace");
        run(&store, "PEXPIRE k 50000");
        store.hold_end(&key("k"), Duration::from_secs(1));
        assert!(!renew());
        clock.fetch_add(1000, Relaxed);
        assert!(renew());
    }
}
