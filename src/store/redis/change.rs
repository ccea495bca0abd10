//! What stands around a client's own change of a routed key: the fence before it, what is dropped behind it, and a change that
//! is made of a present value only.

use super::call::refusal;
use super::link::Link;
use super::scripts::{ABSENT, IF_PRESENT, INTEGER, MOST_UNPACKED, RELEASE};
use super::side_key::{Beside, Kind};
use super::{Links, Redis};
use crate::resp::args::Args;
use crate::resp::write;
use crate::store::StoreError;
use futures_util::future::{join, join_all};

impl Redis {
    /// Drops lease and negative entry of `key`. Sent ahead of every change of a routed key, on the same link: a load
    /// that began before the change can then no longer fill, and one that begins after it reads what the client
    /// had committed.
    pub fn fence(link: &Link, key: &[u8]) {
        link.send_and_forget(&Beside::of(key).unlink(&[Kind::Lease, Kind::Negative]), 1);
    }

    /// The same, done when this returns, over links that may lead to another server than those that carry the change: in a
    /// cluster the change may meet another node than its fence did, while the slot moves, and must not be made before. One
    /// command for each side key: one on both would be refused as long as only one of them has moved.
    pub async fn fenced(links: &Links, key: &[u8]) -> Result<(), StoreError> {
        let beside = &Beside::of(key);
        let unlink = |kind| async move { links.request(key, &beside.unlink(&[kind])).await };
        let (lease, negative) = join(unlink(Kind::Lease), unlink(Kind::Negative)).await;
        [lease?, negative?].iter().find_map(|reply| refusal(reply)).map_or(Ok(()), Err)
    }

    /// The same for many keys, over Weir's own links.
    pub async fn fence_all(&self, db: u32, keys: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let links = self.own(db);
        join_all(keys.iter().map(|key| Redis::fenced(&links, key))).await.into_iter().collect()
    }

    /// Drops both behind a change, over the links that the change was sent over, or over Weir's own; whoever waits for the
    /// lease in another process is told.
    pub async fn release(&self, links: Option<&Links>, db: u32, key: &[u8]) -> Result<(), StoreError> {
        match links {
            Some(links) => self.call(links, &RELEASE, key, &[]).await.map(drop),
            None => self.call(&self.own(db), &RELEASE, key, &[]).await.map(drop),
        }
    }

    /// Runs a command only if `key` is present: its reply's bytes, or `None`.
    pub async fn if_present(&self, links: &Links, key: &[u8], args: Args<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        if args.len() > MOST_UNPACKED {
            return if_present_in_two_steps(links, key, args).await;
        }
        let arguments: Vec<&[u8]> = args.iter().collect();
        let reply = self.call(links, &IF_PRESENT, key, &arguments).await?;
        if let Some(digits) = reply.strip_prefix(INTEGER) {
            return Ok(Some([b":", digits].concat()));
        }
        Ok((reply != ABSENT).then_some(reply))
    }
}

/// For commands with more arguments than Lua can pass on. Not atomic: in between the key may vanish, and the
/// command then makes a new one. Several thousand fields at once are no counter.
async fn if_present_in_two_steps(links: &Links, key: &[u8], args: Args<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    let exists = write::whole_command([&b"EXISTS"[..], key]);
    if links.request(key, &exists).await? == b":0\r\n" {
        return Ok(None);
    }
    Redis::fenced(links, key).await?;
    let command = write::whole_command(args.iter());
    links.request(key, &command).await.map(Some)
}
