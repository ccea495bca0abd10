//! The slow way of a command on routed keys: make them present, then run the command as it is.
//!
//! Everything here is a miss or a change of an absent key, in a task of its own; a hit never comes this way.

use super::aside;
use super::lasting::{Lasting, Tagged};
use super::lifetime::Leaves;
use super::missed;
use super::output::Output;
use super::unstored;
use super::worker::Worker;
use crate::cache::error::{Kind, LoadError, upstream_error};
use crate::cache::route::{Fence, Loading, Route};
use crate::cache::{Found, Wanted};
use crate::config::OnModify;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Spec, lookup};
use crate::resp::scan::{CommandScanner, ScanLimits, Scanned, elements, is_nil, may_be_absent_among};
use crate::resp::write::{self, Protocol};
use crate::server::replies::Read;
use crate::store::embedded::evaluate;
use crate::store::{StoreError, StoreKey, Way};
use crate::value::Value;
use bytes::Bytes;
use futures_util::future::{join, join_all};
use std::sync::Arc;

/// A key may vanish again between its load and the command: so often it is made present anew.
const ATTEMPTS: usize = 4;

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

/// A command that needs its keys' old values.
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

/// What is to be seen to around a command. What a client stores has the tags that its key tells; what its row would tell,
/// nobody knows.
fn lasting(worker: &Worker, command: &Modify, args: Args<'_>) -> Lasting {
    let spec = lookup(&args[0]).filter(|spec| spec.arity_ok(args.len()));
    spec.map(|spec| Lasting::of(&worker.app.routes, spec, args, command.leaves)).unwrap_or_default()
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
