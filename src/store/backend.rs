//! The two kinds of store behind one name, chosen once by the configuration.

use super::embedded::Embedded;
use super::redis::Redis;
use super::redis::sweep::Pick;
use super::{
    Acquired, Asked, Fill, Filled, Identity, ListId, Outcome, Sequence, Store, StoreError, StoreKey, Tagged, Token, Way,
};
use bytes::Bytes;
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

    /// Drops the leases and negative entries of `keys` ahead of a change that is made in another way than over the
    /// link that would carry the fence. Returns once that is done.
    pub async fn fence_all(&self, db: u32, keys: Vec<Vec<u8>>) -> Result<(), StoreError> {
        match self {
            Backend::Redis(redis) => redis.fence_all(db, keys).await,
            Backend::Embedded(_) => Ok(()),
        }
    }

    /// Deletes values, leases and negative entries of all keys that `pick` picks, in every database.
    pub async fn sweep(&self, pick: Pick) -> Result<(), StoreError> {
        match self {
            Backend::Redis(redis) => redis.upstream().sweep(pick).await,
            // It is in this process: nothing that it was to do has failed.
            Backend::Embedded(_) => Ok(()),
        }
    }

    /// The way of a client of this identity.
    pub fn way(&self, identity: &Identity) -> Way {
        match self {
            Backend::Redis(redis) => Way::over(redis.clone(), identity.clone()),
            Backend::Embedded(embedded) => Way::embedded(embedded.clone(), identity.clone()),
        }
    }
}

impl Store for Backend {
    fn epoch(&self) -> Option<u64> {
        match self {
            Backend::Redis(redis) => redis.epoch(),
            Backend::Embedded(embedded) => Store::epoch(embedded),
        }
    }

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

    fn most_together(&self) -> usize {
        match self {
            Backend::Redis(redis) => redis.most_together(),
            Backend::Embedded(embedded) => embedded.most_together(),
        }
    }

    async fn acquire_all(&self, db: u32, asked: &[Asked], lease: Duration) -> Vec<Result<Acquired, StoreError>> {
        match self {
            Backend::Redis(redis) => redis.acquire_all(db, asked, lease).await,
            Backend::Embedded(embedded) => embedded.acquire_all(db, asked, lease).await,
        }
    }

    async fn fill_all(&self, db: u32, outcomes: Vec<Outcome>) -> Vec<Result<Filled, StoreError>> {
        match self {
            Backend::Redis(redis) => redis.fill_all(db, outcomes).await,
            Backend::Embedded(embedded) => embedded.fill_all(db, outcomes).await,
        }
    }

    async fn index_all(&self, db: u32, tagged: &[Tagged], life: Duration) -> Result<Vec<Sequence>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.index_all(db, tagged, life).await,
            Backend::Embedded(embedded) => embedded.index_all(db, tagged, life).await,
        }
    }

    async fn acquire_to_refresh(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        match self {
            Backend::Redis(redis) => redis.acquire_to_refresh(key, token, lease).await,
            Backend::Embedded(embedded) => Store::acquire_to_refresh(embedded, key, token, lease).await,
        }
    }

    async fn replace(
        &self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        due: Option<Duration>,
    ) -> Result<Filled, StoreError> {
        match self {
            Backend::Redis(redis) => redis.replace(key, token, fill, due).await,
            Backend::Embedded(embedded) => Store::replace(embedded, key, token, fill, due).await,
        }
    }

    async fn seize(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<(), StoreError> {
        match self {
            Backend::Redis(redis) => redis.seize(key, token, lease).await,
            Backend::Embedded(embedded) => Store::seize(embedded, key, token, lease).await,
        }
    }

    async fn invalidate(&self, key: &StoreKey) -> Result<bool, StoreError> {
        match self {
            Backend::Redis(redis) => redis.invalidate(key).await,
            Backend::Embedded(embedded) => embedded.invalidate(key).await,
        }
    }

    async fn invalidate_all(&self, db: u32, keys: &[Bytes]) -> Result<usize, StoreError> {
        match self {
            Backend::Redis(redis) => redis.invalidate_all(db, keys).await,
            Backend::Embedded(embedded) => Store::invalidate_all(embedded, db, keys).await,
        }
    }

    async fn sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        match self {
            Backend::Redis(redis) => redis.sequence(db).await,
            Backend::Embedded(embedded) => Store::sequence(embedded, db).await,
        }
    }

    async fn next_sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        match self {
            Backend::Redis(redis) => redis.next_sequence(db).await,
            Backend::Embedded(embedded) => Store::next_sequence(embedded, db).await,
        }
    }

    async fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> Result<Sequence, StoreError> {
        match self {
            Backend::Redis(redis) => redis.index(key, tag, life).await,
            Backend::Embedded(embedded) => Store::index(embedded, key, tag, life).await,
        }
    }

    async fn set_aside(&self, db: u32, tag: &[u8], number: Sequence, list: ListId) -> Result<Vec<ListId>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.set_aside(db, tag, number, list).await,
            Backend::Embedded(embedded) => Store::set_aside(embedded, db, tag, number, list).await,
        }
    }

    async fn listed(
        &self,
        db: u32,
        tag: &[u8],
        list: ListId,
        from: usize,
        count: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.listed(db, tag, list, from, count).await,
            Backend::Embedded(embedded) => Store::listed(embedded, db, tag, list, from, count).await,
        }
    }

    async fn drop_list(&self, db: u32, tag: &[u8], list: ListId) -> Result<(), StoreError> {
        match self {
            Backend::Redis(redis) => redis.drop_list(db, tag, list).await,
            Backend::Embedded(embedded) => Store::drop_list(embedded, db, tag, list).await,
        }
    }

    async fn note_tags(&self, key: &StoreKey, tags: &[Bytes], life: Duration) -> Result<Vec<Bytes>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.note_tags(key, tags, life).await,
            Backend::Embedded(embedded) => Store::note_tags(embedded, key, tags, life).await,
        }
    }

    async fn renew(&self, key: &StoreKey, life: Duration, grace: Duration) -> Result<Option<Vec<Bytes>>, StoreError> {
        match self {
            Backend::Redis(redis) => redis.renew(key, life, grace).await,
            Backend::Embedded(embedded) => Store::renew(embedded, key, life, grace).await,
        }
    }

    async fn hold_end(&self, key: &StoreKey, time: Duration) -> Result<(), StoreError> {
        match self {
            Backend::Redis(redis) => redis.hold_end(key, time).await,
            Backend::Embedded(embedded) => Store::hold_end(embedded, key, time).await,
        }
    }
}
