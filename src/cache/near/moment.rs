//! Points in time in one word: an [`Instant`] takes two, and no room for that is left in a name's cache line.

use std::time::{Duration, Instant};

/// Nanoseconds since the near cache began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// What is before the beginning is the beginning.
    #[inline]
    pub fn new(beginning: Instant, at: Instant) -> Moment {
        Moment(at.saturating_duration_since(beginning).as_nanos() as u64)
    }

    /// The same as an instant.
    pub fn instant(self, beginning: Instant) -> Instant {
        beginning + Duration::from_nanos(self.0)
    }
}
