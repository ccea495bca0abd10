//! How long keys have yet to live, as the store said a moment ago.
//!
//! A key that clients read all the time need not be asked about behind every read. What was heard of it [`LATELY`] is
//! remembered, for all clients of the process, and by that it is told whether it is due. What is due by that is asked about
//! again: so a value is never refreshed by memory alone. What clients change through this process is forgotten
//! ([`super::change`]), and what was asked before that and is answered after it is not heard; that others have shortened a life is
//! found out so much later.
//!
//! It is a table that forgets: a set of a few keys for each place, one cache line, in which the newest takes the place of the
//! oldest. A key is known by its hash alone. Another with the same hash, which is seeded anew in each process, would be
//! taken for it for as long. Nobody waits for anybody: an entry that two threads write at once is nobody's (each of its words
//! says what the other must be, as Hyatt and Mann have it in "A Lockless Transposition-Table Implementation for Parallel
//! Search", ICGA Journal 2002).

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What was heard longer ago is asked again. In ms: a second is little of most graces, and enough for a key that is read more
/// often than that.
const LATELY: u32 = 1000;
/// Of four keys each: a quarter of a MiB, which stays near the core. It is not there before the first key is noted.
const SETS: usize = 4096;
/// In ms, as what is heard: no reply takes so long, and points in time come round much later.
const NEWER: u32 = 1 << 20;

/// See the module's page. One for the process.
pub struct Lives {
    sets: OnceLock<Box<[Set]>>,
    /// What points in time are counted from.
    beginning: Instant,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Entry; 4]);

#[derive(Default)]
struct Entry {
    /// The key, xor what was heard of it.
    check: AtomicU64,
    heard: AtomicU64,
}

/// What was heard of a key; all zero: nothing. Times are in ms.
#[derive(Clone, Copy)]
struct Heard {
    /// When, since the beginning, and never 0. It comes round after 49 days.
    at: u32,
    /// So much was left then, or more.
    left: u32,
}

/// A point in time, reckoned once for all that are asked about together.
#[derive(Clone, Copy)]
pub struct Moment(u32);

/// A length of time, reckoned once for all keys of a route.
#[derive(Clone, Copy)]
pub struct Milliseconds(u32);

impl Milliseconds {
    /// So long, or a little more; what is longer than 49 days is that.
    pub fn at_least(time: Duration) -> Self {
        Milliseconds(u32::try_from(time.as_millis() + 1).unwrap_or(u32::MAX))
    }
}

impl Lives {
    /// Of none yet.
    pub fn new(beginning: Instant) -> Self {
        Lives { sets: OnceLock::new(), beginning }
    }

    /// This point in time.
    pub fn moment(&self, at: Instant) -> Moment {
        Moment((at.saturating_duration_since(self.beginning).as_millis() as u32).max(1))
    }

    /// The key with this hash, of this database, had so much left when it was asked about.
    pub fn hear(&self, key: u64, db: u32, left: Duration, asked: Moment) {
        let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        self.note(in_database(key, db), Heard { at: asked.0, left });
    }

    /// The life of the key with this hash, of this database, is another now: nothing is left of what was known.
    pub fn forget(&self, key: u64, db: u32, now: Moment) {
        self.note(in_database(key, db), Heard { at: now.0, left: 0 });
    }

    /// Unless something newer is known.
    fn note(&self, key: u64, heard: Heard) {
        let set = set(self.sets.get_or_init(|| (0..SETS).map(|_| Set::default()).collect()), key);
        match set.entry(key) {
            Some(known) if heard.left > 0 && known.read().1.at.wrapping_sub(heard.at) < NEWER => {}
            Some(known) => known.write(key, heard),
            None => {
                let age = |entry: &&Entry| heard.at.wrapping_sub(entry.read().1.at);
                set.0.iter().max_by_key(age).into_iter().for_each(|oldest| oldest.write(key, heard));
            }
        }
    }

    /// Whether more is left of its life than so much, by what was heard lately.
    #[inline]
    pub fn has_more(&self, key: u64, db: u32, than: Milliseconds, now: Moment) -> bool {
        let key = in_database(key, db);
        let Some(entry) = self.sets.get().and_then(|sets| set(sets, key).entry(key)) else { return false };
        let (known, Heard { at, left }) = entry.read();
        let age = now.0.wrapping_sub(at);
        // Either point in time was rounded.
        known == key && at != 0 && age < LATELY && left.saturating_sub(age + 1) > than.0
    }

    /// Keys with these hashes are about to be asked for: what is known of them is read, all together, so that each need not be waited
    /// for (see [`crate::memory::warm`]).
    #[inline]
    pub fn warm(&self, keys: impl Iterator<Item = u64>, db: u32) {
        let Some(sets) = self.sets.get() else { return };
        let read = |key| set(sets, in_database(key, db)).0[0].heard.load(Relaxed);
        black_box(keys.map(read).fold(0, |all, one| all ^ one));
    }
}

impl Set {
    #[inline]
    fn entry(&self, key: u64) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.read().0 == key)
    }
}

impl Entry {
    /// The key, and what was heard of it.
    #[inline]
    fn read(&self) -> (u64, Heard) {
        let heard = self.heard.load(Relaxed);
        (self.check.load(Relaxed) ^ heard, Heard { at: (heard >> 32) as u32, left: heard as u32 })
    }

    fn write(&self, key: u64, Heard { at, left }: Heard) {
        let heard = u64::from(at) << 32 | u64::from(left);
        self.heard.store(heard, Relaxed);
        self.check.store(key ^ heard, Relaxed);
    }
}

#[inline]
fn set(sets: &[Set], key: u64) -> &Set {
    &sets[key as usize % SETS]
}

#[inline]
fn in_database(key: u64, db: u32) -> u64 {
    // Any odd number would do; this one is 2^64 divided by the golden ratio.
    key ^ u64::from(db).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(60);

    fn lives() -> (Lives, impl Fn(u64) -> Moment) {
        let beginning = Instant::now();
        let lives = Lives::new(beginning);
        let clock = Lives::new(beginning);
        (lives, move |at| clock.moment(beginning + Duration::from_millis(at)))
    }

    #[test]
    fn what_was_heard_lately_is_known_with_what_has_gone_by_taken_off() {
        let (lives, at) = lives();
        let has_more = |key, db, than, now| lives.has_more(key, db, Milliseconds::at_least(than), at(now));
        let none = Duration::ZERO;
        assert!(!has_more(7, 0, none, 1), "nothing was heard");
        lives.hear(7, 0, LEFT, at(10));
        assert!(has_more(7, 0, none, 10));
        assert!(has_more(7, 0, LEFT - Duration::from_millis(60), 60));
        assert!(!has_more(7, 0, LEFT - Duration::from_millis(50), 60));
        assert!(has_more(7, 0, none, 1_009) && !has_more(7, 0, none, 1_010), "that is long ago");
        assert!(!has_more(7, 1, none, 10) && !has_more(8, 0, none, 10), "these are others");
        lives.hear(7, 0, Duration::from_millis(20), at(300));
        assert!(has_more(7, 0, none, 310) && !has_more(7, 0, none, 320));
        lives.forget(8, 0, at(310));
        assert!(has_more(7, 0, none, 310));
        lives.forget(7, 0, at(310));
        assert!(!has_more(7, 0, none, 310), "it was told to forget it");
        lives.hear(7, 0, LEFT, at(310));
        assert!(!has_more(7, 0, none, 320), "that was asked before it changed");
        lives.hear(7, 0, LEFT, at(311));
        assert!(has_more(7, 0, none, 320));
        lives.hear(7, 0, Duration::MAX, at(400));
        assert!(has_more(7, 0, Duration::from_secs(86_400 * 49), 410));
        assert!(!has_more(7, 0, Duration::from_secs(86_400 * 50), 410));
    }

    #[test]
    fn the_oldest_makes_way() {
        let (lives, at) = lives();
        let key = |number: u64| 5 + number * SETS as u64;
        for number in 0..5 {
            lives.hear(key(number), 0, LEFT, at(10 + number));
            lives.hear(key(1), 0, LEFT, at(10 + number));
        }
        let known = (0..5).map(|number| lives.has_more(key(number), 0, Milliseconds::at_least(Duration::ZERO), at(20)));
        assert_eq!(known.collect::<Vec<_>>(), [false, true, true, true, true]);
    }
}
