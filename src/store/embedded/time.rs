//! Time as the embedded store sees it: milliseconds, from a clock that no adjustment of the wall clock moves.
//!
//! Deadlines are kept on that clock, so setting the machine's clock neither expires a cache nor makes it live for
//! ever. It starts at the wall clock's time, which makes deadlines and Unix times the same numbers until somebody
//! steps the wall clock; a step beyond a second is then taken into account where a command names an absolute time
//! (EXPIREAT, EXPIRETIME, SET … EXAT).

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Steps below this are noise between two clocks, not a step.
const STEP_MS: i64 = 1000;

/// Where the store gets the time from.
#[derive(Clone)]
pub struct TimeSource(Source);

#[derive(Clone)]
enum Source {
    System { start: Instant, start_ms: i64 },
    Other(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl Default for TimeSource {
    fn default() -> Self {
        TimeSource(Source::System { start: Instant::now(), start_ms: wall_ms() })
    }
}

impl TimeSource {
    /// A clock for tests: milliseconds since the Unix epoch, never falling.
    pub fn from_fn(milliseconds: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        TimeSource(Source::Other(Arc::new(milliseconds)))
    }

    /// Milliseconds on the store's clock.
    #[inline]
    pub(super) fn now(&self) -> i64 {
        match &self.0 {
            Source::System { start, start_ms } => {
                let since = start.elapsed();
                start_ms + since.as_secs() as i64 * 1000 + i64::from(since.subsec_millis())
            }
            Source::Other(milliseconds) => milliseconds() as i64,
        }
    }

    /// How far the wall clock has been stepped away from the store's clock.
    pub(super) fn skew(&self) -> i64 {
        match &self.0 {
            Source::Other(_) => 0,
            Source::System { .. } => match wall_ms() - self.now() {
                skew if skew.abs() < STEP_MS => 0,
                skew => skew,
            },
        }
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
