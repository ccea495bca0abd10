//! One client's way to the store: which database, in which protocol, as whom, and over which link.

use super::embedded::{Context, Embedded};
use super::identity::Identity;
use super::redis::cluster::{self, lane::Lane};
use super::redis::hidden::{self, Hides};
use super::redis::link::{Link, Sink};
use super::redis::request::request;
use super::redis::{Links, Redis};
use super::{StoreError, StoreKey};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::write;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
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
    Redis(Redis, Links),
    Embedded(Arc<Embedded>),
}

impl Way {
    /// Over the links that this worker's clients of that identity share.
    pub(super) fn over(redis: Redis, identity: Identity) -> Self {
        let links = redis.links(&identity);
        Way { identity, to: To::Redis(redis, links) }
    }

    /// Over a link of the client's own; in a cluster to the node of `slot`, or to any.
    pub fn private(redis: &Redis, identity: Identity, slot: Option<u16>) -> Self {
        let link = redis.private(&identity, slot);
        Way { identity, to: To::Redis(redis.clone(), Links::One(link)) }
    }

    /// The same link, over which the client has become somebody else.
    pub fn with_identity(&self, identity: Identity) -> Self {
        Way { identity, to: self.to.clone() }
    }

    /// Into the keyspace of this process.
    pub(super) fn embedded(embedded: Arc<Embedded>, identity: Identity) -> Self {
        Way { identity, to: To::Embedded(embedded) }
    }

    /// The one link; `None` for the embedded store, and for a cluster.
    pub fn link(&self) -> Option<&Link> {
        match &self.to {
            To::Redis(_, Links::One(link)) => Some(link),
            _ => None,
        }
    }

    /// Sends whole commands whose `replies` replies go to entry `id` of `sink`. Not for a cluster, where they may have to go
    /// to several nodes: see [`Way::lane`].
    #[inline]
    pub fn send(&self, commands: &[u8], replies: u32, sink: &Rc<dyn Sink>, id: u64) {
        if let To::Redis(_, Links::One(link)) = &self.to {
            link.send(commands, replies, sink, id);
        }
    }

    /// The client's lane in the cluster, if the upstream is one.
    #[inline]
    pub fn lane(&self) -> Option<&Lane> {
        match &self.to {
            To::Redis(_, Links::Cluster(lane)) => Some(lane),
            _ => None,
        }
    }

    /// Ready once the links have room for more; clients wait for it before they are read.
    #[inline]
    pub fn poll_room(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        match &self.to {
            To::Redis(_, Links::One(link)) => link.poll_room(cx),
            To::Redis(_, Links::Cluster(lane)) => lane.poll_room(cx),
            To::Embedded(_) => Poll::Ready(()),
        }
    }

    /// Runs one command and waits for its reply's bytes.
    pub async fn run(&self, args: Args<'_>) -> Result<Vec<u8>, StoreError> {
        match &self.to {
            To::Redis(_, Links::One(link)) => {
                let command = write::whole_command(args.iter());
                request(link, &command).await
            }
            To::Redis(_, Links::Cluster(lane)) => cluster::run(lane.nodes(), args).await,
            To::Embedded(embedded) => {
                let mut reply = Vec::new();
                embedded.execute(self.context(), args, &mut reply);
                Ok(reply)
            }
        }
    }

    /// Runs one command about all keys, and leaves Weir's own out of its answer.
    pub async fn run_hiding(&self, hides: Hides, args: Args<'_>) -> Result<Vec<u8>, StoreError> {
        let To::Redis(redis, links) = &self.to else { return self.run(args).await };
        match hides {
            Hides::FromList { behind_cursor } => {
                let mut reply = self.run(args).await?;
                hidden::take_out(&mut reply, behind_cursor);
                Ok(reply)
            }
            Hides::ByScript(script) if self.identity.user.is_some() => {
                // Whether this client may ask, only its own asking tells.
                let judged = self.run(args).await?;
                if judged.starts_with(b"-") {
                    return Ok(judged);
                }
                let weirs = Identity { user: None, ..self.identity.clone() };
                Redis::run_instead(&redis.links(&weirs), args, hidden::call(script, args.from(1)).as_args()).await
            }
            Hides::ByScript(script) => {
                Redis::run_instead(links, args, hidden::call(script, args.from(1)).as_args()).await
            }
        }
    }

    /// Runs one command only if its key is present, in one step; `None` if it is absent.
    pub async fn run_if_present(&self, key: &[u8], args: Args<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.to {
            To::Redis(redis, links) => redis.if_present(links, key, args).await,
            To::Embedded(embedded) => {
                let mut reply = Vec::new();
                let present = embedded.execute_if_present(self.context(), key, args, &mut reply);
                Ok(present.then_some(reply))
            }
        }
    }

    /// Enters a key in the indexes of these tags for `life` and runs one command on it, all in one step; `fences`: its lease and its
    /// negative entry are dropped too. `None`: nothing was done, for on this way that takes several steps. Weir's own keys are not the
    /// client's, or have slots of their own; or the link is the client's, whom the server would take for a reader of Weir's keys
    /// (CLIENT TRACKING counts what a script looks at).
    pub async fn run_entering(
        &self,
        key: &[u8],
        tags: &BTreeSet<Bytes>,
        life: Duration,
        fences: bool,
        args: Args<'_>,
    ) -> Option<Result<Vec<u8>, StoreError>> {
        let To::Redis(redis, links) = &self.to else { return None };
        let is_shared = matches!(links, Links::One(link) if !link.is_private());
        if !is_shared || self.identity.user.is_some() {
            return None;
        }
        let reply = redis.enter_and_run(links, key, tags, life, fences, args).await;
        // One node of a cluster, that was configured as a server by itself.
        let has_slots = reply.as_ref().is_ok_and(|reply| reply.starts_with(b"-CROSSSLOT"));
        (!has_slots).then_some(reply)
    }

    /// Lets the server track what the next command over a link of the client's own reads.
    pub fn opt_in(&self) {
        if let Some(link) = self.link().filter(|link| !link.is_shared()) {
            link.send_and_forget(b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n", 1);
        }
    }

    /// Drops a key's lease and negative entry ahead of a change that is sent next over the same link. The embedded store
    /// does so in the change itself; in a cluster there is not one link for both: see [`Way::fenced`].
    pub fn fence(&self, key: &[u8]) {
        if let To::Redis(_, Links::One(link)) = &self.to {
            Redis::fence(link, key);
        }
    }

    /// Ahead of a change that is sent next over the same link: nobody holds the end of what that leaves. In a cluster, and of users of
    /// the upstream, [`crate::store::Store::hold_end`] does it over Weir's own links.
    pub fn let_go_of_end(&self, key: &[u8]) {
        match &self.to {
            To::Redis(_, Links::One(link)) => Redis::let_go_of_end(link, key),
            To::Redis(_, Links::Cluster(_)) => {}
            To::Embedded(embedded) => {
                let key = StoreKey { db: self.identity.db, name: Bytes::copy_from_slice(key) };
                embedded.hold_end(&key, Duration::ZERO);
            }
        }
    }

    /// Drops them so that a change may be sent over whichever link.
    pub async fn fenced(&self, key: &[u8]) -> Result<(), StoreError> {
        match &self.to {
            To::Redis(redis, _) if self.identity.user.is_some() => {
                redis.fence_all(self.identity.db, vec![key.to_vec()]).await
            }
            To::Redis(_, Links::One(link)) => {
                Redis::fence(link, key);
                Ok(())
            }
            To::Redis(_, links) => Redis::fenced(links, key).await,
            To::Embedded(_) => Ok(()),
        }
    }

    /// Drops them once what was sent before on this way is done, and returns then. The embedded store has done so in the
    /// change itself.
    pub async fn release(&self, key: &[u8]) -> Result<(), StoreError> {
        match &self.to {
            To::Redis(redis, _) if self.identity.user.is_some() => {
                // Weir's own link is another one. Whatever the answer is, it comes behind those to what was sent before.
                let question = OwnedArgs::from_iter([&b"EXISTS"[..], key]);
                self.run(question.as_args()).await?;
                redis.release(None, self.identity.db, key).await
            }
            To::Redis(redis, links) => redis.release(Some(links), self.identity.db, key).await,
            To::Embedded(_) => Ok(()),
        }
    }

    /// Whether the client may run this command at all, as far as the upstream says so: only then is a load worth its while.
    pub async fn may_run(&self, args: Args<'_>) -> bool {
        match (&self.to, &self.identity.user) {
            (To::Redis(redis, _), Some(user)) => redis.dry_run(&user.user, args).await.is_none_or(|says| says.is_ok()),
            _ => true,
        }
    }

    /// Lets `key` live for `ttl` at most, once a command before it on this way is done.
    pub fn cap(&self, key: &[u8], ttl: Duration) {
        let cap = cap(key, ttl);
        match &self.to {
            To::Redis(..) if self.identity.user.is_some() => {
                let (way, key) = (self.clone(), key.to_vec());
                tokio::task::spawn_local(async move { way.cap_behind(&key, ttl).await });
            }
            To::Redis(_, Links::One(link)) => {
                let command = write::whole_command(cap.as_args().iter());
                link.send_and_forget(&command, 1);
            }
            To::Redis(_, Links::Cluster(lane)) => {
                let nodes = lane.nodes().clone();
                // What becomes of it nobody waits for, as with a command that is sent and forgotten.
                tokio::task::spawn_local(async move { cluster::run(&nodes, cap.as_args()).await });
            }
            To::Embedded(embedded) => embedded.execute(self.context(), cap.as_args(), &mut Vec::new()),
        }
    }

    /// The same, of a key whose command is answered already.
    pub async fn capped(&self, key: &[u8], ttl: Duration) {
        match &self.to {
            To::Redis(redis, _) if self.identity.user.is_some() => {
                // As in `cap`: what becomes of it nobody waits for, but it comes before the client's next command.
                let _ = redis.run_own(self.identity.db, key, cap(key, ttl).as_args()).await;
            }
            _ => self.cap(key, ttl),
        }
    }

    /// The same over Weir's own link, once all that was sent on this key before is answered; whatever that answer is, a
    /// question that is put behind it is answered later.
    pub async fn cap_behind(&self, key: &[u8], ttl: Duration) {
        let question = OwnedArgs::from_iter([&b"EXISTS"[..], key]);
        if self.run(question.as_args()).await.is_ok() {
            self.capped(key, ttl).await;
        }
    }

    /// What the embedded store must know of the client.
    pub fn context(&self) -> Context {
        Context { db: self.identity.db, protocol: self.identity.protocol }
    }
}

/// `LT` takes a key without a TTL for one that never ends (Redis 7.0).
fn cap(key: &[u8], ttl: Duration) -> OwnedArgs {
    let ttl = ttl.as_millis().max(1).to_string();
    OwnedArgs::from_iter([&b"PEXPIRE"[..], key, ttl.as_bytes(), b"LT"])
}
