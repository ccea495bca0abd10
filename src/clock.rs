//! Time as the engine sees it: one trait, so that tests can put a clock of their own under it.
//!
//! Durations are measured on the runtime's monotonic clock; no decision about freshness ever compares the
//! wall clocks of two machines (deadlines live in the store as remaining time, and order lives in leases).

use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// Where the engine gets the time and its random numbers from. Both in one trait, so that one seed replays a test.
pub trait Clock {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Completes once `duration` has passed.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
    /// Uniform in `[0, 1)`: jitter and back-off.
    fn random(&self) -> f64;
    /// 64 random bits: lease tokens.
    fn random_u64(&self) -> u64;
}

/// The machine's own clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }

    fn random_u64(&self) -> u64 {
        fastrand::u64(..)
    }
}
