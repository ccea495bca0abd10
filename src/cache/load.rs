//! A flight from its lease to its landing: the wait for a turn at the database and the load, together cancelled at `load_timeout`,
//! then the landing: see [`super::land`].

use super::Engine;
use super::breaker::{Change, Verdict};
use super::error::{Kind, LoadError};
use super::flight::{Landed, Pilot};
use super::gate::{Pass, Witness};
use super::route::{Loading, Route};
use super::tags::Untagged;
use crate::clock::Clock;
use crate::database::{Arguments, Loaded};
use crate::store::{Fill, Filled, Sequence, Store, StoreError, StoreKey, Token};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The label of loads for reads that missed.
pub const MISS: &str = "miss";
/// The label of loads of what is there already.
pub const REFRESH: &str = "refresh";
/// The label of loads that nobody has asked for yet.
pub const WARM: &str = "warm";

/// What was noted ahead of a longer wait for a turn is noted anew.
const MOST_WAITED: Duration = Duration::from_millis(5);

/// One key that a flight was granted the lease of.
pub struct Leading {
    pub route: Loading,
    pub key: StoreKey,
    pub token: Token,
    pub arguments: Arguments,
    /// When the lease was asked for: it stands no longer than a lease time from here.
    pub asked: Instant,
    /// The store's epoch before that. In another one this load is no more than a read of its own reader.
    pub epoch: u64,
    /// False where the store refused to hold a lease: then nothing is filled.
    pub leased: bool,
    /// What made it run: a label.
    pub trigger: &'static str,
    /// What it takes the place of.
    pub over: Over,
    pub pilot: Pilot,
}

/// What the outcome of a load takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Of nothing: the key was absent, and must be so yet.
    Nothing,
    /// Of what was found due, or due since: of what has no more than this left to live.
    Due(Duration),
    /// Of whatever is there.
    Anything,
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Loads all keys by one statement and lands each. Runs in a task of its own: no client's hang-up ends it. `pass`: if
    /// it has one already. `noted`: the sequence, if it was read already.
    pub(super) async fn fly(self, flight: Vec<Leading>, pass: Option<Pass>, noted: Option<Result<Sequence, Untagged>>) {
        let route = flight[0].route.clone();
        match self.load_noted(&route, &flight, pass, noted).await {
            Ok((loaded, noted)) => self.land_all(flight.into_iter().zip(loaded).collect(), noted).await,
            Err(kind) => {
                count_failure(&route, flight[0].trigger, &kind, flight.len());
                join_all(flight.into_iter().map(|leading| self.crash(leading, kind.clone()))).await;
            }
        }
    }

    /// The sequence is noted when the load's turn has come: what is invalidated while it waits is not against it.
    async fn load_noted(
        &self,
        route: &Loading,
        flight: &[Leading],
        pass: Option<Pass>,
        noted: Option<Result<Sequence, Untagged>>,
    ) -> Result<(Vec<Loaded>, Result<Sequence, Untagged>), Kind> {
        let pass = match pass {
            Some(pass) => pass,
            None => self.pass(route).await?,
        };
        let noted = match noted {
            Some(noted) if pass.waited < MOST_WAITED => noted,
            _ => self.noted_sequence(route, flight[0].key.db).await,
        };
        let batch = flight.iter().map(|leading| leading.arguments.clone()).collect();
        Ok((self.load(route, batch, pass).await?, noted))
    }

    /// Waits for a turn at the route's database, for a load that somebody waits for.
    pub(super) async fn pass(&self, route: &Loading) -> Result<Pass, Kind> {
        // Half of the time is left for the load.
        route.load.gate.pass(&self.clock, route.load.config.load_timeout / 2).await.map_err(Kind::NotBegun)
    }

    /// Runs the statement on the loads' runtime, which also catches its panic; at the time limit it is cancelled. The turn is
    /// over when the statement is really gone.
    pub(super) async fn load(&self, route: &Loading, batch: Vec<Arguments>, pass: Pass) -> Result<Vec<Loaded>, Kind> {
        let keys = batch.len();
        let load = &route.load;
        let statement = load.statement.clone();
        let begun = self.clock.now();
        load.in_flight.increment(1.0);
        let Pass { turn, witness, waited } = pass;
        let mut task = CancelOnDrop(self.loads.spawn(async move { (statement.load(batch).await, turn) }));
        // In this order, not a random one: a seed replays a test.
        let (result, _turn) = tokio::select! {
            biased;
            result = &mut task.0 => match result {
                Ok((Ok(loaded), turn)) if loaded.len() == keys => (Ok(loaded), Some(turn)),
                Ok((Ok(_), turn)) => (Err(Kind::Panicked), Some(turn)),
                Ok((Err(error), turn)) => (Err(Kind::Database(error)), Some(turn)),
                Err(_) => (Err(Kind::Panicked), None),
            },
            () = self.clock.sleep(load.config.load_timeout.saturating_sub(waited)) => (Err(Kind::TimedOut), None),
        };
        load.in_flight.decrement(1.0);
        let taken = self.clock.now() - begun;
        load.duration.record(taken.as_secs_f64());
        if result.is_ok() {
            load.note_time(taken);
        }
        // Before the turn goes to the next, who is not to begin if this was one failure too many.
        self.tell(witness, &result);
        result
    }

    /// Tells the breaker how a load has ended. If that opens it, the pauses of keys are its own business from now on.
    pub(super) fn tell<T>(&self, witness: Witness, result: &Result<T, Kind>) {
        if let Some(Change::Opened(_)) = witness.tell(verdict(result), &self.clock) {
            self.shared.backoff.lock().forget_databases();
        }
    }

    /// What to store, and the reason if it is nothing.
    pub(super) fn fill_of(&self, route: &Loading, key: &StoreKey, loaded: &Loaded) -> (Fill, Option<&'static str>) {
        let load = &route.load.config;
        match &loaded.value {
            Some(value) if value.len() > load.max_value => (Fill::Gone, Some("too_big")),
            Some(value) => {
                let ttl = self.jittered(&route.config) + load.grace;
                let tags = route.tags_of_row(&key.name, loaded).into_iter().collect();
                (Fill::Value { value: value.clone(), ttl, tags }, None)
            }
            None if load.negative_ttl.is_zero() => (Fill::Gone, Some("off")),
            None => {
                let ttl = load.negative_ttl;
                let room = self.shared.negative.lock().take(self.clock.now(), ttl);
                if room { (Fill::Negative { ttl }, None) } else { (Fill::Gone, Some("negative_full")) }
            }
        }
    }

    /// A route's TTL, shortened by a random share up to its jitter.
    pub fn jittered(&self, route: &crate::config::Route) -> Duration {
        route.ttl.mul_f64(1.0 - self.share(route))
    }

    /// A random share up to a route's jitter.
    pub fn share(&self, route: &crate::config::Route) -> f64 {
        route.jitter * self.clock.random()
    }

    /// Leaves the key alone for a while, and tells everybody the same error.
    async fn crash(&self, leading: Leading, kind: Kind) {
        let Leading { route, key, token, pilot, .. } = leading;
        let error = self.leave_alone(&route, &key, kind);
        self.give_back(&key, token, pilot, error).await;
    }

    /// Gives a lease back without a value, and tells this to everybody who waits.
    pub(super) async fn give_back(&self, key: &StoreKey, token: Token, pilot: Pilot, told: LoadError) {
        if let Err(error) = self.store.fill(key, token, Fill::Nothing).await {
            tracing::debug!(%error, "a lease was not given back, its time limit will end it");
        }
        pilot.land(Landed { refused: false, answer: Err(told) });
    }
}

/// What a load has shown of its database.
fn verdict<T>(result: &Result<T, Kind>) -> Verdict {
    match result {
        Err(kind) if kind.is_of_the_database() => Verdict::Failed,
        Ok(_) | Err(Kind::Database(_)) => Verdict::Answered,
        Err(_) => Verdict::Nothing,
    }
}

/// Cancels a load that nobody will hear of: the task is dropped, and with it the query.
struct CancelOnDrop<T>(JoinHandle<T>);

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn count_fill(
    route: &Route,
    filled: &Result<Filled, StoreError>,
    unstored: Option<&'static str>,
    overdue: bool,
) {
    match (filled, unstored) {
        (Ok(Filled::Stored), None) => route.count_fills("stored", 1),
        (Ok(Filled::Stored), Some("too_big")) => route.count_fills("too_big", 1),
        (Ok(Filled::Stored), Some("off")) => {}
        (Ok(Filled::Stored), Some(reason)) => route.count_refused(reason),
        (Ok(Filled::LeaseLost), _) => route.count_refused(if overdue { "lease_expired" } else { "invalidated" }),
        (Ok(Filled::Occupied), _) => route.count_refused("occupied"),
        (Err(error), _) => {
            tracing::debug!(route = route.config.name, %error, "a fill did not reach the store");
            route.count_refused("upstream");
        }
    }
}

/// Counts and logs a statement for so many keys that failed. One that was not begun is no load; the gate counts it.
pub(super) fn count_failure(route: &Route, trigger: &'static str, kind: &Kind, keys: usize) {
    if matches!(kind, Kind::NotBegun(_)) {
        return;
    }
    let timed_out = matches!(kind, Kind::TimedOut | Kind::Database(crate::database::DatabaseError::Timeout(_)));
    route.count_load(trigger, if timed_out { "timeout" } else { "error" }, keys as u64);
    match kind {
        Kind::Database(error) => tracing::warn!(route = route.config.name, keys, %error, "load failed"),
        Kind::Panicked => tracing::error!(route = route.config.name, keys, "load panicked"),
        _ => tracing::warn!(route = route.config.name, keys, "load cancelled at its time limit"),
    }
}
