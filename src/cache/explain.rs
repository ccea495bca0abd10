//! What answers a key, in words: for `WEIR EXPLAIN`, the admin API and `weir explain`.

use super::route::Route;
use crate::config::{self, Encoding, OnModify, Rows};
use std::time::Duration;

/// Field names and texts, in the order in which people read them.
pub type Explanation = Vec<(&'static str, String)>;

/// All that the configuration says of `key` on `route`.
pub fn explain(route: &Route, key: &[u8]) -> Explanation {
    let config = &route.config;
    let arguments = route.arguments(key).unwrap_or_default();
    let bound: Vec<String> = config
        .parameters
        .iter()
        .zip(route.statement.parameter_types())
        .zip(&arguments)
        .map(|((name, kind), argument)| format!(":{name} = {argument:?} ({kind})"))
        .collect();
    let fitting: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let fits = route.statement.fits(&fitting);
    vec![
        ("route", config.name.clone()),
        ("pattern", config.key.text.clone()),
        ("database", config.database.clone()),
        ("load", config.load.clone()),
        ("parameters", bound.join(", ")),
        (
            "loads",
            if fits { "yes".into() } else { "no: a parameter does not fit its type, so there is no such row".into() },
        ),
        ("value", value(config.value, config.rows).into()),
        ("fresh", span(config.ttl, config.jitter)),
        (
            "negative",
            if config.negative_ttl.is_zero() { "not remembered".into() } else { duration(config.negative_ttl) },
        ),
        ("max_value", format!("{} bytes", config.max_value)),
        ("load_timeout", duration(config.load_timeout)),
        ("on_modify", on_modify(config.on_modify).into()),
        ("tags", tags(config)),
    ]
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
