//! Refreshes: loads of keys whose values are there yet, so that nobody has to wait for them.
//!
//! A value lives in the store for its `ttl` and then for its `grace`: what is left of its life there tells how fresh it is,
//! and nothing else needs to be kept with it.
//! - *Stale* (only the grace is left): it is served at once, and refreshed behind the reader's back. If that load fails, it is
//!   served on until the grace is over; the key is left alone between attempts as after every failure.
//! - *Due* (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): a fresh
//!   one is refreshed with a chance that grows as its end comes near, so that of many readers mostly one does it, at a
//!   moment of its own: when `load time * beta * -ln(random)` is more than what is left.
//!
//! A refresh is fenced like any load (T4): it takes the key's lease, though there is a value, and what it has loaded takes that
//! value's place only if the lease still stands. Whoever changes the key, or invalidates one of its tags, drops the lease. And it
//! takes the place of no value but one that has as little left to live as the one that was found due: what a client has stored
//! between that look and the lease is not undone.
//! One at a time of each key runs in a process, by a registry; and in the whole fleet, by the lease. Where no turn at the
//! database is free, or it fails, the refresh is not begun: it takes its turn before the lease, and nobody waits in between.

use super::Engine;
use super::gate::Pass;
use super::load::{Leading, Over, REFRESH};
use super::route::{Load, Loading};
use crate::clock::Clock;
use crate::store::{Acquired, Store, StoreKey, Token};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// More are not begun at once by one process; readers who come later begin them.
const MOST_AT_ONCE: usize = 1024;

/// The keys that this process refreshes.
#[derive(Default)]
pub struct Refreshes(Arc<Mutex<HashSet<StoreKey, RandomState>>>);

/// The right to refresh a key; dropped, somebody else may.
struct Turn {
    key: StoreKey,
    running: Arc<Mutex<HashSet<StoreKey, RandomState>>>,
}

impl Refreshes {
    fn begin(&self, key: &StoreKey) -> Option<Turn> {
        let mut running = self.0.lock();
        let begins = running.len() < MOST_AT_ONCE && running.insert(key.clone());
        begins.then(|| Turn { key: key.clone(), running: self.0.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

/// When a value is to be refreshed or renewed, by what is left of its life in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// With so much left or less it is stale.
    pub stale: Duration,
    /// With so much left or less this reader refreshes it.
    pub due: Duration,
    /// With so much left or less it is renewed by who reads it, unless it is to be refreshed.
    pub renewal: Duration,
}

impl Schedule {
    /// For one reader of a route's value. `random` is uniform in `[0, 1)`; without `early_refresh` it is not drawn.
    pub fn of(load: &Load, random: impl FnOnce() -> f64) -> Self {
        let stale = load.config.grace;
        if load.config.early_refresh == 0.0 {
            return Schedule { stale, due: stale, renewal: Duration::ZERO };
        }
        let early = load.usual_time().mul_f64(load.config.early_refresh * -(1.0 - random()).ln());
        Schedule { stale, due: stale + early, renewal: Duration::ZERO }
    }

    /// With more than so much left nothing is to be done, if anything ever is.
    pub fn calm_above(&self) -> Option<Duration> {
        (*self != Schedule::default()).then(|| self.stale.max(self.due).max(self.renewal))
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// When a reader who comes now refreshes a value of the route.
    pub fn schedule(&self, load: &Load) -> Schedule {
        Schedule::of(load, || self.clock.random())
    }

    /// Loads a key's value anew, which was found due with so much left to live, and lets nobody wait. Must run where
    /// `spawn_local` may.
    pub fn refresh_behind(&self, route: Loading, key: StoreKey, left: Duration) {
        let Some(turn) = self.shared.refreshes.begin(&key) else { return };
        // Before there is a task for it: while a database is down, every reader of a stale value comes here.
        let Some(pass) = self.pass_to_refresh(&route, &key) else { return };
        let engine = self.clone();
        tokio::task::spawn_local(async move {
            if let Some(leading) = engine.begin_refresh(route, key, left).await {
                engine.fly(vec![leading], Some(pass), None).await;
            }
            drop(turn);
        });
    }

    /// `None`: it has failed a moment ago, or the database has no turn for it.
    fn pass_to_refresh(&self, route: &Loading, key: &StoreKey) -> Option<Pass> {
        let now = self.clock.now();
        let is_left_alone = self.shared.backoff.lock().blocked(key, now).is_some();
        (!is_left_alone).then(|| route.load.gate.pass_if_free(now).ok())?
    }

    /// `None`: somebody else does it, or the store cannot be asked.
    async fn begin_refresh(&self, route: Loading, key: StoreKey, left: Duration) -> Option<Leading> {
        let arguments = route.arguments(&key.name)?;
        let token = Token(self.clock.random_u64().max(1));
        let (pilot, _) = self.shared.flights.announce(token);
        let asked = self.clock.now();
        let epoch = self.trusted_epoch(&route, &key)?;
        match self.store.acquire_to_refresh(&key, token, route.lease_time()).await {
            Ok(Acquired::Granted) => {
                let (leased, trigger, over) = (true, REFRESH, Over::Due(left));
                Some(Leading { route, key, token, arguments, asked, epoch, leased, trigger, over, pilot })
            }
            Ok(_) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> StoreKey {
        StoreKey { db: 0, name: name.into() }
    }

    #[test]
    fn a_key_is_refreshed_once_at_a_time() {
        let refreshes = Refreshes::default();
        let turn = refreshes.begin(&key("a")).expect("nobody does it");
        assert!(refreshes.begin(&key("a")).is_none());
        assert!(refreshes.begin(&key("b")).is_some());
        drop(turn);
        assert!(refreshes.begin(&key("a")).is_some());
    }
}
