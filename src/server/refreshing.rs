//! `WEIR REFRESH key`: the key is loaded now, and its client is answered once that is stored.

use super::conn::{Conn, Flow, Request};
use super::output::Output;
use super::routed::error;
use super::tagging::{integer, on_key};
use crate::cache::{Found, Wanted};
use crate::resp::write;

/// Answers 1, or 0 if there is no such row; errors are those of a read that misses.
pub fn run(conn: &mut Conn, request: Request<'_>) -> Flow {
    // The load is Weir's own, over links of its own: nothing that the client has sent may be overtaken.
    if conn.replies.any_open() {
        return Flow::Wait;
    }
    let Some(route) = conn.worker.app.routes.find(&request.args[2]).and_then(|route| route.loading()) else {
        conn.answer_now(|out| write::error(out, NO_LOAD));
        return Flow::Next;
    };
    on_key(conn, request, async move |worker, key, _| -> Output {
        match worker.engine.refresh_now(&Wanted { route, key }).await {
            Ok(Found::Absent) => integer(0),
            Ok(Found::Present | Found::Loaded { .. }) => integer(1),
            Err(failure) => error(&failure.to_string()),
        }
    })
}

const NO_LOAD: &str =
    "ERR no route with a `load` matches the key, so there is nothing to load it from; WEIR ROUTES lists the routes";
