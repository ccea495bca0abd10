//! Checks that wait for their time, or for their turn; the one that is due first comes first.
//!
//! Bounded twice, so that many hits leave room for the checks that follow an invalidation: what finds no room is not made, and
//! counted in `weir_consistency_checks_skipped_total{reason="queue_full"}`.

use super::{HIT, Source};
use crate::cache::route::Loading;
use crate::clock::Clock;
use crate::store::StoreKey;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Hits that wait: what is checked long after it was answered tells little.
const MOST_HITS: usize = 64;
/// Checks that follow invalidations, three of each.
const MOST_OTHERS: usize = 3 * 4096;

/// One comparison of what clients are answered with the database.
pub struct Check {
    pub route: Loading,
    pub key: StoreKey,
    pub source: Source,
    /// Of a hit, or how long after an invalidation: a label.
    pub after: &'static str,
}

/// Those of a process.
pub struct Checks {
    waiting: Mutex<Waiting>,
    /// There is a new one.
    news: Notify,
    depth: Gauge,
    refused: Counter,
}

#[derive(Default)]
struct Waiting {
    /// By the time at which they are due, and then in the order in which they came.
    checks: BTreeMap<(Instant, u64), Check>,
    hits: usize,
    ever: u64,
}

impl Default for Checks {
    fn default() -> Self {
        Checks {
            waiting: Mutex::default(),
            news: Notify::new(),
            depth: gauge!("weir_consistency_checks_waiting"),
            refused: counter!("weir_consistency_checks_skipped_total", "reason" => "queue_full"),
        }
    }
}

impl Checks {
    /// Has a check made at `due`, or soon after, if there is room for it.
    pub fn put(&self, check: Check, due: Instant) {
        let mut waiting = self.waiting.lock();
        if !waiting.has_room_for(&check) {
            self.refused.increment(1);
            return;
        }
        waiting.hits += usize::from(check.after == HIT);
        waiting.ever += 1;
        let number = waiting.ever;
        waiting.checks.insert((due, number), check);
        self.depth.set(waiting.checks.len() as f64);
        drop(waiting);
        self.news.notify_one();
    }

    /// The next check, once it is due. For one task only.
    pub async fn take(&self, clock: &impl Clock) -> Check {
        loop {
            let due = match self.next(clock.now()) {
                Ok(check) => return check,
                Err(due) => due,
            };
            match due {
                None => self.news.notified().await,
                Some(due) => tokio::select! {
                    biased;
                    () = self.news.notified() => {}
                    () = clock.sleep(due - clock.now()) => {}
                },
            }
        }
    }

    /// The next one that is due, or when one will be, if any waits.
    fn next(&self, now: Instant) -> Result<Check, Option<Instant>> {
        let mut waiting = self.waiting.lock();
        let first = waiting.checks.first_entry().ok_or(None)?;
        let (due, _) = *first.key();
        if due > now {
            return Err(Some(due));
        }
        let check = first.remove();
        waiting.hits -= usize::from(check.after == HIT);
        self.depth.set(waiting.checks.len() as f64);
        Ok(check)
    }
}

impl Waiting {
    fn has_room_for(&self, check: &Check) -> bool {
        match check.after == HIT {
            true => self.hits < MOST_HITS,
            false => self.checks.len() - self.hits < MOST_OTHERS,
        }
    }
}
