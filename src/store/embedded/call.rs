//! One command while it runs: the shards that it needs are locked, and it sees them as one keyspace.

use super::collection::{Collection, Hash, Row, Set};
use super::commands::{Command, Effect, Run};
use super::keyspace::{Entry, NEVER, Shard, Space};
use super::object::Object;
use super::refusal::Refusal;
use super::time::TimeSource;
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::write::Protocol;

/// How many shards there are; their number is the top bits of a key's hash.
pub(super) const SHARDS: usize = 64;

/// The shard of a key.
#[inline]
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

/// The locked shards. Whoever has locked them unlocks them.
pub(super) enum Guards<'a> {
    /// That of all keys of the command; or a keyspace of its own, in no store.
    One(&'a mut Shard),
    /// Several, by rising number.
    Many(Vec<(usize, &'a mut Shard)>),
}

impl Guards<'_> {
    #[inline]
    fn shard(&mut self, hash: u64) -> &mut Shard {
        match self {
            Guards::One(shard) => shard,
            Guards::Many(shards) => {
                let position = position(shards, hash);
                shards[position].1
            }
        }
    }

    #[inline]
    fn peek(&self, hash: u64) -> &Shard {
        match self {
            Guards::One(shard) => shard,
            Guards::Many(shards) => shards[position(shards, hash)].1,
        }
    }

    /// Each of them.
    #[inline]
    pub fn each(&mut self, mut visit: impl FnMut(&mut Shard)) {
        match self {
            Guards::One(shard) => visit(shard),
            Guards::Many(shards) => shards.iter_mut().for_each(|(_, shard)| visit(shard)),
        }
    }
}

fn position(shards: &[(usize, &mut Shard)], hash: u64) -> usize {
    shards.binary_search_by_key(&shard_of(hash), |(number, _)| *number).expect("a command's keys are locked")
}

/// See the module's page.
pub(super) struct Call<'a> {
    pub guards: Guards<'a>,
    /// The command's key and its hash, if it has one key: where that very argument is asked for, it is not hashed again.
    pub hashed: Option<(&'a [u8], u64)>,
    pub time: &'a TimeSource,
    /// Milliseconds on the store's clock; the whole command runs at one moment.
    pub now: i64,
    pub db: usize,
    /// The databases that it has been in, a bit each.
    pub visited: u16,
    pub protocol: Protocol,
    /// The command's name, for error texts.
    pub name: &'static str,
    /// `max_memory`.
    pub limit: usize,
}

impl Call<'_> {
    /// Runs a command whose keys are locked. What changes a key first drops what stands beside it (G1).
    #[inline]
    pub fn run(&mut self, command: &Command, args: Args<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if matches!(command.effect, Effect::Write | Effect::Grow) {
            match self.hashed {
                Some((key, hash)) => self.space(hash).sides.drop(hash, key),
                None => command.keys.each(args, |key| self.drop_side(key)),
            }
        }
        match command.run {
            Run::Keyed(run) => run(self, args, out),
            Run::Whole(_) => unreachable!("commands on whole databases have no call"),
        }
    }

    #[inline]
    fn hash_of(&self, key: &[u8]) -> u64 {
        match self.hashed {
            Some((known, hash)) if std::ptr::eq(known, key) => hash,
            _ => hash(key),
        }
    }

    #[inline]
    fn space(&mut self, hash: u64) -> &mut Space {
        let db = self.db;
        &mut self.guards.shard(hash).spaces[db]
    }

    /// The entry of `key`, which counts as used.
    #[inline]
    pub fn entry(&mut self, key: &[u8]) -> Option<&Entry> {
        let (hash, now) = (self.hash_of(key), self.now);
        self.space(hash).touch(hash, key, now)
    }

    /// The entry of `key`, nothing counted and nothing changed.
    #[inline]
    pub fn peek(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash_of(key);
        self.guards.peek(hash).spaces[self.db].peek(hash, key, self.now)
    }

    /// Whether `key` holds a value.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The string at `key`.
    #[inline]
    pub fn text(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Refusal> {
        self.typed(key, Object::as_text)
    }

    /// The hash at `key`.
    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Refusal> {
        self.typed(key, Object::as_hash)
    }

    /// The set at `key`.
    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, Refusal> {
        self.typed(key, Object::as_set)
    }

    #[inline]
    fn typed<T: ?Sized>(
        &mut self,
        key: &[u8],
        cast: impl FnOnce(&Object) -> Option<&T>,
    ) -> Result<Option<&T>, Refusal> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => cast(&entry.object).map(Some).ok_or(Refusal::WrongType),
        }
    }

    /// The deadline of `key`, or [`NEVER`].
    pub fn expires(&self, key: &[u8]) -> i64 {
        self.peek(key).map_or(NEVER, |entry| entry.expires)
    }

    /// Sets `key`, whatever it held.
    pub fn put(&mut self, key: &[u8], object: Object, expires: i64) {
        let (hash, now) = (self.hash_of(key), self.now);
        self.space(hash).put(hash, key, object, expires, now);
    }

    /// Sets `key` to a string, whatever it held.
    #[inline]
    pub fn put_text(&mut self, key: &[u8], text: &[u8], expires: i64) {
        let (hash, now) = (self.hash_of(key), self.now);
        self.space(hash).put_text(hash, key, text, expires, now);
    }

    /// Takes `key` out.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let (hash, now) = (self.hash_of(key), self.now);
        self.space(hash).take(hash, key, now)
    }

    /// Changes `key`, if it is there.
    pub fn change<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let (hash, now) = (self.hash_of(key), self.now);
        self.space(hash).change(hash, key, now, change)
    }

    /// Changes the hash at `key`; an absent one is made, an emptied one is dropped.
    pub fn change_hash<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Hash) -> T) -> Result<T, Refusal> {
        self.change_rows(key, change, Object::Hash, |object| match object {
            Object::Hash(hash) => Some(hash),
            _ => None,
        })
    }

    /// Changes the set at `key`; an absent one is made, an emptied one is dropped.
    pub fn change_set<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Set) -> T) -> Result<T, Refusal> {
        self.change_rows(key, change, Object::Set, |object| match object {
            Object::Set(set) => Some(set),
            _ => None,
        })
    }

    fn change_rows<R: Row, T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Collection<R>) -> T,
        wrap: fn(Box<Collection<R>>) -> Object,
        cast: fn(&mut Object) -> Option<&mut Collection<R>>,
    ) -> Result<T, Refusal> {
        if !self.contains(key) {
            let mut rows = Box::<Collection<R>>::default();
            let outcome = change(&mut rows);
            if !rows.is_empty() {
                self.put(key, wrap(rows), NEVER);
            }
            return Ok(outcome);
        }
        let changed = self.change(key, |entry| {
            let rows = cast(&mut entry.object)?;
            Some((change(rows), rows.is_empty()))
        });
        let (outcome, emptied) = changed.expect("the key is there").ok_or(Refusal::WrongType)?;
        if emptied {
            self.take(key);
        }
        Ok(outcome)
    }

    /// Drops lease and negative entry of `key` in the current database.
    pub fn drop_side(&mut self, key: &[u8]) {
        let hash = self.hash_of(key);
        self.space(hash).sides.drop(hash, key);
    }

    /// Runs `run` in another database.
    pub fn in_database<T>(&mut self, db: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        let home = std::mem::replace(&mut self.db, db);
        self.visited |= 1 << db;
        let outcome = run(self);
        self.db = home;
        outcome
    }
}
