//! Strings and counters.

use super::call::Call;
use super::commands::Outcome;
use super::keyspace::NEVER;
use super::number;
use super::object::Object;
use super::options::{Condition, Of, Unit, deadline, integer, options};
use super::refusal::Refusal;
use crate::resp::args::Args;
use crate::resp::write;

/// Redis's `proto-max-bulk-len`: no string is longer.
pub(super) const LONGEST: usize = 512 * 1024 * 1024;

pub(super) fn get(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    match call.text(&args[1])? {
        Some(text) => write::bulk(out, text),
        None => write::nil(out, protocol),
    }
    Ok(())
}

pub(super) fn set(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    if args.len() == 3 {
        call.put_text(key, value, NEVER);
        write::ok(out);
        return Ok(());
    }
    let options = options(Of::Set, args.from(3))?;
    let mut expires = match options.expiry {
        Some((unit, number)) => deadline(call, number, unit)?,
        None => NEVER,
    };
    if options.get {
        get(call, args, out)?;
    }
    if options.keep_ttl {
        expires = call.expires(key);
    }
    let done = set_if(call, options.condition, key, value, expires);
    match (options.get, done) {
        (true, _) => {}
        (false, true) => write::ok(out),
        (false, false) => write::nil(out, call.protocol),
    }
    Ok(())
}

fn set_if(call: &mut Call<'_>, condition: Condition, key: &[u8], value: &[u8], expires: i64) -> bool {
    let done = match condition {
        Condition::Always => true,
        Condition::IfAbsent => !call.contains(key),
        Condition::IfPresent => call.contains(key),
    };
    if done {
        put_until(call, key, value, expires);
    }
    done
}

/// Sets `key`; with a deadline that has passed that is the same as to delete it.
fn put_until(call: &mut Call<'_>, key: &[u8], text: &[u8], expires: i64) {
    if expires <= call.now {
        call.take(key);
    } else {
        call.put_text(key, text, expires);
    }
}

pub(super) fn setnx(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let done = set_if(call, Condition::IfAbsent, &args[1], &args[2], NEVER);
    write::integer(out, i64::from(done));
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_expiring(call, args, out, Unit::Ex)
}

pub(super) fn psetex(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_expiring(call, args, out, Unit::Px)
}

fn set_expiring(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>, unit: Unit) -> Outcome {
    let expires = deadline(call, &args[2], unit)?;
    put_until(call, &args[1], &args[3], expires);
    write::ok(out);
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    get(call, args, out)?;
    call.put_text(&args[1], &args[2], NEVER);
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    get(call, args, out)?;
    call.take(&args[1]);
    Ok(())
}

pub(super) fn getex(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let options = options(Of::GetEx, args.from(2))?;
    let key = &args[1];
    if call.text(key)?.is_none() {
        return get(call, args, out);
    }
    let expires = match options.expiry {
        Some((unit, number)) => Some(deadline(call, number, unit)?),
        None => options.persist.then_some(NEVER),
    };
    get(call, args, out)?;
    match expires {
        Some(expires) if expires <= call.now => drop(call.take(key)),
        Some(expires) => drop(call.change(key, |entry| entry.expires = expires)),
        None => {}
    }
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    write::array(out, args.len() - 1);
    for key in args.from(1).iter() {
        match call.text(key) {
            Ok(Some(text)) => write::bulk(out, text),
            Ok(None) | Err(_) => write::nil(out, protocol),
        }
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_pairs(call, args)?;
    write::ok(out);
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let taken = args.len() % 2 == 1 && args.from(1).iter().step_by(2).any(|key| call.contains(key));
    if !taken {
        set_pairs(call, args)?;
    }
    write::integer(out, i64::from(!taken));
    Ok(())
}

fn set_pairs(call: &mut Call<'_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::Arity(call.name));
    }
    for position in (1..args.len()).step_by(2) {
        call.put_text(&args[position], &args[position + 1], NEVER);
    }
    Ok(())
}

pub(super) fn append(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, tail) = (&args[1], &args[2]);
    let Some(length) = call.text(key)?.map(<[u8]>::len) else {
        call.put_text(key, tail, NEVER);
        write::integer(out, tail.len() as i64);
        return Ok(());
    };
    check_length(call, length + tail.len())?;
    let length = alter_text(call, key, |text| {
        text.extend_from_slice(tail);
        text.len()
    });
    write::integer(out, length as i64);
    Ok(())
}

/// Refuses a string that would be too long, for Redis or for this store.
pub(super) fn check_length(call: &Call<'_>, length: usize) -> Outcome {
    if length > LONGEST {
        return Err(Refusal::Other("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    if length > call.limit { Err(Refusal::OutOfMemory) } else { Ok(()) }
}

/// Changes the string at `key` in place; an absent one is made. It is none of another type.
pub(super) fn alter_text<T>(call: &mut Call<'_>, key: &[u8], alter: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    if !call.contains(key) {
        let mut text = Vec::new();
        let outcome = alter(&mut text);
        call.put(key, Object::Raw(Box::new(text)), NEVER);
        return outcome;
    }
    let altered = call.change(key, |entry| {
        if !matches!(entry.object, Object::Raw(_)) {
            let text = entry.object.as_text().expect("the type was checked");
            entry.object = Object::Raw(Box::new(text.to_vec()));
        }
        let Object::Raw(text) = &mut entry.object else { unreachable!("the type was checked") };
        alter(text)
    });
    altered.expect("the key is there")
}

pub(super) fn strlen(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let length = call.text(&args[1])?.map_or(0, <[u8]>::len);
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let text = call.text(&args[1])?.unwrap_or_default();
    let part = if start < 0 && end < 0 && start > end { &[] } else { slice(text, start, end) };
    write::bulk(out, part);
    Ok(())
}

/// Bytes `start` to `end`, both included, negative ones counted from the end, cut to what there is.
fn slice(text: &[u8], start: i64, end: i64) -> &[u8] {
    let length = text.len() as i64;
    let from_start = |position: i64| if position < 0 { position.saturating_add(length).max(0) } else { position };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end { &[] } else { &text[start as usize..=end as usize] }
}

pub(super) fn setrange(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, patch) = (&args[1], &args[3]);
    let offset = integer(&args[2])?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::Other("ERR offset is out of range"))?;
    let length = call.text(key)?.map_or(0, <[u8]>::len);
    if patch.is_empty() {
        write::integer(out, length as i64);
        return Ok(());
    }
    let end = offset.saturating_add(patch.len());
    check_length(call, end)?;
    let length = alter_text(call, key, |text| {
        if text.len() < end {
            text.resize(end, 0);
        }
        text[offset..end].copy_from_slice(patch);
        text.len()
    });
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(call, &args[1], 1, out)
}

pub(super) fn decr(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(call, &args[1], -1, out)
}

pub(super) fn incrby(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    add(call, &args[1], integer(&args[2])?, out)
}

pub(super) fn decrby(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let overflow = Refusal::Other("ERR decrement would overflow");
    add(call, &args[1], integer(&args[2])?.checked_neg().ok_or(overflow)?, out)
}

fn add(call: &mut Call<'_>, key: &[u8], increment: i64, out: &mut Vec<u8>) -> Outcome {
    let before = match call.text(key)? {
        Some(text) => number::parse(text).ok_or(Refusal::NotInteger)?,
        None => 0,
    };
    let overflow = Refusal::Other("ERR increment or decrement would overflow");
    let after = before.checked_add(increment).ok_or(overflow)?;
    replace(call, key, Object::text(itoa::Buffer::new().format(after).as_bytes()));
    write::integer(out, after);
    Ok(())
}

/// Sets `key` and leaves its deadline as it is.
pub(super) fn replace(call: &mut Call<'_>, key: &[u8], object: Object) {
    let expires = call.expires(key);
    call.put(key, object, expires);
}
