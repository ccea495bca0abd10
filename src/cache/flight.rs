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
use std::sync::Arc;
use tokio::sync::watch;

/// How a flight ended.
#[derive(Clone, Debug)]
pub struct Landed {
    /// The fill was refused: only the leader may have the answer, the others look again.
    pub refused: bool,
    /// What was found.
    pub answer: Result<Found, LoadError>,
}

type Outcome = Option<Landed>;

/// The registry.
#[derive(Default)]
pub struct Flights {
    by_token: Arc<Mutex<HashMap<Token, watch::Receiver<Outcome>, RandomState>>>,
}

/// The one who must end a flight.
pub struct Pilot {
    token: Token,
    outcome: watch::Sender<Outcome>,
    registry: Arc<Mutex<HashMap<Token, watch::Receiver<Outcome>, RandomState>>>,
}

/// A place among those who wait for a flight.
pub struct Ticket {
    outcome: watch::Receiver<Outcome>,
    leader: bool,
}

impl Flights {
    /// Registers a flight that begins if the store grants `token`.
    pub fn announce(&self, token: Token) -> (Pilot, Ticket) {
        let (sender, receiver) = watch::channel(None);
        self.by_token.lock().insert(token, receiver.clone());
        (Pilot { token, outcome: sender, registry: self.by_token.clone() }, Ticket { outcome: receiver, leader: false })
    }

    /// A place on the flight whose lease the store has just shown; `None` if it is not of this process, or has ended.
    pub fn board(&self, token: Token) -> Option<Ticket> {
        let outcome = self.by_token.lock().get(&token)?.clone();
        Some(Ticket { outcome, leader: false })
    }
}

impl Pilot {
    /// Tells everybody who waits.
    pub fn land(self, landed: Landed) {
        self.outcome.send_replace(Some(landed));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.token);
    }
}

impl Ticket {
    /// The ticket of the one for whom the flight was started.
    pub fn of_leader(self) -> Self {
        Ticket { leader: true, ..self }
    }

    /// Waits for the flight's end: its outcome, and whether this ticket is its leader's. `None` if its task is gone.
    pub async fn landed(mut self) -> Option<(Landed, bool)> {
        let landed = self.outcome.wait_for(Option::is_some).await.ok()?.clone();
        landed.map(|landed| (landed, self.leader))
    }
}
