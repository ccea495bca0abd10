//! The gate of one `[database.NAME]`: how many loads ask it at once, who waits for a turn, who is shed, and whether it is asked
//! at all. One for the whole process, shared by all routes and workers.
//!
//! As many loads as the database has connections (`pool`) have a *turn*; the statement has it until it is really gone, also when
//! nobody waits for it any more. What the others do depends on who waits for them:
//! - *somebody* (misses, and reads without the store): they stand in line, in the order in which they came, at most
//!   `max_waiting_loads` of them. One that comes to a full line is shed at once. One that has stood half of its `load_timeout` in
//!   it is shed too: begun then, it would likely be cancelled unfinished, and of a database that is slower than what is asked of
//!   it all work would be for nothing (A21: it is better to finish half of the loads than to begin all of them).
//! - *a reader who has a stale value*: the refresh is not begun.
//! - *nobody* (warming): they wait outside of the line, until nobody stands in it; and take their turn before their leases,
//!   so that no reader waits for a load that waits for readers.
//!
//! A database that fails is not asked ([`Breaker`]): who stands in line is told so in the moment in which it opens, who comes
//! while it is open at once. No key is backed off for it, nor for having been shed: none of them has failed of itself.
//!
//! A load is a statement, whatever the number of its keys. The connections themselves belong to the database's own floor,
//! which may be slower to give one: its time is the load's.

mod refusal;

pub use self::refusal::{Reason, Refusal};

use self::refusal::GateMetrics;
use super::breaker::{Breaker, Change, Entered, Verdict};
use crate::clock::Clock;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// That loads are shed is logged at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// One database's.
pub struct Gate {
    database: Arc<str>,
    pool: usize,
    most_waiting: usize,
    turns: Arc<Semaphore>,
    /// A turn has ended, or somebody has left the line: for those who do not stand in it.
    freed: Notify,
    /// The breaker lets nobody in, from now on: for those who do.
    opened: Notify,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
    told: Mutex<Option<Instant>>,
    metrics: GateMetrics,
}

/// The right to ask the database once.
pub struct Pass {
    /// Ends when it is dropped.
    pub turn: Turn,
    /// Tells the breaker how it went.
    pub witness: Witness,
    /// How long it was waited for.
    pub waited: Duration,
}

/// One of the pool's turns.
pub struct Turn {
    gate: Arc<Gate>,
    /// `None` once it is given back.
    permit: Option<OwnedSemaphorePermit>,
}

/// The duty to tell the breaker how a load went; dropped, it tells that this will not be known.
pub struct Witness {
    gate: Arc<Gate>,
    entered: Option<Entered>,
}

impl Gate {
    /// For a database with so many connections, before which so many loads may wait.
    pub fn new(database: &str, pool: usize, most_waiting: usize) -> Arc<Self> {
        let pool = pool.max(1);
        Arc::new(Gate {
            database: database.into(),
            pool,
            most_waiting,
            turns: Arc::new(Semaphore::new(pool)),
            freed: Notify::new(),
            opened: Notify::new(),
            waiting: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new(pool)),
            told: Mutex::default(),
            metrics: GateMetrics::new(database),
        })
    }

    /// NAME of `[database.NAME]`.
    pub fn database(&self) -> &Arc<str> {
        &self.database
    }

    /// Whether the database is not asked, or by a probe only.
    pub fn is_down(&self) -> bool {
        self.breaker.lock().is_open()
    }

    /// A pass for a load that somebody waits for, within `patience`.
    pub async fn pass(self: &Arc<Self>, clock: &impl Clock, patience: Duration) -> Result<Pass, Refusal> {
        let begun = clock.now();
        let turn = match self.free_turn() {
            Some(turn) => turn,
            None => self.stand_in_line(clock, patience).await?,
        };
        let now = clock.now();
        self.enter(turn, now, now - begun)
    }

    /// A pass for a load that a reader can do without.
    pub fn pass_if_free(self: &Arc<Self>, now: Instant) -> Result<Pass, Refusal> {
        let turn = self.free_turn().ok_or_else(|| self.refusal(Reason::Busy))?;
        self.enter(turn, now, Duration::ZERO)
    }

    /// A pass for a load that nobody waits for, once nobody stands in line.
    pub async fn pass_last(self: &Arc<Self>, clock: &impl Clock) -> Result<Pass, Refusal> {
        loop {
            if let Some(turn) = self.free_turn() {
                return self.enter(turn, clock.now(), Duration::ZERO);
            }
            // An end that comes between the look and the wait is kept for the wait.
            self.freed.notified().await;
        }
    }

    /// None is free as long as somebody stands in line: it goes from hand to hand then.
    fn free_turn(self: &Arc<Self>) -> Option<Turn> {
        Some(self.turn(self.turns.clone().try_acquire_owned().ok()?))
    }

    fn turn(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Turn {
        Turn { gate: self.clone(), permit: Some(permit) }
    }

    async fn stand_in_line(self: &Arc<Self>, clock: &impl Clock, patience: Duration) -> Result<Turn, Refusal> {
        let mut opened = pin!(self.opened.notified());
        // Before the look, so that an opening between the look and the wait is heard.
        opened.as_mut().enable();
        if self.breaker.lock().refuses(clock.now()) {
            return Err(self.refusal(Reason::Down));
        }
        let Some(_place) = Place::take(self) else {
            return Err(self.shed(Reason::Full(self.most_waiting), clock.now()));
        };
        // In this order, not a random one: a seed replays a test.
        tokio::select! {
            biased;
            () = opened => Err(self.refusal(Reason::Down)),
            permit = self.turns.clone().acquire_owned() => Ok(self.turn(permit.expect("nobody closes it"))),
            () = clock.sleep(patience) => Err(self.shed(Reason::Late(patience, self.pool), clock.now())),
        }
    }

    fn enter(self: &Arc<Self>, turn: Turn, now: Instant, waited: Duration) -> Result<Pass, Refusal> {
        let entered = self.breaker.lock().enter(now).ok_or_else(|| self.refusal(Reason::Down))?;
        if entered.is_probe() {
            // It asks alone.
            self.opened.notify_waiters();
        }
        Ok(Pass { turn, witness: Witness { gate: self.clone(), entered: Some(entered) }, waited })
    }

    fn shed(&self, reason: Reason, now: Instant) -> Refusal {
        let refusal = self.refusal(reason);
        let mut told = self.told.lock();
        if told.is_none_or(|told| now >= told + TOLD_EVERY) {
            *told = Some(now);
            let waiting = self.waiting.load(Relaxed);
            tracing::warn!(database = &*self.database, pool = self.pool, waiting, "loads are shed: {reason}");
        }
        refusal
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        self.metrics.of(reason).increment(1);
        Refusal { database: self.database.clone(), reason }
    }

    /// Logged here, once for each change, and not by the loads.
    fn changed(&self, change: Change) {
        let database = &*self.database;
        match change {
            Change::Opened(pause) => {
                self.metrics.up.set(0.0);
                self.opened.notify_waiters();
                tracing::warn!(database, ?pause, "the database fails and is not asked; it is tried again by one load");
            }
            Change::Closed => {
                self.metrics.up.set(1.0);
                tracing::info!(database, "the database answers again");
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.gate.freed.notify_one();
    }
}

impl Witness {
    /// The load has ended. What that has changed.
    pub fn tell(mut self, verdict: Verdict, clock: &impl Clock) -> Option<Change> {
        let (now, random) = (clock.now(), clock.random());
        let change = self.gate.breaker.lock().ended(self.entered.take()?, verdict, now, random);
        change.inspect(|change| self.gate.changed(*change))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(entered) = self.entered {
            self.gate.breaker.lock().abandoned(entered);
        }
    }
}

/// A place in the line.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Option<Self> {
        let room = |waiting: usize| (waiting < gate.most_waiting).then_some(waiting + 1);
        gate.waiting.fetch_update(Relaxed, Relaxed, room).ok()?;
        gate.metrics.waiting.increment(1.0);
        Some(Place(gate))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.metrics.waiting.decrement(1.0);
        // A turn may have been put into the hand of one who leaves without it.
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
