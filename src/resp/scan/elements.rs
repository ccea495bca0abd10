//! The elements of one whole reply, and whether it may stand for an absent key.
//!
//! For replies that a [`super::ReplyScanner`] has seen whole; anything else yields no elements, never a panic.

use super::reply::{line_end, plain_value};
use crate::resp::number;
use std::ops::Range;

/// True if one whole reply could be what a read command answers for an absent key: a nil, an empty string or
/// aggregate, zero, -1 or -2 (TTL), `+none` (TYPE), or an array or map of which an element is one of these (HMGET,
/// HTTL, LCS … IDX). False is certain, true is not: an empty string may be stored.
///
/// Commands that count several keys (EXISTS a b) need [`may_be_absent_among`].
#[inline]
pub fn may_be_absent(reply: &[u8]) -> bool {
    match reply {
        // Such are most values.
        [b'$', b'1'..=b'9', ..] => false,
        _ => may_be_absent_at_a_closer_look(reply),
    }
}

fn may_be_absent_at_a_closer_look(reply: &[u8]) -> bool {
    match reply {
        [b'*' | b'%' | b'~', b'1'..=b'9', ..] => elements(reply).any(|range| is_empty(&reply[range])),
        // Rare enough not to be looked into.
        [b'|', ..] => true,
        _ => is_empty(reply),
    }
}

/// The same for a command with this number of keys, of which a count smaller than that may leave one out.
pub fn may_be_absent_among(reply: &[u8], keys: usize) -> bool {
    match reply {
        [b':', ..] => line(reply, 0).is_none_or(|(count, _)| count < keys as i64),
        _ => may_be_absent(reply),
    }
}

/// As [`may_be_absent`], without looking into aggregates.
fn is_empty(value: &[u8]) -> bool {
    match value {
        [b'$' | b'*', b'-' | b'0', ..] | [b'%' | b'~', b'0', ..] | [b'_', ..] => true,
        [b':', ..] => matches!(value, b":0\r\n" | b":-1\r\n" | b":-2\r\n"),
        [b'+', b'n', ..] => value == b"+none\r\n",
        [b'-', ..] => value.starts_with(b"-ERR no such key"),
        _ => false,
    }
}

/// The positions of the nil elements of an array.
pub fn nil_elements(reply: &[u8]) -> impl Iterator<Item = usize> {
    elements(reply).enumerate().filter(|(_, range)| is_nil(&reply[range.clone()])).map(|(position, _)| position)
}

/// True if `element` is one of the three nils.
pub fn is_nil(element: &[u8]) -> bool {
    matches!(element, b"$-1\r\n" | b"_\r\n" | b"*-1\r\n")
}

/// The payload of a whole bulk string; `None`: it is something else, a nil too.
pub fn bulk(value: &[u8]) -> Option<&[u8]> {
    if value.first() != Some(&b'$') {
        return None;
    }
    let (length, start) = line(value, 0)?;
    value.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// The length of the value at the beginning, if it is whole, and such as most values are: a string that is not empty.
#[inline]
pub fn found(replies: &[u8]) -> Option<usize> {
    matches!(replies, [b'$', b'1'..=b'9', ..]).then(|| plain_value(replies))?
}

/// Where the value ends that begins at `at`, if it is whole.
#[inline]
pub fn value_end(replies: &[u8], at: usize) -> Option<usize> {
    match replies.get(at..).and_then(plain_value) {
        Some(length) => Some(at + length),
        None => skip_value(replies, at),
    }
}

/// The byte ranges of the elements of an array, set or push, or of the keys and values of a map in turn; none for
/// other replies.
pub fn elements(reply: &[u8]) -> Elements<'_> {
    let head = match reply.first() {
        Some(b'*' | b'~' | b'>' | b'%') => line(reply, 0),
        _ => None,
    };
    match head {
        Some((count, at)) if count > 0 => {
            Elements { reply, at, left: if reply[0] == b'%' { count.saturating_mul(2) } else { count } }
        }
        _ => Elements { reply, at: reply.len(), left: 0 },
    }
}

/// As [`elements`] says.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    reply: &'a [u8],
    at: usize,
    left: i64,
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let end = skip_value(self.reply, self.at)?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }
}

/// Where the value at `at` ends. One count of values still to come is enough here, for nesting need not be known.
fn skip_value(reply: &[u8], mut at: usize) -> Option<usize> {
    let mut left = 1i64;
    while left > 0 {
        let kind = *reply.get(at)?;
        left -= 1;
        match kind {
            b'$' | b'!' | b'=' => {
                let (length, next) = line(reply, at)?;
                let payload = if length < 0 { 0 } else { usize::try_from(length).ok()?.checked_add(2)? };
                at = next.checked_add(payload).filter(|&end| end <= reply.len())?;
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let (count, next) = line(reply, at)?;
                let values = match kind {
                    b'%' => count.checked_mul(2)?,
                    b'|' => count.checked_mul(2)?.checked_add(1)?,
                    _ => count,
                };
                left = left.checked_add(values.max(0))?;
                at = next;
            }
            _ => at = line_end(reply, at)? + 2,
        }
    }
    Some(at)
}

/// The number of the line at `at`, and where the next one begins.
fn line(reply: &[u8], at: usize) -> Option<(i64, usize)> {
    if let Some((number, next)) = number::plain_line(reply, at + 1) {
        return Some((i64::from(number), next));
    }
    let end = line_end(reply, at)?;
    Some((number::parse(reply.get(at + 1..end)?)?, end + 2))
}
