//! Loads that no lease stands behind, and of which nothing is stored: while the store cannot be asked (G7), and where a key
//! vanishes from it again and again before its reader gets there.
//!
//! Who may share one? Without the store nobody can tell whether an invalidation was acknowledged since a load began: it
//! may have been just before the store was lost, or meanwhile through another worker whose link still stands, or through
//! another proxy. So a reader shares a load only if that *begins after the reader has asked*: then it reads whatever was
//! committed before any invalidation that the reader could know of (G1). Of each key one load runs at a time, which bounds
//! what the database is asked; all who come meanwhile share the next one.
//!
//! A read of several keys is one statement for each of their routes, which nobody shares.

use super::error::{Kind, LoadError};
use super::load::count_failure;
use super::route::Loading;
use super::{Engine, Found, MOST_BATCH, Wanted};
use crate::clock::Clock;
use crate::database::Arguments;
use crate::store::{Store, StoreKey};
use foldhash::fast::RandomState;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The label of these loads.
const TRIGGER: &str = "unstored";

pub(super) type Answer = Result<Found, LoadError>;
pub(super) type Outcome = Option<Answer>;

/// The keys of which such a load runs, and those who wait for the one after it.
type Running = Arc<Mutex<HashMap<StoreKey, Option<watch::Sender<Outcome>>, RandomState>>>;

/// What one statement loads of what a read wants.
struct Batch<'a> {
    route: &'a Loading,
    places: Vec<usize>,
    keys: Vec<&'a StoreKey>,
    arguments: Vec<Arguments>,
}

impl<'a> Batch<'a> {
    fn push(&mut self, place: usize, key: &'a StoreKey, arguments: Arguments) {
        self.places.push(place);
        self.keys.push(key);
        self.arguments.push(arguments);
    }
}

/// Whose turn it is to load a key, for the whole process.
#[derive(Default)]
pub struct Turns {
    running: Running,
}

/// The right and the duty to run one load after another of a key, until nobody waits for any.
pub(super) struct Turn {
    key: StoreKey,
    running: Running,
    outcome: watch::Sender<Outcome>,
    over: bool,
}

impl Turns {
    /// A place among those who wait for the next load of `key` that begins; and the turn, if none runs.
    pub(super) fn queue(&self, key: &StoreKey) -> (watch::Receiver<Outcome>, Option<Turn>) {
        let mut running = self.running.lock();
        if let Some(next) = running.get_mut(key) {
            let next = next.get_or_insert_with(|| watch::channel(None).0);
            return (next.subscribe(), None);
        }
        running.insert(key.clone(), None);
        let (outcome, waiter) = watch::channel(None);
        (waiter, Some(Turn { key: key.clone(), running: self.running.clone(), outcome, over: false }))
    }
}

impl Turn {
    /// Tells those who wait for the load that has ended. Those who came meanwhile are told its failure too, for the key is
    /// then left alone for a while; else another load must be run for them, and this is true.
    pub(super) fn land(&mut self, answer: Answer) -> bool {
        let next = {
            let mut running = self.running.lock();
            let next = running.get_mut(&self.key).and_then(Option::take);
            self.over = next.is_none() || answer.is_err();
            if self.over {
                running.remove(&self.key);
            }
            next
        };
        if let Some(next) = next {
            let ended = std::mem::replace(&mut self.outcome, next);
            if answer.is_err() {
                self.outcome.send_replace(Some(answer.clone()));
            }
            ended.send_replace(Some(answer));
        } else {
            self.outcome.send_replace(Some(answer));
        }
        !self.over
    }
}

impl Drop for Turn {
    /// A turn that ends before its time lets others have theirs; those who wait see the end of the channel, and ask again.
    fn drop(&mut self) {
        if !self.over {
            self.running.lock().remove(&self.key);
        }
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Each key's row, or its absence, as the database has it now; in the order of `wanted`. Nothing is looked up in the
    /// store and nothing is stored. Answers within twice the longest `load_timeout`. Must run where `spawn_local` may.
    pub async fn load_unstored(&self, wanted: &[Wanted]) -> Vec<Result<Found, LoadError>> {
        if let [one] = wanted {
            return vec![self.load_in_turn(one).await];
        }
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(wanted.len());
        let mut batches: Vec<Batch<'_>> = Vec::new();
        for (place, Wanted { route, key }) in wanted.iter().enumerate() {
            let arguments = self.arguments(route, key);
            answers.push(arguments.as_ref().err().cloned());
            let Ok(arguments) = arguments else { continue };
            route.metrics.lookups.unstored.increment(1);
            let room = |batch: &&mut Batch<'_>| batch.route.is(route) && batch.places.len() < MOST_BATCH;
            match batches.iter_mut().find(room) {
                Some(batch) => batch.push(place, key, arguments),
                None => {
                    let mut batch = Batch { route, places: Vec::new(), keys: Vec::new(), arguments: Vec::new() };
                    batch.push(place, key, arguments);
                    batches.push(batch);
                }
            }
        }
        let loads = batches.into_iter().map(|Batch { route, places, keys, arguments }| async move {
            let loaded = self.load_now(route, &keys, arguments).await;
            places.into_iter().zip(loaded)
        });
        for (place, answer) in join_all(loads).await.into_iter().flatten() {
            answers[place] = Some(answer);
        }
        answers.into_iter().flatten().collect()
    }

    /// One key, by a load that begins from here on, perhaps together with others.
    async fn load_in_turn(&self, wanted: &Wanted) -> Answer {
        let Wanted { route, key } = wanted;
        let arguments = match self.arguments(route, key) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        route.metrics.lookups.unstored.increment(1);
        loop {
            let (mut waiter, turn) = self.shared.turns.queue(key);
            match turn {
                // In a task of its own: no client's hang-up ends it.
                Some(turn) => {
                    tokio::task::spawn_local(self.clone().take_turns(wanted.clone(), arguments.clone(), turn));
                }
                None => route.metrics.coalesced.increment(1),
            }
            let landed = waiter.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
            if let Some(answer) = landed {
                return answer;
            }
        }
    }

    async fn take_turns(self, wanted: Wanted, arguments: Arguments, mut turn: Turn) {
        loop {
            let loaded = self.load_now(&wanted.route, &[&wanted.key], vec![arguments.clone()]).await;
            let answer = loaded.into_iter().next().expect("one answer for one key");
            if !turn.land(answer) {
                return;
            }
        }
    }

    /// Runs one statement for all keys of a route.
    async fn load_now(&self, route: &Loading, keys: &[&StoreKey], batch: Vec<Arguments>) -> Vec<Answer> {
        let loaded = match self.pass(route).await {
            Ok(pass) => self.load(route, batch, pass).await,
            Err(kind) => Err(kind),
        };
        match loaded {
            Ok(loaded) => loaded
                .into_iter()
                .zip(keys)
                .map(|(loaded, key)| {
                    route.count_load(TRIGGER, if loaded.value.is_some() { "row" } else { "empty" }, 1);
                    self.shared.backoff.lock().succeeded(key);
                    Ok(loaded
                        .value
                        .map_or(Found::Absent, |value| Found::Loaded { value: Arc::new(value), stored: false }))
                })
                .collect(),
            Err(kind) => {
                count_failure(route, TRIGGER, &kind, keys.len());
                keys.iter().map(|key| Err(self.leave_alone(route, key, kind.clone()))).collect()
            }
        }
    }

    /// Remembers that a load of the key has failed; what everybody is told of it. Not if it was not begun, nor while nothing is
    /// asked of its database: then the gate knows better when to try again.
    pub(super) fn leave_alone(&self, route: &Loading, key: &StoreKey, kind: Kind) -> LoadError {
        let is_gates = matches!(kind, Kind::NotBegun(_)) || kind.is_of_the_database() && route.load.gate.is_down();
        let error = LoadError { route: route.config.name.as_str().into(), kind };
        if !is_gates {
            self.shared.backoff.lock().failed(key.clone(), error.clone(), self.clock.now(), self.clock.random());
        }
        error
    }
}
