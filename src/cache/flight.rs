//! Flights of this process: loads under way, found by the token of their lease.
//!
//! A flight is announced before its token is offered to the store, and leaves the registry when its pilot is dropped,
//! landed or not: nobody can wait for a flight that will never end.

use super::Found;
use super::error::LoadError;
use crate::store::Token;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// How a flight ended.
#[derive(Clone, Debug)]
pub struct Landed {
    /// The fill was refused: only the leader may have the answer, the others look again.
    pub refused: bool,
    /// What was found.
    pub answer: Result<Found, LoadError>,
}

/// What is known of a flight.
#[derive(Default)]
struct Flight {
    /// How it ended, once it has; `None` in it: nobody will ever know.
    end: OnceLock<Option<Landed>>,
    /// Told then.
    ended: Notify,
}

impl Flight {
    fn end(&self, landed: Option<Landed>) {
        // The first word counts.
        if self.end.set(landed).is_ok() {
            self.ended.notify_waiters();
        }
    }
}

type Registry = Arc<Mutex<HashMap<Token, Arc<Flight>, RandomState>>>;

/// The registry.
#[derive(Default)]
pub struct Flights {
    by_token: Registry,
}

/// The one who must end a flight.
pub struct Pilot {
    token: Token,
    flight: Arc<Flight>,
    registry: Registry,
}

/// A place among those who wait for a flight.
pub struct Ticket {
    flight: Arc<Flight>,
    leader: bool,
}

impl Flights {
    /// Registers a flight that begins if the store grants `token`.
    pub fn announce(&self, token: Token) -> (Pilot, Ticket) {
        let flight = Arc::new(Flight::default());
        self.by_token.lock().insert(token, flight.clone());
        let ticket = Ticket { flight: flight.clone(), leader: false };
        (Pilot { token, flight, registry: self.by_token.clone() }, ticket)
    }

    /// A place on the flight whose lease the store has just shown; `None` if it is not of this process, or has ended.
    pub fn board(&self, token: Token) -> Option<Ticket> {
        let flight = self.by_token.lock().get(&token)?.clone();
        Some(Ticket { flight, leader: false })
    }
}

impl Pilot {
    /// Tells everybody who waits.
    pub fn land(self, landed: Landed) {
        self.flight.end(Some(landed));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.token);
        self.flight.end(None);
    }
}

impl Ticket {
    /// The ticket of the one for whom the flight was started.
    pub fn of_leader(self) -> Self {
        Ticket { leader: true, ..self }
    }

    /// Waits for the flight's end: its outcome, and whether this ticket is its leader's. `None` if its task is gone.
    pub async fn landed(self) -> Option<(Landed, bool)> {
        // Hears of an end from here on, so none falls between this and the look.
        let ended = self.flight.ended.notified();
        if self.flight.end.get().is_none() {
            ended.await;
        }
        let landed = self.flight.end.get()?.clone()?;
        Some((landed, self.leader))
    }
}
