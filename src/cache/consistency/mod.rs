//! Measured consistency: of the keys that clients are answered some are compared with what the database has, so that the operator
//! knows how often they differ, and does not have to believe it (as Uber's CacheFront measures its own staleness).
//!
//! A *check* is made of one in `check_hits` hits, at once; and of one in `check_invalidations` keys that are invalidated through
//! this process, 1, 10 and 60 seconds later. It takes three steps, in this order:
//!
//! 1. what clients are answered: the value or the remembered absence at the store; of a near hit, what is kept near;
//! 2. the row, by the route's own statement;
//! 3. what clients are answered, once more. If that is no longer what it was, the row may have been read before or after the
//!    change, and nothing is counted.
//!
//! `weir_consistency_checks_total{route,result,after}` counts *equal*; *stale*: both are there and differ; *missing*: the absence
//! is remembered and there is a row; *extra*: there is a value and no row. A key that is absent from the store proves nothing.
//! What came to no result is counted in `weir_consistency_checks_skipped_total{reason}`.
//!
//! It costs clients nothing: one check runs at a time in a process, and only while most of the database's connections are
//! free ([`crate::database::Statement::is_idle`]); else it is skipped. A hit costs a
//! comparison where checks are off, and a random number where they are on. What waits is bounded (`queue`).
//!
//! It measures, and repairs nothing: whoever finds a difference must find its cause. What clients store themselves on a route
//! (SET, INCR …) differs from the database by right, and so does what was read between a commit and the DEL that follows it.
//!
//! tests/serve_consistency.rs holds it to this.

mod queue;

pub use self::queue::Checks;

use self::queue::Check;
use super::Engine;
use super::near::{Key, Near};
use super::route::{Loading, Route};
use crate::clock::Clock;
use crate::database::Arguments;
use crate::store::look::{Look, Seen};
use crate::store::{Credentials, Store, StoreKey};
use crate::value::Value;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The label of loads for checks.
const CHECK: &str = "check";
/// When the key of an invalidation is checked, and the label of that.
const AFTER: [(Duration, &str); 3] =
    [(Duration::from_secs(1), "1s"), (Duration::from_secs(10), "10s"), (Duration::from_secs(60), "60s")];
/// The label of hits.
const HIT: &str = "hit";
/// No more than one difference in so much time is told in the log.
const BETWEEN_LINES: Duration = Duration::from_secs(1);
/// So long nothing is checked after a failure: who is in trouble is left alone, and each failed load is a line of the log.
const REST: Duration = Duration::from_secs(1);

/// Where the answer to be checked comes from.
#[derive(Clone)]
pub enum Source {
    /// The store.
    Store,
    /// The near cache, for clients that are this user of the upstream's.
    Near(Option<Arc<Credentials>>),
}

/// What a check came to: label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Stale,
    Missing,
    Extra,
}

/// Why a check came to nothing: label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    /// The key is absent, or holds another type: nothing there was loaded.
    Absent,
    /// It has changed meanwhile.
    Changed,
    /// The database has other things to do.
    Busy,
    /// The store or the database did not answer.
    Failed,
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// A client was answered from what stands at the key.
    #[inline]
    pub fn note_hit(&self, route: &Arc<Route>, db: u32, name: &[u8]) {
        if self.draws(route.checks.hits) {
            self.check_hit(route, StoreKey { db, name: Bytes::copy_from_slice(name) }, Source::Store);
        }
    }

    /// A key was invalidated through this process, or is about to be.
    pub fn note_invalidation(&self, route: &Arc<Route>, db: u32, name: &[u8]) {
        let Some(route) = route.loading().filter(|_| self.draws(route.checks.invalidations)) else { return };
        let (key, now) = (StoreKey { db, name: Bytes::copy_from_slice(name) }, self.clock.now());
        for (time, after) in AFTER {
            self.shared
                .checks
                .put(Check { route: route.clone(), key: key.clone(), source: Source::Store, after }, now + time);
        }
    }

    /// One in so many, by chance; 0: none.
    #[inline]
    pub fn draws(&self, one_in: u32) -> bool {
        one_in != 0 && self.clock.random_u64().is_multiple_of(u64::from(one_in))
    }

    /// Has a hit checked that was drawn.
    pub fn check_hit(&self, route: &Arc<Route>, key: StoreKey, source: Source) {
        if let Some(route) = route.loading() {
            self.shared.checks.put(Check { route, key, source, after: HIT }, self.clock.now());
        }
    }
}

impl<S: Store + Look + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Makes the checks of this process, one after the other, for as long as it lives.
    pub async fn check_for_ever(self, near: Option<Arc<Near>>) {
        let mut log = Log::default();
        loop {
            let check = self.shared.checks.take(&self.clock).await;
            match self.check(&check, near.as_deref()).await {
                Ok(verdict) => {
                    check.count(verdict);
                    if verdict != Verdict::Equal {
                        log.tell(&check, verdict);
                    }
                }
                Err(skipped) => {
                    skipped.count();
                    if skipped == Skipped::Failed {
                        self.clock.sleep(REST).await;
                    }
                }
            }
            // Over the embedded store a check that is skipped has waited for nothing.
            tokio::task::yield_now().await;
        }
    }

    async fn check(&self, check: &Check, near: Option<&Near>) -> Result<Verdict, Skipped> {
        let answered = self.answered(check, near).await?;
        if matches!(answered, Seen::Absent | Seen::Foreign) {
            return Err(Skipped::Absent);
        }
        let row = self.row(&check.route, &check.key).await?;
        match self.answered(check, near).await? == answered {
            true => Ok(judge(&answered, row)),
            false => Err(Skipped::Changed),
        }
    }

    /// What clients are answered now.
    async fn answered(&self, check: &Check, near: Option<&Near>) -> Result<Seen, Skipped> {
        if self.is_in_doubt(&check.route, &check.key) {
            // Nobody is answered that.
            return Err(Skipped::Absent);
        }
        let Source::Near(user) = &check.source else {
            return self.store.look(&check.key).await.map_err(|error| {
                tracing::debug!(%error, "a check cannot look at the store");
                Skipped::Failed
            });
        };
        let key = Key::new(check.key.db, user.as_ref(), &check.key.name);
        let kept = near.and_then(|near| near.look(key, near.moment(Instant::now()), |value| value.to_value()));
        Ok(kept.map_or(Seen::Absent, Seen::value))
    }

    /// The key's row as the database has it now.
    async fn row(&self, route: &Loading, key: &StoreKey) -> Result<Option<Value>, Skipped> {
        let statement = &route.load.statement;
        let fits = |arguments: &Arguments| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            statement.fits(&arguments)
        };
        // What fits no parameter's type is no row's key.
        let Some(arguments) = route.arguments(&key.name).filter(fits) else { return Ok(None) };
        if self.shared.backoff.lock().blocked(key, self.clock.now()).is_some() {
            return Err(Skipped::Failed);
        }
        if !statement.is_idle() {
            return Err(Skipped::Busy);
        }
        let pass = route.load.gate.pass_if_free(self.clock.now()).map_err(|_| Skipped::Busy)?;
        let loaded = self.load(route, vec![arguments], pass).await.map_err(|kind| {
            super::load::count_failure(route, CHECK, &kind, 1);
            Skipped::Failed
        })?;
        let row = loaded.into_iter().next().and_then(|loaded| loaded.value);
        route.count_load(CHECK, if row.is_some() { "row" } else { "empty" }, 1);
        Ok(row)
    }
}

fn judge(answered: &Seen, row: Option<Value>) -> Verdict {
    match (answered, row.map(Seen::value)) {
        (Seen::Value(_), None) => Verdict::Extra,
        (Seen::Value(_), Some(row)) if row == *answered => Verdict::Equal,
        (Seen::Value(_), Some(_)) => Verdict::Stale,
        (_, None) => Verdict::Equal,
        (_, Some(_)) => Verdict::Missing,
    }
}

impl Check {
    fn count(&self, verdict: Verdict) {
        let labels = [
            ("route", self.route.config.name.clone()),
            ("result", verdict.word().into()),
            ("after", self.after.into()),
        ];
        metrics::counter!("weir_consistency_checks_total", &labels).increment(1);
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Stale => "stale",
            Verdict::Missing => "missing",
            Verdict::Extra => "extra",
        }
    }
}

impl Skipped {
    fn count(self) {
        let reason = match self {
            Skipped::Absent => "absent",
            Skipped::Changed => "changed",
            Skipped::Busy => "busy",
            Skipped::Failed => "failed",
        };
        metrics::counter!("weir_consistency_checks_skipped_total", "reason" => reason).increment(1);
    }
}

/// Tells of differences, but not of each: where there is one there may be thousands.
#[derive(Default)]
struct Log {
    last: Option<Instant>,
    untold: u64,
}

impl Log {
    /// Keys may be secrets (session tokens, addresses): only the debug log has them.
    fn tell(&mut self, check: &Check, verdict: Verdict) {
        let (route, result, after) = (&check.route.config.name, verdict.word(), check.after);
        tracing::debug!(route, result, after, key = %check.key.name.escape_ascii(), db = check.key.db, "a difference");
        if self.last.is_some_and(|last| last.elapsed() < BETWEEN_LINES) {
            self.untold += 1;
            return;
        }
        self.last = Some(Instant::now());
        let more = std::mem::take(&mut self.untold);
        let hint = "it is left as it is: DEL or WEIR REFRESH mends a key; WEIR_LOG=debug names keys";
        tracing::warn!(route, result, after, more, hint, "clients are answered otherwise than the database has it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_judged_by_the_row() {
        let text = |text: &'static str| Value::String(text.into());
        let hash = |fields: [(&'static str, &'static str); 2]| {
            Value::Hash(fields.map(|(name, value)| (name.into(), value.into())).to_vec())
        };
        let stored = hash([("name", "pen"), ("price", "3")]);
        for (answered, row, verdict) in [
            (Seen::value(text("a")), Some(text("a")), Verdict::Equal),
            (Seen::value(text("a")), Some(text("b")), Verdict::Stale),
            (Seen::value(text("a")), None, Verdict::Extra),
            (Seen::Negative, None, Verdict::Equal),
            (Seen::Negative, Some(text("")), Verdict::Missing),
            (Seen::value(stored.clone()), Some(hash([("price", "3"), ("name", "pen")])), Verdict::Equal),
            (Seen::value(stored.clone()), Some(hash([("price", "4"), ("name", "pen")])), Verdict::Stale),
            (Seen::value(stored), Some(text("pen")), Verdict::Stale),
        ] {
            assert_eq!(judge(&answered, row.clone()), verdict, "{answered:?} {row:?}");
        }
    }
}
