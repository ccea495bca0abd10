//! The two kinds of store behind one name, chosen once by the configuration.

use super::embedded::{Context, Embedded};
use super::redis::Redis;
use super::redis::request::request;
use super::{Acquired, Fill, Filled, Store, StoreError, StoreKey, Token};
use crate::resp::args::Args;
use crate::resp::write::{self, Protocol};
use std::sync::Arc;
use std::time::Duration;

/// One worker's way to the store; clones share it.
#[derive(Clone)]
pub enum Backend {
    /// Links to a Redis.
    Redis(Redis),
    /// The keyspace in this process.
    Embedded(Arc<Embedded>),
}

impl Backend {
    /// The database number that clients begin with.
    pub fn first_db(&self) -> u32 {
        match self {
            Backend::Redis(redis) => redis.upstream().db(),
            Backend::Embedded(_) => 0,
        }
    }

    /// Runs one command and waits for its reply's bytes.
    pub async fn run(&self, args: Args<'_>, protocol: Protocol, db: u32) -> Result<Vec<u8>, StoreError> {
        match self {
            Backend::Redis(redis) => {
                let mut command = Vec::new();
                write::command(&mut command, args.iter());
                request(redis.link(protocol), &command).await
            }
            Backend::Embedded(embedded) => {
                let mut reply = Vec::new();
                embedded.execute(Context { db, protocol }, args, &mut reply);
                Ok(reply)
            }
        }
    }

    /// Runs one command only if its key is present, in one step; `None` if it is absent.
    pub async fn run_if_present(
        &self,
        key: &[u8],
        args: Args<'_>,
        protocol: Protocol,
        db: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.if_present(key, args, protocol).await,
            Backend::Embedded(embedded) => {
                let mut reply = Vec::new();
                let present = embedded.execute_if_present(Context { db, protocol }, key, args, &mut reply);
                Ok(present.then_some(reply))
            }
        }
    }

    /// Drops a key's lease and negative entry ahead of a change. The embedded store does so in the change itself.
    pub fn fence(&self, key: &[u8], protocol: Protocol) {
        if let Backend::Redis(redis) = self {
            redis.fence(key, protocol);
        }
    }
}

impl Store for Backend {
    async fn acquire(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        match self {
            Backend::Redis(redis) => redis.acquire(key, token, lease).await,
            Backend::Embedded(embedded) => embedded.acquire(key, token, lease).await,
        }
    }

    async fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> Result<Filled, StoreError> {
        match self {
            Backend::Redis(redis) => redis.fill(key, token, fill).await,
            Backend::Embedded(embedded) => embedded.fill(key, token, fill).await,
        }
    }

    async fn invalidate(&self, key: &StoreKey) -> Result<bool, StoreError> {
        match self {
            Backend::Redis(redis) => redis.invalidate(key).await,
            Backend::Embedded(embedded) => embedded.invalidate(key).await,
        }
    }
}
