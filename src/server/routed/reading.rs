//! A routed read that missed, or that the store has failed: its keys are loaded, and it is answered from the loads or asked once more.

use super::super::aside;
use super::super::lasting::Lasting;
use super::super::lifetime::Leaves;
use super::super::missed;
use super::super::output::Output;
use super::super::replies::Read;
use super::super::unstored;
use super::super::worker::Worker;
use super::{ATTEMPTS, cap, error, parse, run, upstream_text};
use crate::cache::error::{Kind, LoadError};
use crate::cache::{Found, Wanted};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Spec, lookup};
use crate::resp::scan::{elements, is_nil, may_be_absent_among};
use crate::resp::write::{self, Protocol};
use crate::store::embedded::evaluate;
use crate::store::{StoreError, StoreKey};
use crate::value::Value;
use bytes::Bytes;
use futures_util::future::join;
use std::sync::Arc;

/// A routed read that must be run by several nodes, so that its reply is not passed through.
pub async fn read_from_store(worker: &Worker, routed: Read) -> Output {
    let args = parse(&routed.command);
    let spec = lookup(&args.as_args()[0]).expect("only known commands are routed");
    if missed::in_doubt(worker, &routed.way, spec, args.as_args()) {
        return read(worker, routed, Err(StoreError::InDoubt)).await;
    }
    match routed.way.run(args.as_args()).await {
        Ok(reply) if may_be_absent_among(&reply, routed.all_keys) => read(worker, routed, Ok(reply)).await,
        Ok(reply) => {
            count_hits(worker, &routed, args.as_args());
            Output::whole(reply)
        }
        Err(failure) => read(worker, routed, Err(failure)).await,
    }
}

/// All its keys were found.
fn count_hits(worker: &Worker, read: &Read, args: Args<'_>) {
    let spec = lookup(&args[0]).expect("only known commands are routed");
    for key in spec.key_positions(args).filter_map(|position| args.get(position)) {
        if let Some(route) = worker.app.routes.find(key) {
            route.metrics.lookups.hit.increment(1);
            worker.engine.note_hit(route, read.way.identity.db, key);
        }
    }
}

/// A routed read whose `reply` from the store could be an absent key's, or that the store has failed.
pub async fn read(worker: &Worker, read: Read, reply: Result<Vec<u8>, StoreError>) -> Output {
    let args = parse(&read.command);
    let args = args.as_args();
    let spec = lookup(&args[0]).expect("only known commands are routed");
    let answer = match reply {
        Ok(reply) => {
            count_elements(worker, args, read.way.identity.db, &reply);
            let mut routes = std::iter::once(&read.route).chain(&read.other_routes);
            match routes.any(|&route| worker.app.routes.get(route).has_load()) {
                true => answer_read(worker, &read, spec, args, reply).await,
                false => Ok(aside::read(worker, &read, spec, args, reply).await),
            }
        }
        Err(failure) => Err(Failure::Store(failure)),
    };
    match answer {
        Ok(output) => output,
        Err(Failure::Store(failure)) => unstored::answer(worker, &read, spec, args, failure).await,
        Err(Failure::Load(failure)) => error(&failure.to_string()),
    }
}

/// Whose fault it is that a read has no answer.
enum Failure {
    Store(StoreError),
    Load(LoadError),
}

impl From<LoadError> for Failure {
    fn from(failure: LoadError) -> Self {
        match failure.kind {
            Kind::Store(failure) => Failure::Store(failure),
            _ => Failure::Load(failure),
        }
    }
}

async fn answer_read(
    worker: &Worker,
    read: &Read,
    spec: &Spec,
    args: Args<'_>,
    mut reply: Vec<u8>,
) -> Result<Output, Failure> {
    for _ in 0..ATTEMPTS {
        let (suspects, wanted): (Vec<usize>, Vec<Wanted>) = suspects(worker, spec, args, &reply)
            .into_iter()
            .filter_map(|position| Some((position, wanted(worker, read, &args[position])?)))
            .unzip();
        let mut found = Vec::with_capacity(wanted.len());
        for answer in worker.engine.ensure(&wanted).await {
            found.push(answer?);
        }
        if found.iter().all(|found| matches!(found, Found::Absent)) {
            return Ok(Output::whole(reply));
        }
        let found: Vec<(usize, Found)> = suspects.into_iter().zip(found).collect();
        let unstored = found.iter().filter(|(_, found)| matches!(found, Found::Loaded { stored: false, .. })).count();
        if !(read.seen && unstored == 0)
            && let Some(output) = from_loads(spec, args, read.way.identity.protocol, &reply, &found)
        {
            return Ok(output);
        }
        if read.opts_in {
            // The client may have opted in for its own read, and the fill has told it since.
            read.way.opt_in();
        }
        if missed::in_doubt(worker, &read.way, spec, args) {
            return Err(Failure::Store(StoreError::InDoubt));
        }
        // The question goes behind the command in one write: the server answers both at one moment.
        let there: Vec<usize> =
            found.iter().filter(|(_, found)| !matches!(found, Found::Absent)).map(|(at, _)| *at).collect();
        let question: OwnedArgs = std::iter::once(&b"EXISTS"[..]).chain(there.iter().map(|&at| &args[at])).collect();
        let (answer, count) = join(read.way.run(args), read.way.run(question.as_args())).await;
        reply = answer.map_err(Failure::Store)?;
        if spec.name == "getex" {
            found.iter().for_each(|(position, _)| cap_read(worker, read, spec, args, *position));
        }
        if spec.name == "mget" && reply.starts_with(b"*") {
            if misses_others(worker, read, spec, args, &reply, &found) {
                continue;
            }
            // What the store could not keep is the loads' to say.
            if unstored > 0 {
                match from_loads(spec, args, read.way.identity.protocol, &reply, &found) {
                    Some(output) => return Ok(output),
                    None => continue,
                }
            }
        }
        if unstored > 0 {
            return Ok(Output::whole(with_unstored(spec, reply, unstored)));
        }
        // What looks like an absent key's reply is that of the value which the key has: an empty one, or without that field.
        let are_there = count.is_ok_and(|count| count == format!(":{}\r\n", there.len()).as_bytes());
        if are_there || !may_be_absent_among(&reply, read.all_keys) {
            return Ok(Output::whole(reply));
        }
    }
    // A key has vanished as often as it was made present. That does not make its row absent.
    let answer = unstored::from_database(worker, read, spec, args).await?;
    Ok(answer.unwrap_or_else(|| Output::whole(reply)))
}

/// GETEX may have set a longer TTL than the route's.
fn cap_read(worker: &Worker, read: &Read, spec: &Spec, args: Args<'_>, position: usize) {
    let key = &args[position];
    if let Some(route) = worker.app.routes.find(key) {
        cap(worker, route, key, &read.way, Leaves::of(spec, args));
    }
}

/// EXISTS and TOUCH count rows that were found and could not be stored; other commands know only what is stored.
fn with_unstored(spec: &Spec, reply: Vec<u8>, unstored: usize) -> Vec<u8> {
    let count = std::str::from_utf8(&reply).ok().and_then(|text| text.trim().strip_prefix(':')?.parse::<usize>().ok());
    match (spec.name, count) {
        ("exists" | "touch", Some(count)) => format!(":{}\r\n", count + unstored).into_bytes(),
        _ => reply,
    }
}

/// An MGET that missed some of its keys has found the others; and of those that are missing nobody will look for what has
/// no `load`.
fn count_elements(worker: &Worker, args: Args<'_>, db: u32, reply: &[u8]) {
    if !args[0].eq_ignore_ascii_case(b"mget") {
        return;
    }
    for (key, element) in args.from(1).iter().zip(elements(reply)) {
        let Some(route) = worker.app.routes.find(key) else { continue };
        match is_nil(&reply[element]) {
            false => {
                route.metrics.lookups.hit.increment(1);
                worker.engine.note_hit(route, db, key);
            }
            true if !route.has_load() => route.metrics.lookups.miss.increment(1),
            true => {}
        }
    }
}

/// The positions of the keys that may be absent: for MGET those whose element is nil, else all that are routed.
fn suspects(worker: &Worker, spec: &Spec, args: Args<'_>, reply: &[u8]) -> Vec<usize> {
    let routed = |position: &usize| worker.app.routes.find(&args[*position]).is_some();
    let positions = spec.key_positions(args);
    if spec.name != "mget" {
        return positions.filter(routed).collect();
    }
    let elements = elements(reply).map(|range| is_nil(&reply[range]));
    positions.zip(elements).filter(|(_, nil)| *nil).map(|(position, _)| position).filter(routed).collect()
}

/// Whether a key that an MGET had is missing now, and nobody has looked for it.
fn misses_others(
    worker: &Worker,
    read: &Read,
    spec: &Spec,
    args: Args<'_>,
    reply: &[u8],
    found: &[(usize, Found)],
) -> bool {
    suspects(worker, spec, args, reply).into_iter().any(|position| {
        found.iter().all(|(known, _)| *known != position) && wanted(worker, read, &args[position]).is_some()
    })
}

/// A key of a read, if it is one that can be loaded.
pub fn wanted(worker: &Worker, read: &Read, key: &[u8]) -> Option<Wanted> {
    let route = worker.app.routes.find(key)?.loading()?;
    Some(Wanted { route, key: StoreKey { db: read.way.identity.db, name: Bytes::copy_from_slice(key) } })
}

/// The answer as far as the loads themselves give it, so that it needs no second look at the store, where the value may
/// be gone again or was too large to be kept. `None`: the store must be asked.
fn from_loads(
    spec: &Spec,
    args: Args<'_>,
    protocol: Protocol,
    reply: &[u8],
    found: &[(usize, Found)],
) -> Option<Output> {
    match (spec.name, found) {
        ("mget", found) => mget(args, protocol, reply, found),
        ("get", [(_, Found::Loaded { value, .. })]) => string(value),
        // There is nothing at the store that its options could apply to.
        ("getex", [(_, Found::Loaded { value, stored: false })]) => string(value),
        // The store alone knows how long it will keep what was filled.
        ("ttl" | "pttl" | "expiretime" | "pexpiretime", _) => None,
        (_, [(position, Found::Loaded { value, .. })]) if spec.key_positions(args).count() == 1 => {
            let mut output = Output::default();
            let key = &args[*position];
            output.write(|out| evaluate(&[(key, Some(value.view()))], args, protocol, out)).then_some(output)
        }
        _ => None,
    }
}

/// GET's answer, if the value is a string.
pub fn string(value: &Arc<Value>) -> Option<Output> {
    let Value::String(bytes) = &**value else { return None };
    let mut output = Output::default();
    bulk(&mut output, bytes);
    Some(output)
}

fn bulk(output: &mut Output, bytes: &Bytes) {
    output.write(|out| {
        out.push(b'$');
        out.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    });
    output.share(bytes);
    output.extend(b"\r\n");
}

/// MGET's elements in their order: those the store had, and those that were loaded; a hash is nil to MGET. `None` if one is
/// missing that the store has had since.
fn mget(args: Args<'_>, protocol: Protocol, reply: &[u8], found: &[(usize, Found)]) -> Option<Output> {
    let mut output = Output::default();
    output.write(|out| write::array(out, args.len() - 1));
    let mut found = found.iter().peekable();
    for (index, range) in elements(reply).enumerate() {
        match found.next_if(|(position, _)| *position == index + 1) {
            None => output.extend(&reply[range]),
            Some((_, Found::Present)) if is_nil(&reply[range.clone()]) => return None,
            Some((_, Found::Present)) => output.extend(&reply[range]),
            Some((_, Found::Loaded { value, .. })) => match &**value {
                Value::String(bytes) => bulk(&mut output, bytes),
                Value::Hash(_) => output.write(|out| write::nil(out, protocol)),
            },
            Some((_, Found::Absent)) => output.write(|out| write::nil(out, protocol)),
        }
    }
    Some(output)
}

/// Runs a read that may let its key live longer (GETEX). `loads`: an absent key is loaded.
pub async fn prolonging_read(worker: &Worker, read: Read, loads: bool) -> Output {
    let args = parse(&read.command);
    let args = args.as_args();
    let spec = lookup(&args[0]).expect("only known commands are routed");
    let (way, leaves) = (read.way.clone(), Leaves::of(spec, args));
    let lasting = Lasting::of(&worker.app.routes, spec, args, leaves);
    let tagged = match lasting.begin(&worker.engine, way.identity.db).await {
        Ok(tagged) => tagged,
        Err(failure) => return error(&upstream_text(failure)),
    };
    let output = match loads {
        true => read_from_store(worker, read).await,
        false => run(read.command, way.clone()).await,
    };
    for key in spec.key_positions(args).filter_map(|position| args.get(position)) {
        if let Some(ttl) = worker.app.routes.find(key).and_then(|route| leaves.cap(route, &worker.engine)) {
            way.capped(key, ttl).await;
        }
    }
    match lasting.end(&worker.engine, way.identity.db, &tagged).await {
        Ok(()) => output,
        Err(failure) => error(&upstream_text(failure)),
    }
}
