//! `WEIR SET`, `WEIR TAG` and `WEIR INVALIDATE`: tags that clients name themselves.
//!
//! A key stands in a tag's index before its value is stored, and for as long as the value lives; and it is put there again
//! once the value is stored, for an invalidation may have set the index aside in between. So what is tagged has a
//! TTL: WEIR SET without one stores for the route's `ttl`, or that of `[defaults]`, and WEIR TAG refuses a key without one.
//!
//! Beside a key of a route with `tags`, or a `sliding` one, the tags are noted: whatever prolongs the key through Weir, or gives
//! it another name, keeps them ([`super::lasting`]). Of other keys nothing is noted, for that would cost every EXPIRE of every
//! key: those have their tags for as long as they were to live when they were tagged, and whoever prolongs one tags it again.

use super::conn::{Conn, Flow, Request};
use super::keys::KeyHashes;
use super::lifetime::Leaves;
use super::missed;
use super::output::Output;
use super::routed::{self, Modify, error, upstream_text};
use super::worker::Worker;
use crate::cache::route::Route;
use crate::hash::hash;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::number;
use crate::resp::write;
use crate::store::{StoreKey, Way};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Between the step that tags a key and the one that stores its value passes less.
const SLACK: Duration = Duration::from_secs(60);

/// `WEIR INVALIDATE tag [tag …]`: answers how many keys had a value. The client's next command comes after it.
pub fn invalidate(conn: &mut Conn, request: Request<'_>) -> Flow {
    if conn.replies.any_routed_open() {
        return Flow::Wait;
    }
    let tags: Vec<&[u8]> = request.args.from(2).iter().collect();
    let (worker, db) = (conn.worker.clone(), conn.way().identity.db);
    let tags = worker.app.routes.with_absences(&tags);
    let slot = conn.open_slow();
    conn.run_errand(async move {
        let told = |key: &Bytes| worker.note_invalidation_of(db, key);
        let answer = match worker.engine.invalidate_tags_telling(db, &tags, &told).await {
            Ok(values) => {
                if let Some(hearing) = &worker.app.hearing {
                    // Which keys it were, others may know who have helped: what is kept near of them goes by the pushes.
                    hearing.catch_up(worker.app.upstream_timeout()).await;
                }
                metrics::counter!("weir_invalidations_total", "source" => "tag").increment(values as u64);
                integer(values as i64)
            }
            Err(failure) => {
                missed::remember(&worker, db, &[], &tags, &failure);
                error(&upstream_text(failure))
            }
        };
        move |conn: &mut Conn| conn.replies.finish(slot, answer)
    });
    Flow::Next
}

/// `WEIR SET key value [EX seconds | PX milliseconds] TAGS tag [tag …]`.
pub fn set(conn: &mut Conn, request: Request<'_>) -> Flow {
    let (ttl, tags) = match options(request.args) {
        Ok(options) => options,
        Err(text) => {
            conn.answer_now(|out| write::error(out, text));
            return Flow::Next;
        }
    };
    let limit = conn.worker.app.config.limits.max_tags;
    if tags.len() > limit {
        conn.answer_now(|out| write::error(out, format!("ERR more than {limit} tags; [limits] max_tags bounds them")));
        return Flow::Next;
    }
    let value = Bytes::copy_from_slice(&request.args[3]);
    on_key(conn, request, move |worker, key, way| async move { store(&worker, key, value, ttl, tags, way).await })
}

/// `WEIR TAG key tag [tag …]`: answers 1, or 0 if there is no such key.
pub fn tag(conn: &mut Conn, request: Request<'_>) -> Flow {
    let tags: Vec<Bytes> = request.args.from(3).iter().map(Bytes::copy_from_slice).collect();
    on_key(conn, request, move |worker, key, way| async move { tag_present(&worker, key, tags, way).await })
}

/// Answers a command on one key in its turn; the client's other commands on that key wait for it.
pub(super) fn on_key<F: Future<Output = Output> + 'static>(
    conn: &mut Conn,
    request: Request<'_>,
    answer: impl FnOnce(std::rc::Rc<Worker>, StoreKey, Way) -> F,
) -> Flow {
    let name = &request.args[2];
    let hashes = KeyHashes::one(hash(name));
    if conn.replies.is_open(&hashes, true) || conn.is_busy() && conn.way().lane().is_some() {
        return Flow::Wait;
    }
    let key = StoreKey { db: conn.way().identity.db, name: Bytes::copy_from_slice(name) };
    let slot = conn.replies.open_slow(hashes, conn.command_index());
    conn.replies.finish_with(slot, answer(conn.worker.clone(), key, conn.way().clone()));
    Flow::Next
}

/// The TTL, if the client gives one, and the tags.
fn options(args: Args<'_>) -> Result<(Option<Duration>, Vec<Bytes>), &'static str> {
    const SYNTAX: &str = "ERR syntax error; write WEIR SET key value [EX seconds | PX milliseconds] TAGS tag [tag ...]";
    let word = |at: usize| args.get(at).map(<[u8]>::to_ascii_uppercase);
    let unit = match word(4).as_deref() {
        Some(b"EX") => Some(1000),
        Some(b"PX") => Some(1),
        _ => None,
    };
    let tags_at = if unit.is_some() { 6 } else { 4 };
    if word(tags_at).as_deref() != Some(b"TAGS") || args.get(tags_at + 1).is_none() {
        return Err(SYNTAX);
    }
    let ttl = unit.map(|unit| {
        let number = args.get(5).and_then(number::parse).ok_or("ERR value is not an integer or out of range")?;
        let milliseconds = u64::try_from(number).ok().filter(|&number| number > 0).and_then(|n| n.checked_mul(unit));
        milliseconds.map(Duration::from_millis).ok_or("ERR invalid expire time in 'weir|set' command")
    });
    let tags = args.from(tags_at + 1).iter().map(Bytes::copy_from_slice).collect();
    Ok((ttl.transpose()?, tags))
}

async fn store(
    worker: &Worker,
    key: StoreKey,
    value: Bytes,
    ttl: Option<Duration>,
    tags: Vec<Bytes>,
    way: Way,
) -> Output {
    let app = &worker.app;
    let route: Option<Arc<Route>> = app.routes.find(&key.name).cloned();
    let longest = route.as_ref().map_or(app.config.default_ttl, |route| route.config.ttl);
    let ttl = match &route {
        Some(route) => ttl.unwrap_or(longest).min(longest).mul_f64(1.0 - worker.engine.share(&route.config)),
        None => ttl.unwrap_or(longest),
    };
    // So long the store keeps it.
    let life = ttl.saturating_add(route.as_ref().map_or(Duration::ZERO, |route| route.grace()));
    if let Err(text) = enter(worker, &key, route.as_deref(), &tags, life).await {
        return error(&text);
    }
    let milliseconds = life.as_millis().max(1).to_string();
    let bytes = write::whole_command([&b"SET"[..], &key.name, &value, b"PX", milliseconds.as_bytes()]);
    let answer = match route.clone() {
        None => routed::run(bytes, way).await,
        Some(route) => {
            let keys = vec![(key.name.to_vec(), route)];
            routed::write(worker, Modify { keys, lone: false, command: bytes, leaves: Leaves::Bounded, way }).await
        }
    };
    match enter(worker, &key, route.as_deref(), &tags, life).await {
        Ok(()) => answer,
        Err(text) => error(&text),
    }
}

/// Puts a key that lives for `life` into the indexes of these tags, and notes them, if its route keeps notes.
async fn enter(
    worker: &Worker,
    key: &StoreKey,
    route: Option<&Route>,
    tags: &[Bytes],
    life: Duration,
) -> Result<(), String> {
    let Some(route) = route.filter(|route| route.keeps_notes()) else {
        let names: Vec<&[u8]> = tags.iter().map(|tag| &tag[..]).collect();
        return worker.engine.add_tags(key, &names, life.saturating_add(SLACK)).await.map_err(upstream_text);
    };
    let noted = worker.engine.keep_tags(route, key, &[]).await.map_err(upstream_text)?;
    let (limit, all) = (worker.app.config.limits.max_tags, noted.iter().chain(tags).collect::<BTreeSet<_>>().len());
    if all > limit {
        return Err(format!("ERR the key would have {all} tags, more than {limit}; [limits] max_tags bounds them"));
    }
    worker.engine.keep_tags(route, key, tags).await.map(drop).map_err(upstream_text)
}

async fn tag_present(worker: &Worker, key: StoreKey, tags: Vec<Bytes>, way: Way) -> Output {
    let pttl = OwnedArgs::from_iter([&b"PTTL"[..], &key.name]);
    let reply = match way.run(pttl.as_args()).await {
        Ok(reply) => reply,
        Err(failure) => return error(&upstream_text(failure)),
    };
    let left = reply.strip_prefix(b":").and_then(|text| number::parse(text.trim_ascii_end()));
    let life = match left {
        Some(-2) => return integer(0),
        Some(left) if left >= 0 => Duration::from_millis(left.unsigned_abs()),
        Some(_) => return error("ERR the key has no TTL; give it one with EXPIRE, for a tag lasts as long as its key"),
        None => return error("UPSTREAM answered no number to PTTL"),
    };
    let route = worker.app.routes.find(&key.name).map(|route| &**route);
    match enter(worker, &key, route, &tags, life).await {
        Ok(()) => integer(1),
        Err(text) => error(&text),
    }
}

/// A number as a whole answer.
pub(super) fn integer(number: i64) -> Output {
    let mut output = Output::default();
    output.write(|out| write::integer(out, number));
    output
}
