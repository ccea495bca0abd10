//! What all clients of one worker thread share. Nothing here is shared with another thread but [`App`].

use super::app::App;
use super::metrics::CommandCounts;
use crate::cache::Engine;
use crate::clock::SystemClock;
use crate::store::Backend;
use foldhash::fast::RandomState;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::task::{Poll, Waker};

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
    hasher: RandomState,
    draining: Cell<bool>,
    /// Each client's waker, for the drain.
    wakers: RefCell<HashMap<u64, Waker>>,
    last_leaves: RefCell<Option<Waker>>,
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
            hasher: RandomState::default(),
            draining: Cell::new(false),
            wakers: RefCell::default(),
            last_leaves: RefCell::default(),
        }
    }

    /// Hash of a key, to compare requests of one client with.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Whether clients must end once what they have sent is answered.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Begins the drain: every client looks up.
    pub fn drain(&self) {
        self.draining.set(true);
        for waker in self.wakers.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Waits until the last client has ended.
    pub async fn all_left(&self) {
        poll_fn(|cx| {
            *self.last_leaves.borrow_mut() = Some(cx.waker().clone());
            if self.wakers.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    /// A client begins.
    pub fn arrived(&self, id: u64, waker: &Waker) {
        self.wakers.borrow_mut().insert(id, waker.clone());
    }

    /// A client has ended.
    pub fn left(&self, id: u64) {
        self.wakers.borrow_mut().remove(&id);
        if let Some(waker) = self.last_leaves.take() {
            waker.wake();
        }
    }
}
