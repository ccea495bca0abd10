//! Expiry: setting, reading and removing a key's deadline.

use super::call::Call;
use super::commands::Outcome;
use super::keyspace::NEVER;
use super::options::{Unit, integer};
use super::refusal::Refusal;
use crate::resp::args::Args;
use crate::resp::write;

/// When a new deadline is accepted, by the one there is.
#[derive(Clone, Copy, Default)]
struct Conditions {
    if_none: bool,
    if_any: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Conditions {
    fn read(args: Args<'_>) -> Result<Self, Refusal> {
        let mut conditions = Conditions::default();
        for word in args.iter() {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.if_none = true,
                b"xx" => conditions.if_any = true,
                b"gt" => conditions.if_later = true,
                b"lt" => conditions.if_earlier = true,
                _ => return Err(Refusal::Text([b"ERR Unsupported option ", word].concat())),
            }
        }
        conditions.check()
    }

    fn check(self) -> Result<Self, Refusal> {
        if self.if_none && (self.if_any || self.if_later || self.if_earlier) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Refusal::Other(text));
        }
        if self.if_later && self.if_earlier {
            return Err(Refusal::Other("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(self)
    }

    /// No deadline is later than any.
    fn accept(self, now: i64, new: i64) -> bool {
        !(self.if_none && now != NEVER
            || self.if_any && now == NEVER
            || self.if_later && new <= now
            || self.if_earlier && new >= now)
    }
}

pub(super) fn expire(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_deadline(call, args, out, Unit::Ex)
}

pub(super) fn pexpire(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_deadline(call, args, out, Unit::Px)
}

pub(super) fn expireat(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_deadline(call, args, out, Unit::ExAt)
}

pub(super) fn pexpireat(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    set_deadline(call, args, out, Unit::PxAt)
}

fn set_deadline(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>, unit: Unit) -> Outcome {
    let conditions = Conditions::read(args.from(3))?;
    let new = deadline(call, &args[2], unit)?;
    let key = &args[1];
    let accepted = call.peek(key).is_some_and(|entry| conditions.accept(entry.expires, new));
    if accepted && new <= call.now {
        call.take(key);
    } else if accepted {
        call.change(key, |entry| entry.expires = new);
    }
    write::integer(out, i64::from(accepted));
    Ok(())
}

/// Like SET's, but times that have passed are fine.
fn deadline(call: &Call<'_>, text: &[u8], unit: Unit) -> Result<i64, Refusal> {
    let refused = || Refusal::ExpireTime(call.name);
    let number = integer(text)?;
    let milliseconds = match unit {
        Unit::Ex | Unit::ExAt => number.checked_mul(1000).ok_or_else(refused)?,
        Unit::Px | Unit::PxAt => number,
    };
    if unit.is_absolute() {
        return Ok(milliseconds.saturating_sub(call.time.skew()));
    }
    milliseconds.checked_add(call.now).ok_or_else(refused)
}

pub(super) fn ttl(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = call.now;
    report(call, args, out, |expires| seconds((expires - now).max(0)))
}

pub(super) fn pttl(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = call.now;
    report(call, args, out, |expires| (expires - now).max(0))
}

pub(super) fn expiretime(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let skew = call.time.skew();
    report(call, args, out, |expires| seconds(expires.saturating_add(skew)))
}

pub(super) fn pexpiretime(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let skew = call.time.skew();
    report(call, args, out, |expires| expires.saturating_add(skew))
}

/// Rounded as Redis rounds.
fn seconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_add(500) / 1000
}

fn report(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>, shown: impl Fn(i64) -> i64) -> Outcome {
    let answer = match call.peek(&args[1]).map(|entry| entry.expires) {
        None => -2,
        Some(NEVER) => -1,
        Some(expires) => shown(expires),
    };
    write::integer(out, answer);
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let key = &args[1];
    let removed = call.expires(key) != NEVER;
    if removed {
        call.change(key, |entry| entry.expires = NEVER);
    }
    write::integer(out, i64::from(removed));
    Ok(())
}
