//! A routed read that the store has not answered, or not for long enough: the database answers it (G7).
//!
//! That is so while the upstream cannot be asked, and where a key vanishes again and again before the read gets to it. The
//! command is run on the rows as they are now, and nothing is stored. What only the store knows (how long a key still
//! lives, keys of no route) stays as the store had it, and so does every change: it is refused, and remembered
//! ([`super::missed`]). Where the route has `near`, what was loaded so may be kept here for a while.

use super::near;
use super::output::Output;
use super::replies::Read;
use super::routed::{error, string, upstream_text, wanted};
use super::worker::Worker;
use crate::cache::error::LoadError;
use crate::cache::near::Marker;
use crate::cache::{Found, Wanted};
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::store::embedded::{Held, evaluate};
use crate::store::{StoreError, Way};
use crate::value::Value;
use std::time::Instant;

/// Whether a read that runs there may be answered without the store that has failed it so. Not if the store alone knows
/// what this client may read.
pub fn may_do_without(way: &Way, failure: &StoreError) -> bool {
    failure.is_outage() && way.identity.user.is_none()
}

/// Answers a read that the store has failed.
pub async fn answer(worker: &Worker, read: &Read, spec: &Spec, args: Args<'_>, failure: StoreError) -> Output {
    let answer = if read.may_do_without(&failure) { from_database(worker, read, spec, args).await } else { Ok(None) };
    match answer {
        Ok(Some(output)) => output,
        Err(failed) => error(&failed.to_string()),
        Ok(None) => {
            let routes = std::iter::once(&read.route).chain(&read.other_routes);
            routes.for_each(|&route| worker.app.routes.get(route).metrics.lookups.error.increment(1));
            error(&upstream_text(failure))
        }
    }
}

/// The answer as the rows give it; `None`, and nothing is loaded, if they do not tell it.
pub async fn from_database(
    worker: &Worker,
    read: &Read,
    spec: &Spec,
    args: Args<'_>,
) -> Result<Option<Output>, LoadError> {
    let keys: Vec<&[u8]> = spec.key_positions(args).filter_map(|position| args.get(position)).collect();
    let protocol = read.way.identity.protocol;
    let absent: Vec<Held<'_>> = keys.iter().map(|&key| (key, None)).collect();
    let wanted: Option<Vec<Wanted>> = keys.iter().map(|key| wanted(worker, read, key)).collect();
    let Some(wanted) = wanted.filter(|_| !tells_what_the_store_knows(spec)) else { return Ok(None) };
    if !evaluate(&absent, args, protocol, &mut Vec::new()) {
        return Ok(None);
    }
    let begun = Instant::now();
    let markers: Vec<Option<Marker>> = wanted.iter().map(|wanted| mark(worker, read, wanted, begun)).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for ((answer, marker), wanted) in worker.engine.load_unstored(&wanted).await.into_iter().zip(markers).zip(&wanted) {
        found.push(match answer? {
            Found::Loaded { value, .. } => {
                if let Some(marker) = marker {
                    marker.keep(Value::clone(&value), begun + wanted.route.config.near);
                }
                Some(value)
            }
            Found::Absent | Found::Present => None,
        });
    }
    if let ("get", [Some(value)]) = (spec.name, &found[..])
        && let Some(output) = string(value)
    {
        return Ok(Some(output));
    }
    let held: Vec<Held<'_>> =
        keys.into_iter().zip(found.iter().map(|value| value.as_ref().map(|value| value.view()))).collect();
    let mut output = Output::default();
    output.write(|out| evaluate(&held, args, protocol, out));
    Ok(Some(output))
}

/// The right to keep near what is about to be loaded, where the upstream tells nothing.
fn mark(worker: &Worker, read: &Read, wanted: &Wanted, now: Instant) -> Option<Marker> {
    let near = worker.app.near.as_ref().filter(|_| wanted.route.has_near())?;
    near.mark_unheard(near::key(&read.way.identity, &wanted.key.name), now)
}

fn tells_what_the_store_knows(spec: &Spec) -> bool {
    matches!(spec.name, "ttl" | "pttl" | "expiretime" | "pexpiretime" | "object")
}
