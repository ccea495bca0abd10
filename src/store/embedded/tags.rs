//! The tags of the embedded store: for each database number a sequence, and for each tag its mark, the index of its keys, and
//! the lists that invalidations have set aside (see `cache::tags`).
//!
//! They live under a lock of their own, taken on misses and invalidations only, and never inside a shard's. Their memory is
//! counted in `max_memory`, and bounded: a key leaves an index when its time is over (which is looked after whenever a
//! sixth of an index may have ended, T7), and beyond [`SHARE`] of the memory also when its value has been evicted. What
//! finds no room then is not stored. A tag without keys is forgotten with its mark; from then on no mark is below the
//! sequence of that moment, so that a load that was under way is refused rather than missed.

use super::Embedded;
use super::call::shard_of;
use super::keyspace::DATABASES;
use crate::hash::hash;
use crate::store::{ListId, Sequence, StoreError, StoreKey};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The part of `max_memory` that tags may take.
const SHARE: usize = 4;
/// However little memory there is, they may take so many bytes.
const FLOOR: usize = 64 * 1024;
/// What a key in an index, or a tag, takes beside its bytes: its place in a table, and the allocator's part.
const OVERHEAD: usize = 64;
/// An index of fewer keys is not looked through.
const SMALL: usize = 64;
/// All tags are looked through once in so many milliseconds.
const LOOK: i64 = 60_000;

/// The tags of all database numbers.
#[derive(Default)]
pub(super) struct Tags {
    spaces: [Space; DATABASES],
    /// Bytes taken, about; the store's total counts them.
    bytes: usize,
    /// They are not looked through for evicted values below this.
    patience: usize,
    /// When they are looked through next for what has ended.
    next_look: i64,
}

#[derive(Default)]
struct Space {
    sequence: u64,
    /// No tag's mark is below this.
    floor: u64,
    tags: HashMap<Vec<u8>, Tag, RandomState>,
}

#[derive(Default)]
struct Tag {
    mark: u64,
    /// Each key, and when its value has ended.
    index: HashMap<Vec<u8>, i64, RandomState>,
    /// So many keys were left when the index was last looked through.
    left: usize,
    lists: BTreeMap<ListId, Vec<Bytes>>,
}

impl Tag {
    /// Puts a key into the index.
    fn add(&mut self, key: &[u8], until: i64, now: i64) {
        if self.index.len() >= SMALL && self.index.len() * 5 > self.left * 6 {
            self.index.retain(|_, until| *until > now);
            self.left = self.index.len();
        }
        let known = self.index.entry_ref(key).or_insert(until);
        *known = until.max(*known);
    }

    fn set_aside(&mut self, number: u64, list: ListId) -> Vec<ListId> {
        self.mark = self.mark.max(number);
        self.left = 0;
        let index = std::mem::take(&mut self.index);
        if !index.is_empty() {
            self.lists.insert(list, index.into_keys().map(Bytes::from).collect());
        }
        self.lists.keys().copied().collect()
    }

    fn is_empty(&self) -> bool {
        self.index.is_empty() && self.lists.is_empty()
    }

    fn bytes(&self, name: &[u8]) -> usize {
        let keys = self.index.keys().map(|key| key.len() + OVERHEAD).sum::<usize>();
        let listed = self.lists.values().flatten().map(|key| key.len() + OVERHEAD).sum::<usize>();
        lone(name) + keys + listed
    }
}

/// Bytes of a tag without keys.
fn lone(name: &[u8]) -> usize {
    name.len() + OVERHEAD + size_of::<Tag>()
}

impl Tags {
    /// Drops every key for which `stays` is false, and the tags that are empty then.
    fn look_through(&mut self, mut stays: impl FnMut(usize, &[u8], i64) -> bool) {
        let mut bytes = 0;
        for (db, Space { sequence, floor, tags }) in self.spaces.iter_mut().enumerate() {
            tags.retain(|name, tag| {
                tag.index.retain(|key, until| stays(db, key, *until));
                tag.left = tag.index.len();
                match tag.is_empty() {
                    true if tag.mark > *floor => *floor = *sequence,
                    true => {}
                    false => bytes += tag.bytes(name),
                }
                !tag.is_empty()
            });
        }
        self.bytes = bytes;
    }
}

impl Tags {
    /// The tag, which is made if there is none, and the least that its mark is.
    fn tag(&mut self, db: u32, name: &[u8]) -> (&mut Tag, u64) {
        let Space { floor, tags, .. } = &mut self.spaces[db as usize];
        let tag = tags.entry_ref(name).or_insert_with(|| {
            self.bytes += lone(name);
            Tag::default()
        });
        (tag, *floor)
    }
}

impl Embedded {
    /// The number of the newest invalidation by tag in `db`.
    pub fn sequence(&self, db: u32) -> Sequence {
        Sequence(self.tags.lock().spaces[db as usize].sequence)
    }

    /// The number of a new one.
    pub fn next_sequence(&self, db: u32) -> Sequence {
        let sequence = &mut self.tags.lock().spaces[db as usize].sequence;
        *sequence += 1;
        Sequence(*sequence)
    }

    /// Puts `key` into the index of `tag` for `life`; answers the tag's mark.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> Result<Sequence, StoreError> {
        let now = self.time.now();
        let until = now.saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let mut tags = self.tags.lock();
        let more = key.name.len() + OVERHEAD + lone(tag);
        if tags.bytes + more > self.tags_limit() && !self.make_room_for_tags(&mut tags, now) {
            return Err(StoreError::Refused("tags take all the memory that they may".into()));
        }
        let before = tags.bytes;
        // Keys that end meanwhile are counted until the next look, which counts anew.
        let (entry, floor) = tags.tag(key.db, tag);
        let keys = entry.index.len();
        entry.add(&key.name, until, now);
        let (mark, added) = (floor.max(entry.mark), entry.index.len() > keys);
        tags.bytes += if added { key.name.len() + OVERHEAD } else { 0 };
        self.count_tags(before, tags.bytes);
        Ok(Sequence(mark))
    }

    /// Raises the mark of `tag` to `number` and sets its index aside; answers all lists of the tag.
    pub fn set_aside(&self, db: u32, tag: &[u8], Sequence(number): Sequence, list: ListId) -> Vec<ListId> {
        let mut tags = self.tags.lock();
        if tags.bytes + lone(tag) > self.tags_limit() {
            self.make_room_for_tags(&mut tags, self.time.now());
        }
        let before = tags.bytes;
        let lists = tags.tag(db, tag).0.set_aside(number, list);
        self.count_tags(before, tags.bytes);
        lists
    }

    /// At most `count` keys of a list from position `from`.
    pub fn listed(&self, db: u32, tag: &[u8], list: ListId, from: usize, count: usize) -> Vec<Bytes> {
        let tags = self.tags.lock();
        let list = tags.spaces[db as usize].tags.get(tag).and_then(|tag| tag.lists.get(&list));
        list.map_or_else(Vec::new, |keys| keys.iter().skip(from).take(count).cloned().collect())
    }

    /// Drops a list.
    pub fn drop_list(&self, db: u32, tag: &[u8], list: ListId) {
        let mut tags = self.tags.lock();
        let dropped = tags.spaces[db as usize].tags.get_mut(tag).and_then(|tag| tag.lists.remove(&list));
        let freed: usize = dropped.iter().flatten().map(|key| key.len() + OVERHEAD).sum();
        let before = tags.bytes;
        tags.bytes = before.saturating_sub(freed);
        self.count_tags(before, tags.bytes);
    }

    /// Drops what has ended, now and then.
    pub(super) fn sweep_tags(&self, now: i64) {
        let mut tags = self.tags.lock();
        if now < tags.next_look {
            return;
        }
        tags.next_look = now + LOOK;
        let before = tags.bytes;
        tags.look_through(|_, _, until| until > now);
        self.count_tags(before, tags.bytes);
    }

    /// All values of these databases are about to go. Marks stay, for loads may be under way.
    pub(super) fn flush_tags(&self, databases: impl Fn(usize) -> bool) {
        let mut tags = self.tags.lock();
        let before = tags.bytes;
        for (_, space) in tags.spaces.iter_mut().enumerate().filter(|(db, _)| databases(*db)) {
            space.tags.values_mut().for_each(|tag| (tag.index, tag.lists) = Default::default());
        }
        tags.look_through(|_, _, _| true);
        self.count_tags(before, tags.bytes);
    }

    /// SWAPDB.
    pub(super) fn swap_tags(&self, one: usize, other: usize) {
        self.tags.lock().spaces.swap(one, other);
    }

    /// Drops the keys whose values were evicted; true if that made room.
    fn make_room_for_tags(&self, tags: &mut Tags, now: i64) -> bool {
        if tags.bytes < tags.patience {
            return false;
        }
        let before = tags.bytes;
        tags.look_through(|db, key, until| until > now && self.is_held(db, key, now));
        self.count_tags(before, tags.bytes);
        // Where little was found, it is not looked for again soon.
        tags.patience = tags.bytes + tags.bytes / 8;
        tags.bytes + FLOOR / 4 < self.tags_limit()
    }

    /// Whether a key has a value, or a load that may store one.
    fn is_held(&self, db: usize, key: &[u8], now: i64) -> bool {
        let hash = hash(key);
        let mut shard = self.shards[shard_of(hash)].lock();
        let space = &mut shard.spaces[db];
        space.peek(hash, key, now).is_some() || space.sides.get(hash, key, now).is_some()
    }

    fn tags_limit(&self) -> usize {
        (self.limit / SHARE).max(FLOOR)
    }

    fn count_tags(&self, before: usize, now: usize) {
        if now > before {
            self.used.fetch_add(now - before, Relaxed);
        } else {
            self.used.fetch_sub(before - now, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TimeSource;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    fn store(limit: usize) -> (Embedded, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let hand = clock.clone();
        (Embedded::with_time(limit, TimeSource::from_fn(move || hand.load(Relaxed))), clock)
    }

    fn key(name: impl std::fmt::Display) -> StoreKey {
        StoreKey { db: 0, name: Bytes::from(name.to_string()) }
    }

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn an_index_that_is_set_aside_does_not_change_and_a_mark_is_never_lowered() {
        let (store, clock) = store(1 << 24);
        assert_eq!(store.index(&key("a"), b"t", LIFE).unwrap(), Sequence(0));
        assert_eq!((store.next_sequence(0), store.sequence(1)), (Sequence(1), Sequence(0)));
        assert_eq!(store.set_aside(0, b"t", Sequence(1), ListId(7)), [ListId(7)]);
        assert_eq!(store.index(&key("b"), b"t", LIFE).unwrap(), Sequence(1));
        assert_eq!(store.listed(0, b"t", ListId(7), 0, 10), ["a"]);
        assert_eq!(store.set_aside(0, b"t", Sequence(2), ListId(8)), [ListId(7), ListId(8)]);
        store.drop_list(0, b"t", ListId(7));
        assert!(store.listed(0, b"t", ListId(7), 0, 10).is_empty());
        assert_eq!(store.listed(0, b"t", ListId(8), 0, 10), ["b"]);
        assert!(store.listed(0, b"t", ListId(8), 1, 10).is_empty());
        store.drop_list(0, b"t", ListId(8));
        store.next_sequence(0);
        clock.fetch_add(2 * LOOK as u64, Relaxed);
        store.sweep_tags(store.time.now());
        assert!(store.tags.lock().spaces[0].tags.is_empty(), "the tag is forgotten");
        assert_eq!(store.index(&key("b"), b"t", LIFE).unwrap(), Sequence(2));
        assert_eq!(store.index(&key("b"), b"another", LIFE).unwrap(), Sequence(2));
    }

    #[test]
    fn an_index_holds_little_more_than_the_keys_that_live() {
        let (store, clock) = store(1 << 28);
        let mut most = 0;
        for number in 0..200_000u64 {
            // 10,000 keys live at any time.
            clock.fetch_add(6, Relaxed);
            store.index(&key(number), b"t", LIFE).unwrap();
            most = most.max(store.tags.lock().spaces[0].tags[&b"t"[..]].index.len());
        }
        assert!((10_000..=12_100).contains(&most), "{most}");
        clock.fetch_add(2 * LOOK as u64, Relaxed);
        store.sweep_tags(store.time.now());
        assert!(store.tags.lock().spaces[0].tags.is_empty());
        assert_eq!(store.stats().bytes, 0, "every byte was given back");
    }

    #[test]
    fn keys_whose_values_were_evicted_make_room_and_what_finds_none_is_refused() {
        let (store, _) = store(1 << 20);
        for number in 0..100_000 {
            store.index(&key(number), b"t", LIFE).expect("nobody holds the others");
        }
        assert!(store.stats().bytes <= 1 << 19, "{}", store.stats().bytes);
        let held = |number: u64| {
            let key = key(format!("held:{number}"));
            store.acquire(&key, crate::store::Token(number + 1), LIFE);
            store.index(&key, format!("tag {number} {}", "t".repeat(2000)).as_bytes(), LIFE)
        };
        let refused = (0..2000).filter(|&number| held(number).is_err()).count();
        assert!(refused > 0);
        assert!(store.stats().bytes <= 1 << 20, "{}", store.stats().bytes);
    }

    #[test]
    fn a_flushed_database_has_no_keys_of_any_tag_and_a_swapped_one_those_of_the_other() {
        let (store, _) = store(1 << 24);
        store.index(&key("a"), b"t", LIFE).unwrap();
        store.next_sequence(0);
        store.swap_tags(0, 1);
        assert_eq!(store.sequence(1), Sequence(1));
        assert_eq!(store.set_aside(1, b"t", Sequence(1), ListId(1)), [ListId(1)]);
        store.flush_tags(|_| true);
        assert!(store.set_aside(1, b"t", Sequence(2), ListId(2)).is_empty());
        assert_eq!(store.sequence(1), Sequence(1));
    }
}
