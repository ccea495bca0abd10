//! What answers a key, with what the store holds at it: for `WEIR EXPLAIN`, the admin API and `weir explain`.

use super::near;
use super::worker::Worker;
use crate::cache::explain::{self, Explanation};
use crate::resp::args::OwnedArgs;
use crate::store::look::{Look, Seen};
use crate::store::{Backend, Identity, StoreKey};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The route's part, or that there is none, and the key's present state.
pub async fn explain(worker: &Worker, key: &[u8], identity: &Identity) -> Explanation {
    let mut explanation = match worker.app.routes.find(key) {
        Some(route) => explain::explain(route, key),
        None => vec![("route", "none: the key passes through as it is".into())],
    };
    explanation.push(("near", near_state(worker, key, identity)));
    let grace = worker.app.routes.find(key).map(|route| route.grace()).unwrap_or_default();
    explanation.push(("state", state(&worker.backend, key, identity.db, grace).await));
    explanation
}

/// Whether this process would answer by itself.
fn near_state(worker: &Worker, key: &[u8], identity: &Identity) -> String {
    let route = worker.app.routes.find(key).filter(|route| route.has_near());
    let (Some(_), Some(near)) = (route, &worker.app.near) else { return "off".into() };
    let left = near.until(near::key(identity, key)).and_then(|until| until.checked_duration_since(Instant::now()));
    match left {
        Some(left) => format!("kept for another {} ms at most", left.as_millis()),
        None if near.is_open() => "nothing is kept".into(),
        None => "nothing is kept while the upstream does not tell of changes".into(),
    }
}

/// From PTTL (-2: absent, -1: no time limit), which changes nothing. The last `grace` of a value's life is not told by it as fresh.
async fn state(backend: &Backend, key: &[u8], db: u32, grace: Duration) -> String {
    let pttl = OwnedArgs::from_iter([&b"PTTL"[..], key]);
    match backend.way(&Identity { db, ..Identity::default() }).run(pttl.as_args()).await {
        Ok(reply) => {
            match std::str::from_utf8(&reply).ok().and_then(|text| text.trim().strip_prefix(':')?.parse().ok()) {
                Some(-2_i64) => absence(backend, key, db).await.into(),
                Some(-1) => "present, without a time limit".into(),
                Some(left) => match left - i64::try_from(grace.as_millis()).unwrap_or(i64::MAX) {
                    _ if grace.is_zero() => format!("present, for another {left} ms"),
                    fresh if fresh > 0 => format!("present, fresh for another {fresh} ms"),
                    _ => format!("stale, and served for another {left} ms while it is refreshed"),
                },
                None => format!("unknown: the store answered {}", reply.escape_ascii()),
            }
        }
        Err(error) => format!("unknown: {error}"),
    }
}

/// Whether it is known that there is no row.
async fn absence(backend: &Backend, key: &[u8], db: u32) -> &'static str {
    match backend.look(&StoreKey { db, name: Bytes::copy_from_slice(key) }).await {
        Ok(Seen::Negative) => "absent, and remembered as a row that is not there",
        _ => "absent",
    }
}
