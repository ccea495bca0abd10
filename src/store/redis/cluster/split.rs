//! One command on keys in several slots, taken apart by slot and its parts' answers joined.
//!
//! The parts run side by side and not in one step: another client may see some of an MSET's values before the others, as
//! with any client of a cluster. If a part fails, its error is the answer to the whole, and other parts may have run.

use super::nodes::Nodes;
use super::persist;
use super::plan::Split;
use super::redirect::Facts;
use crate::resp::args::Args;
use crate::resp::number;
use crate::resp::scan::elements;
use crate::resp::write;
use crate::store::StoreError;
use crate::store::redis::side_key::slot;
use std::collections::BTreeMap;
use std::ops::Range;
use tokio::time::Instant;

/// Runs `args`, of which every `step`th argument from the first is a key.
pub async fn run(nodes: &Nodes, split: Split, args: Args<'_>, deadline: Instant) -> Result<Vec<u8>, StoreError> {
    let step = if split == Split::Pairs { 2 } else { 1 };
    let parts = by_slot(args, step);
    let replies = futures_util::future::join_all(parts.iter().map(|(_, positions)| {
        let command = part(args, positions, step);
        async move { persist::first(nodes, &command, Facts::of(&command), deadline).await }
    }));
    let replies: Vec<Vec<u8>> = replies.await.into_iter().collect::<Result<_, _>>()?;
    if let Some(error) = replies.iter().find(|reply| reply.starts_with(b"-")) {
        return Ok(error.clone());
    }
    match split {
        Split::Pairs => Ok(b"+OK\r\n".to_vec()),
        Split::Count => sum(&replies),
        Split::Elements => in_order(args.len() - 1, &parts, &replies),
    }
}

/// The positions of the keys of each slot.
fn by_slot(args: Args<'_>, step: usize) -> Vec<(u16, Vec<usize>)> {
    let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for position in (1..args.len()).step_by(step) {
        parts.entry(slot(&args[position])).or_default().push(position);
    }
    parts.into_iter().collect()
}

fn part(args: Args<'_>, positions: &[usize], step: usize) -> Vec<u8> {
    let mut command = Vec::new();
    write::array(&mut command, 1 + positions.len() * step);
    write::bulk(&mut command, &args[0]);
    for &position in positions {
        (position..position + step).for_each(|at| write::bulk(&mut command, &args[at]));
    }
    command
}

/// The sum of integers.
pub fn sum(replies: &[Vec<u8>]) -> Result<Vec<u8>, StoreError> {
    let numbers = replies.iter().map(|reply| integer(reply).ok_or_else(unexpected));
    let sum: i64 = numbers.sum::<Result<i64, StoreError>>()?;
    let mut out = Vec::new();
    write::integer(&mut out, sum);
    Ok(out)
}

/// The number of a reply `:number`.
pub fn integer(reply: &[u8]) -> Option<i64> {
    number::parse(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// A part answered what no Redis answers to it.
pub fn unexpected() -> StoreError {
    StoreError::Protocol("a part of the command was answered by another type than the others".into())
}

/// Each part's elements at the places of its keys.
fn in_order(keys: usize, parts: &[(u16, Vec<usize>)], replies: &[Vec<u8>]) -> Result<Vec<u8>, StoreError> {
    let mut places: Vec<Option<(&[u8], Range<usize>)>> = vec![None; keys];
    for ((_, positions), reply) in parts.iter().zip(replies) {
        for (&position, element) in positions.iter().zip(elements(reply)) {
            places[position - 1] = Some((reply, element));
        }
    }
    let mut out = Vec::new();
    write::array(&mut out, keys);
    for place in places {
        let (reply, element) = place.ok_or_else(unexpected)?;
        out.extend_from_slice(&reply[element]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;

    #[test]
    fn elements_stand_where_their_keys_stood() {
        let args: OwnedArgs = ["MGET", "a", "b", "{a}2", "c"].into_iter().collect();
        let args = args.as_args();
        let parts = by_slot(args, 1);
        assert_eq!(parts.len(), 3);
        let replies: Vec<Vec<u8>> = parts
            .iter()
            .map(|(_, positions)| {
                let mut reply = Vec::new();
                write::array(&mut reply, positions.len());
                positions.iter().for_each(|&position| write::bulk(&mut reply, &args[position]));
                reply
            })
            .collect();
        let joined = in_order(4, &parts, &replies).unwrap();
        assert_eq!(joined, b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$4\r\n{a}2\r\n$1\r\nc\r\n");
        assert!(in_order(4, &parts, &replies[..2]).is_err());
    }

    #[test]
    fn a_part_has_its_keys_with_their_values() {
        let args: OwnedArgs = ["mset", "a", "1", "b", "2", "{a}", "3"].into_iter().collect();
        let mut parts: Vec<Vec<u8>> =
            by_slot(args.as_args(), 2).iter().map(|(_, positions)| part(args.as_args(), positions, 2)).collect();
        parts.sort();
        assert_eq!(parts[0], b"*3\r\n$4\r\nmset\r\n$1\r\nb\r\n$1\r\n2\r\n");
        assert_eq!(parts[1], b"*5\r\n$4\r\nmset\r\n$1\r\na\r\n$1\r\n1\r\n$3\r\n{a}\r\n$1\r\n3\r\n");
    }

    #[test]
    fn counts_are_summed() {
        assert_eq!(sum(&[b":1\r\n".to_vec(), b":41\r\n".to_vec()]).unwrap(), b":42\r\n");
        assert!(sum(&[b"+1\r\n".to_vec()]).is_err());
    }
}
