//! The admin port: metrics, health, readiness, and what answers a key. For operators, never for clients.

mod process;

use crate::server::metrics;
use crate::server::{App, StoreKind, Workers};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Upper bounds of the load durations' buckets in seconds.
const LOAD_BOUNDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The same of the delays with which changes are heard of.
const PUSH_BOUNDS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Makes the `metrics` crate's handles known to this process's recorder. Once per process.
pub fn install_recorder() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("weir_load_duration_seconds".into()), &LOAD_BOUNDS)?
        .set_buckets_for_metric(Matcher::Full("weir_near_push_delay_seconds".into()), &PUSH_BOUNDS)?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder)?;
    ::metrics::gauge!("weir_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

#[derive(Clone)]
struct Admin {
    app: Arc<App>,
    workers: Arc<Workers>,
}

/// Serves the admin port for ever.
pub async fn serve(listener: TcpListener, app: Arc<App>, workers: Arc<Workers>) {
    let router = Router::new()
        .route("/", get(status))
        .route("/metrics", get(render_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/explain", get(explain_key))
        .route("/api/warm", get(warming))
        .with_state(Admin { app, workers });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin port has ended");
    }
}

async fn status(State(admin): State<Admin>) -> String {
    let routes: String = admin
        .app
        .routes
        .iter()
        .map(|route| format!("  {} -> {}\n", route.config.key.text, route.config.name))
        .collect();
    let state = |down| if down { "down" } else { "up" };
    let databases: String = admin
        .app
        .routes
        .gates()
        .into_iter()
        .map(|gate| format!("database {}: {}\n", gate.database(), state(gate.is_down())))
        .collect();
    format!(
        "weir {}\nclients: {}\nready: {}\n{databases}routes:\n{routes}see /metrics, /healthz, /readyz, /api/warm, /api/explain?key=KEY\n",
        env!("CARGO_PKG_VERSION"),
        admin.app.clients.count(),
        admin.app.is_ready(),
    )
}

async fn render_metrics(State(admin): State<Admin>) -> String {
    let mut text = admin.app.recorder.render();
    metrics::render(&admin.workers.counts(), &mut text);
    admin.app.clients.buffers.render(&mut text);
    admin.app.near.as_ref().inspect(|near| near.render(&mut text));
    process::render(&mut text);
    text
}

async fn ready(State(admin): State<Admin>) -> Response {
    match &admin.app.store {
        _ if admin.app.is_ready() => "ready\n".into_response(),
        _ if admin.app.is_connected() => (StatusCode::SERVICE_UNAVAILABLE, "warming: see /api/warm\n").into_response(),
        StoreKind::Redis(upstream) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("upstream {} is not connected\n", upstream.address()))
                .into_response()
        }
        StoreKind::Embedded(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

/// How far each route is that is warmed, by its name.
async fn warming(State(admin): State<Admin>) -> Response {
    let routes = admin.app.warming.report().into_iter().map(|(name, progress)| {
        let progress = serde_json::to_value(progress).expect("numbers and words are JSON");
        (name, progress)
    });
    axum::Json(serde_json::Value::Object(routes.collect())).into_response()
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

async fn explain_key(State(admin): State<Admin>, Query(Key { key }): Query<Key>) -> Response {
    match admin.workers.explain(key.as_bytes()).await {
        Some(explanation) => {
            let fields = explanation.into_iter().map(|(name, text)| (name.to_string(), text.into()));
            axum::Json(serde_json::Value::Object(fields.collect())).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}
