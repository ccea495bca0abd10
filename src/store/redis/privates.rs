//! How many links serve one client each, in the whole process, and how many may.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// All private links.
pub struct Privates {
    most: usize,
    open: AtomicUsize,
    in_use: metrics::Gauge,
    idle: metrics::Gauge,
    refused: metrics::Counter,
}

/// The right to be one of them.
pub(super) struct Permit {
    privates: Arc<Privates>,
    idle: Cell<bool>,
}

impl Privates {
    /// At most `most` at once.
    pub fn new(most: usize) -> Self {
        let gauge = |state: &'static str| metrics::gauge!("weir_private_links", "state" => state);
        let refused = metrics::counter!("weir_private_links_refused_total");
        Privates { most, open: AtomicUsize::new(0), in_use: gauge("in_use"), idle: gauge("idle"), refused }
    }

    /// For one more, in use; `None` if there are too many.
    pub(super) fn permit(self: &Arc<Self>) -> Option<Permit> {
        if self.open.fetch_add(1, Relaxed) >= self.most {
            self.open.fetch_sub(1, Relaxed);
            return None;
        }
        self.in_use.increment(1.0);
        Some(Permit { privates: self.clone(), idle: Cell::new(false) })
    }

    /// Somebody could not have one.
    pub(super) fn note_refusal(&self) {
        self.refused.increment(1);
    }

    fn gauge(&self, idle: bool) -> &metrics::Gauge {
        if idle { &self.idle } else { &self.in_use }
    }
}

impl Permit {
    /// The link waits for its next client, or serves it.
    pub fn set_idle(&self, idle: bool) {
        if self.idle.replace(idle) != idle {
            self.privates.gauge(!idle).decrement(1.0);
            self.privates.gauge(idle).increment(1.0);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.privates.gauge(self.idle.get()).decrement(1.0);
        self.privates.open.fetch_sub(1, Relaxed);
    }
}
