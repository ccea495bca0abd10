//! Routes as the engine uses them: a pattern to match keys with, a prepared statement, and the metrics that bear its name.

use super::matcher::Matcher;
use super::tags::{RouteTags, tag_columns};
use crate::config::{self, OnModify, Part};
use crate::database::{Arguments, LoadSpec, Loaded, Statement};
use bytes::Bytes;
use metrics::Counter;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// One route, ready for use.
pub struct Route {
    /// What the file says of it.
    pub config: config::Route,
    /// Its `load`, prepared.
    pub statement: Arc<dyn Statement>,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// Under which names its keys are invalidated together.
    pub tags: RouteTags,
    matcher: Matcher,
    /// For each parameter of the statement, which part of the pattern it is.
    captures: Vec<usize>,
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
    /// `weir_loads_in_flight{database}`.
    pub in_flight: metrics::Gauge,
    /// `weir_load_duration_seconds{route}`.
    pub load_duration: metrics::Histogram,
}

/// `weir_lookups_total{route,outcome}`.
pub struct Lookups {
    /// The value was kept in this process.
    pub near_hit: Counter,
    /// The value was there.
    pub hit: Counter,
    /// The absence was remembered.
    pub negative_hit: Counter,
    /// A load was needed, own or somebody else's.
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

impl Route {
    /// Joins a route of the file with its prepared statement.
    pub fn new(config: config::Route, statement: Arc<dyn Statement>) -> Self {
        let names: Vec<&str> = config.key.parts.iter().filter_map(parameter_name).collect();
        let captures = config.parameters.iter().map(|wanted| {
            names.iter().position(|name| name == wanted).expect("the configuration checked every parameter")
        });
        Route {
            captures: captures.collect(),
            tags: RouteTags::new(&config.tags, &names),
            matcher: Matcher::new(&config.key),
            metrics: RouteMetrics::new(&config.name, &config.database),
            config,
            statement,
        }
    }

    /// What the route wants of its database.
    pub fn load_spec(config: &config::Route) -> LoadSpec {
        LoadSpec {
            sql: config.load.clone(),
            parameters: config.parameters.clone(),
            rows: config.rows,
            encoding: config.value,
            tag_columns: tag_columns(&config.tags),
        }
    }

    /// The statement's arguments, if `key` is one of this route's.
    pub fn arguments(&self, key: &[u8]) -> Option<Arguments> {
        let parts = self.parts(key)?;
        Some(self.captures.iter().map(|&index| parts[index].to_string()).collect())
    }

    /// The tags of what was loaded for `key`, each once.
    pub fn tags_of(&self, key: &[u8], loaded: &Loaded) -> BTreeSet<Bytes> {
        self.parts(key).map(|parts| self.tags.of(&parts, loaded)).unwrap_or_default()
    }

    /// Those that the key alone tells.
    pub fn tags_of_key(&self, key: &[u8]) -> BTreeSet<Bytes> {
        self.parts(key).map(|parts| self.tags.of_key(&parts)).unwrap_or_default()
    }

    /// What the pattern captures of `key`, if it is one of this route's.
    fn parts<'a>(&self, key: &'a [u8]) -> Option<Vec<&'a str>> {
        let mut parts = Vec::new();
        let matches = self.matcher.walk(key, &mut |part| parts.push(std::str::from_utf8(part).ok()));
        parts.into_iter().collect::<Option<_>>().filter(|_| matches)
    }

    /// Whether `key` is one of this route's. A key that is not UTF-8 is nobody's.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.matcher.walk(key, &mut |_| ()) && std::str::from_utf8(key).is_ok()
    }

    /// How long a lease for one of its loads stands: past the moment at which the load is cancelled.
    pub fn lease_time(&self) -> Duration {
        self.config.load_timeout + LEASE_MARGIN
    }

    /// No value or negative entry that is stored from now on by a load under way lives longer.
    pub fn longest_life(&self) -> Duration {
        self.config.ttl.max(self.config.negative_ttl) + self.lease_time()
    }

    /// Counts one load, by what made it run and what it came to.
    pub fn count_load(&self, trigger: &'static str, result: &'static str, loads: u64) {
        let labels = [("route", self.config.name.clone()), ("trigger", trigger.into()), ("result", result.into())];
        metrics::counter!("weir_loads_total", &labels).increment(loads);
    }

    /// Counts one fill, by what became of it.
    pub fn count_fill(&self, result: &'static str) {
        let labels = [("route", self.config.name.clone()), ("result", result.into())];
        metrics::counter!("weir_fills_total", &labels).increment(1);
    }

    /// Counts one refused fill, by its reason.
    pub fn count_refused(&self, reason: &'static str) {
        self.count_fill("refused");
        let labels = [("route", self.config.name.clone()), ("reason", reason.into())];
        metrics::counter!("weir_fills_refused_total", &labels).increment(1);
    }

    /// Whether what clients read of it may be kept in this process.
    pub fn has_near(&self) -> bool {
        !self.config.near.is_zero()
    }

    /// What a command that needs the old value does on an absent key.
    pub fn on_modify(&self) -> OnModify {
        self.config.on_modify
    }
}

impl RouteMetrics {
    fn new(route: &str, database: &str) -> Self {
        let lookup = |outcome: &'static str| metrics::counter!("weir_lookups_total", "route" => route.to_string(), "outcome" => outcome);
        let coalesced = |scope: &'static str| metrics::counter!("weir_coalesced_total", "route" => route.to_string(), "scope" => scope);
        RouteMetrics {
            lookups: Lookups {
                near_hit: lookup("near_hit"),
                hit: lookup("hit"),
                negative_hit: lookup("negative_hit"),
                miss: lookup("miss"),
                bypass: lookup("bypass"),
                unstored: lookup("unstored"),
                error: lookup("error"),
            },
            coalesced: coalesced("process"),
            coalesced_fleet: coalesced("fleet"),
            invalidations: metrics::counter!("weir_invalidations_total", "source" => "command"),
            in_flight: metrics::gauge!("weir_loads_in_flight", "database" => database.to_string()),
            load_duration: metrics::histogram!("weir_load_duration_seconds", "route" => route.to_string()),
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
    /// Each route's literal head, to pass over most routes by one comparison.
    heads: Vec<Box<[u8]>>,
}

impl Routes {
    /// In the order of the file.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let head = |route: &Arc<Route>| match route.config.key.parts.first() {
            Some(Part::Literal(text)) => text.as_bytes().into(),
            _ => Box::default(),
        };
        Routes { heads: routes.iter().map(head).collect(), routes }
    }

    /// The first route whose pattern matches.
    pub fn find(&self, key: &[u8]) -> Option<&Arc<Route>> {
        self.find_indexed(key).map(|(_, route)| route)
    }

    /// The same, with its index for [`Routes::get`].
    pub fn find_indexed(&self, key: &[u8]) -> Option<(usize, &Arc<Route>)> {
        let index = self
            .heads
            .iter()
            .zip(&self.routes)
            .position(|(head, route)| key.starts_with(head) && route.matches(key))?;
        Some((index, &self.routes[index]))
    }

    /// By index.
    pub fn get(&self, index: usize) -> &Arc<Route> {
        &self.routes[index]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}
