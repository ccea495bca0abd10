//! Remembers loads that failed, so that a database in trouble is asked again seldom and by one (T17).
//!
//! A key whose load failed answers the same error at once until its pause is over; then one new load tries. Pauses
//! double from [`FIRST`] to [`LONGEST`], each shortened by up to a quarter at random so that keys spread out.
//!
//! A herd is slower than that: of ten thousand reads that wait for another process's load, the last may look again long after the
//! first of them has led a load that failed, and its pause is over. So a read that began before a failure is told that
//! failure, whenever its turn comes: a herd makes one attempt in each process.

use super::error::LoadError;
use crate::store::StoreKey;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// First pause after a failure.
pub const FIRST: Duration = Duration::from_millis(250);
/// Longest pause (BentoCache's grace back-off is 10 s too).
pub const LONGEST: Duration = Duration::from_secs(10);
/// A failure is forgotten this long after its pause: the next one begins at [`FIRST`] again.
const MEMORY: Duration = Duration::from_secs(30);
/// Most keys remembered; beyond them the failure with the earliest end is forgotten.
const MOST: usize = 16_384;

/// Failed keys and when they may be tried again.
#[derive(Default)]
pub struct Backoff {
    failures: HashMap<StoreKey, Failure, RandomState>,
}

struct Failure {
    error: LoadError,
    at: Instant,
    pause: Duration,
    until: Instant,
}

impl Backoff {
    /// The error to answer at once, if `key` failed a moment ago.
    pub fn blocked(&self, key: &StoreKey, now: Instant) -> Option<LoadError> {
        self.failures.get(key).filter(|failure| now < failure.until).map(|failure| failure.error.clone())
    }

    /// The error of a load of `key` that has failed since `begun`, for whoever has waited since then.
    pub fn failed_since(&self, key: &StoreKey, begun: Instant) -> Option<LoadError> {
        self.failures.get(key).filter(|failure| failure.at >= begun).map(|failure| failure.error.clone())
    }

    /// A load of `key` failed. `random` is uniform in `[0, 1)`.
    pub fn failed(&mut self, key: StoreKey, error: LoadError, now: Instant, random: f64) {
        let pause = match self.failures.get(&key) {
            Some(failure) if now < failure.until + MEMORY => (failure.pause * 2).min(LONGEST),
            _ => FIRST,
        };
        if self.failures.len() >= MOST && !self.failures.contains_key(&key) {
            self.make_room(now);
        }
        let until = now + pause.mul_f64(1.0 - random / 4.0);
        self.failures.insert(key, Failure { error, at: now, pause, until });
    }

    /// A load of `key` succeeded.
    pub fn succeeded(&mut self, key: &StoreKey) {
        if !self.failures.is_empty() {
            self.failures.remove(key);
        }
    }

    /// Forgets what databases have failed of. (Of one that still has its breaker closed this costs an attempt for each key.)
    pub fn forget_databases(&mut self) {
        self.failures.retain(|_, failure| !failure.error.kind.is_of_the_database());
    }

    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, failure| now < failure.until);
        if self.failures.len() >= MOST {
            let mut ends: Vec<Instant> = self.failures.values().map(|failure| failure.until).collect();
            let half = ends.len() / 2;
            let (_, median, _) = ends.select_nth_unstable(half);
            let median = *median;
            self.failures.retain(|_, failure| failure.until > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::error::Kind;

    fn key(number: usize) -> StoreKey {
        StoreKey { db: 0, name: number.to_string().into() }
    }

    fn error() -> LoadError {
        LoadError { route: "r".into(), kind: Kind::TimedOut }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_success_forgets() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for expected in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            backoff.failed(key(1), error(), now, 0.0);
            let last = now + Duration::from_millis(expected) - Duration::from_millis(1);
            assert!(backoff.blocked(&key(1), last).is_some());
            now += Duration::from_millis(expected);
            assert!(backoff.blocked(&key(1), now).is_none());
        }
        backoff.succeeded(&key(1));
        backoff.failed(key(1), error(), now, 0.0);
        assert!(backoff.blocked(&key(1), now + FIRST).is_none());
    }

    #[test]
    fn who_began_before_a_failure_is_told_it_after_its_pause_too() {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        let failed = begun + LONGEST;
        backoff.failed(key(1), error(), failed, 0.0);
        assert!(backoff.blocked(&key(1), failed + FIRST).is_none());
        assert!(backoff.failed_since(&key(1), begun).is_some());
        assert!(backoff.failed_since(&key(1), failed + Duration::from_millis(1)).is_none());
        assert!(backoff.failed_since(&key(2), begun).is_none());
        backoff.succeeded(&key(1));
        assert!(backoff.failed_since(&key(1), begun).is_none());
    }

    #[test]
    fn failures_of_databases_are_forgotten_and_those_of_statements_are_not() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let refused = Kind::Database(crate::database::DatabaseError::Statement("no such column".into()));
        backoff.failed(key(1), error(), now, 0.0);
        backoff.failed(key(2), LoadError { route: "r".into(), kind: refused }, now, 0.0);
        backoff.forget_databases();
        assert!(backoff.blocked(&key(1), now).is_none());
        assert!(backoff.blocked(&key(2), now).is_some());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for number in 0..3 * MOST {
            backoff.failed(key(number), error(), now, 0.5);
        }
        assert!(backoff.failures.len() <= MOST);
    }
}
