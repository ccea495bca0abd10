//! One client's way to the store: which database, in which protocol, as whom, and over which link.

use super::StoreError;
use super::embedded::{Context, Embedded};
use super::identity::Identity;
use super::redis::Redis;
use super::redis::link::Link;
use super::redis::request::request;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::write;
use std::sync::Arc;
use std::time::Duration;

/// See the module's page. Clones share the link.
#[derive(Clone)]
pub struct Way {
    /// For whom.
    pub identity: Identity,
    to: To,
}

#[derive(Clone)]
enum To {
    Redis(Redis, Link),
    Embedded(Arc<Embedded>),
}

impl Way {
    /// Over the link that this worker's clients of that identity share.
    pub(super) fn over(redis: Redis, identity: Identity) -> Self {
        let link = redis.link(&identity);
        Way { identity, to: To::Redis(redis, link) }
    }

    /// Over a link of the client's own.
    pub fn private(redis: &Redis, identity: Identity) -> Self {
        let link = redis.private(&identity);
        Way { identity, to: To::Redis(redis.clone(), link) }
    }

    /// The same link, over which the client has become somebody else.
    pub fn with_identity(&self, identity: Identity) -> Self {
        Way { identity, to: self.to.clone() }
    }

    /// Into the keyspace of this process.
    pub(super) fn embedded(embedded: Arc<Embedded>, identity: Identity) -> Self {
        Way { identity, to: To::Embedded(embedded) }
    }

    /// The link; `None` for the embedded store.
    pub fn link(&self) -> Option<&Link> {
        match &self.to {
            To::Redis(_, link) => Some(link),
            To::Embedded(_) => None,
        }
    }

    /// Runs one command and waits for its reply's bytes.
    pub async fn run(&self, args: Args<'_>) -> Result<Vec<u8>, StoreError> {
        match &self.to {
            To::Redis(_, link) => {
                let mut command = Vec::new();
                write::command(&mut command, args.iter());
                request(link, &command).await
            }
            To::Embedded(embedded) => {
                let mut reply = Vec::new();
                embedded.execute(self.context(), args, &mut reply);
                Ok(reply)
            }
        }
    }

    /// Runs one command only if its key is present, in one step; `None` if it is absent.
    pub async fn run_if_present(&self, key: &[u8], args: Args<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.to {
            To::Redis(redis, link) => redis.if_present(link, key, args).await,
            To::Embedded(embedded) => {
                let mut reply = Vec::new();
                let present = embedded.execute_if_present(self.context(), key, args, &mut reply);
                Ok(present.then_some(reply))
            }
        }
    }

    /// Drops a key's lease and negative entry ahead of a change. The embedded store does so in the change itself.
    pub fn fence(&self, key: &[u8]) {
        if let To::Redis(_, link) = &self.to {
            Redis::fence(link, key);
        }
    }

    /// Lets `key` live for `ttl` at most. (`LT` takes a key without a TTL for one that never ends; Redis 7.0.)
    pub fn cap(&self, key: &[u8], ttl: Duration) {
        let ttl = ttl.as_millis().max(1).to_string();
        let cap = OwnedArgs::from_iter([&b"PEXPIRE"[..], key, ttl.as_bytes(), b"LT"]);
        match &self.to {
            To::Redis(_, link) => {
                let mut command = Vec::new();
                write::command(&mut command, cap.as_args().iter());
                link.send_and_forget(&command, 1);
            }
            To::Embedded(embedded) => embedded.execute(self.context(), cap.as_args(), &mut Vec::new()),
        }
    }

    /// What the embedded store must know of the client.
    pub fn context(&self) -> Context {
        Context { db: self.identity.db, protocol: self.identity.protocol }
    }
}
