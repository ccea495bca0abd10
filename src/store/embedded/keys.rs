//! Keys of whatever type, and whole databases.

use super::call::Call;
use super::commands::{Outcome, c_string};
use super::glob;
use super::options::database;
use super::refusal::Refusal;
use super::side::Sides;
use super::{Context, Embedded};
use crate::resp::args::Args;
use crate::resp::write;

/// How often RANDOMKEY draws again after it met an expired key.
const DRAWS: usize = 100;

pub(super) fn del(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let removed = args.from(1).iter().filter(|key| call.take(key).is_some()).count();
    write::integer(out, removed as i64);
    Ok(())
}

/// EXISTS, and TOUCH, for to ask for a key is to use it.
pub(super) fn exists(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let there = args.from(1).iter().filter(|key| call.entry(key).is_some()).count();
    write::integer(out, there as i64);
    Ok(())
}

pub(super) fn type_(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    write::simple(out, call.peek(&args[1]).map_or("none", |entry| entry.object.type_name()));
    Ok(())
}

pub(super) fn rename(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    check_source(call, from)?;
    if from != to {
        move_entry(call, from, to);
    }
    write::ok(out);
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    check_source(call, from)?;
    let free = !call.contains(to);
    if free {
        move_entry(call, from, to);
    }
    write::integer(out, i64::from(free));
    Ok(())
}

fn check_source(call: &Call<'_>, key: &[u8]) -> Outcome {
    if call.contains(key) { Ok(()) } else { Err(Refusal::Other("ERR no such key")) }
}

fn move_entry(call: &mut Call<'_>, from: &[u8], to: &[u8]) {
    let entry = call.take(from).expect("the source was found");
    call.put(to, entry.object, entry.expires);
}

pub(super) fn copy(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let (db, replace) = copy_options(call, args.from(3))?;
    if db == call.db && from == to {
        return Err(Refusal::Other("ERR source and destination objects are the same"));
    }
    let Some((object, expires)) = call.entry(from).map(|entry| (entry.object.clone(), entry.expires)) else {
        write::integer(out, 0);
        return Ok(());
    };
    let copied = call.in_database(db, |call| {
        let free = replace || !call.contains(to);
        if free {
            call.drop_side(to);
            call.put(to, object, expires);
        }
        free
    });
    write::integer(out, i64::from(copied));
    Ok(())
}

fn copy_options(call: &Call<'_>, args: Args<'_>) -> Result<(usize, bool), Refusal> {
    let (mut db, mut replace, mut position) = (call.db, false, 0);
    while let Some(word) = args.get(position) {
        match args.get(position + 1) {
            _ if word.eq_ignore_ascii_case(b"replace") => replace = true,
            Some(number) if word.eq_ignore_ascii_case(b"db") => {
                db = database(number)?.ok_or(Refusal::Other("ERR DB index is out of range"))?;
                position += 1;
            }
            _ => return Err(Refusal::Syntax),
        }
        position += 1;
    }
    Ok((db, replace))
}

pub(super) fn move_(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let key = &args[1];
    let db = database(&args[2])?.ok_or(Refusal::Other("ERR DB index is out of range"))?;
    if db == call.db {
        return Err(Refusal::Other("ERR source and destination objects are the same"));
    }
    let taken = call.in_database(db, |call| call.contains(key));
    let moved = if taken { None } else { call.take(key) };
    write::integer(out, i64::from(moved.is_some()));
    if let Some(entry) = moved {
        call.in_database(db, |call| {
            call.drop_side(key);
            call.put(key, entry.object, entry.expires);
        });
    }
    Ok(())
}

/// OBJECT, as of a Redis that evicts by `allkeys-lfu`: there is a FREQ and no IDLETIME, and nothing is shared.
pub(super) fn object(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let subcommand = args[1].to_ascii_lowercase();
    let arity = match subcommand.as_slice() {
        b"encoding" => "object|encoding",
        b"refcount" => "object|refcount",
        b"idletime" => "object|idletime",
        b"freq" => "object|freq",
        b"help" => return object_help(args, out),
        _ => return Err(unknown_subcommand(&args[1])),
    };
    if args.len() != 3 {
        return Err(Refusal::Arity(arity));
    }
    let (now, protocol) = (call.now, call.protocol);
    let Some(entry) = call.peek(&args[2]) else {
        write::nil(out, protocol);
        return Ok(());
    };
    match subcommand.as_slice() {
        b"encoding" => write::bulk(out, entry.object.encoding()),
        b"refcount" => write::integer(out, 1),
        b"freq" => write::integer(out, i64::from(entry.access.counter(now))),
        _ => return Err(Refusal::Other(NO_IDLE_TIME)),
    }
    Ok(())
}

const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.";

fn unknown_subcommand(name: &[u8]) -> Refusal {
    Refusal::Text([b"ERR unknown subcommand '", c_string(name, 128), b"'. Try OBJECT HELP."].concat())
}

fn object_help(args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() != 2 {
        return Err(Refusal::Arity("object|help"));
    }
    let lines = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Prints this help.",
    ];
    write::array(out, lines.len());
    lines.iter().for_each(|line| write::simple(out, line));
    Ok(())
}

pub(super) fn randomkey(store: &Embedded, context: Context, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    for _ in 0..DRAWS {
        let lengths: Vec<usize> = store.lengths(context.db as usize).collect();
        let total: usize = lengths.iter().sum();
        if total == 0 {
            break;
        }
        let mut nth = fastrand::usize(..total);
        let shard = lengths.iter().position(|&length| {
            let here = nth < length;
            nth -= if here { 0 } else { length };
            here
        });
        let shard = store.shards[shard.expect("nth is below the total")].lock();
        let entries = shard.spaces[context.db as usize].entries();
        if nth < entries.len() && !entries.get(nth).is_expired(store.time.now()) {
            write::bulk(out, entries.get(nth).name());
            return Ok(());
        }
    }
    write::nil(out, context.protocol);
    Ok(())
}

impl Embedded {
    /// How many keys of database `db` each shard holds.
    fn lengths(&self, db: usize) -> impl Iterator<Item = usize> {
        self.shards.iter().map(move |shard| shard.lock().spaces[db].entries().len())
    }

    /// Empties databases, in one step for all shards. Their tags go first: a key that enters an index behind that, and has
    /// its value stored before this ends, would be a value that its tag does not know.
    fn flush(&self, databases: impl Fn(usize) -> bool) {
        self.flush_tags(&databases);
        for shard in &mut self.lock_all() {
            let chosen = shard.spaces.iter_mut().enumerate().filter(|(number, _)| databases(*number));
            chosen.for_each(|(_, space)| space.clear());
            self.settle(shard, u16::MAX);
        }
    }
}

pub(super) fn keys(store: &Embedded, context: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (pattern, now) = (&args[1], store.time.now());
    let (mut found, mut count) = (Vec::new(), 0);
    for shard in &store.shards {
        let shard = shard.lock();
        for entry in shard.spaces[context.db as usize].entries().iter() {
            if !entry.is_expired(now) && glob::matches(pattern, entry.name()) {
                write::bulk(&mut found, entry.name());
                count += 1;
            }
        }
    }
    write::array(out, count);
    out.append(&mut found);
    Ok(())
}

pub(super) fn dbsize(store: &Embedded, context: Context, _: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let total: usize = store.lengths(context.db as usize).sum();
    write::integer(out, total as i64);
    Ok(())
}

pub(super) fn flushdb(store: &Embedded, context: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    check_flush(args)?;
    store.flush(|number| number == context.db as usize);
    write::ok(out);
    Ok(())
}

pub(super) fn flushall(store: &Embedded, _: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    check_flush(args)?;
    store.flush(|_| true);
    write::ok(out);
    Ok(())
}

/// ASYNC and SYNC are the same here.
fn check_flush(args: Args<'_>) -> Outcome {
    let known = |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    match args.get(1) {
        None => Ok(()),
        Some(word) if args.len() == 2 && known(word) => Ok(()),
        Some(_) => Err(Refusal::Syntax),
    }
}

pub(super) fn swapdb(store: &Embedded, _: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let index = |text, otherwise| database(text).map_err(|_| Refusal::Other(otherwise));
    let (first, second) =
        (index(&args[1], "ERR invalid first DB index")?, index(&args[2], "ERR invalid second DB index")?);
    let (Some(first), Some(second)) = (first, second) else {
        return Err(Refusal::Other("ERR DB index is out of range"));
    };
    for shard in &mut store.lock_all() {
        shard.spaces.swap(first, second);
        for number in [first, second] {
            shard.spaces[number].sides = Sides::default();
        }
        store.settle(shard, u16::MAX);
    }
    store.swap_tags(first, second);
    write::ok(out);
    Ok(())
}

pub(super) fn echo(_: &Embedded, _: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    write::bulk(out, &args[1]);
    Ok(())
}
