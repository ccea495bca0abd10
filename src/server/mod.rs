//! The proxy itself: listeners, workers, the admin port, signals, and the drain.
//!
//! Each worker is a thread with a single-threaded runtime of its own, its own links to the upstream and its own
//! clients; nothing on a hit is shared between two of them. A multi-threaded runtime beside them runs what may take
//! time: database connections, the admin port, signals and the accepting of clients.

mod app;
mod clients;
mod conn;
mod embedded_server;
mod explain;
mod info;
mod listener;
pub mod metrics;
mod output;
mod own;
mod replies;
mod routed;
mod session;
mod threads;
mod weir;
mod worker;

pub use self::app::{App, StoreKind};
pub use self::threads::Workers;

use self::clients::Clients;
use crate::admin;
use crate::cache::prepare::prepare;
use crate::config::{Config, Diagnostic};
use crate::store::embedded::Embedded;
use crate::store::redis::handshake::Upstream;
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Why the proxy did not start.
#[derive(Debug)]
pub enum StartError {
    /// Statements that do not prepare, or databases that cannot be reached: each at its place in the file.
    Config(Vec<Diagnostic>),
    /// Anything else, such as an address that is taken.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for StartError {
    fn from(error: E) -> Self {
        StartError::Other(error.into())
    }
}

/// Clients have so long to take their last replies.
const GRACE: Duration = Duration::from_secs(10);
/// How often the embedded store looks for expired keys.
const SWEEP: Duration = Duration::from_millis(100);

/// Runs the proxy until SIGINT or SIGTERM; `on_start` is called with it once it listens.
pub fn run(config: Config, on_start: impl FnOnce(&App)) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weir-loads")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config, on_start));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config, on_start: impl FnOnce(&App)) -> Result<(), StartError> {
    let recorder = admin::install_recorder()?;
    let mut stop = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let routes = prepare(&config).await.map_err(StartError::Config)?;
    let listeners = listener::bind(&config.server.listen).await?;
    let admin_listener = listener::bind_one(config.server.admin).await?;
    let app = Arc::new(App {
        routes,
        clients: Clients::new(config.server.max_clients),
        store: store(&config),
        started: Instant::now(),
        config,
    });
    let workers = Arc::new(Workers::start(&app, tokio::runtime::Handle::current())?);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(listener::accept(listener, app.clone(), workers.clone())))
        .collect();
    let house_keeping = tokio::spawn(keep_house(app.store.clone(), recorder.clone()));
    let admin = tokio::spawn(admin::serve(admin_listener, app.clone(), workers.clone(), recorder));
    on_start(&app);

    let [interrupt, terminate] = &mut stop;
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted, draining"),
        _ = terminate.recv() => tracing::info!("terminated, draining"),
    }
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::select! {
        left = workers.drain(GRACE) => tracing::info!(clients_cut = left, "drained"),
        _ = interrupt.recv() => tracing::warn!("interrupted again, not waiting for clients"),
    }
    admin.abort();
    house_keeping.abort();
    Ok(())
}

fn store(config: &Config) -> StoreKind {
    match &config.upstream {
        Some(upstream) => StoreKind::Redis(Arc::new(Upstream::new(upstream.clone()))),
        None => StoreKind::Embedded(Arc::new(Embedded::new(config.embedded.max_memory))),
    }
}

/// What must happen now and then: expired keys are dropped, and samples of histograms become buckets.
async fn keep_house(store: StoreKind, recorder: PrometheusHandle) {
    let mut ticks = tokio::time::interval(SWEEP);
    for tick in 0_u64.. {
        ticks.tick().await;
        if let StoreKind::Embedded(embedded) = &store {
            embedded.sweep();
        }
        if tick % 50 == 0 {
            recorder.run_upkeep();
        }
    }
}
