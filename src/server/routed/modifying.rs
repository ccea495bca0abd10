//! A change that needs the old value: the key is made present, then the command runs.

use super::super::lasting::{Lasting, Tagged};
use super::super::missed;
use super::super::output::Output;
use super::super::worker::Worker;
use super::{ATTEMPTS, Modify, error, fence, lasting, parse, settle_written, upstream_text};
use crate::cache::error::{Kind, LoadError};
use crate::cache::route::{Loading, Route};
use crate::cache::{Found, Wanted};
use crate::config::OnModify;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Spec, lookup};
use crate::store::StoreKey;
use bytes::Bytes;

/// Runs it once its keys are present, or are known to be absent from the database too.
pub async fn modify(worker: &Worker, mut modify: Modify) -> Output {
    // The one step is a script, and scripts of Weir's own do not run as clients.
    modify.lone &= modify.way.identity.user.is_none();
    let args = parse(&modify.command);
    let (lasting, mut tagged) = (lasting(worker, &modify, args.as_args()), None);
    let answer = match missed::wait(worker, &modify).await {
        Ok(()) => answer_modify(worker, &modify, args.as_args(), &lasting, &mut tagged).await,
        Err(failure) => Err(upstream_text(failure)),
    };
    settle_written(worker, &modify, answer.as_deref().ok()).await;
    let answer = match (answer, &tagged) {
        (Ok(reply), Some(tagged)) => {
            lasting.end(&worker.engine, modify.way.identity.db, tagged).await.map(|()| reply).map_err(upstream_text)
        }
        (answer, _) => answer,
    };
    match answer {
        Ok(reply) => Output::whole(reply),
        Err(text) => error(&text),
    }
}

async fn answer_modify(
    worker: &Worker,
    modify: &Modify,
    args: Args<'_>,
    lasting: &Lasting,
    tagged: &mut Option<Tagged>,
) -> Result<Vec<u8>, String> {
    let way = &modify.way;
    let spec = lookup(&args[0]).expect("only known commands are routed");
    if !spec.arity_ok(args.len()) || !way.may_run(args).await {
        return way.run(args).await.map_err(upstream_text);
    }
    let db = way.identity.db;
    let mut unstored = None;
    for _ in 0..ATTEMPTS {
        // What is changed where it stands has its tags, and lives no longer than it did.
        if modify.lone && !keeps_its_end(spec) {
            begin(worker, lasting, db, tagged).await?;
        }
        if let ([(key, route)], true) = (modify.keys.as_slice(), modify.lone) {
            let reply = way.run_if_present(key, args).await.map_err(upstream_text)?;
            if let Some(reply) = reply {
                worker.note_invalidation(route, db, key);
                return Ok(reply);
            }
        }
        let made = make_present(worker, modify).await?;
        unstored = made.unstored;
        if made.all_absent || !modify.lone {
            // Of what was loaded just now, the tags are known now.
            begin(worker, lasting, db, tagged).await?;
            fence(worker, modify).await.map_err(upstream_text)?;
            return way.run(args).await.map_err(upstream_text);
        }
    }
    Err(match unstored {
        None => "LOAD the key changed again and again while the command was about to run".into(),
        Some(route) => format!(
            "LOAD route '{}': the row was loaded and could not be stored, so it cannot be changed here: the store refuses \
             writes (is its maxmemory reached?), the row has too many tags, or the key changed again and again",
            route.config.name
        ),
    })
}

async fn begin(worker: &Worker, lasting: &Lasting, db: u32, tagged: &mut Option<Tagged>) -> Result<(), String> {
    if tagged.is_none() {
        *tagged = Some(lasting.begin(&worker.engine, db).await.map_err(upstream_text)?);
    }
    Ok(())
}

/// Whether a command changes a value where it stands, which then ends when it was to end before.
fn keeps_its_end(spec: &Spec) -> bool {
    const IN_PLACE: [&str; 20] = [
        "append",
        "bitfield",
        "decr",
        "decrby",
        "hdel",
        "hincrby",
        "hincrbyfloat",
        "hmset",
        "hset",
        "hsetnx",
        "incr",
        "incrby",
        "incrbyfloat",
        "lpush",
        "rpush",
        "sadd",
        "setbit",
        "setrange",
        "srem",
        "zadd",
    ];
    IN_PLACE.contains(&spec.name)
}

/// What became of keys that were to be made present.
struct Made {
    /// Every one is known to have no row.
    all_absent: bool,
    /// A route whose row was found, and not stored.
    unstored: Option<Loading>,
}

/// Loads the absent keys as their routes say.
async fn make_present(worker: &Worker, modify: &Modify) -> Result<Made, String> {
    let mut wanted = Vec::new();
    for (key, route) in &modify.keys {
        match route.on_modify() {
            OnModify::Load => wanted.extend(route.loading().map(|route| Wanted {
                route,
                key: StoreKey { db: modify.way.identity.db, name: Bytes::copy_from_slice(key) },
            })),
            OnModify::Pass => {}
            OnModify::Reject if !modify.lone && exists(modify, key).await? => {}
            OnModify::Reject => {
                let name = &route.config.name;
                return Err(format!(
                    "ERR the key is not loaded, and route '{name}' has on_modify = \"reject\"; read it first"
                ));
            }
        }
    }
    let mut made = Made { all_absent: true, unstored: None };
    for (answer, wanted) in worker.engine.ensure(&wanted).await.into_iter().zip(&wanted) {
        match answer.map_err(|error| told(&wanted.route, &error))? {
            Found::Absent => {}
            Found::Loaded { value, stored: false } if value.len() > wanted.route.load.config.max_value => {
                let name = &wanted.route.config.name;
                return Err(format!(
                    "LOAD route '{name}': the value is larger than max_value, so it cannot be changed here"
                ));
            }
            Found::Loaded { stored: false, .. } => {
                made = Made { all_absent: false, unstored: Some(wanted.route.clone()) };
            }
            Found::Present | Found::Loaded { .. } => made.all_absent = false,
        }
    }
    Ok(made)
}

/// What a client is told of a change that could not be made.
fn told(route: &Route, error: &LoadError) -> String {
    if matches!(&error.kind, Kind::Store(error) if error.is_outage()) {
        route.metrics.lookups.error.increment(1);
    }
    error.to_string()
}

async fn exists(modify: &Modify, key: &[u8]) -> Result<bool, String> {
    let exists = OwnedArgs::from_iter([&b"EXISTS"[..], key]);
    let reply = modify.way.run(exists.as_args()).await.map_err(upstream_text)?;
    if let Some(refusal) = reply.strip_prefix(b"-") {
        return Err(String::from_utf8_lossy(refusal).trim_end().to_owned());
    }
    Ok(reply == b":1\r\n")
}
