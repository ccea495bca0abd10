//! Invalidations that the store has missed: what it may hold still, and must not be served (G7, T37).
//!
//! While the store cannot be reached a change of a key fails, and its client is told so. But what that client has changed in
//! the database is changed, and the store, once it is back, would go on with what it had. So whatever was to change there and
//! perhaps did not is *in doubt*: keys, all keys of a tag, or, where they are too many to be remembered one by one, all keys of a
//! route. They are invalidated as soon as the store can be reached; until then nobody is served what it holds of them: reads are
//! answered from the database (see `unstored`), and what would store a value waits.
//!
//! Which keys a tag has, only the store knows. As long as a tag is in doubt, so are all keys of routes that have tags.
//!
//! Only routes with a `load` are concerned: of other keys the store is all there is, and nothing is dropped that nobody
//! could load again. Each process sees to what its own clients have failed to change. That a whole store has come back with
//! what it held earlier is found out by the store itself ([`Store::epoch`](crate::store::Store::epoch)).

use super::Engine;
use super::route::Route;
use crate::clock::Clock;
use crate::store::{Store, StoreError, StoreKey};
use bytes::Bytes;
use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Keys that are invalidated in one step.
const PAGE: usize = 1000;

/// What the store may hold and must not be served. Shared by the whole process.
pub struct Doubts {
    /// Whether there are any: all that a reader looks at while all is well.
    any: AtomicBool,
    state: Mutex<State>,
    /// Counts the changes.
    changed: watch::Sender<u64>,
    most: usize,
    remembered: Gauge,
    overflows: Counter,
}

/// Each with the number of the newest doubt: what is doubted again while it is being settled stays in doubt.
#[derive(Default)]
struct State {
    keys: BTreeMap<StoreKey, u64>,
    tags: BTreeMap<(u32, Bytes), u64>,
    /// By name.
    routes: BTreeMap<String, u64>,
    newest: u64,
}

impl State {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.routes.len()
    }
}

/// Some of what is in doubt, to be settled.
#[derive(Debug, Default)]
pub struct Page {
    /// Routes, by name.
    pub routes: Vec<(String, u64)>,
    tags: Vec<((u32, Bytes), u64)>,
    keys: Vec<(StoreKey, u64)>,
}

impl Doubts {
    /// At most `most` keys and tags are remembered one by one.
    pub fn new(most: usize) -> Self {
        metrics::describe_gauge!(
            "weir_missed_invalidations",
            "Keys, tags and routes that the upstream is still to drop"
        );
        Doubts {
            any: AtomicBool::new(false),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            most,
            remembered: metrics::gauge!("weir_missed_invalidations"),
            overflows: metrics::counter!("weir_missed_invalidations_overflows_total"),
        }
    }

    /// Whether nothing is in doubt.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Acquire: whoever is told that a change has failed finds it here.
        !self.any.load(Ordering::Acquire)
    }

    /// Whether a key of this route is.
    pub fn has(&self, route: &Route, key: &StoreKey) -> bool {
        if self.is_empty() || !route.has_load() {
            return false;
        }
        let state = self.state.lock();
        state.keys.contains_key(key)
            || (!state.tags.is_empty() && !route.tags.is_empty())
            || state.routes.contains_key(&route.config.name)
    }

    /// A key of this route was to be changed, and perhaps was not.
    pub fn add_key(&self, route: &Route, key: StoreKey) {
        if !route.has_load() {
            return;
        }
        self.change(|state, number| {
            if state.routes.contains_key(&route.config.name) {
                state.routes.insert(route.config.name.clone(), number);
            } else if state.len() < self.most || state.keys.contains_key(&key) {
                state.keys.insert(key, number);
            } else {
                self.overflow(state, route, number);
            }
        });
    }

    /// Tags of `db` were to be invalidated, and perhaps were not. `routes`: all there are.
    pub fn add_tags<'a>(&self, db: u32, tags: &BTreeSet<Bytes>, routes: impl Iterator<Item = &'a Route>) {
        let mut tagged = routes.filter(|route| route.has_load() && !route.tags.is_empty()).peekable();
        self.change(|state, number| {
            if state.len() + tags.len() <= self.most || tagged.peek().is_none() {
                state.tags.extend(tags.iter().map(|tag| ((db, tag.clone()), number)));
            } else {
                tagged.for_each(|route| self.overflow(state, route, number));
            }
        });
    }

    /// All keys of these routes were to be dropped, and perhaps were not.
    pub fn add_routes<'a>(&self, routes: impl Iterator<Item = &'a Route>) {
        self.change(|state, number| {
            for route in routes.filter(|route| route.has_load()) {
                state.routes.insert(route.config.name.clone(), number);
            }
        });
    }

    /// There is no room to remember more one by one: all keys of the route are in doubt from here on.
    fn overflow(&self, state: &mut State, route: &Route, number: u64) {
        if state.routes.insert(route.config.name.clone(), number).is_none() {
            let (route, limit) = (&route.config.name, self.most);
            tracing::warn!(
                route,
                limit,
                "more invalidations were missed than [limits] max_missed_invalidations: all keys of the route will be dropped"
            );
            self.overflows.increment(1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State, u64)) {
        let mut state = self.state.lock();
        state.newest += 1;
        let number = state.newest;
        change(&mut state, number);
        self.any.store(state.len() > 0, Ordering::Release);
        self.remembered.set(state.len() as f64);
        self.changed.send_replace(number);
    }

    /// What is to be settled next; empty: nothing.
    pub fn page(&self) -> Page {
        let state = self.state.lock();
        Page {
            routes: state.routes.iter().map(|(name, number)| (name.clone(), *number)).collect(),
            tags: state.tags.iter().map(|(tag, number)| (tag.clone(), *number)).take(PAGE).collect(),
            keys: state.keys.iter().map(|(key, number)| (key.clone(), *number)).take(PAGE).collect(),
        }
    }

    /// All of a page is settled; what was doubted again since it was written stays in doubt.
    pub fn settled(&self, page: &Page) {
        self.change(|state, _| {
            settle(&mut state.routes, &page.routes);
            settle(&mut state.tags, &page.tags);
            settle(&mut state.keys, &page.keys);
        });
    }

    /// Waits until anything is in doubt.
    pub async fn raised(&self) {
        // The sender lives as long as this future.
        let _ = self.changed.subscribe().wait_for(|_| !self.is_empty()).await;
    }
}

impl Page {
    /// Whether there is nothing on it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many routes, tags and keys.
    pub fn len(&self) -> usize {
        self.routes.len() + self.tags.len() + self.keys.len()
    }
}

fn settle<K: Ord>(all: &mut BTreeMap<K, u64>, settled: &[(K, u64)]) {
    for (what, number) in settled {
        if all.get(what) == Some(number) {
            all.remove(what);
        }
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// What the store may hold and must not be served.
    pub fn doubts(&self) -> &Doubts {
        &self.shared.doubts
    }

    /// Whether what the store holds of a key of this route must not be served now.
    #[inline]
    pub fn is_in_doubt(&self, route: &Route, key: &StoreKey) -> bool {
        (self.store.epoch().is_none() && route.has_load()) || self.shared.doubts.has(route, key)
    }

    /// The store's epoch, if what it holds of a key of this route may be served.
    pub(super) fn trusted_epoch(&self, route: &Route, key: &StoreKey) -> Option<u64> {
        self.store.epoch().filter(|_| !self.shared.doubts.has(route, key))
    }

    /// Whether that may be so of any key: one look, for those who have many.
    #[inline]
    pub fn has_doubts(&self) -> bool {
        !self.shared.doubts.is_empty() || self.store.epoch().is_none()
    }

    /// Waits until a key of this route is in doubt no more, for no longer than `limit`; whether that is so.
    pub async fn trusted(&self, route: &Route, key: &StoreKey, limit: Duration) -> bool {
        let deadline = self.clock.now() + limit;
        loop {
            let mut changed = self.shared.doubts.changed.subscribe();
            if !self.is_in_doubt(route, key) {
                return true;
            }
            let left = deadline.saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return false;
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                // An epoch's end is told to nobody.
                () = self.clock.sleep(left.min(LOOK)) => {}
            }
        }
    }

    /// Invalidates the keys and the tags of a page at the store; what has their tags meanwhile is in doubt still.
    ///
    /// # Errors
    /// The store did not do all of it.
    pub async fn invalidate_page(&self, page: &Page) -> Result<(), StoreError> {
        if self.store.epoch().is_none() {
            return Err(StoreError::InDoubt);
        }
        for (db, tags) in by_db(page.tags.iter().map(|((db, tag), _)| (*db, tag.clone()))) {
            self.invalidate_tags(db, &tags.into_iter().collect()).await?;
        }
        for (db, keys) in by_db(page.keys.iter().map(|(key, _)| (key.db, key.name.clone()))) {
            self.store.invalidate_all(db, &keys).await?;
        }
        Ok(())
    }
}

fn by_db(names: impl Iterator<Item = (u32, Bytes)>) -> BTreeMap<u32, Vec<Bytes>> {
    let mut all: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
    names.for_each(|(db, name)| all.entry(db).or_default().push(name));
    all
}

/// Whoever waits for a key looks so often.
const LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::gate::Gate;
    use crate::cache::route::Loading;
    use crate::database::{Arguments, BoxFuture, DatabaseError, Loaded, Statement};
    use std::path::Path;
    use std::sync::Arc;

    /// Nothing is loaded here.
    struct Never;

    impl Statement for Never {
        fn fits(&self, _: &[&str]) -> bool {
            false
        }

        fn load(&self, _: Vec<Arguments>) -> BoxFuture<'_, Result<Vec<Loaded>, DatabaseError>> {
            Box::pin(std::future::pending())
        }

        fn is_idle(&self) -> bool {
            true
        }

        fn parameter_types(&self) -> Vec<String> {
            Vec::new()
        }
    }

    /// `tagged` and `plain` can be loaded, and `filled` cannot.
    fn routes() -> [Arc<Route>; 3] {
        let text = "[database.main]\nurl = \"sqlite:none\"\n\
            [[route]]\nname = \"tagged\"\nkey = \"t:{id}\"\nload = \"SELECT 1\"\ntags = [\"all\"]\n\
            [[route]]\nname = \"plain\"\nkey = \"p:{id}\"\nload = \"SELECT 1\"\n\
            [[route]]\nname = \"filled\"\nkey = \"f:{id}\"\nttl = \"1m\"\n";
        let config = crate::config::parse(text, Path::new("weir.toml"), |_| None).expect("it is valid");
        let ready = |config: crate::config::Route| match config.load().cloned() {
            Some(load) => Loading::new(config, load, Arc::new(Never), None, Gate::new("main", 1, 1)).route().clone(),
            None => Arc::new(Route::of_clients(config)),
        };
        let ready: Vec<Arc<Route>> = config.routes.into_iter().map(ready).collect();
        ready.try_into().unwrap_or_else(|_| panic!("three routes"))
    }

    fn key(name: &'static str) -> StoreKey {
        StoreKey { db: 0, name: name.into() }
    }

    #[test]
    fn a_key_is_in_doubt_until_it_is_settled_and_again_if_it_is_doubted_meanwhile() {
        let ([_, plain, filled], doubts) = (routes(), Doubts::new(10));
        doubts.add_key(&filled, key("f:1"));
        assert!(doubts.is_empty(), "nobody could load it again");
        doubts.add_key(&plain, key("p:1"));
        assert!(doubts.has(&plain, &key("p:1")) && !doubts.has(&plain, &key("p:2")));
        let page = doubts.page();
        doubts.add_key(&plain, key("p:1"));
        doubts.settled(&page);
        assert!(doubts.has(&plain, &key("p:1")));
        doubts.settled(&doubts.page());
        assert!(doubts.is_empty() && doubts.page().is_empty());
    }

    #[test]
    fn a_tag_puts_all_in_doubt_that_may_have_it() {
        let (routes, doubts) = (routes(), Doubts::new(10));
        doubts.add_tags(0, &BTreeSet::from([Bytes::from_static(b"x")]), routes.iter().map(|route| &**route));
        let [tagged, plain, _] = &routes;
        assert!(doubts.has(tagged, &key("t:1")) && !doubts.has(plain, &key("p:1")));
    }

    #[test]
    fn beyond_the_limit_routes_are_in_doubt() {
        let (routes, doubts) = (routes(), Doubts::new(2));
        let [tagged, plain, _] = &routes;
        for name in ["p:1", "p:2", "p:3", "p:4"] {
            doubts.add_key(plain, key(name));
        }
        assert!(doubts.has(plain, &key("p:99")) && !doubts.has(tagged, &key("t:1")));
        assert_eq!(doubts.page().len(), 3, "two keys and the route");
        doubts.add_tags(0, &BTreeSet::from([Bytes::from_static(b"x")]), routes.iter().map(|route| &**route));
        assert!(doubts.has(tagged, &key("t:1")));
        assert_eq!(doubts.page().len(), 4);
        doubts.settled(&doubts.page());
        assert!(doubts.is_empty());
    }
}
