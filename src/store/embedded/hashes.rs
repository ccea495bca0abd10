//! Hashes.

use super::call::Call;
use super::collection::Hash;
use super::commands::Outcome;
use super::number;
use super::options::{integer, signed_count};
use super::refusal::Refusal;
use crate::resp::args::Args;
use crate::resp::write::{self, Protocol};

/// How often a random field is taken with repetition at most at once, so that a client cannot make the store write
/// without end while it holds a lock.
const MOST_REPEATED: i64 = i64::MAX / 2;

pub(super) fn hset(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let created = set_fields(call, args)?;
    write::integer(out, created);
    Ok(())
}

pub(super) fn hmset(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_fields(call, args)?;
    write::ok(out);
    Ok(())
}

fn set_fields(call: &mut Call<'_>, args: Args<'_>) -> Result<i64, Refusal> {
    if args.len() % 2 == 1 {
        return Err(Refusal::Arity(call.name));
    }
    call.change_hash(&args[1], |hash| {
        (2..args.len()).step_by(2).map(|field| i64::from(hash.put(&args[field], &args[field + 1]))).sum()
    })
}

pub(super) fn hsetnx(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let created = call.change_hash(&args[1], |hash| !hash.contains(&args[2]) && hash.put(&args[2], &args[3]))?;
    write::integer(out, i64::from(created));
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    let value = call.hash(&args[1])?.and_then(|hash| hash.get(&args[2]));
    optional(out, protocol, value);
    Ok(())
}

fn optional(out: &mut Vec<u8>, protocol: Protocol, value: Option<&[u8]>) {
    match value {
        Some(value) => write::bulk(out, value),
        None => write::nil(out, protocol),
    }
}

pub(super) fn hmget(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    let hash = call.hash(&args[1])?;
    write::array(out, args.len() - 2);
    for field in args.from(2).iter() {
        optional(out, protocol, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

pub(super) fn hgetall(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    let hash = call.hash(&args[1])?;
    write::map(out, protocol, hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        write::bulk(out, field);
        write::bulk(out, value);
    }
    Ok(())
}

pub(super) fn hkeys(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let hash = call.hash(&args[1])?;
    write::array(out, hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| write::bulk(out, field));
    Ok(())
}

pub(super) fn hvals(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let hash = call.hash(&args[1])?;
    write::array(out, hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| write::bulk(out, value));
    Ok(())
}

pub(super) fn hdel(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let removed = call.change_hash(&args[1], |hash| args.from(2).iter().filter(|field| hash.remove(field)).count())?;
    write::integer(out, removed as i64);
    Ok(())
}

pub(super) fn hlen(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let length = call.hash(&args[1])?.map_or(0, Hash::len);
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn hexists(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let there = call.hash(&args[1])?.is_some_and(|hash| hash.contains(&args[2]));
    write::integer(out, i64::from(there));
    Ok(())
}

pub(super) fn hstrlen(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let length = call.hash(&args[1])?.and_then(|hash| hash.get(&args[2])).map_or(0, <[u8]>::len);
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn hincrby(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let increment = integer(&args[3])?;
    let before = match call.hash(&args[1])?.and_then(|hash| hash.get(&args[2])) {
        Some(value) => number::parse(value).ok_or(Refusal::Other("ERR hash value is not an integer"))?,
        None => 0,
    };
    let overflow = Refusal::Other("ERR increment or decrement would overflow");
    let after = before.checked_add(increment).ok_or(overflow)?;
    call.change_hash(&args[1], |hash| hash.put(&args[2], itoa::Buffer::new().format(after).as_bytes()))?;
    write::integer(out, after);
    Ok(())
}

pub(super) fn hrandfield(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    let Some(count) = args.get(2) else {
        let hash = call.hash(&args[1])?;
        optional(out, protocol, hash.map(|hash| hash.at(fastrand::usize(..hash.len())).0));
        return Ok(());
    };
    let count = signed_count(count)?;
    let with_values = args.len() == 4 && args[3].eq_ignore_ascii_case(b"withvalues");
    if args.len() > 4 || (args.len() == 4 && !with_values) {
        return Err(Refusal::Syntax);
    }
    if with_values && !(-MOST_REPEATED..=MOST_REPEATED).contains(&count) {
        return Err(Refusal::Other("ERR value is out of range"));
    }
    let Some(hash) = call.hash(&args[1])? else {
        write::array(out, 0);
        return Ok(());
    };
    let chosen = random_rows(hash.len(), count);
    write_rows(out, protocol, with_values, chosen.into_iter().map(|number| hash.at(number)));
    Ok(())
}

/// Numbers of rows: `count` distinct ones (or all), or, where it is negative, as many with repetition.
pub(super) fn random_rows(length: usize, count: i64) -> Vec<usize> {
    if count < 0 {
        return (0..count.unsigned_abs()).map(|_| fastrand::usize(..length)).collect();
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count >= length {
        return (0..length).collect();
    }
    fastrand::choose_multiple(0..length, count)
}

fn write_rows<'a>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    with_values: bool,
    rows: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
) {
    let flat = with_values && protocol == Protocol::Resp2;
    write::array(out, if flat { rows.len() * 2 } else { rows.len() });
    for (field, value) in rows {
        if with_values && protocol == Protocol::Resp3 {
            write::array(out, 2);
        }
        write::bulk(out, field);
        if with_values {
            write::bulk(out, value);
        }
    }
}
