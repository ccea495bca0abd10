//! Commands that every master answers, and SCAN, which walks from one to the next.

use super::nodes::Nodes;
use super::plan::Join;
use super::split::{integer, sum, unexpected};
use super::topology::{NodeIndex, Topology};
use crate::resp::args::Args;
use crate::resp::scan::{elements, is_nil};
use crate::resp::write;
use crate::store::StoreError;
use crate::store::redis::request::request;
use std::collections::HashSet;

/// Sends one whole command to every master and joins the answers.
pub async fn run(nodes: &Nodes, join: Join, command: &[u8]) -> Result<Vec<u8>, StoreError> {
    nodes.version();
    let masters: Vec<NodeIndex> = nodes.topology().masters().collect();
    if masters.is_empty() {
        return Err(StoreError::Unavailable("no node of the cluster is known".into()));
    }
    let replies = futures_util::future::join_all(masters.into_iter().map(|master| {
        let link = nodes.link(master);
        async move { request(&link, command).await }
    }));
    let replies: Vec<Vec<u8>> = replies.await.into_iter().collect::<Result<_, _>>()?;
    let is_error = |reply: &&Vec<u8>| reply.starts_with(b"-");
    match join {
        Join::AnyOk => return Ok(replies.iter().find(|reply| !is_error(reply)).unwrap_or(&replies[0]).clone()),
        _ => {
            if let Some(error) = replies.iter().find(is_error) {
                return Ok(error.clone());
            }
        }
    }
    match join {
        Join::Alike | Join::AnyOk => Ok(replies[0].clone()),
        Join::Sum => sum(&replies),
        Join::Union => Ok(union(&replies)),
        Join::All => fold(&replies, |a, b| a.min(b), |_| true),
        Join::Counts => fold(&replies, |a, b| a + b, |position| position % 2 == 1),
        Join::Some => {
            let found: Vec<&Vec<u8>> = replies.iter().filter(|reply| !is_nil(reply)).collect();
            Ok(fastrand::choice(found).unwrap_or(&replies[0]).clone())
        }
    }
}

/// The elements of all, each once.
fn union(replies: &[Vec<u8>]) -> Vec<u8> {
    let mut seen = HashSet::new();
    let all = replies.iter().flat_map(|reply| elements(reply).map(|range| &reply[range]));
    let each: Vec<&[u8]> = all.filter(|element| seen.insert(*element)).collect();
    let mut out = Vec::new();
    write::array(&mut out, each.len());
    each.into_iter().for_each(|element| out.extend_from_slice(element));
    out
}

/// Arrays of one shape, with the integers at the places that `counts` tells folded into one.
fn fold(
    replies: &[Vec<u8>],
    folded: impl Fn(i64, i64) -> i64,
    counts: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, StoreError> {
    let mut all: Vec<_> = replies.iter().map(|reply| elements(reply).map(|range| &reply[range])).collect();
    // The head of an array or map is the same for all of them.
    let head = replies[0].iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut out = replies[0][..head].to_vec();
    let mut position = 0;
    loop {
        let row: Vec<&[u8]> = all.iter_mut().filter_map(Iterator::next).collect();
        match row.as_slice() {
            [] => return Ok(out),
            row if row.len() < replies.len() => return Err(unexpected()),
            row if counts(position) => {
                let numbers = row.iter().map(|element| integer(element).ok_or_else(unexpected));
                let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
                write::integer(&mut out, numbers.into_iter().reduce(&folded).unwrap_or_default());
            }
            row => out.extend_from_slice(row[0]),
        }
        position += 1;
    }
}

/// A cursor of SCAN is the node's own cursor times this, plus the node's mark; cursors stay small enough for clients that
/// keep them as doubles.
const MARKS: u64 = 4096;

/// One step of SCAN.
///
/// A node's mark comes from the name that the cluster gave it, so that any Weir takes any other's cursors. Where the node
/// is no longer a master, the walk begins again at the first: SCAN may answer a key twice, and must not leave one out.
pub async fn walk(nodes: &Nodes, args: Args<'_>) -> Result<Vec<u8>, StoreError> {
    nodes.version();
    let walk = marked(&nodes.topology());
    let Some(&(first, _)) = walk.first() else {
        return Err(StoreError::Unavailable("no node of the cluster is known".into()));
    };
    let cursor = args.get(1).and_then(|cursor| std::str::from_utf8(cursor).ok()?.parse::<u64>().ok());
    let (mark, cursor) = match cursor {
        // What is no cursor, the node itself refuses.
        None | Some(0) => (first, None),
        Some(packed) if walk.iter().any(|&(mark, _)| mark == packed % MARKS) => (packed % MARKS, Some(packed / MARKS)),
        Some(_) => (first, Some(0)),
    };
    let at = walk.iter().position(|&(known, _)| known == mark).unwrap_or_default();
    let mut command = Vec::new();
    write::array(&mut command, args.len());
    for (position, argument) in args.iter().enumerate() {
        match cursor {
            Some(cursor) if position == 1 => write::bulk(&mut command, cursor.to_string()),
            _ => write::bulk(&mut command, argument),
        }
    }
    let reply = request(&nodes.link(walk[at].1), &command).await?;
    let Some(range) = elements(&reply).next() else { return Ok(reply) };
    let next = own_cursor(&reply[range.clone()]).ok_or_else(unexpected)?;
    let packed = match (next, walk.get(at + 1)) {
        (0, None) => 0,
        (0, Some(&(following, _))) => following,
        (next, _) => next
            .checked_mul(MARKS)
            .map(|packed| packed + mark)
            .ok_or_else(|| StoreError::Protocol("a node's SCAN cursor is too large".into()))?,
    };
    let mut out = reply[..range.start].to_vec();
    write::bulk(&mut out, packed.to_string());
    out.extend_from_slice(&reply[range.end..]);
    Ok(out)
}

fn own_cursor(bulk: &[u8]) -> Option<u64> {
    let text = bulk.strip_suffix(b"\r\n")?;
    let at = text.iter().position(|&byte| byte == b'\n')?;
    std::str::from_utf8(&text[at + 1..]).ok()?.parse().ok()
}

/// The masters in the order of the walk, each with its mark: never 0, and no two alike.
fn marked(topology: &Topology) -> Vec<(u64, NodeIndex)> {
    let name = |index: NodeIndex| {
        let node = topology.node(index);
        (node.id.clone(), node.address.clone())
    };
    let mut masters: Vec<NodeIndex> = topology.masters().collect();
    masters.sort_by_key(|&index| name(index));
    let mut walk: Vec<(u64, NodeIndex)> = Vec::new();
    for index in masters {
        let hash = name(index).0.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut mark = hash % (MARKS - 1) + 1;
        while walk.len() < MARKS as usize - 1 && walk.iter().any(|&(taken, _)| taken == mark) {
            mark = mark % (MARKS - 1) + 1;
        }
        walk.push((mark, index));
    }
    walk.sort_unstable();
    walk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::resp::frame::decode;

    fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn answers_of_all_masters_become_one() {
        let keys = bytes(&["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*2\r\n$1\r\nc\r\n$1\r\na\r\n"]);
        assert_eq!(union(&keys), b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
        let exists = bytes(&["*2\r\n:1\r\n:1\r\n", "*2\r\n:0\r\n:1\r\n"]);
        assert_eq!(fold(&exists, |a, b| a.min(b), |_| true).unwrap(), b"*2\r\n:0\r\n:1\r\n");
        let counts = bytes(&["*2\r\n$1\r\na\r\n:2\r\n", "*2\r\n$1\r\na\r\n:3\r\n"]);
        assert_eq!(fold(&counts, |a, b| a + b, |at| at % 2 == 1).unwrap(), b"*2\r\n$1\r\na\r\n:5\r\n");
        let odd = bytes(&["*2\r\n:1\r\n:1\r\n", "*1\r\n:0\r\n"]);
        assert!(fold(&odd, |a, b| a.min(b), |_| true).is_err());
    }

    #[test]
    fn the_walk_s_marks_differ_and_do_not_depend_on_the_order_in_which_nodes_were_told() {
        let topology = |order: &[u64]| {
            let mut reply = format!("*{}\r\n", order.len());
            for n in order {
                reply += &format!("*3\r\n:{n}\r\n:{n}\r\n*3\r\n$1\r\nh\r\n:{}\r\n$4\r\nid{n:02}\r\n", n + 1);
            }
            Topology::parse(&decode(reply.as_bytes(), 8).unwrap(), &Address { host: "h".into(), port: 1 }).unwrap()
        };
        let walk = |order: &[u64]| {
            let topology = topology(order);
            let walk = marked(&topology);
            walk.into_iter().map(|(mark, index)| (mark, topology.node(index).id.clone())).collect::<Vec<_>>()
        };
        let order: Vec<u64> = (0..90).collect();
        let reversed: Vec<u64> = (0..90).rev().collect();
        let marks = walk(&order);
        assert_eq!(marks, walk(&reversed));
        assert!(marks.windows(2).all(|two| two[0].0 < two[1].0) && marks[0].0 > 0);
    }

    #[test]
    fn a_node_s_own_cursor_is_read_from_its_bulk_string() {
        assert_eq!(own_cursor(b"$2\r\n17\r\n"), Some(17));
        assert_eq!(own_cursor(b"$1\r\nx\r\n"), None);
    }
}
