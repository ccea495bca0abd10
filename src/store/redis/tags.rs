//! Tags at a Redis upstream: what one invalidation, or one fill, does there (see `cache::tags` for why).
//!
//! | key | holds | lives |
//! |---|---|---|
//! | `weir:{…}index:TAG` | a sorted set: each key of the tag, by the time at which its value has ended | as long as the last of them |
//! | `weir:{…}mark:TAG` | the number of the tag's newest invalidation | [`MARK_LIFE`] |
//! | `weir:{…}list:NAME:TAG` | an index that an invalidation has set aside | as the index did |
//! | `weir:{…}lists:TAG` | the names of such lists | as long as the last of them |
//! | `weir:{0}sequence` | the number of the newest invalidation by any tag | [`SEQUENCE_LIFE`] from when it was last looked at |
//!
//! What stands beside the keys themselves, `super::notes` tells.
//!
//! Times are Redis's own. A key may stand in an index that it does not belong to any more, for that costs a DEL of what would
//! be loaded again; what must never be is a value whose tag does not know it. So a key enters the index before its value is
//! stored, and stays there for as long as that value can live.

use super::call::{Call, decode, milliseconds};
use super::cluster;
use super::scripts::{ENTER, INDEX, NEXT, SET_ASIDE};
use super::side_key::{Beside, Kind, SEQUENCE, TagKeys};
use super::{Links, Redis};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::frame::Reply;
use crate::store::{ListId, MARK_LIFE, Sequence, StoreError, StoreKey};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use std::collections::BTreeSet;
use std::time::Duration;

/// The sequence outlives every mark, and every load that has looked at it.
pub(super) const SEQUENCE_LIFE: Duration = Duration::from_secs(86_400);

impl Redis {
    /// See [`crate::store::Store::sequence`]. To look at it prolongs its life: it must not begin anew under a load.
    pub(super) async fn read_sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        let life = milliseconds(SEQUENCE_LIFE);
        match self.ask_own(db, SEQUENCE, &[b"GETEX", SEQUENCE, b"PX", life.as_bytes()]).await? {
            Reply::Nil => Ok(Sequence::default()),
            reply => number(&reply),
        }
    }

    /// See [`crate::store::Store::next_sequence`].
    pub(super) async fn raise_sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        let life = milliseconds(SEQUENCE_LIFE);
        number(&self.call_in_slot(db, &NEXT, SEQUENCE, &[SEQUENCE], &[life.as_bytes()]).await?)
    }

    /// See [`crate::store::Store::index`].
    pub(super) async fn add_to_index(
        &self,
        key: &StoreKey,
        tag: &[u8],
        life: Duration,
    ) -> Result<Sequence, StoreError> {
        let (keys, life) = (TagKeys::of(tag), milliseconds(life));
        let arguments = [&key.name[..], life.as_bytes()];
        number(&self.call_in_slot(key.db, &INDEX, tag, &[&keys.index(), &keys.mark()], &arguments).await?)
    }

    /// Enters `key` in the indexes of these tags for `life` and runs a command on it, all in one step; `fences`: its lease and its
    /// negative entry are dropped too. The bytes of the command's reply. Not for a cluster.
    pub async fn enter_and_run(
        &self,
        links: &Links,
        key: &[u8],
        tags: &BTreeSet<Bytes>,
        life: Duration,
        fences: bool,
        args: Args<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        let (life, fence): (_, &[u8]) = (milliseconds(life), if fences { b"fence" } else { b"" });
        let arguments: Vec<&[u8]> = [life.as_bytes(), fence].into_iter().chain(args.iter()).collect();
        let (beside, mut call) = (Beside::of(key), Call::of(ENTER.keys + tags.len(), &arguments));
        call.word(key);
        [Kind::Lease, Kind::Negative].iter().for_each(|kind| call.name(&beside, *kind));
        tags.iter().for_each(|tag| call.word(&TagKeys::of(tag).index()));
        arguments.iter().for_each(|word| call.word(word));
        self.run_script(links, &ENTER, key, call).await
    }

    /// See [`crate::store::Store::set_aside`].
    pub(super) async fn set_index_aside(
        &self,
        db: u32,
        tag: &[u8],
        Sequence(number): Sequence,
        list: ListId,
    ) -> Result<Vec<ListId>, StoreError> {
        let (keys, name) = (TagKeys::of(tag), name(list));
        let (number, life) = (number.to_string(), milliseconds(MARK_LIFE));
        let names = [keys.index(), keys.mark(), keys.lists(), keys.list(&name)];
        let arguments = [number.as_bytes(), life.as_bytes(), name.as_bytes()];
        let reply = self.call_in_slot(db, &SET_ASIDE, tag, &names.each_ref().map(Vec::as_slice), &arguments).await?;
        elements(reply)?.iter().map(|name| parse_name(name)).collect()
    }

    /// See [`crate::store::Store::listed`].
    pub(super) async fn page_of_list(
        &self,
        db: u32,
        tag: &[u8],
        list: ListId,
        from: usize,
        count: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let list = TagKeys::of(tag).list(&name(list));
        let (first, last) = (from.to_string(), (from + count - 1).to_string());
        elements(self.ask_own(db, tag, &[b"ZRANGE", &list, first.as_bytes(), last.as_bytes()]).await?)
    }

    /// See [`crate::store::Store::drop_list`]. The list goes before its name: a name without a list is an empty one.
    pub(super) async fn unlink_list(&self, db: u32, tag: &[u8], list: ListId) -> Result<(), StoreError> {
        let (keys, name) = (TagKeys::of(tag), name(list));
        self.ask_own(db, tag, &[b"UNLINK", &keys.list(&name)]).await?;
        self.ask_own(db, tag, &[b"SREM", &keys.lists(), name.as_bytes()]).await.map(drop)
    }

    /// See [`crate::store::Store::invalidate_all`]. A key's lease goes before its value: a load that began before cannot fill
    /// any longer, and one that begins in between read what was committed.
    pub(super) async fn unlink_all(&self, db: u32, keys: &[Bytes]) -> Result<usize, StoreError> {
        let links = self.own(db);
        if let Links::Cluster(lane) = &links {
            // One by one: a command on several keys is refused while their slot is half moved.
            let unlink = |key: &Bytes| {
                let (links, key) = (links.clone(), key.clone());
                async move {
                    Redis::fenced(&links, &key).await?;
                    let unlink = OwnedArgs::from_iter([&b"UNLINK"[..], &Beside::of(&key).name(Kind::End)]);
                    decode(&cluster::run(lane.nodes(), unlink.as_args()).await?)?;
                    let unlink = OwnedArgs::from_iter([&b"UNLINK"[..], &key]);
                    count(&decode(&cluster::run(lane.nodes(), unlink.as_args()).await?)?)
                }
            };
            let counts: Result<Vec<usize>, StoreError> = join_all(keys.iter().map(unlink)).await.into_iter().collect();
            return Ok(counts?.iter().sum());
        }
        let mut sides: Vec<Vec<u8>> = vec![b"UNLINK".to_vec()];
        for beside in keys.iter().map(|key| Beside::of(key)) {
            sides.extend([Kind::Lease, Kind::Negative, Kind::End].map(|kind| beside.name(kind)));
        }
        let values: Vec<&[u8]> = std::iter::once(&b"UNLINK"[..]).chain(keys.iter().map(|key| &key[..])).collect();
        let sides: Vec<&[u8]> = sides.iter().map(Vec::as_slice).collect();
        // In this order over one link.
        let (fenced, deleted) = join(self.ask_own(db, b"", &sides), self.ask_own(db, b"", &values)).await;
        fenced?;
        count(&deleted?)
    }
}

pub(super) fn number(reply: &Reply) -> Result<Sequence, StoreError> {
    let number = match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        reply => reply.as_bytes().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()),
    };
    number.map(Sequence).ok_or_else(|| unexpected("a sequence is no number"))
}

fn count(reply: &Reply) -> Result<usize, StoreError> {
    let Reply::Integer(count) = reply else { return Err(unexpected("UNLINK answered no number")) };
    usize::try_from(*count).map_err(|_| unexpected("UNLINK answered less than nothing"))
}

pub(super) fn elements(reply: Reply) -> Result<Vec<Bytes>, StoreError> {
    let Reply::Array(elements) = reply else { return Err(unexpected("a list is no array")) };
    elements
        .iter()
        .map(|element| element.as_bytes().map(Bytes::copy_from_slice).ok_or_else(|| unexpected("a key is no text")))
        .collect()
}

fn name(ListId(list): ListId) -> String {
    format!("{list:016x}")
}

fn parse_name(name: &[u8]) -> Result<ListId, StoreError> {
    let number = std::str::from_utf8(name).ok().and_then(|name| u64::from_str_radix(name, 16).ok());
    number.map(ListId).ok_or_else(|| unexpected("a list has no name of ours"))
}

fn unexpected(what: &str) -> StoreError {
    StoreError::Protocol(what.into())
}
