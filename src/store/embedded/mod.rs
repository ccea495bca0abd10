//! The embedded store: an in-process keyspace that behaves, byte for byte, as Redis 7.0 does for what it supports.
//!
//! - `commands` is the table of what it supports; `strings`, `bits`, `hashes`, `sets`, `keys`, `deadlines` and `scan` hold the
//!   commands themselves, each a function of a [`call::Call`], which is a command's view of the locked keyspace.
//! - `keyspace` is what is locked: one shard holds the keys of all databases whose hash falls to it, and beside
//!   them the side entries of the cache protocol (`side`); `tags` holds the tags.
//! - `index`, `packed`, `blob`, `collection`, `object` are the shapes that data takes; `memory` says what they cost.
//! - `evict` and `expire` keep it within `max_memory` and free of what nobody may see.
//!
//! Promises: every command is atomic, those on several keys too (their shards are locked in rising order); a change
//! of a key drops its lease and its negative entry in the same locked step (G1); an expired key is never seen.
//! Deliberately unknown here: connections, SELECT, transactions, routes; whatever a session keeps.
//!
//! Known differences from Redis: members and fields come in another order once they are many, SCAN's cursors are
//! other numbers, a key that is set with a deadline in the past is gone at once where Redis's DBSIZE still counts it
//! for a while, and HRANDFIELD and SRANDMEMBER repeat themselves a million times at most.
//! Held to Redis itself by `tests/embedded_differential.rs`.

mod bits;
mod call;
mod collection;
mod commands;
mod deadlines;
mod evaluate;
mod evict;
mod expire;
mod extended;
pub mod glob;
mod hashes;
mod index;
mod keys;
mod keyspace;
mod look;
mod notes;
mod number;
mod object;
mod options;
mod packed;
mod protocol;
mod refusal;
mod scan;
mod series;
mod sets;
mod side;
mod strings;
mod tags;
mod time;

pub use evaluate::{Held, evaluate};
pub use series::Answers;
pub use time::TimeSource;

use self::call::{Call, Guards, SHARDS, shard_of};
use self::commands::{Command, Effect, Keys, Run};
use self::keyspace::Shard;
use self::refusal::Refusal;
use self::tags::Tags;
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::write::{self, Protocol};
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Whether the store knows the command called `name`, in whatever case.
pub fn supports(name: &[u8]) -> bool {
    commands::find(name).is_some()
}

/// Whether `text` matches a glob pattern as KEYS and SCAN read it.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    glob::matches(pattern, text)
}

/// What a session says of itself with each command.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The database selected, 0 to 15.
    pub db: u32,
    /// The version of the protocol that its replies are written in.
    pub protocol: Protocol,
}

/// What the store holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that hold a value, in all databases; such as have expired and are not swept yet included.
    pub keys: usize,
    /// Bytes of memory taken, as compared with `max_memory`.
    pub bytes: usize,
    /// Keys dropped for want of memory, ever.
    pub evicted: u64,
    /// Keys dropped at their deadline, ever.
    pub expired: u64,
    /// Look-ups that found their key, ever.
    pub hits: u64,
    /// Look-ups that did not, ever.
    pub misses: u64,
}

/// The store. All workers share one.
pub struct Embedded {
    shards: Box<[Mutex<Shard>]>,
    time: TimeSource,
    tags: Mutex<Tags>,
    limit: usize,
    used: AtomicUsize,
    evicted: AtomicU64,
}

impl Embedded {
    /// An empty store that takes at most `max_memory` bytes.
    pub fn new(max_memory: usize) -> Self {
        Embedded::with_time(max_memory, TimeSource::default())
    }

    /// The same with a clock of the caller's.
    pub fn with_time(max_memory: usize, time: TimeSource) -> Self {
        Embedded {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            time,
            tags: Mutex::default(),
            limit: max_memory,
            used: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Runs one command and appends exactly one reply to `out` (none for an empty command).
    pub fn execute(&self, context: Context, args: Args<'_>, out: &mut Vec<u8>) {
        self.run(context, args, None, out);
    }

    /// The same for who has looked the name up already: `index` is the command's in [`crate::resp::command::COMMANDS`].
    /// False if the store has no such command, or if the name is another; then nothing is done and nothing written.
    #[inline]
    pub fn execute_known(&self, index: u16, context: Context, args: Args<'_>, out: &mut Vec<u8>) -> bool {
        let Some(command) = commands::known(index) else { return false };
        let is_it = args.get(0).is_some_and(|name| command.is_called(name));
        if is_it {
            self.run_command(command, context, args, None, out);
        }
        is_it
    }

    /// The same, but only if `key`, one of the command's keys, holds a value: both under one lock. False if it holds
    /// none; then nothing is done and nothing written. A command that is refused before it looks at its key (an
    /// unknown one, a wrong number of arguments) is answered in any case.
    pub fn execute_if_present(&self, context: Context, key: &[u8], args: Args<'_>, out: &mut Vec<u8>) -> bool {
        self.run(context, args, Some(key), out)
    }

    /// How long `key` has yet to live; `None` if it is absent, or lives without end. It counts as no use.
    pub fn left(&self, context: Context, key: &[u8]) -> Option<std::time::Duration> {
        let (hash, now) = (hash(key), self.time.now());
        let shard = self.shards[shard_of(hash)].lock();
        let expires = shard.spaces[context.db as usize].peek(hash, key, now)?.expires;
        let left = u64::try_from(expires.checked_sub(now)?).ok().filter(|_| expires != keyspace::NEVER)?;
        Some(std::time::Duration::from_millis(left))
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { bytes: self.used.load(Relaxed), evicted: self.evicted.load(Relaxed), ..Stats::default() };
        for shard in &self.shards {
            for space in &shard.lock().spaces {
                stats.keys += space.entries().len();
                stats.expired += space.expired;
                stats.hits += space.hits;
                stats.misses += space.misses;
            }
        }
        stats
    }

    /// Number, keys and keys with a deadline of each database that holds any.
    pub fn databases(&self) -> Vec<(usize, usize, usize)> {
        let mut databases: Vec<(usize, usize, usize)> = (0..keyspace::DATABASES).map(|db| (db, 0, 0)).collect();
        for shard in &self.shards {
            for (space, (_, keys, expires)) in shard.lock().spaces.iter().zip(&mut databases) {
                *keys += space.entries().len();
                *expires += space.entries().iter().filter(|entry| entry.expires != keyspace::NEVER).count();
            }
        }
        databases.retain(|&(_, keys, _)| keys > 0);
        databases
    }

    /// One bounded step of active expiry over all shards; to be called about ten times a second.
    pub fn sweep(&self) {
        let now = self.time.now();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.sweep(now);
            self.settle(&mut shard, u16::MAX);
        }
        self.sweep_tags(now);
    }

    fn run(&self, context: Context, args: Args<'_>, only_if: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        let Some(name) = args.get(0) else { return true };
        match commands::find(name) {
            Some(command) => self.run_command(command, context, args, only_if, out),
            None => {
                write::error(out, commands::unknown(args).text());
                true
            }
        }
    }

    #[inline]
    fn run_command(
        &self,
        command: &'static Command,
        context: Context,
        args: Args<'_>,
        only_if: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let outcome = match command.run {
            _ if !command.accepts(args.len()) => Err(Refusal::Arity(command.name)),
            Run::Whole(run) => run(self, context, args, out),
            Run::Keyed(_) => match self.run_keyed(command, context, args, only_if, out) {
                Some(outcome) => outcome,
                None => return false,
            },
        };
        if let Err(refusal) = outcome {
            refuse(&refusal, start, out);
        }
        true
    }

    #[inline(always)]
    fn run_keyed(
        &self,
        command: &'static Command,
        context: Context,
        args: Args<'_>,
        only_if: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), Refusal>> {
        if command.effect == Effect::Grow {
            let size = args.iter().map(<[u8]>::len).sum();
            if size > self.limit {
                return Some(Err(Refusal::OutOfMemory));
            }
            self.make_room(size);
        }
        let outcome = match (command.keys.only(args), only_if) {
            (Some(position), None) => {
                let key = args.get(position).unwrap_or_default();
                let hash = hash(key);
                let mut shard = self.shards[shard_of(hash)].lock();
                let mut call = self.call(command, context, Guards::One(&mut shard));
                call.hashed = Some((key, hash));
                self.run_locked(command, &mut call, args, out)
            }
            _ => {
                let mut shards = self.lock(command.keys, args, only_if);
                let shards = shards.iter_mut().map(|(number, shard)| (*number, &mut **shard));
                let mut call = self.call(command, context, Guards::Many(shards.collect()));
                if only_if.is_some_and(|key| !call.contains(key)) {
                    return None;
                }
                self.run_locked(command, &mut call, args, out)
            }
        };
        if command.effect != Effect::Read {
            self.make_room(0);
        }
        Some(outcome)
    }

    /// A command's view of the shards that are locked for it, from now on.
    #[inline]
    fn call<'a>(&'a self, command: &Command, context: Context, guards: Guards<'a>) -> Call<'a> {
        Call {
            guards,
            hashed: None,
            time: &self.time,
            now: self.time.now(),
            db: context.db as usize,
            visited: 1 << context.db,
            protocol: context.protocol,
            name: command.name,
            limit: self.limit,
        }
    }

    #[inline(always)]
    fn run_locked<'a>(
        &self,
        command: &Command,
        call: &mut Call<'a>,
        args: Args<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let outcome = call.run(command, args, out);
        if command.effect != Effect::Read {
            let visited = call.visited;
            call.guards.each(|shard| self.settle(shard, visited));
        }
        outcome
    }

    /// Locks the shards of a command's keys, in rising order, so that two commands never wait for each other.
    fn lock(&self, keys: Keys, args: Args<'_>, also: Option<&[u8]>) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut wanted = also.map_or(0, |key| 1u64 << shard_of(hash(key)));
        keys.each(args, |key| wanted |= 1 << shard_of(hash(key)));
        let numbers = (0..SHARDS).filter(|number| wanted >> number & 1 == 1);
        numbers.map(|number| (number, self.shards[number].lock())).collect()
    }

    /// All shards, in rising order.
    fn lock_all(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.shards.iter().map(Mutex::lock).collect()
    }

    /// Carries what changed in the shard's databases, a bit each, over to the store's total.
    #[inline]
    fn settle(&self, shard: &mut Shard, databases: u16) {
        let mut left = databases;
        while left != 0 {
            let space = &mut shard.spaces[left.trailing_zeros() as usize];
            left &= left - 1;
            let (now, before) = (space.heap(), space.reported);
            space.reported = now;
            if now > before {
                self.used.fetch_add(now - before, Relaxed);
            } else if now < before {
                self.used.fetch_sub(before - now, Relaxed);
            }
        }
    }

    /// Evicts until `more` bytes fit. Called without a lock held.
    #[inline]
    fn make_room(&self, more: usize) {
        while self.used.load(Relaxed).saturating_add(more) > self.limit && self.evict() {}
    }

    /// Drops one key of a random shard that has any. False if the store is empty.
    fn evict(&self) -> bool {
        let now = self.time.now();
        let first = fastrand::usize(..SHARDS);
        (0..SHARDS).any(|step| {
            let mut shard = self.shards[(first + step) % SHARDS].lock();
            let Some(db) = shard.evict(now, self.side_limit()) else { return false };
            self.settle(&mut shard, 1 << db);
            self.evicted.fetch_add(1, Relaxed);
            true
        })
    }
}

/// Takes back what a refused command has written of its reply, and says why it is refused.
#[cold]
fn refuse(refusal: &Refusal, start: usize, out: &mut Vec<u8>) {
    out.truncate(start);
    write::error(out, refusal.text());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::resp::command::lookup_indexed;

    fn context() -> Context {
        Context { db: 0, protocol: Protocol::Resp2 }
    }

    fn run(store: &Embedded, line: &str) -> String {
        let mut out = Vec::new();
        store.execute(context(), line.split(' ').collect::<OwnedArgs>().as_args(), &mut out);
        String::from_utf8(out).expect("text")
    }

    fn run_if_present(store: &Embedded, key: &str, line: &str) -> Option<String> {
        let mut out = Vec::new();
        let args: OwnedArgs = line.split(' ').collect();
        let done = store.execute_if_present(context(), key.as_bytes(), args.as_args(), &mut out);
        assert!(done || out.is_empty());
        done.then(|| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_command_meant_for_a_present_key_does_nothing_to_an_absent_one() {
        let store = Embedded::new(1 << 20);
        assert_eq!(run_if_present(&store, "k", "INCR k"), None);
        assert_eq!(run_if_present(&store, "k", "GETEX k EX 10"), None);
        assert_eq!(run(&store, "EXISTS k"), ":0\r\n");
        run(&store, "SET k 1");
        assert_eq!(run_if_present(&store, "k", "INCR k").as_deref(), Some(":2\r\n"));
        assert_eq!(run_if_present(&store, "k", "EXISTS k k other").as_deref(), Some(":2\r\n"));
        assert!(run_if_present(&store, "gone", "GET").is_some_and(|reply| reply.contains("wrong number of arguments")));
    }

    #[test]
    fn what_only_redis_has_says_what_to_set() {
        let store = Embedded::new(1 << 20);
        assert_eq!(run(&store, "LPUSH k v"), "-ERR 'lpush' needs an upstream Redis, set [upstream] url\r\n");
        assert!(
            run(&store, "NONSENSE k").starts_with("-ERR unknown command 'NONSENSE', with args beginning with: 'k'")
        );
        assert!(supports(b"Get") && !supports(b"lpush"));
    }

    #[test]
    fn a_command_is_known_by_its_index_and_never_taken_for_another() {
        let store = Embedded::new(1 << 20);
        let known = |name: &str, line: &str| {
            let (index, _) = lookup_indexed(name.as_bytes()).expect("a command");
            let (mut out, args) = (Vec::new(), line.split(' ').collect::<OwnedArgs>());
            let done = store.execute_known(index, context(), args.as_args(), &mut out);
            assert_eq!(done, !out.is_empty());
            done.then(|| String::from_utf8(out).expect("text"))
        };
        assert_eq!(known("set", "SET k v").as_deref(), Some("+OK\r\n"));
        assert_eq!(known("get", "gEt k").as_deref(), Some("$1\r\nv\r\n"));
        assert!(known("get", "GET").is_some_and(|reply| reply.contains("wrong number of arguments")));
        assert_eq!(known("get", "DEL k"), None);
        assert_eq!(known("lpush", "LPUSH k v"), None);
        assert!(!store.execute_known(u16::MAX, context(), OwnedArgs::default().as_args(), &mut Vec::new()));
        assert_eq!(run(&store, "EXISTS k"), ":1\r\n");
    }

    #[test]
    fn a_value_takes_the_place_of_any_other_and_costs_what_it_would_alone() {
        let alone = |value: &str| {
            let store = Embedded::new(1 << 20);
            run(&store, &format!("SET k {value}"));
            store.stats().bytes
        };
        let values = ["v".repeat(64), "w".repeat(64), "x".repeat(22), "y".repeat(23), "z".repeat(64), "7".to_string()];
        for other in ["SADD k member", "HSET k f v", "APPEND k more", "INCRBYFLOAT k 2.5"] {
            let store = Embedded::new(1 << 20);
            run(&store, other);
            for value in &values {
                assert_eq!(run(&store, &format!("SET k {value}")), "+OK\r\n");
                assert_eq!(run(&store, "GET k"), format!("${}\r\n{value}\r\n", value.len()));
                assert_eq!(store.stats().bytes, alone(value), "{other}");
            }
            assert_eq!(run(&store, "SET k short PX 100000 XX"), "+OK\r\n");
            assert_eq!(run(&store, "SET k later"), "+OK\r\n");
            assert_eq!(run(&store, "TTL k"), ":-1\r\n");
        }
    }

    #[test]
    fn the_account_returns_to_zero() {
        let store = Embedded::new(1 << 24);
        for number in 0..5000 {
            run(&store, &format!("SET a:key:that:is:not:short:{number} {}", "v".repeat(number % 300)));
            run(&store, &format!("HSET hash:{} field{number} value", number % 40));
            run(&store, &format!("SADD set:{} member{number}", number % 40));
            run(&store, &format!("APPEND text:{} more", number % 40));
        }
        assert!(store.stats().bytes > 500_000);
        for key in run(&store, "KEYS *").split("\r\n").skip(2).step_by(2) {
            run(&store, &format!("DEL {key}"));
        }
        let Stats { keys, bytes, evicted, expired, .. } = store.stats();
        assert_eq!((keys, bytes, evicted, expired), (0, 0, 0, 0));
    }
}
