//! Finds the keys of one call, as Redis finds them.

use std::ops::Range;

use super::{Keys, Spec};
use crate::resp::args::Args;
use crate::resp::number;

/// Positions of the keys of one call; see [`Spec::key_positions`].
///
/// Two strides. (Chained `step_by`s would divide when they are made, which costs more than all the rest.)
#[derive(Clone, Debug)]
pub struct KeyPositions {
    fixed: Range<usize>,
    fixed_step: usize,
    others: Range<usize>,
    others_step: usize,
}

impl Iterator for KeyPositions {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        take(&mut self.fixed, self.fixed_step).or_else(|| take(&mut self.others, self.others_step))
    }
}

#[inline]
fn take(range: &mut Range<usize>, step: usize) -> Option<usize> {
    let position = range.start;
    range.start = position + step;
    (position < range.end).then_some(position)
}

impl KeyPositions {
    /// `spec` is already the subcommand's.
    #[inline]
    pub(super) fn of(spec: &Spec, args: Args<'_>) -> Self {
        let fixed = fixed(spec, args.len());
        let fixed_step = spec.step.max(1) as usize;
        match spec.keys {
            Keys::None | Keys::Range => KeyPositions { fixed, fixed_step, others: 0..0, others_step: 1 },
            _ => Self::scattered(spec, args, fixed, fixed_step),
        }
    }

    fn scattered(spec: &Spec, args: Args<'_>, fixed: Range<usize>, fixed_step: usize) -> Self {
        let (fixed, others, others_step) = match spec.keys {
            Keys::None | Keys::Range => (fixed, 0..0, 1),
            Keys::Numkeys(at) => (fixed, counted(args, at.into(), 1), 1),
            Keys::NumkeysPairs(at) => (fixed, counted(args, at.into(), 2), 2),
            Keys::Streams => (fixed, streams(args), 1),
            Keys::SortStore | Keys::GeoStore => (fixed, stored(spec, args), 1),
            Keys::Migrate => match migrated(args) {
                Some(keys) => (0..0, keys, 1),
                None => (fixed, 0..0, 1),
            },
        };
        KeyPositions { fixed, fixed_step, others, others_step }
    }
}

/// True if the call names a key to store its result in.
pub(super) fn stores(spec: &Spec, args: Args<'_>) -> bool {
    !stored(spec, args).is_empty()
}

/// True if an XREAD or XREADGROUP may wait.
pub(super) fn blocks(args: Args<'_>) -> bool {
    stream_options(args).1
}

fn fixed(spec: &Spec, len: usize) -> Range<usize> {
    if spec.first == 0 {
        return 0..0;
    }
    let last = if spec.last < 0 { len as i64 + i64::from(spec.last) } else { i64::from(spec.last) };
    spec.first as usize..((last + 1).clamp(0, len as i64) as usize)
}

/// The `numkeys` times `step` arguments that follow position `at`.
fn counted(args: Args<'_>, at: usize, step: usize) -> Range<usize> {
    let after = at + 1;
    let count = args.get(at).and_then(number::parse).and_then(|count| usize::try_from(count).ok());
    match count.and_then(|count| count.checked_mul(step)) {
        Some(taken) if taken <= args.len().saturating_sub(after) => after..after + taken,
        _ => 0..0,
    }
}

fn streams(args: Args<'_>) -> Range<usize> {
    let Some(word) = stream_options(args).0 else { return 0..0 };
    let first = word + 1;
    first..first + (args.len() - first) / 2
}

/// Where the word STREAMS is, and whether BLOCK comes before it. The options are walked one by one, for a group may
/// be called "streams".
fn stream_options(args: Args<'_>) -> (Option<usize>, bool) {
    let (mut at, mut blocks) = (1, false);
    while let Some(option) = args.get(at) {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(option);
        if is("STREAMS") {
            return (Some(at), blocks);
        }
        blocks |= is("BLOCK");
        at += if is("BLOCK") || is("COUNT") || is("CLAIM") {
            2
        } else if is("GROUP") {
            3
        } else if is("NOACK") {
            1
        } else {
            // Unknown, and perhaps only to us: it must not hide a BLOCK, which would hold up a shared connection.
            return (None, blocks || args.from(at).iter().any(|option| option.eq_ignore_ascii_case(b"BLOCK")));
        };
    }
    (None, blocks)
}

/// The last STORE counts, as in Redis.
fn stored(spec: &Spec, args: Args<'_>) -> Range<usize> {
    let mut at = if spec.keys == Keys::GeoStore { geo_options(spec) } else { 2 };
    let mut found = 0..0;
    while let Some(option) = args.get(at) {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(option);
        let stores = is("STORE") || (spec.keys == Keys::GeoStore && is("STOREDIST"));
        if stores && at + 1 < args.len() {
            found = at + 1..at + 2;
            at += 1;
        } else if spec.keys == Keys::SortStore && is("LIMIT") {
            at += 2;
        } else if spec.keys == Keys::SortStore && (is("GET") || is("BY")) {
            at += 1;
        }
        at += 1;
    }
    found
}

/// Where the options of GEORADIUS or GEORADIUSBYMEMBER begin.
fn geo_options(spec: &Spec) -> usize {
    usize::from(spec.arity.unsigned_abs())
}

/// The keys after KEYS, if the third argument is empty.
fn migrated(args: Args<'_>) -> Option<Range<usize>> {
    if args.len() <= 6 || !args.get(3)?.is_empty() {
        return None;
    }
    let mut at = 6;
    while let Some(option) = args.get(at) {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(option);
        if is("KEYS") {
            return Some(at + 1..args.len());
        }
        at += if is("AUTH") {
            2
        } else if is("AUTH2") {
            3
        } else {
            1
        };
    }
    None
}
