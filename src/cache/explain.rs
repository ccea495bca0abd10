//! What answers a key, in words: for `WEIR EXPLAIN`, the admin API and `weir explain`.

use super::route::{Loading, Route};
use crate::config::{self, Encoding, OnModify, Rows};
use std::sync::Arc;
use std::time::Duration;

/// Field names and texts, in the order in which people read them.
pub type Explanation = Vec<(&'static str, String)>;

/// All that the configuration says of `key` on `route`.
pub fn explain(route: &Arc<Route>, key: &[u8]) -> Explanation {
    let config = &route.config;
    let mut explanation = vec![("route", config.name.clone()), ("pattern", config.key.text.clone())];
    match route.loading() {
        Some(loading) => explanation.extend(of_load(&loading, key)),
        None => explanation.extend(of_clients(route)),
    }
    explanation
}

fn of_load(route: &Loading, key: &[u8]) -> Explanation {
    let (load, statement) = (&route.load.config, &route.load.statement);
    let arguments = route.arguments(key).unwrap_or_default();
    let bound: Vec<String> = load
        .parameters
        .iter()
        .zip(statement.parameter_types())
        .zip(&arguments)
        .map(|((name, kind), argument)| format!(":{name} = {argument:?} ({kind})"))
        .collect();
    let fitting: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let fits = statement.fits(&fitting);
    vec![
        ("database", load.database.clone()),
        ("load", load.sql.clone()),
        ("parameters", bound.join(", ")),
        (
            "loads",
            if fits { "yes".into() } else { "no: a parameter does not fit its type, so there is no such row".into() },
        ),
        ("value", value(load.value, load.rows).into()),
        ("fresh", span(route.config.ttl, route.config.jitter) + from_when(&route.config)),
        (
            "grace",
            if load.grace.is_zero() { "none".into() } else { duration(load.grace) + " more, while it is refreshed" },
        ),
        ("early_refresh", if load.early_refresh == 0.0 { "off".into() } else { load.early_refresh.to_string() }),
        ("negative", if load.negative_ttl.is_zero() { "not remembered".into() } else { duration(load.negative_ttl) }),
        ("max_value", format!("{} bytes", load.max_value)),
        ("load_timeout", duration(load.load_timeout)),
        ("on_modify", on_modify(load.on_modify).into()),
        ("tags", tags(&route.config)),
    ]
}

fn of_clients(route: &Route) -> Explanation {
    let wait = route.config.wait_for_fill();
    vec![
        ("loads", "no: the route has no `load`, applications fill the key themselves".into()),
        (
            "ttl",
            format!("{} at most, and where a client sets none", span(route.config.ttl, route.config.jitter))
                + from_when(&route.config),
        ),
        ("wait_for_fill", if wait.is_zero() { "off".into() } else { duration(wait) }),
        ("tags", tags(&route.config)),
    ]
}

fn from_when(route: &config::Route) -> &'static str {
    if route.sliding { ", from the last read" } else { "" }
}

fn span(ttl: Duration, jitter: f64) -> String {
    if jitter == 0.0 {
        return duration(ttl);
    }
    format!("{} to {}", duration(ttl.mul_f64(1.0 - jitter)), duration(ttl))
}

fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds if milliseconds % 1000 == 0 => format!("{}s", milliseconds / 1000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

fn value(encoding: Encoding, rows: Rows) -> &'static str {
    match (encoding, rows) {
        (Encoding::Json, Rows::One) => "json object",
        (Encoding::Json, Rows::Many) => "json array of objects",
        (Encoding::MsgPack, Rows::One) => "msgpack map",
        (Encoding::MsgPack, Rows::Many) => "msgpack array of maps",
        (Encoding::Hash, _) => "hash",
        (Encoding::Text, _) => "text",
    }
}

fn tags(config: &config::Route) -> String {
    match config.tags.as_slice() {
        [] => "none".into(),
        tags => tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn on_modify(on_modify: OnModify) -> &'static str {
    match on_modify {
        OnModify::Load => "load",
        OnModify::Pass => "pass",
        OnModify::Reject => "reject",
    }
}
