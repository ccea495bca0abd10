//! The near cache: what clients have read of routes with `near`, kept in this process, and dropped as soon as it changes.
//!
//! Values come in by clients' own reads and by nothing else. The upstream tells of every change, whoever made it, over a
//! connection of its own ([`crate::store::redis::tracking`]): a *push*. It arrives by another way than the answers do, so
//! that a value may be on its way here while the news that it is old has been and gone. The race, as a timeline:
//!
//! 1. GET k finds nothing here, puts a *marker*, and goes to the upstream, which answers v1.
//! 2. Somebody sets k to v2. The push comes before the answer of (1), and takes the marker away.
//! 3. The answer of (1) arrives. Its marker is gone, so v1 goes to its client and is not kept.
//!
//! Had the push come after (3), it would have taken v1 itself. So nothing that is kept is older than the newest push.
//!
//! For changes that clients make through this very process that is not enough: who has had the answer to SET may know it
//! before the push is here. So the keys of a change are *barred* from before it is sent until it is answered, or has
//! failed: what is kept of them is dropped, markers too, and neither is accepted until the last bar is gone. A read that
//! begins later is answered by the upstream after the change. Commands that may change any key close the whole cache in
//! the same way.
//!
//! While pushes may not arrive, what was read at the upstream is not kept. But what is loaded from the database because the upstream
//! is out of reach may be, for `near` at most: it spares the database, and that long is what the operator has allowed others'
//! changes to go unnoticed. All of it goes as soon as pushes arrive again.
//!
//! Promises:
//! - After a change through this process was acknowledged, nobody gets from here what was there before it (G1, G3).
//! - A change by others is heard of within the push's delay, or within `near` while pushes may not arrive.
//! - Nothing lives longer than `near`, nor than it has left to live at the upstream. Both count from before the read was
//!   sent.
//! - A value is for the user and the database that it was read as and in. A push names the key alone: it meets all of them.
//! - Keys, values and what holding them costs take no more than `[limits] max_near`.
//!
//! On a hit one of the shards is locked, for readers, for the time that it takes to copy the value out; nothing is allocated,
//! and but for that lock nothing is written that other cores write to. Look-ups that come together are made together
//! ([`Near::look_each`]).
//!
//! An MGET that is answered from here is no snapshot: of two keys that another process sets together it may show one old
//! and one new, for as long as the push of the one that was read earlier takes.
//!
//! What a load fills into the upstream does not come in by the way: the fill is a change, and its own push would take it
//! out again. The next read brings it.
//!
//! It knows nothing of sockets, of commands, and of what the pushes look like. `tests/near_map.rs` runs it against a
//! simulated upstream, seeded and on threads, with the markers or the bars left out as deliberate bugs.

mod copies;
mod guards;
mod moment;
mod shard;

pub use self::guards::{Bar, Closed, Marker};
pub use self::moment::Moment;

use self::shard::{MOST_ASKED, Shard};
use crate::hash::hash;
use crate::store::Credentials;
use crate::store::redis::tracking::Hears;
use crate::value::View;
use parking_lot::RwLock;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// See the module's page. One for the process.
pub struct Near {
    shards: Box<[RwLock<Shard>]>,
    /// What moments are counted from.
    beginning: Instant,
    /// For how many reasons nothing of the upstream may be kept: pushes may not arrive, or a change of unknown keys is under way.
    reasons: AtomicUsize,
    /// How many of them are that pushes may not arrive.
    deaf: AtomicUsize,
    /// Bytes that are taken of `most`.
    taken: AtomicUsize,
    most: usize,
}

/// What a client reads: a key as one user sees it in one database.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// Number of the Redis database.
    pub db: u32,
    /// The user, where the upstream tells users apart.
    pub user: Option<&'a Arc<Credentials>>,
    /// The key's bytes.
    pub name: &'a [u8],
    /// Their [`hash`].
    hash: u64,
}

impl<'a> Key<'a> {
    /// A key that is hashed for this.
    pub fn new(db: u32, user: Option<&'a Arc<Credentials>>, name: &'a [u8]) -> Self {
        Key::hashed(db, user, name, hash(name))
    }

    /// A key of which the caller knows the [`hash`].
    #[inline]
    pub fn hashed(db: u32, user: Option<&'a Arc<Credentials>>, name: &'a [u8], hash: u64) -> Self {
        Key { db, user, name, hash }
    }
}

/// Enough that cores seldom meet in one.
const SHARDS: usize = 64;
/// A value may take this share of all the room.
const LARGEST: usize = 8;
/// So many keys are looked up together, at most. For those of them that are not found that is done in vain.
pub const TOGETHER: usize = 16;

impl Near {
    /// An empty one, of at most `most` bytes. It is closed until [`Hears::hears`] is called.
    pub fn new(most: usize) -> Self {
        Near {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            beginning: Instant::now(),
            reasons: AtomicUsize::new(1),
            deaf: AtomicUsize::new(1),
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// What `answer` makes of the value that is kept for `key`; `None` if there is none. See [`Near::moment`].
    #[inline]
    pub fn look<T>(&self, key: Key<'_>, now: Moment, answer: impl FnOnce(View<'_>) -> T) -> Option<T> {
        let shard = self.shard(key.hash).read();
        shard.value(key, now).map(answer)
    }

    /// The same of several keys, up to [`TOGETHER`] of them, that are looked up together: none waits for what another reads from
    /// memory (see [`crate::memory::warm`]). Ends at the first of which no value is found, or that is being changed just now, or
    /// whose value `answer` refuses; answers how many were before it.
    pub fn look_each<'k>(
        &self,
        mut keys: impl ExactSizeIterator<Item = Key<'k>> + Clone,
        now: Moment,
        mut answer: impl FnMut(View<'_>) -> bool,
    ) -> usize {
        if keys.len() == 1 {
            let is_answered = keys.next().and_then(|key| self.look(key, now, answer));
            return usize::from(is_answered == Some(true));
        }
        // Without waiting: those who held some shards and waited for others might wait for each other.
        let mut shards = [const { None }; TOGETHER];
        for (shard, key) in shards.iter_mut().zip(keys.clone()) {
            *shard = self.shard(key.hash).try_read();
        }
        let mut seats = [None; TOGETHER];
        for ((seat, shard), key) in seats.iter_mut().zip(&shards).zip(keys.clone()) {
            *seat = shard.as_ref().and_then(|shard| shard.probable_seat(key.hash));
        }
        // Apart from the search: so little is done for each key that a core sees the next ones' reads while it waits for the first.
        for (seat, shard) in seats.iter().zip(&shards) {
            if let (Some(seat), Some(shard)) = (seat, shard) {
                shard.warm(*seat);
            }
        }
        let mut found = keys.zip(shards.iter().zip(&seats));
        let mut count = 0;
        while let Some((key, (Some(shard), Some(seat)))) = found.next()
            && shard.value_at(*seat, key, now).is_some_and(&mut answer)
        {
            count += 1;
        }
        count
    }

    /// How long the value that is kept for `key` may yet be served; `None` if there is none. It counts as no use.
    pub fn until(&self, key: Key<'_>) -> Option<Instant> {
        self.shard(key.hash).read().until(key).map(|until| until.instant(self.beginning))
    }

    /// A read of `key` is about to be sent; what it answers may be kept through the marker. `None`: not now, for a change of
    /// it is under way, or another read will bring it, or has done so.
    pub fn mark(self: &Arc<Self>, key: Key<'_>, now: Instant) -> Option<Marker> {
        self.mark_if(Near::is_open, key, now)
    }

    /// A load of `key` from the database is about to begin, past the upstream; what it finds may be kept through the marker. `None`:
    /// not now, or pushes arrive.
    pub fn mark_unheard(self: &Arc<Self>, key: Key<'_>, now: Instant) -> Option<Marker> {
        self.mark_if(
            |near| near.deaf.load(Relaxed) > 0 && near.deaf.load(Relaxed) == near.reasons.load(Relaxed),
            key,
            now,
        )
    }

    fn mark_if(self: &Arc<Self>, may: impl FnOnce(&Self) -> bool, key: Key<'_>, now: Instant) -> Option<Marker> {
        let home = self.home(key.hash);
        let bytes = Shard::bytes_of_marker(key);
        if !self.take(bytes, home) {
            return None;
        }
        let mut shard = self.shards[home].write();
        // Looked at under the lock: whoever closes the cache clears this shard afterwards, or has done so before.
        let marked = if may(self) { shard.mark(key, self.moment(now)) } else { None };
        drop(shard);
        let Some((place, freed)) = marked else {
            self.give(bytes);
            return None;
        };
        self.give(freed);
        Some(Marker::new(self.clone(), home, place))
    }

    /// A change of these keys is about to be sent. The guard is dropped once it is answered, or has failed.
    pub fn bar<'k>(self: &Arc<Self>, names: impl IntoIterator<Item = &'k [u8]>) -> Bar {
        let barred = names.into_iter().map(|name| {
            let hash = hash(name);
            let home = self.home(hash);
            let (number, freed) = self.shards[home].write().bar(hash, name);
            self.give(freed);
            (home, number)
        });
        let barred = barred.collect();
        Bar::new(self.clone(), barred)
    }

    /// A change of nobody knows which keys is about to be sent.
    pub fn close(self: &Arc<Self>, reason: &'static str) -> Closed {
        self.shut(reason);
        Closed::new(self.clone())
    }

    /// Nobody knows which keys were to be changed and perhaps were not.
    pub fn forget_all(&self) {
        self.flush("missed");
    }

    /// Whether anything is kept at present.
    pub fn is_open(&self) -> bool {
        self.reasons.load(Relaxed) == 0
    }

    /// Writes the gauges in Prometheus's text format.
    pub fn render(&self, out: &mut String) {
        let entries: usize = self.shards.iter().map(|shard| shard.read().values()).sum();
        let gauges = [
            ("weir_near_entries", entries),
            ("weir_near_bytes", self.taken.load(Relaxed)),
            ("weir_near_open", usize::from(self.is_open())),
        ];
        for (name, value) in gauges {
            writeln!(out, "# TYPE {name} gauge\n{name} {value}").expect("a string takes every text");
        }
    }

    /// The top bits; a shard's index goes by the low ones.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> (u64::BITS - SHARDS.ilog2())) as usize
    }

    /// A point in time as [`Near::look`] wants it: reckoned once for all that are looked at together.
    #[inline]
    pub fn moment(&self, at: Instant) -> Moment {
        Moment::new(self.beginning, at)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[self.home(hash)]
    }

    /// Takes room; what was not asked for lately makes way, one name of each shard in turn. False: there is none.
    fn take(&self, bytes: usize, home: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|&taken| taken <= self.most);
        let (mut turn, mut in_vain) = (home, 0);
        // After so many rounds it is everybody's turn.
        while in_vain < (usize::from(MOST_ASKED) + 1) * SHARDS {
            if self.taken.fetch_update(Relaxed, Relaxed, fits).is_ok() {
                return true;
            }
            let freed = self.shards[turn % SHARDS].write().evict();
            self.give(freed);
            in_vain = if freed == 0 { in_vain + 1 } else { 0 };
            turn += 1;
        }
        false
    }

    fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
    }

    /// First the reason, then the shards: see [`Near::mark`].
    fn shut(&self, reason: &'static str) {
        self.reasons.fetch_add(1, Relaxed);
        self.flush(reason);
    }

    fn flush(&self, reason: &'static str) {
        metrics::counter!("weir_near_flushes_total", "reason" => reason).increment(1);
        for shard in &self.shards {
            let freed = shard.write().clear();
            self.give(freed);
        }
    }
}

impl Hears for Near {
    fn changed(&self, name: &[u8]) {
        let hash = hash(name);
        let freed = self.shard(hash).write().forget(hash, name);
        self.give(freed);
    }

    fn all_changed(&self) {
        self.flush("flushed");
    }

    fn hears(&self) {
        // What was kept unheard may be old by now. Whoever would keep more of it finds its marker gone.
        self.deaf.fetch_sub(1, Relaxed);
        self.flush("heard");
        self.reasons.fetch_sub(1, Relaxed);
    }

    fn is_deaf(&self, reason: &'static str) {
        self.shut(reason);
        self.deaf.fetch_add(1, Relaxed);
    }
}
