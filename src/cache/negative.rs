//! Bounds the negative entries that this process keeps alive: a flood of random keys must not fill the store (G4, T10).
//!
//! Entries die by their TTL at the store, unseen from here, so what is counted is a promise of at most one TTL each:
//! one ring of seconds, each with the number of entries that end in it.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How many negative entries may yet be stored.
pub struct NegativeBudget {
    most: usize,
    alive: usize,
    /// Ends in seconds since `start`, ascending, with the number of entries.
    ends: VecDeque<(u64, usize)>,
    start: Instant,
}

impl NegativeBudget {
    /// At most `most` at once.
    pub fn new(most: usize, now: Instant) -> Self {
        NegativeBudget { most, alive: 0, ends: VecDeque::new(), start: now }
    }

    /// Whether one more may be stored for `ttl`; it is counted if so.
    pub fn take(&mut self, now: Instant, ttl: Duration) -> bool {
        self.forget_ended(now);
        if self.alive >= self.most {
            return false;
        }
        let end = (now + ttl).duration_since(self.start).as_secs() + 1;
        let index = self.ends.partition_point(|&(second, _)| second < end);
        match self.ends.get_mut(index) {
            Some((second, count)) if *second == end => *count += 1,
            _ => self.ends.insert(index, (end, 1)),
        }
        self.alive += 1;
        true
    }

    fn forget_ended(&mut self, now: Instant) {
        let now = now.duration_since(self.start).as_secs();
        while let Some(&(second, count)) = self.ends.front() {
            if second > now {
                break;
            }
            self.alive -= count;
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_count_until_their_ttl_has_passed() {
        let now = Instant::now();
        let mut budget = NegativeBudget::new(2, now);
        assert!(budget.take(now, Duration::from_secs(60)));
        assert!(budget.take(now, Duration::from_secs(5)));
        assert!(!budget.take(now, Duration::from_secs(5)));
        let later = now + Duration::from_secs(7);
        assert!(budget.take(later, Duration::from_secs(5)));
        assert!(!budget.take(later, Duration::from_secs(5)));
    }
}
