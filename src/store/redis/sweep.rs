//! Deletes many keys of a server that it knows and we do not: those that a predicate picks, with what stands beside them.
//!
//! The server is walked by SCAN, over a connection of its own; whoever has set a key before the walk began has it found. A value, its
//! lease and its negative entry go together, whichever of them is found.

use super::handshake::Upstream;
use super::side_key::{self, Beside, Kind};
use super::talk::{self, Command};
use super::trust::Visit;
use crate::resp::frame::Reply;
use crate::store::StoreError;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which keys.
pub type Pick = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Keys that one step looks at.
const COUNT: &str = "1000";
/// An answer to it: names are short, but nobody promises that.
pub(super) const MOST_REPLY: usize = 64 << 20;

impl Upstream {
    /// Deletes all keys that `pick` picks at every server, in every database.
    pub async fn sweep(self: &Arc<Self>, pick: Pick) -> Result<(), StoreError> {
        let all = self.servers().into_iter().map(|(server, _)| {
            let pick = pick.clone();
            async move { sweep(&mut Visit::begin(&server).await?, &pick).await }
        });
        join_all(all).await.into_iter().collect::<Result<Vec<usize>, _>>().map(drop)
    }
}

/// Of one server; answers how many keys it had.
pub async fn sweep(visit: &mut Visit, pick: &Pick) -> Result<usize, StoreError> {
    let mut dropped = 0;
    for db in visit.databases().await? {
        if !visit.select(db).await? {
            continue;
        }
        let mut cursor = "0".to_owned();
        loop {
            let page = visit.ask(&[talk::command(&["SCAN", &cursor, "COUNT", COUNT])]).await?;
            let (next, found) = page_of(&page[0])?;
            dropped += unlink(visit, &owners(found, pick)).await?;
            if next == "0" {
                break;
            }
            cursor = next;
        }
    }
    Ok(dropped)
}

/// Cursor and names.
fn page_of(reply: &Reply) -> Result<(String, &[Reply]), StoreError> {
    match reply {
        Reply::Array(parts) => match parts.as_slice() {
            [cursor, Reply::Array(names)] => {
                let cursor = String::from_utf8_lossy(cursor.as_bytes().unwrap_or_default()).into_owned();
                Ok((cursor, names))
            }
            _ => Err(StoreError::Protocol("SCAN answered something else".into())),
        },
        _ => Err(StoreError::Protocol("SCAN answered something else".into())),
    }
}

/// The picked keys that these are, or stand beside. Routed keys are UTF-8.
fn owners(names: &[Reply], pick: &Pick) -> BTreeSet<String> {
    let owner = |name: &Reply| {
        let name = name.as_bytes()?;
        let owner = side_key::owner(name).unwrap_or(name);
        pick(owner).then(|| String::from_utf8(owner.to_vec()).ok())?
    };
    names.iter().filter_map(owner).collect()
}

/// Leases first: a load that is under way must not fill what has just gone.
async fn unlink(visit: &mut Visit, keys: &BTreeSet<String>) -> Result<usize, StoreError> {
    if keys.is_empty() {
        return Ok(0);
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let sides = keys.iter().flat_map(|key| {
        let beside = Beside::of(key.as_bytes());
        [Kind::Lease, Kind::Negative].map(|kind| text(beside.name(kind)))
    });
    let verb = || "UNLINK".to_owned();
    if !visit.is_node {
        let commands: [Command; 2] = [
            std::iter::once(verb()).chain(sides).collect(),
            std::iter::once(verb()).chain(keys.iter().cloned()).collect(),
        ];
        return Ok(count(&visit.ask(&commands).await?[1]));
    }
    // One by one: a node refuses several keys at once while their slot is moving, and what has moved is not its own any more.
    let commands: Vec<Command> = sides.chain(keys.iter().cloned()).map(|key| vec![verb(), key]).collect();
    let replies = visit.try_all(&commands).await?;
    Ok(replies[2 * keys.len()..].iter().map(count).sum())
}

fn count(reply: &Reply) -> usize {
    match reply {
        Reply::Integer(number) => usize::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}
