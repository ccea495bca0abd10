//! Routes as the engine uses them: a pattern to match keys with, the metrics that bear its name, and its prepared statement
//! if it has one. Only of a [`Loading`] route can a key be loaded: the others are filled by the applications themselves.

use super::gate::Gate;
use super::matcher::{Matcher, first_eight, is_segment};
use super::tags::{RouteTags, tag_columns};
use crate::config::{self, Checks, OnModify, Part};
use crate::database::{Arguments, LoadSpec, Loaded, Statement};
use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One route, ready for use.
pub struct Route {
    /// What the file says of it.
    pub config: config::Route,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// Under which names its keys are invalidated together.
    pub tags: RouteTags,
    /// Which of its keys are compared with the database.
    pub checks: Checks,
    matcher: Matcher,
    load: Option<Arc<Load>>,
}

/// A route's `load`, ready for use.
pub struct Load {
    /// What the file says of it.
    pub config: config::Load,
    /// Its statement, prepared.
    pub statement: Arc<dyn Statement>,
    /// Before its database, for all routes of the process that it has.
    pub gate: Arc<Gate>,
    /// For each parameter of the statement, which part of the pattern it is.
    captures: Vec<usize>,
    /// Which keys are loaded before anybody asks for them.
    pub warm: Option<Arc<Warm>>,
    /// `weir_loads_in_flight{database}`.
    pub in_flight: Gauge,
    /// `weir_load_duration_seconds{route}`.
    pub duration: Histogram,
    /// How long its loads take, in microseconds: a moving mean of about the last eight.
    usual: AtomicU64,
}

/// A route's `warm`, ready for use.
pub struct Warm {
    /// Its statement, which answers for each row the texts of the key's parts, in the pattern's order.
    pub statement: Arc<dyn Statement>,
    /// So many batches are loaded at once.
    pub flights: usize,
}

/// When a lease is dropped on account of a change of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Before it: a load under way must not fill the key after it.
    Ahead,
    /// After it: those who wait for a client to fill the key must find it filled.
    Behind,
    /// There is no lease.
    Needless,
}

/// A route that has a `load`.
#[derive(Clone)]
pub struct Loading {
    route: Arc<Route>,
    /// It.
    pub load: Arc<Load>,
}

impl Deref for Loading {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

/// Counters of one route, looked up once; labels are the route's name and nothing a client chose.
pub struct RouteMetrics {
    /// `weir_lookups_total` by outcome.
    pub lookups: Lookups,
    /// `weir_coalesced_total{scope="process"}`.
    pub coalesced: Counter,
    /// `weir_coalesced_total{scope="fleet"}`.
    pub coalesced_fleet: Counter,
    /// `weir_invalidations_total{source="command"}`: a client's command changed a routed key.
    pub invalidations: Counter,
}

/// `weir_lookups_total{route,outcome}`.
pub struct Lookups {
    /// The value was kept in this process.
    pub near_hit: Counter,
    /// The value was there.
    pub hit: Counter,
    /// The value was there, and in its grace.
    pub stale_hit: Counter,
    /// The absence was remembered.
    pub negative_hit: Counter,
    /// A load was needed, own or somebody else's; of a route without `load`: the client was left to fill the key.
    pub miss: Counter,
    /// Not looked up: `on_modify = "pass"`, or an argument that fits no row.
    pub bypass: Counter,
    /// The database was asked past the store, which could not be asked or did not keep the key.
    pub unstored: Counter,
    /// No answer could be had.
    pub error: Counter,
}

/// Where a lease outlives its load: the fill must still find it. Clocks play no part, only the load's hard limit.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

impl Loading {
    /// Joins a route of the file, its `load` and what this was prepared as. `gate`: of the `load`'s database.
    pub fn new(
        config: config::Route,
        load: config::Load,
        statement: Arc<dyn Statement>,
        warm: Option<Warm>,
        gate: Arc<Gate>,
    ) -> Self {
        let names: Vec<&str> = config.key.parts.iter().filter_map(parameter_name).collect();
        let captures = load.parameters.iter().map(|wanted| {
            names.iter().position(|name| name == wanted).expect("the configuration checked every parameter")
        });
        let load = Arc::new(Load {
            captures: captures.collect(),
            in_flight: metrics::gauge!("weir_loads_in_flight", "database" => load.database.clone()),
            duration: metrics::histogram!("weir_load_duration_seconds", "route" => config.name.clone()),
            config: load,
            statement,
            gate,
            warm: warm.map(Arc::new),
            usual: AtomicU64::new(0),
        });
        Loading { route: Arc::new(Route::new(config, Some(load.clone()))), load }
    }

    /// The route, as one among all.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Whether both are the same route.
    pub fn is(&self, other: &Loading) -> bool {
        Arc::ptr_eq(&self.route, &other.route)
    }

    /// The statement's arguments, if `key` is one of this route's.
    pub fn arguments(&self, key: &[u8]) -> Option<Arguments> {
        let parts = self.parts(key)?;
        Some(self.load.captures.iter().map(|&index| parts[index].to_string()).collect())
    }

    /// The key whose parts are these; `None` if one is missing, or there is no such key.
    pub fn key_of(&self, parts: &[Option<Bytes>]) -> Option<Vec<u8>> {
        let (mut parts, mut key) = (parts.iter(), Vec::new());
        for part in &self.config.key.parts {
            match part {
                Part::Literal(text) => key.extend_from_slice(text.as_bytes()),
                Part::Segment(_) | Part::Rest(_) => key.extend_from_slice(parts.next()?.as_ref()?),
            }
        }
        self.matches(&key).then_some(key)
    }

    /// How long a lease for one of its loads stands: past the moment at which the load is cancelled.
    pub fn lease_time(&self) -> Duration {
        self.load.lease_time()
    }
}

impl Load {
    /// What a route wants of its database.
    pub fn spec(route: &config::Route, load: &config::Load) -> LoadSpec {
        LoadSpec {
            sql: load.sql.clone(),
            parameters: load.parameters.clone(),
            rows: load.rows,
            encoding: load.value,
            tag_columns: tag_columns(&route.tags),
        }
    }

    /// A load has taken so long.
    pub fn note_time(&self, taken: Duration) {
        let taken = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX / 8);
        let usual = self.usual.load(Relaxed);
        // Of two loads that end together one may not be counted: a mean bears that.
        self.usual.store(if usual == 0 { taken } else { usual - usual / 8 + taken / 8 }, Relaxed);
    }

    /// How long its loads take of late; zero before the first.
    pub fn usual_time(&self) -> Duration {
        Duration::from_micros(self.usual.load(Relaxed))
    }

    fn lease_time(&self) -> Duration {
        self.config.load_timeout + LEASE_MARGIN
    }
}

impl Route {
    /// A route that applications fill themselves.
    pub fn of_clients(config: config::Route) -> Self {
        Route::new(config, None)
    }

    fn new(config: config::Route, load: Option<Arc<Load>>) -> Self {
        let names: Vec<&str> = config.key.parts.iter().filter_map(parameter_name).collect();
        Route {
            matcher: Matcher::new(&config.key),
            metrics: RouteMetrics::new(&config.name),
            tags: RouteTags::new(&config.tags, &names),
            checks: config.load().map_or_else(Checks::default, |load| load.checks),
            config,
            load,
        }
    }

    /// The same as one whose keys can be loaded, if it has a `load`.
    pub fn loading(self: &Arc<Self>) -> Option<Loading> {
        Some(Loading { route: self.clone(), load: self.load.clone()? })
    }

    /// The tags of what was loaded for `key`, each once.
    pub fn tags_of(&self, key: &[u8], loaded: &Loaded) -> BTreeSet<Bytes> {
        self.parts(key).map(|parts| self.tags.of(&parts, loaded)).unwrap_or_default()
    }

    /// Those that the key alone tells.
    pub fn tags_of_key(&self, key: &[u8]) -> BTreeSet<Bytes> {
        self.parts(key).map(|parts| self.tags.of_key(&parts)).unwrap_or_default()
    }

    /// Those that it does not tell.
    pub fn tags_of_row(&self, key: &[u8], loaded: &Loaded) -> BTreeSet<Bytes> {
        self.parts(key).map(|parts| self.tags.of_row(&parts, loaded)).unwrap_or_default()
    }

    /// Whether its keys' lives may be prolonged in a way that Weir must see to: the tags that clients name for them too are
    /// noted.
    pub fn keeps_notes(&self) -> bool {
        !self.tags.is_empty() || self.config.sliding
    }

    /// What the pattern captures of `key`, if it is one of this route's.
    fn parts<'a>(&self, key: &'a [u8]) -> Option<Vec<&'a str>> {
        let mut parts = Vec::new();
        let matches = self.matcher.walk(key, &mut |part| parts.push(std::str::from_utf8(part).ok()));
        parts.into_iter().collect::<Option<_>>().filter(|_| matches)
    }

    /// Whether `key` is one of this route's. A key that is not UTF-8 is nobody's.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.matcher.matches(key)
    }

    /// What a command that needs the old value does on an absent key. Where nothing can be loaded, nothing is.
    pub fn on_modify(&self) -> OnModify {
        self.load.as_ref().map_or(OnModify::Pass, |load| load.config.on_modify)
    }

    /// When a client's change of a key drops its lease; `leaves_a_value`: the key may hold one after it.
    pub fn fence(&self, leaves_a_value: bool) -> Fence {
        match (&self.load, self.config.wait_for_fill().is_zero(), leaves_a_value) {
            (None, true, _) => Fence::Needless,
            (None, false, true) => Fence::Behind,
            _ => Fence::Ahead,
        }
    }

    /// Whether its keys can be loaded.
    pub fn has_load(&self) -> bool {
        self.load.is_some()
    }

    /// No value or negative entry that is stored from now on, by a client or by a load under way, lives longer.
    pub fn longest_life(&self) -> Duration {
        let longest = self.config.ttl + self.grace();
        let of_load = |load: &Arc<Load>| longest.max(load.config.negative_ttl) + load.lease_time();
        self.load.as_ref().map_or(longest + LEASE_MARGIN, of_load)
    }

    /// How long after its TTL a value of it may still be served.
    pub fn grace(&self) -> Duration {
        self.load.as_ref().map_or(Duration::ZERO, |load| load.config.grace)
    }

    /// Its `load`, if its values are refreshed before they are gone.
    pub fn refreshing(&self) -> Option<&Load> {
        self.load.as_deref().filter(|load| !load.config.grace.is_zero() || load.config.early_refresh > 0.0)
    }

    /// Whether each reader draws for himself when he refreshes a value.
    #[inline]
    pub fn refreshes_early(&self) -> bool {
        self.load.as_ref().is_some_and(|load| load.config.early_refresh > 0.0)
    }

    /// Counts one load, by what made it run and what it came to.
    pub fn count_load(&self, trigger: &'static str, result: &'static str, loads: u64) {
        let labels = [("route", self.config.name.clone()), ("trigger", trigger.into()), ("result", result.into())];
        metrics::counter!("weir_loads_total", &labels).increment(loads);
    }

    /// Counts fills, by what became of them.
    pub fn count_fills(&self, result: &'static str, fills: u64) {
        let labels = [("route", self.config.name.clone()), ("result", result.into())];
        metrics::counter!("weir_fills_total", &labels).increment(fills);
    }

    /// Counts one refused fill, by its reason.
    pub fn count_refused(&self, reason: &'static str) {
        self.count_fills("refused", 1);
        let labels = [("route", self.config.name.clone()), ("reason", reason.into())];
        metrics::counter!("weir_fills_refused_total", &labels).increment(1);
    }

    /// Counts one renewal of a life, by what became of it.
    pub fn count_renewal(&self, result: &'static str) {
        let labels = [("route", self.config.name.clone()), ("result", result.into())];
        metrics::counter!("weir_renewals_total", &labels).increment(1);
    }

    /// Whether what clients read of it may be kept in this process.
    pub fn has_near(&self) -> bool {
        !self.config.near.is_zero()
    }

    /// Where its values are kept, if a read of one waits for nobody but the store.
    pub fn kept(&self) -> Option<Kept> {
        let kept = if self.has_near() { Kept::Near } else { Kept::Store };
        self.config.wait_for_fill().is_zero().then_some(kept)
    }
}

impl RouteMetrics {
    fn new(route: &str) -> Self {
        let lookup = |outcome: &'static str| metrics::counter!("weir_lookups_total", "route" => route.to_string(), "outcome" => outcome);
        let coalesced = |scope: &'static str| metrics::counter!("weir_coalesced_total", "route" => route.to_string(), "scope" => scope);
        RouteMetrics {
            lookups: Lookups {
                near_hit: lookup("near_hit"),
                hit: lookup("hit"),
                stale_hit: lookup("stale_hit"),
                negative_hit: lookup("negative_hit"),
                miss: lookup("miss"),
                bypass: lookup("bypass"),
                unstored: lookup("unstored"),
                error: lookup("error"),
            },
            coalesced: coalesced("process"),
            coalesced_fleet: coalesced("fleet"),
            invalidations: metrics::counter!("weir_invalidations_total", "source" => "command"),
        }
    }
}

fn parameter_name(part: &Part) -> Option<&str> {
    match part {
        Part::Literal(_) => None,
        Part::Segment(name) | Part::Rest(name) => Some(name),
    }
}

/// All routes, in the order of the file.
#[derive(Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// How each route's literal head begins, to pass over most routes by one comparison.
    heads: Vec<Head>,
}

/// Where a route's values are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// At the store, and in this process too.
    Near,
    /// At the store alone.
    Store,
}

/// The first bytes of a key that a route's head asks for, and which of the eight it has.
#[derive(Clone, Copy)]
struct Head {
    bytes: u64,
    mask: u64,
    /// There are no more of them, and behind them stands one segment: so many it are.
    segment_at: Option<usize>,
    /// Where its values are kept, for a read that waits for nobody but the store; `None`: one may have to wait for a client.
    kept: Option<Kept>,
}

impl Head {
    fn of(route: &Route) -> Self {
        let text = match route.config.key.parts.first() {
            Some(Part::Literal(text)) => text.as_bytes(),
            _ => &[],
        };
        let segment_at = route.matcher.simple().filter(|length| *length <= 8);
        let (bytes, mask) = (first_eight(text), first_eight(&[0xff; 8][..text.len().min(8)]));
        Head { bytes, mask, segment_at, kept: route.kept() }
    }

    /// Whether the key, of which these are the first eight bytes, is one of the route's; `matches` is asked where the head
    /// cannot tell.
    #[inline]
    fn leads_to(&self, key: &[u8], first: u64, matches: impl FnOnce() -> bool) -> bool {
        first & self.mask == self.bytes
            && match self.segment_at {
                Some(length) => is_segment(key, length),
                None => matches(),
            }
    }
}

impl Routes {
    /// In the order of the file.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        Routes { heads: routes.iter().map(|route| Head::of(route)).collect(), routes }
    }

    /// The first route whose pattern matches.
    pub fn find(&self, key: &[u8]) -> Option<&Arc<Route>> {
        self.find_indexed(key).map(|(_, route)| route)
    }

    /// The same, with its index for [`Routes::get`].
    #[inline]
    pub fn find_indexed(&self, key: &[u8]) -> Option<(usize, &Arc<Route>)> {
        self.find_index(key).map(|index| (index, &self.routes[index]))
    }

    /// In place by force, as the near cache's look at a value is: called, the two cost a near hit a tenth more instructions.
    #[inline(always)]
    fn find_index(&self, key: &[u8]) -> Option<usize> {
        let first = first_eight(key);
        let mut heads = self.heads.iter().enumerate();
        heads.find(|(index, head)| head.leads_to(key, first, || self.matches(*index, key))).map(|(index, _)| index)
    }

    /// Apart, for most routes are decided by their heads.
    #[inline(never)]
    fn matches(&self, index: usize, key: &[u8]) -> bool {
        self.routes[index].matches(key)
    }

    /// Index of the key's route, if its values are kept there, and a read of one waits for nobody but the store.
    #[inline]
    pub fn find_kept(&self, kept: Kept, key: &[u8]) -> Option<usize> {
        self.find_index(key).filter(|index| self.heads[*index].kept == Some(kept))
    }

    /// By index.
    pub fn get(&self, index: usize) -> &Arc<Route> {
        &self.routes[index]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Those of the databases that their loads ask, each once, by name.
    pub fn gates(&self) -> Vec<&Arc<Gate>> {
        let mut gates: Vec<&Arc<Gate>> =
            self.routes.iter().filter_map(|route| Some(&route.load.as_ref()?.gate)).collect();
        gates.sort_by_key(|gate| gate.database());
        gates.dedup_by_key(|gate| gate.database());
        gates
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Config;
    use std::path::Path;

    fn routes(heads: &[&str]) -> Routes {
        let toml: String = heads.iter().map(|head| format!("[[route]]\nkey = \"{head}{{id}}\"\n")).collect();
        let config: Config = config::parse(&toml, Path::new("weir.toml"), |_| None).expect("a valid file");
        Routes::new(config.routes.into_iter().map(|route| Arc::new(Route::of_clients(route))).collect())
    }

    #[test]
    fn heads_find_what_patterns_match() {
        // Shorter than a word, as long as one, and longer, with heads that begin alike.
        let routes = routes(&["p:", "q:7", "product:", "product.", "products:", "the:product:", "the:product."]);
        let mut keys: Vec<Vec<u8>> = vec![vec![], b"p".to_vec(), b"\xff".repeat(9)];
        for route in routes.iter() {
            let Some(Part::Literal(head)) = route.config.key.parts.first() else { panic!("each has a head") };
            for key in (0..20).map(|length| [head.as_bytes(), &vec![b'x'; length]].concat()) {
                for at in 0..key.len() {
                    keys.extend([0, b':', b'.', b'7', b'X', 0x80].map(|byte| {
                        let mut other = key.clone();
                        other[at] = byte;
                        other
                    }));
                    keys.push(key[..at].to_vec());
                }
                keys.push(key);
            }
        }
        let mut found = 0;
        for key in keys {
            let first = routes.iter().position(|route| route.matches(&key));
            assert_eq!(routes.find_indexed(&key).map(|(index, _)| index), first, "{}", key.escape_ascii());
            found += usize::from(first.is_some());
        }
        assert!(found > 1_000, "{found}");
    }
}
