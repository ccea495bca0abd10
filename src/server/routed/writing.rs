//! A change that replaces the old value, or removes it, and waits for what goes before it: tags, and fences.

use super::super::lasting::Lasting;
use super::super::missed;
use super::super::output::Output;
use super::super::worker::Worker;
use super::{Modify, error, fence, lasting, parse, settle_written, upstream_text};
use crate::cache::route::Fence;
use crate::resp::args::Args;
use crate::resp::command::lookup;
use crate::store::StoreError;

/// Runs a command that replaces or removes what its routed keys hold, once they are tagged and fenced.
pub async fn write(worker: &Worker, write: Modify) -> Output {
    let args = parse(&write.command);
    if let Err(failure) = missed::wait(worker, &write).await {
        return error(&upstream_text(failure));
    }
    let (args, lasting) = (args.as_args(), lasting(worker, &write, args.as_args()));
    let answer = match write_at_once(worker, &write, args, &lasting).await {
        Some(answer) => answer,
        None => write_in_steps(worker, &write, args, &lasting).await,
    };
    answer.map_or_else(|failure| error(&upstream_text(failure)), Output::whole)
}

/// Where the store can tag, fence and run it in one step; `None`: it cannot.
async fn write_at_once(
    worker: &Worker,
    write: &Modify,
    args: Args<'_>,
    lasting: &Lasting,
) -> Option<Result<Vec<u8>, StoreError>> {
    let (key, route) = lasting.only_enters().filter(|_| may_be_in_a_script(args, write.command.len()))?;
    let (tags, life) = (route.tags_of_key(key), route.longest_life());
    let fences = route.fence(write.leaves.a_value()) == Fence::Ahead;
    let answer = write.way.run_entering(key, &tags, life, fences, args).await?;
    write.keys.iter().for_each(|(key, route)| worker.note_invalidation(route, write.way.identity.db, key));
    settle_written(worker, write, answer.as_deref().ok()).await;
    Some(answer)
}

/// Whether Lua hands on a command of so many bytes as it is, and its reply: a status or nil. It copies both, and keeps the copies for a
/// while, so that neither may be long: no SET … GET, and no more words than a SET has that is well-formed.
fn may_be_in_a_script(args: Args<'_>, bytes: usize) -> bool {
    const MOST_BYTES: usize = 64 << 10;
    const MOST_WORDS: usize = 8;
    let is_set = lookup(&args[0]).is_some_and(|spec| matches!(spec.name, "set" | "setex" | "psetex"));
    let is_short = bytes <= MOST_BYTES && args.len() <= MOST_WORDS;
    is_set && is_short && !args.from(3).iter().any(|option| option.eq_ignore_ascii_case(b"GET"))
}

/// Everywhere else.
async fn write_in_steps(
    worker: &Worker,
    write: &Modify,
    args: Args<'_>,
    lasting: &Lasting,
) -> Result<Vec<u8>, StoreError> {
    let db = write.way.identity.db;
    let tagged = lasting.begin(&worker.engine, db).await?;
    let answer = match fence(worker, write).await {
        Ok(()) => write.way.run(args).await,
        Err(error) => Err(error),
    };
    settle_written(worker, write, answer.as_deref().ok()).await;
    let reply = answer?;
    lasting.end(&worker.engine, db, &tagged).await.map(|()| reply)
}
