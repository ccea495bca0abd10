//! What all clients of one worker thread share. Nothing here is shared with another thread but [`App`].

use super::app::App;
use super::batch::Batch;
use super::clients::Client;
use super::learned::Learned;
use super::metrics::CommandCounts;
use super::reads::Room;
use super::replies::Replies;
use crate::cache::Engine;
use crate::clock::SystemClock;
use crate::resp::scan::CommandScanner;
use crate::store::Backend;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Instant;

/// Size of one read from a client.
const READ: usize = 64 << 10;

/// For so many runs of reads room is kept.
const MOST_ROOMS: usize = 16;

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
    /// What gathers of the commands of the client that is acted on; with that client meanwhile.
    batch: Cell<Option<Box<Batch>>>,
    /// Scans the commands of every client that is not in the middle of one.
    scanner: Cell<Option<Box<CommandScanner>>>,
    /// For runs of reads, left by others.
    rooms: RefCell<Vec<Room>>,
    /// How many clients it has been assigned that have not ended.
    assigned: Arc<AtomicUsize>,
    /// The time, as of the last tick.
    clock: Cell<Instant>,
    /// Its clients, to be woken for the drain and at the end of their time: the replies know whom, and what it waits for.
    seats: RefCell<HashMap<u64, Rc<Replies>>>,
    last_leaves: RefCell<Option<Waker>>,
}

impl Worker {
    /// A worker over its own links.
    pub fn new(
        app: Arc<App>,
        backend: Backend,
        engine: Engine<Backend, SystemClock>,
        counts: Arc<CommandCounts>,
        assigned: Arc<AtomicUsize>,
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
            batch: Cell::default(),
            scanner: Cell::default(),
            rooms: RefCell::default(),
            assigned,
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
        for replies in self.seats.borrow().values() {
            replies.wake();
        }
    }

    /// What gathers of a client's commands; empty.
    pub fn take_batch(&self) -> Box<Batch> {
        self.batch.take().unwrap_or_default()
    }

    /// A scanner between two commands, under the limits of the client that had it last.
    pub fn take_scanner(&self) -> Option<Box<CommandScanner>> {
        self.scanner.take()
    }

    /// It is between two commands again.
    pub fn give_scanner_back(&self, scanner: Box<CommandScanner>) {
        self.scanner.set(Some(scanner));
    }

    /// Room for the reads of a run.
    pub fn take_room(&self) -> Room {
        self.rooms.borrow_mut().pop().unwrap_or_default()
    }

    /// Nothing is in it.
    pub fn give_room_back(&self, room: Room) {
        let mut rooms = self.rooms.borrow_mut();
        if rooms.len() < MOST_ROOMS {
            rooms.push(room);
        }
    }

    /// All of it is sent and counted.
    pub fn give_batch_back(&self, batch: Box<Batch>) {
        self.batch.set(Some(batch));
    }

    /// The time as of the last tick: see [`super::patience`].
    pub fn clock(&self) -> Instant {
        self.clock.get()
    }

    /// Sets the clock, and wakes every client that has let Weir wait for too long. Those that rest keep no room.
    pub fn tick(&self, now: Instant) {
        self.clock.set(now);
        for replies in self.seats.borrow().values() {
            if replies.wait.tick(now, &self.app.config.limits) {
                replies.wake();
            } else if replies.wait.rests(now) {
                replies.rest();
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
    pub fn arrived(&self, client: &Client, replies: &Rc<Replies>) {
        self.seats.borrow_mut().insert(client.id, replies.clone());
    }

    /// A client that was assigned has ended, or did not begin.
    pub fn left(&self, client: &Client) {
        self.seats.borrow_mut().remove(&client.id);
        self.app.clients.leave(client.id);
        self.assigned.fetch_sub(1, Relaxed);
        if let Some(waker) = self.last_leaves.take() {
            waker.wake();
        }
    }
}
