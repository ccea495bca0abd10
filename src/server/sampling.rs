//! Which of the keys that clients read and invalidate are compared with the database: see [`crate::cache::consistency`].
//!
//! Drawn are keys of reads that the store or the near cache has answered, whatever the command; not those of TTL and its kin, which
//! tell nothing of the value. Negative hits the engine draws itself.

use super::conn::Conn;
use super::keys::RoutedKeys;
use super::worker::Worker;
use crate::cache::consistency::Source;
use crate::cache::route::Route;
use crate::resp::args::Args;
use crate::store::StoreKey;
use bytes::Bytes;
use std::sync::Arc;

/// A key that is to be checked if its read is a hit, and the index of its route.
pub type Drawn = (usize, StoreKey);

/// All of a read's. It has them boxed, for most have none.
pub struct DrawnKeys(pub Vec<Drawn>);

impl Worker {
    /// A key was invalidated by a client's command, or is about to be.
    pub fn note_invalidation(&self, route: &Arc<Route>, db: u32, key: &[u8]) {
        route.metrics.invalidations.increment(1);
        self.engine.note_invalidation(route, db, key);
    }

    /// The same of a key that others tell of, or that has an invalidated tag: routed or not, and counted elsewhere.
    pub fn note_invalidation_of(&self, db: u32, key: &[u8]) {
        if let Some(route) = self.app.routes.find(key) {
            self.engine.note_invalidation(route, db, key);
        }
    }
}

impl Conn {
    /// Draws keys of a read that is about to be sent. Nothing is allocated for those that are not drawn.
    pub(super) fn draw(&self, keys: &RoutedKeys<'_>) -> Vec<Drawn> {
        let db = self.way.identity.db;
        let drawn = keys.iter().filter(|key| self.worker.engine.draws(key.route.checks.hits));
        drawn.map(|key| (key.index, StoreKey { db, name: Bytes::copy_from_slice(key.key) })).collect()
    }

    /// Has the drawn keys checked of the reads that were answered since the last time.
    pub(super) fn check_drawn(&self) {
        for (route, key) in self.replies.take_drawn() {
            self.worker.engine.check_hit(self.worker.app.routes.get(route), key, Source::Store);
        }
    }

    /// Draws keys of a read that was answered from the near cache, for what is kept there.
    #[inline]
    pub(super) fn draw_near(&self, keys: &RoutedKeys<'_>) {
        if keys.iter().any(|key| key.route.checks.hits > 0) {
            self.draw_near_anew(keys);
        }
    }

    /// The same of an MGET's keys.
    pub(super) fn draw_near_names(&self, names: Args<'_>) {
        let routes = &self.worker.app.routes;
        if routes.iter().any(|route| route.checks.hits > 0) {
            let keys = names.iter().filter_map(|name| Some((routes.find_indexed(name)?.0, name)));
            keys.for_each(|(route, name)| self.draw_near_key(route, name));
        }
    }

    fn draw_near_anew(&self, keys: &RoutedKeys<'_>) {
        keys.iter().for_each(|key| self.draw_near_key(key.index, key.key));
    }

    /// Draws a key, or does not, that was answered from the near cache.
    #[inline]
    pub(super) fn draw_near_key(&self, route: usize, name: &[u8]) {
        let route = self.worker.app.routes.get(route);
        if self.worker.engine.draws(route.checks.hits) {
            let key = StoreKey { db: self.way.identity.db, name: Bytes::copy_from_slice(name) };
            self.worker.engine.check_hit(route, key, Source::Near(self.way.identity.user.clone()));
        }
    }
}
