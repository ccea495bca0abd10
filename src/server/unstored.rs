//! A routed read that the store has not answered, or not for long enough: the database answers it (G7).
//!
//! That is so while the upstream cannot be asked, and where a key vanishes again and again before the read gets to it. The
//! command is run on the rows as they are now, and nothing is stored. What only the store knows (how long a key still
//! lives, keys of no route) stays as the store had it, and so does every change: an invalidation that nobody remembered
//! would be worse than one that is refused.

use super::output::Output;
use super::replies::Read;
use super::routed::{error, string, upstream_text, wanted};
use super::worker::Worker;
use crate::cache::error::LoadError;
use crate::cache::{Found, Wanted};
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::store::StoreError;
use crate::store::embedded::{Held, evaluate};

/// Whether a read may be answered without the store that has failed it so. Not if the store has to see it, nor if the
/// store alone knows what this client may read.
pub fn may_answer(read: &Read, failure: &StoreError) -> bool {
    failure.is_outage() && !read.seen && read.way.identity.user.is_none()
}

/// Answers a read that the store has failed.
pub async fn answer(worker: &Worker, read: &Read, spec: &Spec, args: Args<'_>, failure: StoreError) -> Output {
    let answer = if may_answer(read, &failure) { from_database(worker, read, spec, args).await } else { Ok(None) };
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
    let mut found = Vec::with_capacity(wanted.len());
    for answer in worker.engine.load_unstored(&wanted).await {
        found.push(match answer? {
            Found::Loaded { value, .. } => Some(value),
            Found::Absent | Found::Present => None,
        });
    }
    if let ("get", [Some(value)]) = (spec.name, &found[..])
        && let Some(output) = string(value)
    {
        return Ok(Some(output));
    }
    let held: Vec<Held<'_>> = keys.into_iter().zip(found.iter().map(Option::as_deref)).collect();
    let mut output = Output::default();
    output.write(|out| evaluate(&held, args, protocol, out));
    Ok(Some(output))
}

fn tells_what_the_store_knows(spec: &Spec) -> bool {
    matches!(spec.name, "ttl" | "pttl" | "expiretime" | "pexpiretime" | "object")
}
