//! Strings as arrays of bits, and as decimal fractions.

use super::call::Call;
use super::commands::Outcome;
use super::extended::{Extended, Parsed};
use super::number;
use super::object::Object;
use super::options::integer;
use super::refusal::Refusal;
use super::strings::{LONGEST, alter_text, check_length, replace};
use crate::memory::Blob;
use crate::resp::args::Args;
use crate::resp::write;

pub(super) fn incrbyfloat(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let before = match call.text(&args[1])? {
        Some(text) => Extended::parse(text).ok_or(Refusal::NotFloat)?,
        None => Parsed::Finite(Extended::ZERO),
    };
    let increment = Extended::parse(&args[2]).ok_or(Refusal::NotFloat)?;
    let after = sum(before, increment)?;
    replace(call, &args[1], Object::Sum(Box::new(Blob::new(after.as_bytes()))));
    write::bulk(out, after);
    Ok(())
}

pub(super) fn hincrbyfloat(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let increment = Extended::parse(&args[3]).ok_or(Refusal::NotFloat)?;
    if !matches!(increment, Parsed::Finite(_)) {
        return Err(Refusal::Other("ERR value is NaN or Infinity"));
    }
    let before = match call.hash(&args[1])?.and_then(|hash| hash.get(&args[2])) {
        Some(value) => Extended::parse(value).ok_or(Refusal::Other("ERR hash value is not a float"))?,
        None => Parsed::Finite(Extended::ZERO),
    };
    let after = sum(before, increment)?;
    call.change_hash(&args[1], |hash| hash.put(&args[2], after.as_bytes()))?;
    write::bulk(out, after);
    Ok(())
}

fn sum(before: Parsed, increment: Parsed) -> Result<String, Refusal> {
    let sum = match (before, increment) {
        (Parsed::Finite(before), Parsed::Finite(increment)) => before.plus(increment),
        _ => None,
    };
    sum.map(Extended::format).ok_or(Refusal::Other("ERR increment would produce NaN or Infinity"))
}

/// The byte and the bit within it; the highest bit of a byte is its first.
fn position(text: &[u8]) -> Result<(usize, u8), Refusal> {
    let offset = number::parse(text).and_then(|offset| usize::try_from(offset).ok());
    let offset = offset.filter(|offset| offset / 8 < LONGEST);
    let offset = offset.ok_or(Refusal::Other("ERR bit offset is not an integer or out of range"))?;
    Ok((offset / 8, 0x80 >> (offset % 8)))
}

pub(super) fn setbit(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (byte, mask) = position(&args[2])?;
    let on = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Refusal::Other("ERR bit is not an integer or out of range")),
    };
    call.text(&args[1])?;
    check_length(call, byte + 1)?;
    let before = alter_text(call, &args[1], |text| {
        if text.len() <= byte {
            text.resize(byte + 1, 0);
        }
        let before = text[byte] & mask != 0;
        text[byte] = if on { text[byte] | mask } else { text[byte] & !mask };
        before
    });
    write::integer(out, i64::from(before));
    Ok(())
}

pub(super) fn getbit(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (byte, mask) = position(&args[2])?;
    let set = call.text(&args[1])?.and_then(|text| text.get(byte)).is_some_and(|byte| byte & mask != 0);
    write::integer(out, i64::from(set));
    Ok(())
}

pub(super) fn bitcount(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(range) = range(call, args)? else {
        write::integer(out, 0);
        return Ok(());
    };
    let text = call.text(&args[1])?.unwrap_or_default();
    write::integer(out, range.count(text));
    Ok(())
}

/// Which bits are counted.
enum Range {
    Whole,
    Bytes(i64, i64),
    Bits(i64, i64),
}

/// The range, or none where there is nothing to count: an absent key is answered before its range is read, and a
/// range that is empty whatever the length before its unit is.
fn range(call: &mut Call<'_>, args: Args<'_>) -> Result<Option<Range>, Refusal> {
    if call.text(&args[1])?.is_none() {
        return Ok(None);
    }
    if args.len() == 2 {
        return Ok(Some(Range::Whole));
    }
    if args.len() != 4 && args.len() != 5 {
        return Err(Refusal::Syntax);
    }
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    if start < 0 && end < 0 && start > end {
        return Ok(None);
    }
    match args.get(4) {
        None => Ok(Some(Range::Bytes(start, end))),
        Some(unit) if unit.eq_ignore_ascii_case(b"byte") => Ok(Some(Range::Bytes(start, end))),
        Some(unit) if unit.eq_ignore_ascii_case(b"bit") => Ok(Some(Range::Bits(start, end))),
        Some(_) => Err(Refusal::Syntax),
    }
}

impl Range {
    fn count(&self, text: &[u8]) -> i64 {
        let ones = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.count_ones())).sum::<i64>();
        let length = text.len() as i64;
        match *self {
            Range::Whole => ones(text),
            Range::Bytes(start, end) => {
                cut(start, end, length).map_or(0, |(start, end)| ones(&text[start as usize..=end as usize]))
            }
            Range::Bits(start, end) => cut(start, end, length * 8).map_or(0, |(start, end)| {
                let (first, last) = ((start / 8) as usize, (end / 8) as usize);
                let before = i64::from((text[first] as u16 >> (8 - start % 8)).count_ones());
                let after = i64::from((text[last] & (0x7F >> (end % 8)) as u8).count_ones());
                ones(&text[first..=last]) - before - after
            }),
        }
    }
}

/// Negative positions count from the end; what is outside is cut off.
fn cut(start: i64, end: i64, length: i64) -> Option<(i64, i64)> {
    let from_start = |position: i64| if position < 0 { position.saturating_add(length).max(0) } else { position };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    (start <= end).then_some((start, end))
}
