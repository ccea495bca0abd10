//! Active expiry: what nobody asks for any more gives its memory back too.
//!
//! A key that has reached its deadline is never seen, whether or not it still lies in memory ([`Space::find`]).
//! The sweep walks all keys in a circle, a bounded number at each step, and goes on where it finds many expired.

use super::keyspace::{Shard, Space};

/// Keys looked at in one space before it is decided whether to go on.
const BATCH: usize = 64;

/// Batches in a space at most; together with the number of shards this bounds a step.
const BATCHES: usize = 16;

impl Shard {
    /// One step of the sweep over the shard.
    pub fn sweep(&mut self, now: i64) {
        for space in &mut self.spaces {
            let mut batches = 0;
            while batches < BATCHES && space.sweep(now) > BATCH / 8 {
                batches += 1;
            }
            space.sides.sweep(now, BATCH);
        }
    }
}

impl Space {
    /// Looks at a batch of keys; answers how many were expired.
    fn sweep(&mut self, now: i64) -> usize {
        let before = self.expired;
        for _ in 0..BATCH.min(self.entries().len()) {
            let length = self.entries().len();
            if length == 0 {
                break;
            }
            self.swept = self.swept.min(length).checked_sub(1).unwrap_or(length - 1);
            if self.entries().get(self.swept).is_expired(now) {
                self.expire(self.swept);
            }
        }
        (self.expired - before) as usize
    }
}
