//! What answers a key, with what the store holds at it: for `WEIR EXPLAIN`, the admin API and `weir explain`.

use crate::cache::explain::{self, Explanation};
use crate::cache::route::Route;
use crate::resp::args::OwnedArgs;

use crate::store::{Backend, Identity};
use std::sync::Arc;

/// The route's part, or that there is none, and the key's present state.
pub async fn explain(route: Option<&Arc<Route>>, backend: &Backend, key: &[u8], db: u32) -> Explanation {
    let mut explanation = match route {
        Some(route) => explain::explain(route, key),
        None => vec![("route", "none: the key passes through as it is".into())],
    };
    explanation.push(("state", state(backend, key, db).await));
    explanation
}

/// From PTTL (-2: absent, -1: no time limit), which changes nothing.
async fn state(backend: &Backend, key: &[u8], db: u32) -> String {
    let pttl = OwnedArgs::from_iter([&b"PTTL"[..], key]);
    match backend.way(&Identity { db, ..Identity::default() }).run(pttl.as_args()).await {
        Ok(reply) => {
            match std::str::from_utf8(&reply).ok().and_then(|text| text.trim().strip_prefix(':')?.parse().ok()) {
                Some(-2_i64) => "absent".into(),
                Some(-1) => "present, without a time limit".into(),
                Some(left) => format!("present, for another {left} ms"),
                None => format!("unknown: the store answered {}", reply.escape_ascii()),
            }
        }
        Err(error) => format!("unknown: {error}"),
    }
}
