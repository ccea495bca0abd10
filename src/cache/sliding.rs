//! Sliding: a read of a key renews its TTL, so that what is asked for stays and what nobody asks for any more goes.
//!
//! What is left of a value's life in the store tells when, as it does for refreshes ([`super::refresh`]): once a tenth of the
//! shortest life that the route's jitter allows is over, the next read renews, behind its reader's back; the reads before it
//! cost nothing more. From its last read on a value lives for nine tenths of that at least, and for the route's TTL at most.
//!
//! - *What is stale is not renewed* but refreshed; and what is due is refreshed early and not renewed: a load gives a new life
//!   anyway. A value that is always renewed in time is never loaded again, and only an invalidation makes it go.
//! - *What a client wants to end is not renewed*: until the moment that EXPIRE and its kin, GETEX, or SET … NX with a TTL have said,
//!   a read renews nothing ([`Store::hold_end`]). The TTL of any other SET says how long its value lives without being read.
//! - *Nothing else is renewed by mistake.* A key that is gone meanwhile stays gone, a value that lives longer is left alone, and
//!   one that was filled meanwhile gets no longer life than its own load might have given it.
//! - *Its tags live on with it*: the key stands in their indexes for the new life before the value is given it, and is put
//!   there again afterwards ([`super::tags`]).
//!
//! One process renews a key once at a time, and leaves alone for a while what could not be renewed.

use super::Engine;
use super::route::Route;
use crate::clock::Clock;
use crate::store::{Store, StoreError, StoreKey};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Such a share of a value's shortest life passes before a read renews it.
const PASSES: f64 = 0.1;
/// Most keys that are renewed, or left alone, at once by one process; readers who come later renew the others.
const MOST: usize = 16_384;
/// A full table is looked through no more often.
const LOOK: Duration = Duration::from_millis(100);

/// The keys that this process renews at present, or could not, and until when they are left alone.
#[derive(Default)]
pub struct Renewals(Mutex<LeftAlone>);

#[derive(Default)]
struct LeftAlone {
    until: HashMap<StoreKey, Instant, RandomState>,
    /// A full table is looked through for what is over, and then not again before this.
    next_look: Option<Instant>,
}

impl Renewals {
    /// Whether it is this reader who renews the key; nobody else does until then.
    fn begin(&self, key: &StoreKey, now: Instant, until: Instant) -> bool {
        let mut left_alone = self.0.lock();
        if left_alone.until.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        left_alone.make_room(now);
        let begins = left_alone.until.len() < MOST;
        if begins {
            left_alone.until.insert(key.clone(), until);
        }
        begins
    }

    fn end(&self, key: &StoreKey) {
        self.0.lock().until.remove(key);
    }
}

impl LeftAlone {
    fn make_room(&mut self, now: Instant) {
        if self.until.len() >= MOST && self.next_look.is_none_or(|next| now >= next) {
            self.until.retain(|_, until| now < *until);
            self.next_look = Some(now + LOOK);
        }
    }
}

impl Route {
    /// With so much left of its life or less a value is renewed by who reads it; zero: never.
    pub fn renewal(&self) -> Duration {
        match self.config.sliding {
            true => self.config.ttl.mul_f64((1.0 - self.config.jitter) * (1.0 - PASSES)) + self.grace(),
            false => Duration::ZERO,
        }
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Gives a value that was read a new life, and lets nobody wait. Must run where `spawn_local` may.
    pub fn renew_behind(&self, route: &Arc<Route>, key: StoreKey) {
        let now = self.clock.now();
        if self.shared.renewals.begin(&key, now, now + route.config.ttl.mul_f64(PASSES)) {
            let (engine, route) = (self.clone(), route.clone());
            tokio::task::spawn_local(async move {
                let renewed = engine.renew(&route, &key).await;
                let result = match &renewed {
                    Ok(true) => "renewed",
                    Ok(false) => "left",
                    Err(_) => "error",
                };
                if let Err(error) = &renewed {
                    tracing::debug!(route = route.config.name, %error, "a value was not renewed");
                }
                if result == "renewed" {
                    engine.shared.renewals.end(&key);
                }
                route.count_renewal(result);
            });
        }
    }

    /// False: it is gone, is stale, or its end is held.
    async fn renew(&self, route: &Route, key: &StoreKey) -> Result<bool, StoreError> {
        self.keep_tags(route, key, &[]).await?;
        let life = self.jittered(&route.config) + route.grace();
        let Some(noted) = self.store.renew(key, life, route.grace()).await? else { return Ok(false) };
        // Another value may have come meanwhile, and an invalidation have set an index aside.
        self.enter(route, key, &noted).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> StoreKey {
        StoreKey { db: 0, name: number.to_string().into() }
    }

    #[test]
    fn a_key_is_renewed_once_at_a_time_and_left_alone_for_a_while() {
        let (renewals, now) = (Renewals::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        assert!(renewals.begin(&key(1), now, until));
        assert!(!renewals.begin(&key(1), now, until) && renewals.begin(&key(2), now, until));
        renewals.end(&key(1));
        assert!(renewals.begin(&key(1), now, until));
        assert!(renewals.begin(&key(1), until, until));
    }

    #[test]
    fn the_number_of_keys_that_are_left_alone_is_bounded() {
        let (renewals, now) = (Renewals::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        assert_eq!((0..2 * MOST).filter(|&number| renewals.begin(&key(number), now, until)).count(), MOST);
        assert!(renewals.begin(&key(0), until, until + Duration::from_secs(1)), "their time is over");
    }
}
