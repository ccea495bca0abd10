//! The first step of a read that has missed, at the store: for each key one that answers all questions at once.
//!
//! Keys that are wanted together are asked for together, as many as the store takes in one step ([`Store::most_together`]); each
//! key's answer is what it would be by itself. What is decided from an answer needs nothing but that answer: a lease that
//! the store has shown since this read began may be joined a moment later too, for what it fills is fenced by that lease.

use super::error::{Kind, LoadError};
use super::flight::{Pilot, Ticket};
use super::load::{Leading, MISS, Over};
use super::route::Loading;
use super::tags::Untagged;
use super::{Begun, Engine, Found, Wanted};
use crate::clock::Clock;
use crate::database::Arguments;
use crate::store::{Acquired, Asked, Held, Sequence, Store, StoreError, Token};
use futures_util::future::{join, join_all};
use tokio::time::Instant;

/// A key that the store is about to be asked for.
struct Asking<'a> {
    /// Where it is among the wanted.
    index: usize,
    wanted: &'a Wanted,
    token: Token,
    arguments: Arguments,
    asked: Instant,
    epoch: u64,
    pilot: Pilot,
    ticket: Ticket,
}

impl Asking<'_> {
    fn shares_a_step_with(&self, other: &Asking<'_>) -> bool {
        self.wanted.route.is(&other.wanted.route) && self.wanted.key.db == other.wanted.key.db
    }
}

/// The sequence of a route's database number, read while the leases were asked for.
pub(super) struct NotedAhead {
    route: Loading,
    db: u32,
    pub(super) sequence: Result<Sequence, Untagged>,
}

impl NotedAhead {
    /// Whether it serves the flight of this key.
    pub(super) fn is_for(&self, leading: &Leading) -> bool {
        self.route.is(&leading.route) && self.db == leading.key.db
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// The step for each of the keys, in their order, and what was noted for them meanwhile. `started`: when this read came, which
    /// may have looked before.
    pub(super) async fn begin(&self, wanted: &[&Wanted], started: Instant) -> (Vec<Begun>, Vec<NotedAhead>) {
        let mut begun: Vec<Option<Begun>> = wanted.iter().map(|_| None).collect();
        // Those of one route, and so of one lease time, share a step.
        let mut groups: Vec<Vec<Asking<'_>>> = Vec::new();
        let most = self.store.most_together();
        for (index, wanted) in wanted.iter().enumerate() {
            let asking = match self.prepare(index, wanted, started) {
                Ok(asking) => asking,
                Err(known) => {
                    begun[index] = Some(Begun::Answer(known));
                    continue;
                }
            };
            let alike = |group: &&mut Vec<Asking<'_>>| group.len() < most && group[0].shares_a_step_with(&asking);
            let group = if most > 1 { groups.iter_mut().rev().find(alike) } else { None };
            match group {
                Some(group) => group.push(asking),
                None => groups.push(vec![asking]),
            }
        }
        let noted = self.note_ahead(to_note(&groups));
        let asked = join_all(groups.into_iter().map(|group| self.ask(group, started)));
        let (asked, noted) = join(asked, noted).await;
        for (index, answer) in asked.into_iter().flatten() {
            begun[index] = Some(answer);
        }
        (begun.into_iter().map(|begun| begun.expect("each key was prepared or answered")).collect(), noted)
    }

    /// What comes before the store is asked; `Err`: the answer, if it need not be.
    fn prepare<'a>(
        &self,
        index: usize,
        wanted: &'a Wanted,
        started: Instant,
    ) -> Result<Asking<'a>, Result<Found, LoadError>> {
        let Wanted { route, key } = wanted;
        let arguments = self.arguments(route, key)?;
        if let Some(error) = self.failed_since(wanted, started) {
            return Err(Err(error));
        }
        let token = Token(self.clock.random_u64().max(1));
        // Announced before the store can show its lease to anybody: no reader of this process may see it and not find us.
        let (pilot, ticket) = self.shared.flights.announce(token);
        let asked = self.clock.now();
        match self.trusted_epoch(route, key) {
            Some(epoch) => Ok(Asking { index, wanted, token, arguments, asked, epoch, pilot, ticket }),
            None => Err(Err(of_store(route, StoreError::InDoubt))),
        }
    }

    async fn ask(&self, group: Vec<Asking<'_>>, started: Instant) -> Vec<(usize, Begun)> {
        let Wanted { route, key } = group[0].wanted;
        let lease = route.lease_time();
        let acquired = match group.len() {
            1 => vec![self.store.acquire(key, group[0].token, lease).await],
            _ => {
                let asked: Vec<Asked> =
                    group.iter().map(|asking| Asked { key: asking.wanted.key.clone(), token: asking.token }).collect();
                self.store.acquire_all(key.db, &asked, lease).await
            }
        };
        // Nothing is awaited between the store's answer and what follows from it.
        let each = group.into_iter().zip(acquired);
        each.map(|(asking, acquired)| (asking.index, self.conclude(asking, acquired, started))).collect()
    }

    fn conclude(&self, asking: Asking<'_>, acquired: Result<Acquired, StoreError>, started: Instant) -> Begun {
        let Asking { wanted, token, arguments, asked, epoch, pilot, ticket, .. } = asking;
        let Wanted { route, key } = wanted;
        let leased = match acquired {
            Ok(Acquired::Granted) => true,
            // It can be read and not written (full, or a replica): the row is served to this reader alone.
            Err(StoreError::Refused(text)) => {
                tracing::debug!(route = route.config.name, text, "the upstream refuses leases");
                false
            }
            Ok(Acquired::Present) => return Begun::Answer(Ok(Found::Present)),
            Ok(Acquired::Negative) => return Begun::Negative,
            Ok(Acquired::Held(Held { token, end })) => {
                return match self.shared.flights.board(token) {
                    Some(ticket) => Begun::Join(ticket),
                    None => Begun::Elsewhere(end),
                };
            }
            Err(error) => {
                // A reader may be answered from the database yet: see `unstored`.
                if !error.is_outage() {
                    route.metrics.lookups.error.increment(1);
                }
                return Begun::Answer(Err(of_store(route, error)));
            }
        };
        // It was asked for before a load of this process failed, and granted after that one gave its lease back.
        if leased && let Some(error) = self.failed_since(wanted, started) {
            let (engine, key, told) = (self.clone(), key.clone(), error.clone());
            tokio::task::spawn_local(async move { engine.give_back(&key, token, pilot, told).await });
            return Begun::Answer(Err(error));
        }
        let (route, key, trigger, over) = (route.clone(), key.clone(), MISS, Over::Nothing);
        let leading = Leading { route, key, token, arguments, asked, epoch, leased, trigger, over, pilot };
        Begun::Lead(leading, ticket.of_leader())
    }

    /// A load's 2nd step for keys that are asked for together, ahead of the 1st: so it takes no time of its own, and a number that
    /// is noted too early refuses a fill too many and never lets one pass (see [`super::tags`]). Not before an epoch is noted
    /// for each key: the sequence of a store that was replaced since tells nothing of its marks.
    async fn note_ahead(&self, routes: Vec<(Loading, u32)>) -> Vec<NotedAhead> {
        let noted = routes.into_iter().map(|(route, db)| async move {
            let sequence = self.noted_sequence(&route, db).await;
            NotedAhead { route, db, sequence }
        });
        join_all(noted).await
    }
}

/// The routes with tags of which keys are asked for together, each with its database number.
fn to_note(groups: &[Vec<Asking<'_>>]) -> Vec<(Loading, u32)> {
    let mut routes: Vec<(Loading, u32)> = Vec::new();
    for group in groups.iter().filter(|group| group.len() > 1) {
        let Wanted { route, key } = group[0].wanted;
        let is_known = routes.iter().any(|(known, db)| known.is(route) && *db == key.db);
        if !route.tags.is_empty() && !is_known {
            routes.push((route.clone(), key.db));
        }
    }
    routes
}

fn of_store(route: &Loading, error: StoreError) -> LoadError {
    LoadError { route: route.config.name.as_str().into(), kind: Kind::Store(error) }
}
