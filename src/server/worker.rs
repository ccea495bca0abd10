//! What all clients of one worker thread share. Nothing here is shared with another thread but [`App`].

use super::app::App;
use super::learned::Learned;
use super::metrics::CommandCounts;
use super::patience::Wait;
use crate::cache::Engine;
use crate::clock::SystemClock;
use crate::store::Backend;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

/// Size of one read from a client.
const READ: usize = 64 << 10;

/// One worker thread's own state.
pub struct Worker {
    /// What all workers share.
    pub app: Arc<App>,
    /// This worker's way to the store.
    pub backend: Backend,
    /// The engine over it.
    pub engine: Engine<Backend, SystemClock>,
    /// This worker's counters.
    pub counts: Arc<CommandCounts>,
    /// Every client's bytes are read into this one buffer; only an incomplete command is copied out of it.
    pub scratch: RefCell<Box<[u8]>>,
    /// Every answer of the near cache is put together here.
    pub near_answer: RefCell<Vec<u8>>,
    /// Commands that the upstream knows and the table does not.
    pub learned: Learned,
    draining: Cell<bool>,
    /// The time, as of the last tick.
    clock: Cell<Instant>,
    /// How to wake each client, for the drain and at the end of its time, and what it waits for.
    seats: RefCell<HashMap<u64, Seat>>,
    last_leaves: RefCell<Option<Waker>>,
}

/// One client, as its worker sees it.
struct Seat {
    waker: Waker,
    wait: Rc<Wait>,
}

impl Worker {
    /// A worker over its own links.
    pub fn new(
        app: Arc<App>,
        backend: Backend,
        engine: Engine<Backend, SystemClock>,
        counts: Arc<CommandCounts>,
    ) -> Self {
        Worker {
            counts,
            app,
            backend,
            engine,
            scratch: RefCell::new(vec![0; READ].into_boxed_slice()),
            near_answer: RefCell::default(),
            learned: Learned::default(),
            draining: Cell::new(false),
            clock: Cell::new(Instant::now()),
            seats: RefCell::default(),
            last_leaves: RefCell::default(),
        }
    }

    /// Whether clients must end once what they have sent is answered.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Begins the drain: every client looks up.
    pub fn drain(&self) {
        self.draining.set(true);
        for seat in self.seats.borrow().values() {
            seat.waker.wake_by_ref();
        }
    }

    /// The time as of the last tick: see [`super::patience`].
    pub fn clock(&self) -> Instant {
        self.clock.get()
    }

    /// Sets the clock, and wakes every client that has let Weir wait for too long.
    pub fn tick(&self, now: Instant) {
        self.clock.set(now);
        for seat in self.seats.borrow().values() {
            if seat.wait.tick(now, &self.app.config.limits) {
                seat.waker.wake_by_ref();
            }
        }
    }

    /// Waits until the last client has ended.
    pub async fn all_left(&self) {
        poll_fn(|cx| {
            *self.last_leaves.borrow_mut() = Some(cx.waker().clone());
            if self.seats.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    /// A client begins.
    pub fn arrived(&self, id: u64, waker: &Waker, wait: Rc<Wait>) {
        self.seats.borrow_mut().insert(id, Seat { waker: waker.clone(), wait });
    }

    /// A client has ended.
    pub fn left(&self, id: u64) {
        self.seats.borrow_mut().remove(&id);
        if let Some(waker) = self.last_leaves.take() {
            waker.wake();
        }
    }
}
