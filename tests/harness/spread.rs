//! Durations at a glance.

use std::fmt;
use std::time::Duration;

/// How many there were, and how long they took.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    count: usize,
    median: Duration,
    p99: Duration,
    most: Duration,
}

impl Spread {
    pub fn of(durations: &[Duration]) -> Spread {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)));
        let at = |share: f64| at(share).copied().unwrap_or_default();
        Spread { count: sorted.len(), median: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of median {:?}, p99 {:?}, max {:?}", self.count, self.median, self.p99, self.most)
    }
}
