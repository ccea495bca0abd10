//! The upstream Redis: pipelined links that forward clients' bytes, and the cache protocol's steps as scripts.

mod call;
mod change;
pub mod cluster;
mod dial;
mod events;
pub mod eviction;
mod failure;
mod frames;
pub mod handshake;
pub mod hidden;
mod lease;
pub mod link;
pub mod listen;
mod look;
mod master;
mod notes;
mod privates;
pub mod probe;
pub mod request;
pub mod scripts;
mod sentinel;
pub mod side_key;
mod subscriber;
pub mod sweep;
mod tags;
mod talk;
mod together;
pub mod tracking;
pub mod trust;

use self::call::milliseconds;
use self::cluster::Cluster;
use self::cluster::lane::Lane;
use self::handshake::Upstream;
use self::link::Link;
use self::privates::Permit;
pub use self::privates::Privates;
use self::request::request;
use self::scripts::INVALIDATE;
use super::{
    Acquired, Asked, Credentials, Fill, Filled, Identity, ListId, Outcome, Sequence, Store, StoreError, StoreKey,
    Tagged, Token,
};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::frame::{self, Reply};
use crate::resp::write;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// One worker's links to the upstream; clones share them. One pointer, for every client holds one.
#[derive(Clone)]
pub struct Redis(Rc<Parts>);

/// See [`Redis`].
pub struct Parts {
    upstream: Arc<Upstream>,
    /// Weir's own, in the URL's database.
    own: Links,
    /// Those that clients share, one for each identity that any of them has taken on.
    shared: RefCell<HashMap<Identity, Link>>,
    /// Instead of them, if the upstream is a cluster.
    cluster: Option<Rc<Cluster>>,
    /// Private links that their clients have handed back clean.
    idle: RefCell<Vec<Link>>,
    /// How many private links there are in the process.
    privates: Arc<Privates>,
    /// Clients' credentials that may be tried at once.
    trials: Semaphore,
}

impl Deref for Redis {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Where the commands of one client go.
#[derive(Clone)]
pub enum Links {
    /// To the one Redis, or over the client's own link.
    One(Link),
    /// Each to its node.
    Cluster(Lane),
}

impl Links {
    /// Sends one whole command on `key` and waits for the bytes of its reply.
    async fn request(&self, key: &[u8], command: &[u8]) -> Result<Vec<u8>, StoreError> {
        match self {
            Links::One(link) => request(link, command).await,
            Links::Cluster(lane) => cluster::ask(lane.nodes(), key, command).await,
        }
    }
}

/// Most private links that a worker keeps for the next client.
const MOST_IDLE: usize = 32;
/// Each trial of a client's credentials is a connection, which whoever reaches Weir can cause; more of them wait.
const MOST_TRIALS: usize = 16;

impl Redis {
    /// Opens the worker's first link. Must run on the worker's own runtime.
    pub fn open(upstream: Arc<Upstream>, privates: Arc<Privates>) -> Self {
        let identity = Identity { db: upstream.db(), ..Identity::default() };
        let trials = Semaphore::new(MOST_TRIALS);
        if let Some(shared) = upstream.cluster() {
            let cluster = Rc::new(Cluster::open(upstream.clone(), shared.clone()));
            let own = Links::Cluster(Lane::new(cluster.nodes(&identity)));
            let (shared, idle) = Default::default();
            return Redis(Rc::new(Parts { upstream, own, shared, cluster: Some(cluster), idle, privates, trials }));
        }
        let own = Link::open(upstream.clone(), identity.clone());
        let shared = RefCell::new(HashMap::from([(identity, own.clone())]));
        let (own, idle) = (Links::One(own), RefCell::default());
        Redis(Rc::new(Parts { upstream, own, shared, cluster: None, idle, privates, trials }))
    }

    /// Where the commands of a client of `identity` go.
    pub fn links(&self, identity: &Identity) -> Links {
        match &self.cluster {
            Some(cluster) => Links::Cluster(Lane::new(cluster.nodes(identity))),
            None => Links::One(self.link(identity)),
        }
    }

    /// The link for clients of `identity`.
    fn link(&self, identity: &Identity) -> Link {
        let mut shared = self.shared.borrow_mut();
        if let Some(link) = shared.get(identity) {
            return link.clone();
        }
        // A link that no client has any more ends here, so that they are no more than the identities in use.
        shared.retain(|_, link| link.is_shared());
        let link = Link::open(self.upstream.clone(), identity.clone());
        shared.insert(identity.clone(), link.clone());
        link
    }

    /// A link for one client alone; in a cluster to the node of `slot`, or to any. If there are too many, one that fails its
    /// first command with [`StoreError::Full`].
    pub fn private(&self, identity: &Identity, slot: Option<u16>) -> Link {
        let upstream = self.server_of(slot);
        let mut idle = self.idle.borrow_mut();
        idle.retain(|link| !link.is_down());
        match idle.iter().position(|link| link.identity() == identity && Arc::ptr_eq(link.upstream(), &upstream)) {
            Some(position) => {
                let link = idle.swap_remove(position);
                link.set_idle(false);
                link
            }
            None => {
                let permit = self.privates.permit().or_else(|| displace(&mut idle));
                if permit.is_none() {
                    self.privates.note_refusal();
                }
                Link::open_private(upstream, identity.clone(), permit)
            }
        }
    }

    /// The upstream itself, or the node that serves a slot.
    pub fn server_of(&self, slot: Option<u16>) -> Arc<Upstream> {
        self.cluster.as_ref().map_or_else(|| self.upstream.clone(), |cluster| cluster.server_of(slot))
    }

    /// A private link that the server remembers nothing of, for the next client.
    pub fn give_back(&self, link: Link) {
        link.set_owner(None);
        let mut idle = self.idle.borrow_mut();
        if !link.is_down() && idle.len() < MOST_IDLE {
            link.set_idle(true);
            idle.push(link);
        }
    }

    /// What all workers share.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Weir's own links to a database.
    fn own(&self, db: u32) -> Links {
        if db == self.upstream.db() {
            return self.own.clone();
        }
        self.links(&Identity { db, ..Identity::default() })
    }

    /// What the server answers to Weir's own user.
    pub async fn ask(&self, words: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, StoreError> {
        let command = write::whole_command(words.iter().map(AsRef::as_ref));
        self.own.request(b"", &command).await
    }

    /// What the upstream says of a client's credentials now. The inner error is its refusal.
    pub async fn try_credentials(&self, credentials: &Credentials) -> Result<Result<(), String>, StoreError> {
        let _trial = self.trials.acquire().await;
        handshake::try_credentials(&self.server_of(None), credentials).await
    }

    /// Runs a command of Weir's own on `key`, over Weir's own links.
    pub async fn run_own(&self, db: u32, key: &[u8], args: Args<'_>) -> Result<Vec<u8>, StoreError> {
        let command = write::whole_command(args.iter());
        self.own(db).request(key, &command).await
    }

    /// Runs `instead` wherever `args` would run, and answers as that would.
    pub async fn run_instead(links: &Links, args: Args<'_>, instead: Args<'_>) -> Result<Vec<u8>, StoreError> {
        let command = write::whole_command(instead.iter());
        match links {
            Links::One(link) => request(link, &command).await,
            Links::Cluster(lane) => cluster::run_instead(lane.nodes(), args, &command).await,
        }
    }

    /// Whether the upstream's `user` may run a command, by ACL DRYRUN: yes, or the refusal's text. `None`: the upstream
    /// cannot say (Redis 7.0), or Weir's own user may not ask.
    pub async fn dry_run(&self, user: &str, args: Args<'_>) -> Option<Result<(), String>> {
        let question = [&b"ACL"[..], b"DRYRUN", user.as_bytes()].into_iter().chain(args.iter());
        let question: OwnedArgs = question.collect();
        let reply = self.run_own(self.upstream.db(), b"", question.as_args()).await.ok()?;
        match frame::decode(&reply, 2).ok()? {
            Reply::Simple(_) => Some(Ok(())),
            Reply::Bulk(text) => Some(Err(format!("NOPERM {}", as_refusal(&String::from_utf8_lossy(&text))))),
            _ => None,
        }
    }

    /// Whether clients of `identity` already share a link that is up.
    pub fn has(&self, identity: &Identity) -> bool {
        self.shared.borrow().get(identity).is_some_and(|link| !link.is_down())
    }
}

/// The permit of a link that nobody uses, in use again; the link ends.
fn displace(idle: &mut Vec<Link>) -> Option<Permit> {
    let permit = idle.pop()?.take_permit()?;
    permit.set_idle(false);
    Some(permit)
}

impl Store for Redis {
    fn epoch(&self) -> Option<u64> {
        self.upstream.trust().epoch()
    }

    async fn acquire(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        self.take_lease(key, token, lease, b"miss").await
    }

    async fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> Result<Filled, StoreError> {
        self.put(key, token, fill, b"fill").await
    }

    fn most_together(&self) -> usize {
        match self.own {
            Links::One(_) => together::MOST,
            // Keys of several slots are no matter for one script.
            Links::Cluster(_) => 1,
        }
    }

    async fn acquire_all(&self, db: u32, asked: &[Asked], lease: Duration) -> Vec<Result<Acquired, StoreError>> {
        self.take_leases(db, asked, lease).await
    }

    async fn fill_all(&self, db: u32, outcomes: Vec<Outcome>) -> Vec<Result<Filled, StoreError>> {
        self.put_all(db, outcomes).await
    }

    async fn index_all(&self, db: u32, tagged: &[Tagged], life: Duration) -> Result<Vec<Sequence>, StoreError> {
        self.add_all_to_indexes(db, tagged, life).await
    }

    async fn acquire_to_refresh(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        self.take_lease(key, token, lease, b"refresh").await
    }

    async fn replace(
        &self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        due: Option<Duration>,
    ) -> Result<Filled, StoreError> {
        let over = due.map_or("replace".into(), milliseconds);
        self.put(key, token, fill, over.as_bytes()).await
    }

    async fn seize(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<(), StoreError> {
        self.take_lease(key, token, lease, b"seize").await.map(drop)
    }

    async fn invalidate(&self, key: &StoreKey) -> Result<bool, StoreError> {
        Ok(self.call_for_word(&INVALIDATE, key, &[]).await? == b"1")
    }

    async fn invalidate_all(&self, db: u32, keys: &[Bytes]) -> Result<usize, StoreError> {
        self.unlink_all(db, keys).await
    }

    async fn sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        self.read_sequence(db).await
    }

    async fn next_sequence(&self, db: u32) -> Result<Sequence, StoreError> {
        self.raise_sequence(db).await
    }

    async fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> Result<Sequence, StoreError> {
        self.add_to_index(key, tag, life).await
    }

    async fn set_aside(&self, db: u32, tag: &[u8], number: Sequence, list: ListId) -> Result<Vec<ListId>, StoreError> {
        self.set_index_aside(db, tag, number, list).await
    }

    async fn listed(
        &self,
        db: u32,
        tag: &[u8],
        list: ListId,
        from: usize,
        count: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.page_of_list(db, tag, list, from, count).await
    }

    async fn drop_list(&self, db: u32, tag: &[u8], list: ListId) -> Result<(), StoreError> {
        self.unlink_list(db, tag, list).await
    }

    async fn note_tags(&self, key: &StoreKey, tags: &[Bytes], life: Duration) -> Result<Vec<Bytes>, StoreError> {
        self.add_to_note(key, tags, life).await
    }

    async fn renew(&self, key: &StoreKey, life: Duration, grace: Duration) -> Result<Option<Vec<Bytes>>, StoreError> {
        self.renew_value(key, life, grace).await
    }

    async fn hold_end(&self, key: &StoreKey, time: Duration) -> Result<(), StoreError> {
        self.put_end(key, time).await
    }
}

/// Redis 7.0 begins a refusal in lower case and DRYRUN's answer in upper case, and says the same.
fn as_refusal(text: &str) -> String {
    text.strip_prefix("This user").map_or_else(|| text.to_owned(), |rest| format!("this user{rest}"))
}
