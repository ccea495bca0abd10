//! Reads arguments: numbers, and the options of SET and GETEX.

use super::call::Call;
use super::number;
use super::refusal::Refusal;
use crate::resp::args::Args;

/// An integer argument.
pub(super) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    number::parse(text).ok_or(Refusal::NotInteger)
}

/// An integer argument between `least` and `most`; `otherwise` is the whole error.
pub(super) fn integer_within(text: &[u8], least: i64, most: i64, otherwise: &'static str) -> Result<i64, Refusal> {
    number::parse(text).filter(|number| (least..=most).contains(number)).ok_or(Refusal::Other(otherwise))
}

/// A count that may be negative: any integer that can be negated.
pub(super) fn signed_count(text: &[u8]) -> Result<i64, Refusal> {
    match integer(text)? {
        i64::MIN => {
            let text = format!("ERR value is out of range, value must between {} and {}", -i64::MAX, i64::MAX);
            Err(Refusal::Text(text.into_bytes()))
        }
        count => Ok(count),
    }
}

/// The number of a database: any integer of 32 bits is one to look up.
pub(super) fn database(text: &[u8]) -> Result<Option<usize>, Refusal> {
    let number = integer(text)?;
    if i32::try_from(number).is_err() {
        let text = format!("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX);
        return Err(Refusal::Text(text.into_bytes()));
    }
    Ok(usize::try_from(number).ok().filter(|&number| number < super::keyspace::DATABASES))
}

/// How an expiry is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Unix time in seconds.
    ExAt,
    /// Unix time in milliseconds.
    PxAt,
}

impl Unit {
    fn in_seconds(self) -> bool {
        matches!(self, Unit::Ex | Unit::ExAt)
    }

    /// Whether it is an absolute time.
    pub fn is_absolute(self) -> bool {
        matches!(self, Unit::ExAt | Unit::PxAt)
    }
}

/// A positive expiry, as a deadline on the store's clock.
pub(super) fn deadline(call: &Call<'_>, text: &[u8], unit: Unit) -> Result<i64, Refusal> {
    let refused = Refusal::ExpireTime(call.name);
    let number = integer(text)?;
    if number <= 0 || (unit.in_seconds() && number > i64::MAX / 1000) {
        return Err(refused);
    }
    let milliseconds = if unit.in_seconds() { number * 1000 } else { number };
    if unit.is_absolute() {
        return Ok(milliseconds.saturating_sub(call.time.skew()));
    }
    milliseconds.checked_add(call.now).ok_or(refused)
}

/// When a string is set: always, or only where there is none, or one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// The options of SET and GETEX, as written.
pub(super) struct Options<'a> {
    pub condition: Condition,
    /// SET … GET.
    pub get: bool,
    pub keep_ttl: bool,
    pub persist: bool,
    pub expiry: Option<(Unit, &'a [u8])>,
}

/// Which command's options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Set,
    GetEx,
}

/// Reads options; each excludes some others, and an excluded one is a syntax error.
pub(super) fn options(of: Of, args: Args<'_>) -> Result<Options<'_>, Refusal> {
    let mut options =
        Options { condition: Condition::Always, get: false, keep_ttl: false, persist: false, expiry: None };
    let mut position = 0;
    while let Some(word) = args.get(position) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let set = of == Of::Set;
        if set && is("nx") && options.condition != Condition::IfPresent {
            options.condition = Condition::IfAbsent;
        } else if set && is("xx") && options.condition != Condition::IfAbsent {
            options.condition = Condition::IfPresent;
        } else if set && is("get") {
            options.get = true;
        } else if set && is("keepttl") && options.expiry.is_none() {
            options.keep_ttl = true;
        } else if !set && is("persist") && options.expiry.is_none() {
            options.persist = true;
        } else {
            options.expiry = Some(expiry(&options, word, args.get(position + 1))?);
            position += 1;
        }
        position += 1;
    }
    Ok(options)
}

fn expiry<'a>(options: &Options<'_>, word: &[u8], number: Option<&'a [u8]>) -> Result<(Unit, &'a [u8]), Refusal> {
    let units = [("ex", Unit::Ex), ("px", Unit::Px), ("exat", Unit::ExAt), ("pxat", Unit::PxAt)];
    let unit = units.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(_, unit)| *unit);
    let other_unit = options.expiry.is_some_and(|(earlier, _)| Some(earlier) != unit);
    match (unit, number) {
        (Some(unit), Some(number)) if !other_unit && !options.keep_ttl && !options.persist => Ok((unit, number)),
        _ => Err(Refusal::Syntax),
    }
}
