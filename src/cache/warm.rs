//! Warming: loads the keys that a route's `warm` statement names before anybody asks for them.
//!
//! Each key takes its lease as a read that misses does, so a warming overtakes no change and repeats nobody's load; what is
//! there already, or on its way, is passed over. Keys are loaded in batches, each by one statement, with a quarter of the
//! database's connections left to clients; and only when no load is waiting that somebody waits for.

use super::error::Kind;
use super::flight::Landed;
use super::gate::Pass;
use super::load::{Leading, Over, WARM};
use super::route::{Loading, Warm};
use super::{Engine, Found, error};
use crate::clock::Clock;
use crate::database::{DatabaseError, TagCells};
use crate::store::{Acquired, Store, StoreKey, Token};
use foldhash::fast::RandomState;
use futures_util::StreamExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashSet;

/// Keys that one statement loads.
const BATCH: usize = 100;
/// Most keys of one warming; what the statement names beyond them is left out, and logged.
const MOST: usize = 10_000_000;

/// How far a route's warming is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Of which it is.
    pub state: State,
    /// What the statement names.
    pub keys: usize,
    /// Of them: looked at.
    pub done: usize,
    /// Of these: a row was loaded.
    pub loaded: usize,
    /// There was no row.
    pub absent: usize,
    /// They were there already, or known to be absent, or loaded by somebody else.
    pub present: usize,
    /// Nobody knows.
    pub failed: usize,
}

/// Whether a warming runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It will.
    #[default]
    Waiting,
    /// It does.
    Running,
    /// It is over.
    Done,
    /// It did not begin: the statement failed. Not told why, for that is in the log.
    Failed,
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Loads all keys that the route's `warm` names, into database `db`. Errors are counted, logged, and stop nothing.
    pub async fn warm(&self, route: &Loading, warm: &Warm, db: u32, progress: &Mutex<Progress>) {
        *progress.lock() = Progress { state: State::Running, ..Progress::default() };
        let name = &route.config.name;
        let keys = match self.keys_to_warm(route, warm, db).await {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(route = name, %error, "nothing is warmed: the statement failed");
                progress.lock().state = State::Failed;
                return;
            }
        };
        progress.lock().keys = keys.len();
        tracing::info!(route = name, keys = keys.len(), "warming");
        let batches = futures_util::stream::iter(keys.chunks(BATCH).map(|keys| async move {
            let outcomes = self.warm_batch(route, keys).await;
            note(route, &mut progress.lock(), &outcomes);
        }));
        batches.buffer_unordered(warm.flights).collect::<()>().await;
        let mut progress = progress.lock();
        progress.state = State::Done;
        let Progress { loaded, absent, present, failed, .. } = *progress;
        match failed {
            0 => tracing::info!(route = name, loaded, absent, present, failed, "warmed"),
            _ => tracing::warn!(
                route = name,
                loaded,
                absent,
                present,
                failed,
                "warmed, but for keys whose load failed or could not begin"
            ),
        }
    }

    /// Each key once, in the statement's order.
    async fn keys_to_warm(&self, route: &Loading, warm: &Warm, db: u32) -> Result<Vec<StoreKey>, DatabaseError> {
        let statement = warm.statement.clone();
        let pass = route.load.gate.pass_last(&self.clock).await;
        let Pass { turn, witness, .. } =
            pass.map_err(|refusal| DatabaseError::Unavailable(refusal.reason.to_string()))?;
        // On the loads' runtime, as every statement; the database's own time limit ends it.
        let loaded = self.loads.spawn(async move { statement.load(vec![Vec::new()]).await }).await;
        let loaded = loaded.unwrap_or_else(|_| Err(DatabaseError::Statement("it failed inside the proxy".into())));
        self.tell(witness, &loaded.as_ref().map_err(|error| Kind::Database(error.clone())));
        drop(turn);
        let loaded = loaded?;
        let mut seen: HashSet<Vec<u8>, RandomState> = HashSet::default();
        let rows = loaded.iter().flat_map(|loaded| &loaded.tag_cells);
        let named = rows.filter_map(|cells: &TagCells| route.key_of(cells)).filter(|key| seen.insert(key.clone()));
        let keys: Vec<StoreKey> = named.take(MOST).map(|name| StoreKey { db, name: name.into() }).collect();
        if keys.len() == MOST {
            tracing::warn!(route = route.config.name, keys = MOST, "no more keys are warmed");
        }
        Ok(keys)
    }

    async fn warm_batch(&self, route: &Loading, keys: &[StoreKey]) -> Vec<Outcome> {
        let Ok(pass) = route.load.gate.pass_last(&self.clock).await else {
            return vec![Outcome::Failed; keys.len()];
        };
        // Without a lease nobody waits for it; with one, readers may.
        let begun = join_all(keys.iter().map(|key| self.begin_warm(route, key))).await;
        let (mut flight, mut tickets, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for begun in begun {
            match begun {
                Ok((leading, ticket)) => {
                    flight.push(leading);
                    tickets.push(ticket);
                }
                Err(outcome) => outcomes.push(outcome),
            }
        }
        if !flight.is_empty() {
            self.clone().fly(flight, Some(pass), None).await;
        }
        for ticket in tickets {
            outcomes.push(match ticket.landed().await {
                Some((Landed { answer: Ok(Found::Absent), .. }, _)) => Outcome::Absent,
                Some((Landed { answer: Ok(_), .. }, _)) => Outcome::Loaded,
                Some((Landed { answer: Err(_), .. }, _)) | None => Outcome::Failed,
            });
        }
        outcomes
    }

    async fn begin_warm(&self, route: &Loading, key: &StoreKey) -> Result<(Leading, super::flight::Ticket), Outcome> {
        let arguments = match self.arguments(route, key) {
            Ok(arguments) => arguments,
            Err(Ok(_)) => return Err(Outcome::Absent),
            Err(Err(error::LoadError { .. })) => return Err(Outcome::Failed),
        };
        let token = Token(self.clock.random_u64().max(1));
        let (pilot, ticket) = self.shared.flights.announce(token);
        let asked = self.clock.now();
        let epoch = self.trusted_epoch(route, key).ok_or(Outcome::Failed)?;
        match self.store.acquire(key, token, route.lease_time()).await {
            Ok(Acquired::Granted) => {
                let (route, key) = (route.clone(), key.clone());
                Ok((
                    Leading {
                        route,
                        key,
                        token,
                        arguments,
                        asked,
                        epoch,
                        leased: true,
                        trigger: WARM,
                        over: Over::Nothing,
                        pilot,
                    },
                    ticket,
                ))
            }
            Ok(Acquired::Present | Acquired::Negative | Acquired::Held(_)) => Err(Outcome::Present),
            Err(error) => {
                tracing::debug!(route = route.config.name, %error, "a key is not warmed");
                Err(Outcome::Failed)
            }
        }
    }
}

/// What became of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Loaded,
    Absent,
    Present,
    Failed,
}

/// Counts a batch, and logs each tenth of the way.
fn note(route: &Loading, progress: &mut Progress, outcomes: &[Outcome]) {
    let tenth = |done: usize, keys: usize| done * 10 / keys.max(1);
    let before = tenth(progress.done, progress.keys);
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    progress.done += outcomes.len();
    progress.loaded += count(Outcome::Loaded);
    progress.absent += count(Outcome::Absent);
    progress.present += count(Outcome::Present);
    progress.failed += count(Outcome::Failed);
    let Progress { done, keys, failed, .. } = *progress;
    if tenth(done, keys) > before && done < keys {
        tracing::info!(route = route.config.name, done, keys, failed, "warming");
    }
}
