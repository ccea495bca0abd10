//! The slow way of a command on routed keys: make them present, then run the command as it is.
//!
//! Everything here is a miss or a change, in a task of its own; a hit never comes this way.

mod modifying;
mod reading;
mod writing;

use super::aside;
use super::lasting::Lasting;
use super::lifetime::Leaves;
use super::output::Output;
use super::worker::Worker;
use crate::cache::error::upstream_error;
use crate::cache::route::{Fence, Route};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::lookup;
use crate::resp::scan::{CommandScanner, ScanLimits, Scanned};
use crate::resp::write;
use crate::store::{StoreError, Way};
use futures_util::future::join_all;
pub use modifying::modify;
pub use reading::{prolonging_read, read, read_from_store, string, wanted};
use std::sync::Arc;
pub use writing::write;

/// A key may vanish again between its load and the command: so often it is made present anew.
const ATTEMPTS: usize = 4;

/// A change of routed keys.
pub struct Modify {
    /// Its routed keys.
    pub keys: Vec<(Vec<u8>, Arc<Route>)>,
    /// It has this one key only: presence and command are one step at the store.
    pub lone: bool,
    /// The whole command, not inline.
    pub command: Vec<u8>,
    /// What it leaves at its keys.
    pub leaves: Leaves,
    /// Where it runs.
    pub way: Way,
}

/// What is to be seen to around a command. What a client stores has the tags that its key tells; what its row would tell,
/// nobody knows.
fn lasting(worker: &Worker, command: &Modify, args: Args<'_>) -> Lasting {
    let spec = lookup(&args[0]).filter(|spec| spec.arity_ok(args.len()));
    spec.map(|spec| Lasting::of(&worker.app.routes, spec, args, command.leaves)).unwrap_or_default()
}

/// Drops the leases that must be gone before the command runs.
async fn fence(worker: &Worker, command: &Modify) -> Result<(), StoreError> {
    let fences = command.keys.iter().map(|(key, route)| async move {
        worker.note_invalidation(route, command.way.identity.db, key);
        match route.fence(command.leaves.a_value()) {
            Fence::Ahead => command.way.fenced(key).await,
            Fence::Behind | Fence::Needless => Ok(()),
        }
    });
    join_all(fences).await.into_iter().collect()
}

/// Caps the keys of a command that was not refused; and those who wait for one of them look.
async fn settle_written(worker: &Worker, command: &Modify, reply: Option<&[u8]>) {
    if reply.is_none_or(|reply| reply.starts_with(b"-")) {
        return;
    }
    for (key, route) in &command.keys {
        if let Some(ttl) = command.leaves.cap(route, &worker.engine) {
            command.way.capped(key, ttl).await;
        }
        aside::release(worker, route, key, &command.way, command.leaves);
    }
}

/// Runs any command that Weir has nothing to add to.
pub async fn run(command: Vec<u8>, way: Way) -> Output {
    way.run(parse(&command).as_args()).await.map_or_else(|failure| error(&upstream_text(failure)), Output::whole)
}

/// After a routed command is sent: no key of a route outlives the route's TTL, whoever set it.
pub fn cap(worker: &Worker, route: &Route, key: &[u8], way: &Way, leaves: Leaves) {
    if let Some(ttl) = leaves.cap(route, &worker.engine) {
        way.cap(key, ttl);
    }
}

/// After a routed write is sent.
pub fn settle(worker: &Worker, key: &[u8], route: &Arc<Route>, leaves: Leaves, way: &Way) {
    cap(worker, route, key, way, leaves);
    aside::release(worker, route, key, way, leaves);
}

/// A command that was scanned once already.
pub fn parse(command: &[u8]) -> OwnedArgs {
    let limits = ScanLimits { max_command: u32::MAX as usize, max_arguments: usize::MAX, ..ScanLimits::default() };
    let mut scanner = CommandScanner::new(limits);
    match scanner.scan(command) {
        Ok(Scanned::Complete { .. }) => scanner.args(command).iter().collect(),
        _ => unreachable!("a command that was whole is whole"),
    }
}

/// An error as a whole answer.
pub fn error(text: &str) -> Output {
    let mut output = Output::default();
    output.write(|out| write::error(out, text));
    output
}

/// What a client is told of the store's failure.
pub fn upstream_text(error: StoreError) -> String {
    let mut text = String::new();
    upstream_error(&mut text, &error).expect("a string takes every text");
    text
}
