//! What stands beside a key's value at a Redis upstream, for as long as the value.
//!
//! | key | holds | lives |
//! |---|---|---|
//! | `weir:{…}tags:KEY` | a hash whose fields are the tags that the key does not tell, and whose they are | as long as the value, or longer |
//! | `weir:{…}end:KEY` | nothing | until the moment at which a client wants the value to end, or until another takes its place |
//!
//! A fill writes the first together with the value, in one step: it always tells the tags of what is there, or more. A note
//! whose value is gone is left to its time.

use super::Redis;
use super::call::milliseconds;
use super::link::Link;
use super::scripts::{NOTE, RENEW};
use super::side_key::{Beside, Kind};
use super::tags::elements;
use crate::resp::frame::Reply;
use crate::store::{StoreError, StoreKey};
use bytes::Bytes;
use std::time::Duration;

impl Redis {
    /// See [`crate::store::Store::note_tags`].
    pub(super) async fn add_to_note(
        &self,
        key: &StoreKey,
        tags: &[Bytes],
        life: Duration,
    ) -> Result<Vec<Bytes>, StoreError> {
        let (note, life) = (Beside::of(&key.name).name(Kind::Note), milliseconds(life));
        let arguments: Vec<&[u8]> = std::iter::once(life.as_bytes()).chain(tags.iter().map(|tag| &tag[..])).collect();
        elements(self.call_in_slot(key.db, &NOTE, &key.name, &[&note], &arguments).await?)
    }

    /// See [`crate::store::Store::renew`].
    pub(super) async fn renew_value(
        &self,
        key: &StoreKey,
        life: Duration,
        grace: Duration,
    ) -> Result<Option<Vec<Bytes>>, StoreError> {
        let beside = Beside::of(&key.name);
        let (note, end) = (beside.name(Kind::Note), beside.name(Kind::End));
        let (life, grace) = (milliseconds(life), grace.as_millis().to_string());
        let arguments = [life.as_bytes(), grace.as_bytes()];
        match self.call_in_slot(key.db, &RENEW, &key.name, &[&key.name, &note, &end], &arguments).await? {
            Reply::Nil => Ok(None),
            reply => elements(reply).map(Some),
        }
    }

    /// Ahead of a command that is sent next over the same link: nobody holds the end of what that leaves.
    pub fn let_go_of_end(link: &Link, key: &[u8]) {
        link.send_and_forget(&Beside::of(key).unlink(&[Kind::End]), 1);
    }

    /// See [`crate::store::Store::hold_end`].
    pub(super) async fn put_end(&self, key: &StoreKey, time: Duration) -> Result<(), StoreError> {
        let end = Beside::of(&key.name).name(Kind::End);
        if time.is_zero() {
            return self.ask_own(key.db, &key.name, &[b"UNLINK", &end]).await.map(drop);
        }
        let time = milliseconds(time);
        self.ask_own(key.db, &key.name, &[b"SET", &end, b"", b"PX", time.as_bytes()]).await.map(drop)
    }
}
