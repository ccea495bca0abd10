//! SCAN, HSCAN and SSCAN: stateless cursors over rows that may grow and shrink meanwhile.
//!
//! A cursor says how far down a row (see [`super::index`]) the walk has come; SCAN's names the shard as well, shards
//! being walked downwards one after another. Whatever is there from the first step to the last is returned, perhaps
//! more than once, as Redis promises. Held by `tests/embedded_scan.rs`.

use super::call::{Call, SHARDS};
use super::collection::{Collection, Row};
use super::commands::Outcome;
use super::glob;
use super::options::integer;
use super::refusal::Refusal;
use super::{Context, Embedded};
use crate::resp::args::Args;
use crate::resp::write;
use std::ops::ControlFlow;

/// Elements for each step where COUNT does not say.
const COUNT: usize = 10;

/// Bits of a cursor below the shard's number; all ones: from the shard's last key.
const ROW_BITS: u32 = 33;
const WHOLE_SHARD: u64 = (1 << ROW_BITS) - 1;

/// What the client asked for.
struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(args: Args<'a>, with_type: bool) -> Result<Self, Refusal> {
        let mut options = Options { pattern: None, count: COUNT, type_name: None };
        let mut position = 0;
        while let Some(word) = args.get(position) {
            let value = args.get(position + 1).ok_or(Refusal::Syntax)?;
            match word.to_ascii_lowercase().as_slice() {
                b"count" => options.count = count(value)?,
                b"match" => options.pattern = Some(value),
                b"type" if with_type => options.type_name = Some(value),
                _ => return Err(Refusal::Syntax),
            }
            position += 2;
        }
        Ok(options)
    }

    fn fits(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

fn count(text: &[u8]) -> Result<usize, Refusal> {
    match integer(text)? {
        ..=0 => Err(Refusal::Syntax),
        count => Ok(count as usize),
    }
}

/// A cursor as C's `strtoul` reads it: spaces refused at the front, but signs and wrapping accepted.
fn cursor(text: &[u8]) -> Result<u64, Refusal> {
    let invalid = || Refusal::Other("ERR invalid cursor");
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && !text.is_empty() {
        return Err(invalid());
    }
    let mut cursor = 0u64;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0')).ok_or_else(invalid)?;
        cursor = cursor.checked_mul(10).and_then(|tens| tens.checked_add(digit)).ok_or_else(invalid)?;
    }
    Ok(if negative { cursor.wrapping_neg() } else { cursor })
}

fn reply(out: &mut Vec<u8>, cursor: u64, count: usize, mut elements: Vec<u8>) {
    write::array(out, 2);
    write::bulk(out, itoa::Buffer::new().format(cursor));
    write::array(out, count);
    out.append(&mut elements);
}

pub(super) fn scan(store: &Embedded, context: Context, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let start = cursor(&args[1])?;
    let options = Options::read(args.from(2), true)?;
    let now = store.time.now();
    let (mut elements, mut found, mut left) = (Vec::new(), 0, options.count);
    let mut place = Place::from_cursor(start);
    while let Some(Place { shard, below }) = place
        && left > 0
    {
        let locked = store.shards[shard].lock();
        let rest = locked.spaces[context.db as usize].entries().scan(below, |entry| {
            let type_fits =
                options.type_name.is_none_or(|name| name.eq_ignore_ascii_case(entry.object.type_name().as_bytes()));
            if type_fits && !entry.is_expired(now) && options.fits(entry.name()) {
                write::bulk(&mut elements, entry.name());
                found += 1;
            }
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        place = Place { shard, below: rest }.next();
    }
    reply(out, place.map_or(0, Place::cursor), found, elements);
    Ok(())
}

/// Where a walk goes on: in this shard, with the keys whose numbers are below.
#[derive(Clone, Copy)]
struct Place {
    shard: usize,
    below: usize,
}

impl Place {
    /// None for a cursor that is none of ours: the walk is over.
    fn from_cursor(cursor: u64) -> Option<Self> {
        if cursor == 0 {
            return Some(Place { shard: SHARDS - 1, below: usize::MAX });
        }
        let shard = (cursor >> ROW_BITS) as usize;
        let below = match cursor & WHOLE_SHARD {
            WHOLE_SHARD => usize::MAX,
            below => below as usize,
        };
        (shard < SHARDS).then_some(Place { shard, below })
    }

    /// The next shard, once this one is through.
    fn next(self) -> Option<Self> {
        if self.below > 0 {
            return Some(self);
        }
        self.shard.checked_sub(1).map(|shard| Place { shard, below: usize::MAX })
    }

    /// Never 0, for `below` is not.
    fn cursor(self) -> u64 {
        (self.shard as u64) << ROW_BITS | (self.below as u64).min(WHOLE_SHARD)
    }
}

pub(super) fn hscan(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let start = cursor(&args[2])?;
    let hash = call.hash(&args[1])?;
    scan_rows(hash, start, args, out)
}

pub(super) fn sscan(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let start = cursor(&args[2])?;
    let set = call.set(&args[1])?;
    scan_rows(set, start, args, out)
}

fn scan_rows<R: Row>(rows: Option<&Collection<R>>, start: u64, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(rows) = rows else {
        reply(out, 0, 0, Vec::new());
        return Ok(());
    };
    let options = Options::read(args.from(3), false)?;
    let below = if start == 0 { usize::MAX } else { start as usize };
    let (mut elements, mut found) = (Vec::new(), 0);
    let rest = rows.scan(below, options.count, |name, value| {
        if !options.fits(name) {
            return;
        }
        write::bulk(&mut elements, name);
        if R::WIDTH == 2 {
            write::bulk(&mut elements, value);
        }
        found += R::WIDTH;
    });
    reply(out, rest as u64, found, elements);
    Ok(())
}
