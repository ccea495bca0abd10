//! Commands that every master answers, and SCAN, which walks from one to the next.
//!
//! Who is a master may have changed a moment ago, and a FLUSHALL that leaves one out would not be one (G1). So each master is
//! asked, behind the command, whom it knows: a slot's last owner knows the next one. Those who are new are sent the command
//! too.

use super::nodes::Nodes;
use super::plan::Join;
use super::redirect::Redirect;
use super::shared;
use super::split::{integer, sum, unexpected};
use super::topology::{NodeIndex, Topology};
use crate::config::Address;
use crate::resp::args::Args;
use crate::resp::scan::{elements, is_nil};
use crate::resp::write;
use crate::store::StoreError;
use crate::store::redis::request::request;
use futures_util::future::{join, join_all};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// Sends one whole command to every master and joins the answers.
pub async fn run(nodes: &Nodes, join: Join, command: &[u8]) -> Result<Vec<u8>, StoreError> {
    let replies = ask_all(nodes, command).await?;
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

/// Every master's reply.
async fn ask_all(nodes: &Nodes, command: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let deadline = Instant::now() + nodes.timeout();
    // `None`: it says of itself that it is no master.
    let mut answered: Vec<(Address, Option<Vec<u8>>)> = Vec::new();
    let mut wanted = masters(nodes);
    while !wanted.is_empty() {
        let asked = join_all(wanted.into_iter().map(|address| async move {
            let link = nodes.link_to(&address);
            let (reply, view) = join(request(&link, command), shared::view(nodes, &address)).await;
            (address, reply, view)
        }));
        let (mut seen, mut later) = (Vec::new(), None);
        for (address, reply, view) in asked.await {
            let known = view.as_ref().map(master_addresses).unwrap_or_default();
            let is_master = view.is_err() || known.contains(&address);
            seen.extend(known);
            match reply {
                _ if !is_master => answered.push((address, None)),
                Err(error) if error.is_unsent() => later = Some(error),
                Err(error) => return Err(error),
                Ok(reply) => match Redirect::read(&reply, &address) {
                    Some(Redirect::Later(error)) => later = Some(error),
                    _ => answered.push((address, Some(reply))),
                },
            }
        }
        if let Some(error) = later {
            if deadline <= Instant::now() {
                return Err(error);
            }
            // One of them is no master any more, or not yet: who is, the others will know in a moment.
            nodes.shared().change_within(PAUSE).await;
            shared::renew(nodes).await;
            seen = masters(nodes);
        }
        seen.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        seen.dedup();
        seen.retain(|address| answered.iter().all(|(asked, _)| asked != address));
        wanted = seen;
    }
    let replies: Vec<Vec<u8>> = answered.into_iter().filter_map(|(_, reply)| reply).collect();
    match replies.is_empty() {
        true => Err(StoreError::Unavailable("no node of the cluster is known".into())),
        false => Ok(replies),
    }
}

/// Before those are asked again who were not ready.
const PAUSE: Duration = Duration::from_millis(20);

fn masters(nodes: &Nodes) -> Vec<Address> {
    nodes.version();
    master_addresses(&nodes.topology())
}

fn master_addresses(topology: &Topology) -> Vec<Address> {
    topology.masters().map(|master| topology.node(master).address.clone()).collect()
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
    if args.get(1) == Some(b"0") {
        // A walk that begins leaves out nobody who is a master by now.
        shared::renew(nodes).await;
    }
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
