//! The proxy's life: start everything, wait for a signal, drain.

use super::bars;
use crate::admin;
use crate::cache::prepare::prepare;
use crate::config::{Config, Diagnostic};
use crate::server::{Access, App, StoreKind, Workers, listener};
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use std::io::IsTerminal;
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
/// An upstream that neither answers nor refuses is not waited for any longer.
const LONGEST_START: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);
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
    let access = Access::of(&config.server.auth).map_err(StartError::Config)?;
    let listeners = listener::bind(&config.server).await?;
    let admin_listener = listener::bind_tcp(config.server.admin).await?;
    let app = Arc::new(App::new(config, routes, access, recorder.clone()));
    let workers = Arc::new(Workers::start(&app, tokio::runtime::Handle::current())?);
    until_settled(&app).await;
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(listener::accept(listener, app.clone(), workers.clone())))
        .collect();
    let house_keeping = tokio::spawn(keep_house(app.store.clone(), recorder));
    let admin = tokio::spawn(admin::serve(admin_listener, app.clone(), workers.clone()));
    on_start(&app);
    let bars = std::io::stderr().is_terminal().then(|| tokio::spawn(bars::show(app.clone())));

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
    bars.inspect(tokio::task::JoinHandle::abort);
    admin.abort();
    house_keeping.abort();
    Ok(())
}

/// Clients come once it is known whether the upstream is there, and whether what it holds may be served; or in any case after
/// [`LONGEST_START`].
async fn until_settled(app: &App) {
    let StoreKind::Redis(upstream) = &app.store else { return };
    let begun = Instant::now();
    while !upstream.is_settled() && begun.elapsed() < LONGEST_START {
        tokio::time::sleep(LOOK).await;
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
