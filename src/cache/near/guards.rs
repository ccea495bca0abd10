//! What those hold who work on the near cache: a right that ends when it is dropped, whatever has happened.

use super::Near;
use super::shard::{self, Place};
use crate::value::Value;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// The right of one read to have its value kept.
pub struct Marker {
    near: Arc<Near>,
    home: usize,
    place: Place,
}

impl Marker {
    pub(super) fn new(near: Arc<Near>, home: usize, place: Place) -> Self {
        Marker { near, home, place }
    }

    /// Keeps what was read until then, unless the key has changed since the marker was put. A hash's fields own
    /// their bytes and no more: no slices of a larger buffer.
    pub fn keep(self, value: Value, until: Instant) {
        let bytes = shard::bytes_of_value(value.view());
        if bytes > self.near.most / super::LARGEST || !self.near.take(bytes, self.home) {
            return;
        }
        let until = self.near.moment(until);
        let kept = self.near.shards[self.home].write().keep(self.place, value, until);
        if !kept {
            self.near.give(bytes);
        }
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let freed = self.near.shards[self.home].write().unmark(self.place);
        self.near.give(freed);
    }
}

/// Some keys are being changed.
pub struct Bar {
    near: Arc<Near>,
    /// Shard and number of each.
    barred: SmallVec<[(usize, u32); 1]>,
}

impl Bar {
    pub(super) fn new(near: Arc<Near>, barred: SmallVec<[(usize, u32); 1]>) -> Self {
        Bar { near, barred }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        for &(home, number) in &self.barred {
            self.near.shards[home].write().unbar(number);
        }
    }
}

/// Any key may be being changed.
pub struct Closed(Arc<Near>);

impl Closed {
    pub(super) fn new(near: Arc<Near>) -> Self {
        Closed(near)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.reasons.fetch_sub(1, Relaxed);
    }
}
