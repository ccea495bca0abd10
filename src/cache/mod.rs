//! The engine: makes an absent key present. Look up -> lease -> load -> fill.
//!
//! A *read* of a routed key runs at the store first, as it is. Only when its reply is what an absent key would give does
//! it come here, and [`Engine::ensure`] takes one step at the store that answers all questions at once: is there a value
//! by now, is the absence known, does somebody hold the lease, and if nobody does, it is ours (`Store::acquire`). Keys that are
//! wanted together are asked for together ([`begin`]), loaded together, and land together ([`land`]); each keeps its own lease.
//!
//! Whoever gets the lease starts a *flight*: the load and the fill in a task of their own, so that the client that came
//! first may hang up without harm to those who wait. The race that all of this exists for, as a timeline:
//!
//! 1. GET k finds nothing, takes lease A, and its load reads row v1.
//! 2. The application commits v2 and sends DEL k. The DEL drops lease A (and the value, had there been one).
//! 3. A second GET k finds nothing and takes lease B. It must not join flight A, which has read v1: it may join a flight
//!    only after having *seen that flight's lease* at the store, and the store now shows B.
//! 4. Load A ends. Its fill is *refused*, since A is no longer the lease. Its own client began before the DEL and may have
//!    v1; but the others who waited for A look again, for one of them may have begun after some invalidation that the
//!    lease could not show.
//! 5. Load B fills v2.
//!
//! A load of another process is waited for, and not asked after again and again: the store tells its end ([`Held::end`]),
//! which is when the waiters look. They look too once the lease's time is over, for its holder may have died; then one of
//! them leads. Where the end is not told they look after pauses that grow.
//!
//! No more loads ask a database at once than it has connections; what more there are wait, or are shed, and while it fails
//! nothing asks it: see [`gate`].
//!
//! While the store cannot be asked there are no leases; reads are then answered as `unstored` tells. Keys of routes without a
//! `load` are filled by the applications: see [`aside`]. What is there already is loaded anew behind its readers
//! ([`refresh`]), or because somebody asks for that (`renew`); how well all of this keeps to the database is measured by
//! [`consistency`].
//!
//! Promises G1, G2 and G4 of the product page; `tests/model` runs seeded interleavings of this very engine over a
//! simulated store, database and clock. The engine knows nothing of sockets, commands or SQL.

pub mod aside;
mod backoff;
mod begin;
mod breaker;
pub mod consistency;
pub mod doubts;
pub mod error;
pub mod explain;
mod flight;
pub mod gate;
mod land;
mod load;
mod matcher;
pub mod near;
mod negative;
pub mod prepare;
pub mod refresh;
mod refresh_now;

pub mod route;
pub mod sliding;
mod tags;
mod unstored;
pub mod warm;

use self::aside::Fills;
use self::backoff::Backoff;
use self::begin::NotedAhead;
use self::consistency::Checks;
use self::doubts::Doubts;
use self::error::{Kind, LoadError};
use self::flight::{Flights, Landed, Ticket};
use self::load::Leading;
use self::negative::NegativeBudget;
use self::refresh::Refreshes;
use self::route::{Loading, Route, RouteMetrics};
use self::sliding::Renewals;
use self::unstored::Turns;
use crate::clock::Clock;
use crate::config::Limits;
use crate::database::Arguments;
use crate::store::ends::End;
use crate::store::{Store, StoreKey};
use crate::value::Value;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A key that a client needs, and the route that loads it.
#[derive(Clone)]
pub struct Wanted {
    /// The route that matched.
    pub route: Loading,
    /// The key.
    pub key: StoreKey,
}

/// How a key was made present, or that it cannot be.
#[derive(Clone, Debug)]
pub enum Found {
    /// The store has a value (perhaps of another type, perhaps somebody's SET): the command runs there.
    Present,
    /// The database has no such row.
    Absent,
    /// This load's value. Not `stored` if it was too large, or the fill was refused: then only this reader may have it.
    Loaded {
        /// As loaded.
        value: Arc<Value>,
        /// Whether the store has it.
        stored: bool,
    },
}

/// A worker's engine. Clones share everything; engines of other workers share [`Shared`].
#[derive(Clone)]
pub struct Engine<S, C> {
    store: S,
    clock: C,
    shared: Arc<Shared>,
    /// Where statements run: not on the worker, which must go on serving hits.
    loads: Handle,
}

/// What the whole process shares. Locks are held for a few instructions, and only on the way of a miss.
pub struct Shared {
    flights: Flights,
    turns: Turns,
    backoff: Mutex<Backoff>,
    refreshes: Refreshes,
    ordered: Turns,
    renewals: Renewals,
    negative: Mutex<NegativeBudget>,
    max_tags: usize,
    fills: Fills,
    doubts: Doubts,
    checks: Checks,
}

/// What one process may hold, by the `[limits]` of the same names.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Negative entries that this process keeps alive.
    pub max_negative: usize,
    /// Tags of one key.
    pub max_tags: usize,
    /// Reads that wait for a client's SET at once.
    pub max_fill_waiters: usize,
    /// Keys and tags that are remembered one by one because the store has missed their invalidation.
    pub max_missed_invalidations: usize,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        let &Limits { max_negative, max_tags, max_fill_waiters, max_missed_invalidations, .. } = limits;
        Bounds { max_negative, max_tags, max_fill_waiters, max_missed_invalidations }
    }
}

impl Shared {
    /// Of a process that begins.
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        Shared {
            flights: Flights::default(),
            turns: Turns::default(),
            backoff: Mutex::default(),
            refreshes: Refreshes::default(),
            ordered: Turns::default(),
            renewals: Renewals::default(),
            negative: Mutex::new(NegativeBudget::new(bounds.max_negative, now)),
            max_tags: bounds.max_tags,
            fills: Fills::new(bounds.max_fill_waiters),
            doubts: Doubts::new(bounds.max_missed_invalidations),
            checks: Checks::default(),
        }
    }
}

/// What the first step came to.
enum Begun {
    Answer(Result<Found, LoadError>),
    /// The absence is remembered.
    Negative,
    /// The lease is ours.
    Lead(Leading, Ticket),
    /// A flight of this process holds the lease that the store showed us.
    Join(Ticket),
    /// Another process holds the lease, whose end may be told.
    Elsewhere(Option<End>),
}

impl Begun {
    /// Counts what a reader has met first; what it meets when it looks again is nothing new.
    fn count(&self, route: &Route) {
        let RouteMetrics { lookups, coalesced, coalesced_fleet, .. } = &route.metrics;
        match self {
            // Stored since it was looked for; or it is there, and what the command asked of it is not.
            Begun::Answer(Ok(Found::Present)) => lookups.hit.increment(1),
            // Counted where it was found out.
            Begun::Answer(_) => {}
            Begun::Negative => lookups.negative_hit.increment(1),
            Begun::Lead(..) => lookups.miss.increment(1),
            Begun::Join(_) => {
                lookups.miss.increment(1);
                coalesced.increment(1);
            }
            Begun::Elsewhere(_) => {
                lookups.miss.increment(1);
                coalesced_fleet.increment(1);
            }
        }
    }
}

/// Pauses before another process's lease is looked at again whose end is not told; the longest is the worst delay of a waiter.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(250);
/// Past the end of a lease those who wait for it look within this time, by chance, and not all at once.
const AFTER_LEASE: Duration = Duration::from_millis(20);
/// Most keys that one statement loads; an MGET of more is bounded into several.
const MOST_BATCH: usize = 16_384;

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// `loads`: the runtime that statements run on.
    pub fn new(store: S, clock: C, shared: Arc<Shared>, loads: Handle) -> Self {
        Engine { store, clock, shared, loads }
    }

    /// The store that this engine fills.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Makes each key present, or says why not; in the order of `wanted`. Absent keys of one route are loaded by one
    /// statement. Must run where `spawn_local` may.
    ///
    /// Answers within twice the longest lease time: a waiter may see one load fail to fill and lead the next.
    pub async fn ensure(&self, wanted: &[Wanted]) -> Vec<Result<Found, LoadError>> {
        let patience = wanted.iter().map(|wanted| wanted.route.lease_time() * 2).max().unwrap_or_default();
        let started = self.clock.now();
        let deadline = started + patience;
        let mut answers: Vec<Option<Result<Found, LoadError>>> = vec![None; wanted.len()];
        let mut counted = vec![false; wanted.len()];
        let mut pause = FIRST_LOOK;
        while answers.iter().any(Option::is_none) {
            let open: Vec<usize> = (0..wanted.len()).filter(|&index| answers[index].is_none()).collect();
            let looked: Vec<&Wanted> = open.iter().map(|&index| &wanted[index]).collect();
            let (begun, noted) = self.begin(&looked, started).await;
            for (&index, begun) in open.iter().zip(&begun) {
                if !std::mem::replace(&mut counted[index], true) {
                    begun.count(&wanted[index].route);
                    if matches!(begun, Begun::Negative | Begun::Answer(Ok(Found::Present))) {
                        let Wanted { route, key } = &wanted[index];
                        self.note_hit(route.route(), key.db, &key.name);
                    }
                }
            }
            let waits = self.depart(begun, &noted);
            let landed = self.arrive_all(waits, deadline, pause).await;
            let late = self.clock.now() >= deadline;
            for (&index, landed) in open.iter().zip(landed) {
                answers[index] = landed.or_else(|| late.then(|| Err(waited_too_long(&wanted[index]))));
            }
            pause = (pause * 2).min(LONGEST_LOOK);
        }
        answers.into_iter().flatten().collect()
    }

    /// One key; see [`Engine::ensure`].
    pub async fn ensure_one(&self, wanted: Wanted) -> Result<Found, LoadError> {
        self.ensure(&[wanted]).await.pop().expect("one answer for one key")
    }

    /// The error of a load that has failed here since this read came; see [`backoff`].
    fn failed_since(&self, Wanted { route, key }: &Wanted, started: Instant) -> Option<LoadError> {
        let error = self.shared.backoff.lock().failed_since(key, started)?;
        route.metrics.lookups.error.increment(1);
        Some(error)
    }

    /// What to load a key with; `Err` with the answer, if it is known without the store and the database.
    fn arguments(&self, route: &Loading, key: &StoreKey) -> Result<Arguments, Result<Found, LoadError>> {
        let arguments = route.arguments(&key.name).filter(|arguments| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            route.load.statement.fits(&arguments)
        });
        let Some(arguments) = arguments else {
            route.metrics.lookups.bypass.increment(1);
            return Err(Ok(Found::Absent));
        };
        if let Some(error) = self.shared.backoff.lock().blocked(key, self.clock.now()) {
            route.metrics.lookups.error.increment(1);
            return Err(Err(error));
        }
        Ok(arguments)
    }

    /// Starts the flights that this call leads, those of one route together.
    fn depart(&self, begun: Vec<Begun>, noted: &[NotedAhead]) -> Vec<Wait> {
        let mut flights: Vec<Vec<Leading>> = Vec::new();
        let waits = begun.into_iter().map(|begun| match begun {
            Begun::Answer(answer) => Wait::Over(answer),
            Begun::Negative => Wait::Over(Ok(Found::Absent)),
            Begun::Join(ticket) => Wait::Flight(ticket),
            Begun::Elsewhere(end) => Wait::Elsewhere(end),
            Begun::Lead(leading, ticket) => {
                let together = |flight: &&mut Vec<Leading>| {
                    let first = &flight[0];
                    let alike = first.route.is(&leading.route) && first.key.db == leading.key.db;
                    alike && flight.len() < MOST_BATCH
                };
                match flights.iter_mut().find(together) {
                    Some(flight) => flight.push(leading),
                    None => flights.push(vec![leading]),
                }
                Wait::Flight(ticket)
            }
        });
        let waits = waits.collect();
        for flight in flights {
            let noted = noted.iter().find(|noted| noted.is_for(&flight[0])).map(|noted| noted.sequence);
            tokio::task::spawn_local(self.clone().fly(flight, None, noted));
        }
        waits
    }

    /// Waits until each is over or must look again. Those who wait for flights of this process do so one after the other, which
    /// takes no longer than the longest: an outcome stays known. Mostly they are of one flight, and after the first nobody
    /// waits.
    async fn arrive_all(
        &self,
        waits: Vec<Wait>,
        deadline: Instant,
        pause: Duration,
    ) -> Vec<Option<Result<Found, LoadError>>> {
        let mut landed: Vec<_> = waits.iter().map(|_| None).collect();
        let (elsewhere, here): (Vec<_>, Vec<_>) =
            waits.into_iter().enumerate().partition(|(_, wait)| matches!(wait, Wait::Elsewhere(_)));
        // They look again, whatever they hear.
        let elsewhere = elsewhere.into_iter().map(|(_, wait)| self.arrive(wait, deadline, pause));
        let here = async {
            for (index, wait) in here {
                landed[index] = self.arrive(wait, deadline, pause).await;
            }
        };
        join(join_all(elsewhere), here).await;
        landed
    }

    /// Waits for the end of a load; `None`: look again.
    async fn arrive(&self, wait: Wait, deadline: Instant, pause: Duration) -> Option<Result<Found, LoadError>> {
        let left = deadline.saturating_duration_since(self.clock.now());
        match wait {
            Wait::Over(answer) => Some(answer),
            Wait::Elsewhere(None) => {
                self.clock.sleep(left.min(pause.mul_f64(0.5 + self.clock.random() / 2.0))).await;
                None
            }
            Wait::Elsewhere(Some(end)) => {
                let lease = end.left + AFTER_LEASE.mul_f64(self.clock.random());
                tokio::select! {
                    biased;
                    () = end.heard() => {}
                    () = self.clock.sleep(left.min(lease)) => {}
                }
                None
            }
            Wait::Flight(ticket) => tokio::select! {
                biased;
                landed = ticket.landed() => match landed? {
                    (Landed { refused: true, answer: Ok(_) }, false) => None,
                    (Landed { answer, .. }, _) => Some(answer),
                },
                () = self.clock.sleep(left) => None,
            },
        }
    }
}

enum Wait {
    Over(Result<Found, LoadError>),
    Flight(Ticket),
    Elsewhere(Option<End>),
}

fn waited_too_long(wanted: &Wanted) -> LoadError {
    wanted.route.metrics.lookups.error.increment(1);
    LoadError { route: wanted.route.config.name.as_str().into(), kind: Kind::WaitedTooLong }
}
