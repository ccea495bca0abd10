//! `WEIR REFRESH`: a key is loaded anew though there may be a value, and its client waits for that.
//!
//! Whoever is answered knows that what anybody reads from then on was loaded after it asked. So such a refresh *seizes* the lease: a
//! load that is under way may have read an older row, and its fill is refused. The old value is served until the new one takes
//! its place; if the load fails it stays.
//!
//! Of each key one such refresh runs at a time in a process. Who comes meanwhile shares the next one, which begins after they have asked
//! (`unstored::Turns`). If another process seizes the lease in its turn, or a change of the key drops it, it looks again: a
//! lease that stands then was taken after it began, and so that load will do as well.

use super::error::{Kind, LoadError};
use super::load::{Leading, Over, REFRESH};
use super::unstored::{Answer, Turn};
use super::{Engine, FIRST_LOOK, Found, LONGEST_LOOK, Wait, Wanted, waited_too_long};
use crate::clock::Clock;
use crate::database::Arguments;
use crate::store::{Acquired, Held, Store, StoreError, Token};

/// So often it is looked again.
const ATTEMPTS: usize = 4;

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Loads a key anew; answered once that is stored, or there is no row. Must run where `spawn_local` may.
    ///
    /// # Errors
    /// Those of a read that misses; and [`Kind::NotStored`] if there is a row and it could not be kept.
    pub async fn refresh_now(&self, wanted: &Wanted) -> Answer {
        let arguments = match self.arguments(&wanted.route, &wanted.key) {
            Ok(arguments) => arguments,
            Err(answer) => return answer,
        };
        loop {
            let (mut waiter, turn) = self.shared.ordered.queue(&wanted.key);
            match turn {
                // In a task of its own: no client's hang-up ends it.
                Some(turn) => {
                    tokio::task::spawn_local(self.clone().refresh_in_turns(wanted.clone(), arguments.clone(), turn));
                }
                None => wanted.route.metrics.coalesced.increment(1),
            }
            let landed = waiter.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
            if let Some(answer) = landed {
                return answer;
            }
        }
    }

    async fn refresh_in_turns(self, wanted: Wanted, arguments: Arguments, mut turn: Turn) {
        loop {
            let answer = self.refresh_once(&wanted, &arguments).await;
            if !turn.land(answer) {
                return;
            }
        }
    }

    async fn refresh_once(&self, wanted: &Wanted, arguments: &Arguments) -> Answer {
        let route = &wanted.route;
        let deadline = self.clock.now() + route.lease_time() * 2;
        let failed = |kind| Err(LoadError { route: route.config.name.as_str().into(), kind });
        let mut pause = FIRST_LOOK;
        for attempt in 0..ATTEMPTS {
            let begun = self.begin_refresh_now(wanted, arguments, attempt == 0).await;
            let wait = match begun {
                Ok(wait) => wait,
                Err(error) => return failed(Kind::Store(error)),
            };
            match self.arrive(wait, deadline, pause).await {
                Some(Ok(Found::Loaded { stored: false, .. })) => break,
                Some(answer) => return answer,
                None if self.clock.now() >= deadline => return Err(waited_too_long(wanted)),
                None => pause = (pause * 2).min(LONGEST_LOOK),
            }
        }
        failed(Kind::NotStored)
    }

    async fn begin_refresh_now(
        &self,
        wanted: &Wanted,
        arguments: &Arguments,
        seizes: bool,
    ) -> Result<Wait, StoreError> {
        let Wanted { route, key } = wanted.clone();
        let (token, lease) = (Token(self.clock.random_u64().max(1)), route.lease_time());
        let (pilot, ticket) = self.shared.flights.announce(token);
        let asked = self.clock.now();
        let epoch = self.trusted_epoch(&route, &key).ok_or(StoreError::InDoubt)?;
        let acquired = match seizes {
            true => self.store.seize(&key, token, lease).await.map(|()| Acquired::Granted)?,
            false => self.store.acquire_to_refresh(&key, token, lease).await?,
        };
        if let Acquired::Held(Held { token, end }) = acquired {
            return Ok(self.shared.flights.board(token).map_or(Wait::Elsewhere(end), Wait::Flight));
        }
        let (arguments, leased, trigger, over) = (arguments.clone(), true, REFRESH, Over::Anything);
        let leading = Leading { route, key, token, arguments, asked, epoch, leased, trigger, over, pilot };
        tokio::task::spawn_local(self.clone().fly(vec![leading], None, None));
        Ok(Wait::Flight(ticket))
    }
}
