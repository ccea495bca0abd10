//! How long keys have yet to live, as the store said a moment ago.
//!
//! A key that clients read all the time need not be asked about behind every read. What was heard of it [`LATELY`] is
//! remembered, for all clients of the process, and by that it is told whether it is due. What is due by that is asked about
//! again: so a value is never refreshed by memory alone. What clients change through this process is forgotten
//! ([`super::change`]), and what was asked before that and is answered after it is not heard; that others have shortened a life is
//! found out so much later.
//!
//! It is a table that forgets: sets of a few keys, a cache line each, in which the newest goes to its home, or, if what stands there
//! was heard lately, takes the place of the oldest. All that is known of a key is one word, so that nobody waits for anybody; the
//! key itself is known by no more than its hash, which is seeded anew in each process. Of ten million look-ups some eighty take
//! another key for theirs, and ask about it a second later.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What was heard longer ago is asked again. In ms: a second is little of most graces, and enough for a key that is read more
/// often than that.
const LATELY: u32 = 1000;
/// Of eight keys each: an eighth of a MiB, which stays near the core. It is not there before the first key is noted.
const SETS: usize = 2048;
/// A key's home in its set is told by the bits of its hash from this one on: above those that tell the set.
const HOME: u32 = SETS.ilog2();
/// What was heard so much later, or less, is newer: no reply takes so long, and points in time come round much later. In ms.
const NEWER: u32 = 1 << 20;

/// See the module's page. One for the process.
pub struct Lives {
    sets: OnceLock<Box<[Set]>>,
    /// What points in time are counted from.
    beginning: Instant,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; 8]);

/// What was heard of a key: from above, 20 bits of its hash, 24 of when that was (in ms; it comes round after 4.6 hours), and
/// 20 of how much was left (in units of 1,024 ms, twelve days at most). Zero: nothing.
#[derive(Clone, Copy)]
struct Heard(u64);

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
        Moment(at.saturating_duration_since(self.beginning).as_millis() as u32)
    }

    /// The key with this hash, of this database, had so much left when it was asked about.
    pub fn hear(&self, key: u64, db: u32, left: Duration, asked: Moment) {
        let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        self.note(in_database(key, db), left, asked);
    }

    /// The life of the key with this hash, of this database, is another now: nothing is left of what was known.
    pub fn forget(&self, key: u64, db: u32, now: Moment) {
        self.note(in_database(key, db), 0, now);
    }

    /// Unless something newer is known.
    fn note(&self, key: u64, left: u32, at: Moment) {
        let set = set(self.sets.get_or_init(|| (0..SETS).map(|_| Set::default()).collect()), key);
        let place = match set.find(key) {
            Some((_, known)) if left > 0 && known.is_newer(at) => return,
            Some((place, _)) => Some(place),
            None => set.make_way(key, at),
        };
        place.into_iter().for_each(|place| place.store(Heard::new(key, at, left).0, Relaxed));
    }

    /// Whether more is left of its life than so much, by what was heard lately.
    #[inline]
    pub fn has_more(&self, key: u64, db: u32, than: Milliseconds, now: Moment) -> bool {
        let key = in_database(key, db);
        let Some((_, heard)) = self.sets.get().and_then(|sets| set(sets, key).find(key)) else { return false };
        let age = heard.age(now);
        // Either point in time was rounded.
        age < LATELY && heard.left().saturating_sub(age + 1) > than.0
    }

    /// Keys with these hashes are about to be asked for: what is known of them is read, all together, so that each need not be waited
    /// for (see [`crate::memory::warm`]).
    #[inline]
    pub fn warm(&self, keys: impl Iterator<Item = u64>, db: u32) {
        let Some(sets) = self.sets.get() else { return };
        let read = |key| set(sets, in_database(key, db)).0[0].load(Relaxed);
        black_box(keys.map(read).fold(0, |all, one| all ^ one));
    }
}

impl Set {
    #[inline]
    fn heard(&self) -> impl Iterator<Item = (&AtomicU64, Heard)> {
        self.0.iter().map(|place| (place, Heard(place.load(Relaxed))))
    }

    /// Where a key stands if nobody else stood there: so most are found at the first look.
    #[inline]
    fn home(&self, key: u64) -> (&AtomicU64, Heard) {
        let place = &self.0[(key >> HOME) as usize % self.0.len()];
        (place, Heard(place.load(Relaxed)))
    }

    #[inline]
    fn find(&self, key: u64) -> Option<(&AtomicU64, Heard)> {
        let home = self.home(key);
        if home.1.is_of(key) {
            return Some(home);
        }
        self.heard().find(|(_, heard)| heard.is_of(key))
    }

    /// The place of a key that is not there.
    fn make_way(&self, key: u64, now: Moment) -> Option<&AtomicU64> {
        let (home, heard) = self.home(key);
        if heard.0 == 0 || heard.age(now) >= LATELY {
            return Some(home);
        }
        self.heard().max_by_key(|(_, heard)| heard.age(now)).map(|(place, _)| place)
    }
}

impl Heard {
    const AT: u32 = (1 << 24) - 1;
    const LEFT: u32 = (1 << 20) - 1;
    const UNIT: u32 = 1024;

    fn new(key: u64, Moment(at): Moment, left: u32) -> Self {
        let left = (left / Self::UNIT).min(Self::LEFT);
        Heard(key >> 44 << 44 | u64::from(at & Self::AT) << 20 | u64::from(left))
    }

    #[inline]
    fn is_of(self, key: u64) -> bool {
        (self.0 ^ key) >> 44 == 0
    }

    #[inline]
    fn at(self) -> u32 {
        (self.0 >> 20) as u32 & Self::AT
    }

    /// In ms, or more.
    #[inline]
    fn left(self) -> u32 {
        (self.0 as u32 & Self::LEFT) * Self::UNIT
    }

    /// In ms.
    #[inline]
    fn age(self, now: Moment) -> u32 {
        now.0.wrapping_sub(self.at()) & Self::AT
    }

    /// It was asked about then, or later. Nothing never was.
    fn is_newer(self, than: Moment) -> bool {
        self.0 != 0 && self.at().wrapping_sub(than.0) & Self::AT < NEWER
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
        let seconds = Duration::from_secs;
        assert!(!has_more(7, 0, none, 1), "nothing was heard");
        lives.hear(7, 0, LEFT, at(10));
        assert!(has_more(7, 0, none, 10));
        assert!(has_more(7, 0, LEFT - seconds(2), 60));
        assert!(!has_more(7, 0, LEFT - Duration::from_millis(50), 60));
        assert!(has_more(7, 0, none, 1_009) && !has_more(7, 0, none, 1_010), "that is long ago");
        assert!(!has_more(7, 1, none, 10) && !has_more(8, 0, none, 10), "these are others");
        lives.hear(7, 0, Duration::from_millis(1_200), at(300));
        assert!(has_more(7, 0, none, 320) && !has_more(7, 0, seconds(2), 320));
        lives.hear(7, 0, seconds(1), at(301));
        assert!(!has_more(7, 0, none, 301), "less than a unit is nothing");
        lives.hear(7, 0, LEFT, at(302));
        lives.forget(8, 0, at(310));
        assert!(has_more(7, 0, none, 310));
        lives.forget(7, 0, at(310));
        assert!(!has_more(7, 0, none, 310), "it was told to forget it");
        lives.hear(7, 0, LEFT, at(310));
        assert!(!has_more(7, 0, none, 320), "that was asked before it changed");
        lives.hear(7, 0, LEFT, at(311));
        assert!(has_more(7, 0, none, 320));
        lives.hear(7, 0, Duration::MAX, at(400));
        assert!(has_more(7, 0, seconds(86_400 * 12), 410));
        assert!(!has_more(7, 0, seconds(86_400 * 13), 410));
    }

    #[test]
    fn points_in_time_come_round() {
        let (lives, at) = lives();
        let round = 1 << 24;
        let has_more = |now| lives.has_more(7, 0, Milliseconds::at_least(Duration::ZERO), at(now));
        lives.hear(7, 0, LEFT, at(round - 10));
        assert!(has_more(round - 10) && has_more(round + 10));
        lives.hear(7, 0, LEFT, at(round + 500));
        assert!(has_more(round + 1_499) && !has_more(round + 1_500));
        lives.hear(7, 0, LEFT, at(round - 1));
        assert!(has_more(round + 1_499), "that was asked before");
    }

    #[test]
    fn the_oldest_makes_way() {
        let (lives, at) = lives();
        // In one set, and told from each other by the bits that are kept.
        let key = |number: u64| number << 44 | 5;
        for number in 0..9 {
            lives.hear(key(number), 0, LEFT, at(10 + number));
            lives.hear(key(1), 0, LEFT, at(10 + number));
        }
        let known = (0..9).map(|number| lives.has_more(key(number), 0, Milliseconds::at_least(Duration::ZERO), at(20)));
        assert_eq!(known.collect::<Vec<_>>(), [false, true, true, true, true, true, true, true, true]);
    }
}
