//! What the whole process shares: the configuration, the routes, and who is connected.

use super::access::Access;
use super::clients::Clients;
use super::lives::Lives;
use super::warming::Warming;
use crate::cache::near::Near;
use crate::cache::route::Routes;
use crate::config::Config;
use crate::store::embedded::Embedded;
use crate::store::redis::Privates;
use crate::store::redis::handshake::Upstream;
use crate::store::redis::tracking::Hearing;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The running proxy, as seen from every thread.
pub struct App {
    /// The file, validated.
    pub config: Config,
    /// Its routes, with their statements prepared.
    pub routes: Routes,
    /// Who may connect.
    pub access: Access,
    /// Who is connected.
    pub clients: Clients,
    /// Where the data lives.
    pub store: StoreKind,
    /// What is kept of what clients have read there; `None`: no route asks for that, or the data is in this process anyway.
    pub near: Option<Arc<Near>>,
    /// By which it hears of changes.
    pub hearing: Option<Hearing>,
    /// How many links to the upstream serve one client each.
    pub privates: Arc<Privates>,
    /// How long keys have yet to live, by what reads have heard.
    pub lives: Lives,
    /// Which keys are loaded before anybody asks for them, and how far that is.
    pub warming: Warming,
    /// What is counted, by the `metrics` crate's handles.
    pub recorder: PrometheusHandle,
    /// When the process began.
    pub started: Instant,
    /// See [`App::has_own_keys`].
    own_keys: AtomicBool,
}

/// Where the data lives.
#[derive(Clone)]
pub enum StoreKind {
    /// In a Redis behind us.
    Redis(Arc<Upstream>),
    /// In this process.
    Embedded(Arc<Embedded>),
}

impl App {
    /// A proxy that is about to start.
    pub fn new(config: Config, routes: Routes, access: Access, recorder: PrometheusHandle) -> Self {
        let store = match &config.upstream {
            Some(upstream) => StoreKind::Redis(Arc::new(Upstream::new(upstream.clone()))),
            None => StoreKind::Embedded(Arc::new(Embedded::new(config.embedded.max_memory))),
        };
        if let (StoreKind::Redis(upstream), true) = (&store, routes.iter().any(|route| !route.tags.is_empty())) {
            upstream.policies().matter();
        }
        let clients = Clients::new(config.server.max_clients, &config.limits);
        let privates = Arc::new(Privates::new(config.limits.max_private_links));
        let is_near = matches!(store, StoreKind::Redis(_)) && routes.iter().any(|route| route.has_near());
        let near = is_near.then(|| Arc::new(Near::new(config.limits.max_near)));
        let hearing = near.clone().map(|near| Hearing::new(near));
        let warming = Warming::new(&routes);
        let own_keys = AtomicBool::new(!routes.is_empty());
        let started = Instant::now();
        let lives = Lives::new(started);
        App {
            routes,
            access,
            clients,
            store,
            near,
            hearing,
            privates,
            lives,
            warming,
            recorder,
            started,
            own_keys,
            config,
        }
    }

    /// Whether keys of Weir's own may stand among the clients' at the upstream: where there are routes, or once a client has
    /// named tags.
    #[inline]
    pub fn has_own_keys(&self) -> bool {
        self.own_keys.load(Relaxed) && matches!(self.store, StoreKind::Redis(_))
    }

    /// A client names tags.
    pub fn note_tags(&self) {
        if let StoreKind::Redis(upstream) = &self.store {
            upstream.policies().matter();
        }
        self.own_keys.store(true, Relaxed);
    }

    /// Whether clients may be sent here: the upstream can be reached, and what was to be warmed before is warm.
    pub fn is_ready(&self) -> bool {
        self.is_connected() && (self.warming.is_over() || !self.config.server.ready_after_warm)
    }

    /// Whether the upstream can be reached.
    pub fn is_connected(&self) -> bool {
        match &self.store {
            StoreKind::Redis(upstream) => upstream.is_up(),
            StoreKind::Embedded(_) => true,
        }
    }

    /// How long a command may take at the upstream.
    pub fn upstream_timeout(&self) -> Duration {
        match &self.store {
            StoreKind::Redis(upstream) => upstream.timeout,
            StoreKind::Embedded(_) => Duration::MAX,
        }
    }

    /// The Redis version that clients are told.
    pub fn redis_version(&self) -> String {
        match &self.store {
            StoreKind::Redis(upstream) if !upstream.version().is_empty() => upstream.version(),
            _ => EMBEDDED_VERSION.into(),
        }
    }
}

/// The Redis whose replies the embedded store gives.
pub const EMBEDDED_VERSION: &str = "7.0.15";
