//! Which key goes when memory is full: of a random sample the one used least often, as Redis's `allkeys-lfu` does.
//!
//! How often a key is used is a logarithmic counter that halves its certainty with time: it grows with a probability
//! that falls as it grows, and loses one for each minute without a use. So a flood of keys that are read once never
//! drives out those that are read all the time. Between equals the one unused for longer goes.
//! Held by this file's tests and by `tests/embedded_memory.rs`.

use super::keyspace::{Shard, Space};

/// How many keys are compared for each eviction.
const SAMPLES: usize = 8;

/// Counter of a key that was just made: high enough to survive until it has been used again.
const NEW: u8 = 5;

/// The larger, the slower the counter grows: with 10 it is full after about a million uses.
const LOG_FACTOR: u32 = 10;

/// A unit of the counter is lost for each of these periods without a use.
const DECAY_SECONDS: u32 = 60;

/// The time within an access record has 24 bits of seconds, and wraps after 194 days.
const TIME_MASK: u32 = 0x00FF_FFFF;

/// When and how often a key was used: the counter in the high byte, seconds of the last use in the others.
#[derive(Clone, Copy)]
pub(super) struct Access(u32);

impl Access {
    /// Of a key made now.
    pub fn new(now: i64) -> Self {
        Access::record(NEW, seconds(now))
    }

    fn record(counter: u8, seconds: u32) -> Self {
        Access(u32::from(counter) << 24 | seconds)
    }

    /// The key is used; `drawn` decides whether that counts.
    #[inline]
    pub fn touch(&mut self, now: i64, drawn: u32) {
        let seconds = seconds(now);
        *self = Access::record(grown(self.counter_at(seconds), drawn), seconds);
    }

    /// How often it was used, logarithmically, 0 to 255.
    pub fn counter(self, now: i64) -> u8 {
        self.counter_at(seconds(now))
    }

    #[inline]
    fn counter_at(self, seconds: u32) -> u8 {
        let since = seconds.wrapping_sub(self.0) & TIME_MASK;
        // Whoever has read the clock a moment before the last user is no use after 194 days.
        let lost = if since > TIME_MASK - DECAY_SECONDS { 0 } else { since / DECAY_SECONDS };
        ((self.0 >> 24) as u8).saturating_sub(lost.min(255) as u8)
    }

    /// Seconds since the last use.
    pub fn idle(self, now: i64) -> u32 {
        seconds(now).wrapping_sub(self.0) & TIME_MASK
    }
}

#[inline]
fn seconds(now: i64) -> u32 {
    (now / 1000) as u32 & TIME_MASK
}

/// The counter after one more use: it grows with a probability of one in `LOG_FACTOR` for each unit above that of a new key.
#[inline]
fn grown(counter: u8, drawn: u32) -> u8 {
    let unlikelihood = u64::from(u32::from(counter.saturating_sub(NEW)) * LOG_FACTOR + 1);
    let grows = counter < u8::MAX && (u64::from(drawn) * unlikelihood) >> 32 == 0;
    counter + u8::from(grows)
}

/// Random numbers for the counters of one space. They only spread chance over keys: no client gains by guessing them.
#[derive(Default)]
pub(super) struct Draws(u64);

impl Draws {
    /// The next one: a step of a generator of Weyl's, mixed.
    #[inline]
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed ^ mixed >> 32) as u32
    }
}

impl Shard {
    /// Drops one key. A side entry goes instead where there is no key, or where side entries take more than
    /// `side_limit` bytes. Answers in which database; none if the shard is empty.
    pub fn evict(&mut self, now: i64, side_limit: usize) -> Option<usize> {
        let keys: usize = self.spaces.iter().map(|space| space.entries().len()).sum();
        let sides: usize = self.spaces.iter().map(|space| space.sides.used()).sum();
        if keys == 0 || sides > side_limit {
            return self.spaces.iter_mut().position(|space| space.sides.evict());
        }
        let db = self.space_of(fastrand::usize(..keys));
        self.spaces[db].evict(now);
        Some(db)
    }

    /// The database of the shard's `nth` key: a larger one is met more often.
    fn space_of(&self, mut nth: usize) -> usize {
        let here = |space: &Space| {
            let here = nth < space.entries().len();
            nth = nth.saturating_sub(space.entries().len());
            here
        };
        self.spaces.iter().position(here).expect("nth is below the number of keys")
    }
}

impl Space {
    /// Drops the least useful key of a sample. There is a key.
    fn evict(&mut self, now: i64) {
        let samples = (0..SAMPLES).map(|_| self.entries().random());
        let number = samples.min_by_key(|&number| self.worth(number, now)).expect("there are samples");
        self.remove(number);
    }

    /// Expired keys first, then by use, then by the time since the last use.
    fn worth(&self, number: usize, now: i64) -> (bool, u8, u32) {
        let entry = self.entries().get(number);
        (!entry.is_expired(now), entry.access.counter(now), u32::MAX - entry.access.idle(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_grows_with_use_and_falls_with_time() {
        let start = 1_700_000_000_000;
        let (mut access, mut draws) = (Access::new(start), Draws::default());
        (0..1000).for_each(|_| access.touch(start, draws.next()));
        let used = access.counter(start);
        assert!((12..40).contains(&used), "{used}");
        assert_eq!(access.counter(start + 3 * 60_000), used - 3);
        assert_eq!(access.counter(start + 600 * 60_000), 0);
    }

    #[test]
    fn a_counter_grows_as_often_as_it_should() {
        let mut draws = Draws::default();
        for counter in [NEW, NEW + 1, NEW + 5, 100, 254] {
            let uses = 1_000_000;
            let grew = (0..uses).filter(|_| grown(counter, draws.next()) > counter).count() as f64;
            let expected = f64::from(uses) / f64::from(u32::from(counter - NEW) * LOG_FACTOR + 1);
            assert!((grew - expected).abs() <= 5.0 * expected.sqrt(), "{counter}: {grew} of {expected}");
        }
        assert_eq!((grown(255, 0), grown(254, 0), grown(0, u32::MAX)), (255, 255, 1));
    }

    #[test]
    fn idle_time_survives_the_wrap_of_its_clock() {
        let near_wrap = i64::from(TIME_MASK) * 1000;
        assert_eq!(Access::new(near_wrap).idle(near_wrap + 10_000), 10);
    }

    #[test]
    fn a_clock_that_was_read_a_moment_before_the_last_use_loses_nothing() {
        for earlier in [1, 1000, 5000] {
            assert_eq!(Access::new(100_000).counter(100_000 - earlier), NEW);
        }
        assert_eq!(Access::new(100_000).counter(100_000 + 60_000), NEW - 1);
    }
}
