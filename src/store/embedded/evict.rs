//! Which key goes when memory is full: of a random sample the one used least often, as Redis's `allkeys-lfu` does.
//!
//! How often a key is used is a logarithmic counter that halves its certainty with time: it grows with a probability
//! that falls as it grows, and loses one for each minute without a use. So a flood of keys that are read once never
//! drives out those that are read all the time. Between equals the one unused for longer goes.
//! Held by this file's tests and by `tests/embedded_memory.rs`.

use super::keyspace::{Shard, Space};

/// How many keys are compared for each eviction.
const SAMPLES: usize = 16;

/// Counter of a key that was just made: high enough to survive until it has been used again.
const NEW: u8 = 5;

/// The larger, the slower the counter grows: with 10 it is full after about a million uses.
const LOG_FACTOR: f32 = 10.0;

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

    /// The key is used.
    #[inline]
    pub fn touch(&mut self, now: i64) {
        let counter = self.counter(now);
        *self = Access::record(grown(counter), seconds(now));
    }

    /// How often it was used, logarithmically, 0 to 255.
    pub fn counter(self, now: i64) -> u8 {
        let lost = self.idle(now) / DECAY_SECONDS;
        ((self.0 >> 24) as u8).saturating_sub(lost.min(255) as u8)
    }

    /// Seconds since the last use.
    pub fn idle(self, now: i64) -> u32 {
        seconds(now).wrapping_sub(self.0) & TIME_MASK
    }
}

fn seconds(now: i64) -> u32 {
    (now / 1000) as u32 & TIME_MASK
}

#[inline]
fn grown(counter: u8) -> u8 {
    let base = f32::from(counter.saturating_sub(NEW));
    let grows = counter < u8::MAX && fastrand::f32() * (base * LOG_FACTOR + 1.0) < 1.0;
    counter + u8::from(grows)
}

impl Shard {
    /// Drops one key, or a side entry where there are no keys. False if the shard is empty.
    pub fn evict(&mut self, now: i64) -> bool {
        let keys: usize = self.spaces.iter().map(|space| space.entries().len()).sum();
        if keys == 0 {
            return self.spaces.iter_mut().any(|space| space.sides.evict());
        }
        let candidates = (0..SAMPLES).map(|_| self.pick(fastrand::usize(..keys)));
        let worth = |&(space, number): &(usize, usize)| self.worth(&self.spaces[space], number, now);
        let (space, number) = candidates.min_by_key(worth).expect("there are samples");
        self.spaces[space].remove(number);
        true
    }

    fn worth(&self, space: &Space, number: usize, now: i64) -> (bool, u8, u32) {
        let entry = space.entries().get(number);
        (!entry.is_expired(now), entry.access.counter(now), u32::MAX - entry.access.idle(now))
    }

    /// The `nth` key of the shard: its space and its number therein.
    fn pick(&self, mut nth: usize) -> (usize, usize) {
        for (number, space) in self.spaces.iter().enumerate() {
            match space.entries().len() {
                length if nth < length => return (number, nth),
                length => nth -= length,
            }
        }
        unreachable!("nth is below the number of keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_grows_with_use_and_falls_with_time() {
        fastrand::seed(5);
        let start = 1_700_000_000_000;
        let mut access = Access::new(start);
        (0..1000).for_each(|_| access.touch(start));
        let used = access.counter(start);
        assert!((12..40).contains(&used), "{used}");
        assert_eq!(access.counter(start + 3 * 60_000), used - 3);
        assert_eq!(access.counter(start + 600 * 60_000), 0);
    }

    #[test]
    fn idle_time_survives_the_wrap_of_its_clock() {
        let near_wrap = i64::from(TIME_MASK) * 1000;
        assert_eq!(Access::new(near_wrap).idle(near_wrap + 10_000), 10);
    }
}
