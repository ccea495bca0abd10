//! Hears of every change at the upstream, by whatever hand: CLIENT TRACKING in its broadcasting mode, over one RESP3
//! connection to each master for the whole process.
//!
//! In that mode the server keeps no table of who has read what: it is given prefixes once, and tells of every key that
//! begins with one of them as it changes, expires, or is evicted, in whichever database, and of FLUSHALL as such. Our own
//! changes are told too (no NOLOOP): Weir's clients are many. What is read comes over other connections, so the news and
//! the answers are not in order: whoever keeps answers must be ready for that ([`Hears`]).
//!
//! Promises:
//! - A server that turns out to be no master is not listened to: clients' links may lead to another by now.
//! - [`Hears::hears`] is called only while every master of the upstream is being listened to; [`Hears::is_deaf`] at once when
//!   that ends: a connection is lost or made anew, a node becomes a master or is one no more, slots move, a push is
//!   longer than any that could be held.
//! - [`Hearing::catch_up`] waits until all is heard that has changed by then: the server puts the news of a change into our
//!   connection before it answers the change, so what is asked on that connection afterwards is answered behind it.
//! - A connection that carries nothing is found out by a [`probe`] every second, which also measures the pushes' delay:
//!   nothing is believed to have been heard for longer than that second and `[upstream] timeout`.
//! - A server that is gone is knocked at with the pauses of other links.
//!
//! It does not know what is kept of what it hears. tests/serve_near.rs holds it to this with a real redis-server.

mod ear;
mod prefixes;
mod probe;

use self::ear::Ear;
use super::cluster::shared::Shared;
use super::handshake::Upstream;
use super::side_key::SLOTS;
use crate::config::Address;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Who must know of changes. Called from the listening tasks; must not wait.
pub trait Hears: Send + Sync {
    /// This key has changed, in some database, or is gone.
    fn changed(&self, name: &[u8]);

    /// Any key may have changed.
    fn all_changed(&self);

    /// From here on nothing changes unheard.
    fn hears(&self);

    /// From here on changes may go unheard, for this reason: a label of metrics.
    fn is_deaf(&self, reason: &'static str);
}

/// All listening of the process.
pub struct Hearing {
    coverage: Arc<Coverage>,
}

impl Hearing {
    /// On behalf of `hears`; nobody listens yet.
    pub fn new(hears: Arc<dyn Hears>) -> Self {
        metrics::describe_histogram!(
            "weir_near_push_delay_seconds",
            "From the sending of a change of Weir's own to the arrival of its push"
        );
        Hearing { coverage: Arc::new(Coverage::new(hears)) }
    }

    /// Begins to listen for changes of keys that begin with one of `heads`, for as long as the runtime lives. Call it once.
    pub fn follow(&self, upstream: &Arc<Upstream>, heads: &[&[u8]], runtime: &Handle) {
        let posts = Posts { prefixes: prefixes::reduce(heads), coverage: self.coverage.clone() };
        let Some(shared) = upstream.cluster().cloned() else {
            posts.coverage.want(1);
            posts.listen(upstream.clone(), 0, runtime);
            return;
        };
        runtime.spawn(follow_cluster(upstream.clone(), shared, posts, runtime.clone()));
    }

    /// Waits until every change is heard that was made before, for no longer than `limit`; what may not have been heard of
    /// by then counts as changed.
    pub async fn catch_up(&self, limit: Duration) {
        let signs = self.coverage.ask_for_signs();
        // A connection that ends meanwhile leaves nothing behind that was heard of.
        let all = join_all(signs);
        if tokio::time::timeout(limit, all).await.is_err() || !self.coverage.is_whole() {
            self.coverage.hears.all_changed();
        }
    }
}

/// What all listening tasks share.
struct Posts {
    prefixes: Vec<Vec<u8>>,
    coverage: Arc<Coverage>,
}

impl Posts {
    /// Listens to one server. Its probe stands in `slot`.
    fn listen(&self, upstream: Arc<Upstream>, slot: u16, runtime: &Handle) -> JoinHandle<()> {
        runtime.spawn(Ear::new(upstream, slot, &self.prefixes, self.coverage.clone()).listen())
    }
}

/// How many of the servers that must be listened to are.
struct Coverage {
    hears: Arc<dyn Hears>,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    up: usize,
    /// How to ask each of them for a sign; those whose connection has ended hear nobody any more.
    ears: Vec<mpsc::UnboundedSender<Sign>>,
    /// 0: it is not known yet.
    wanted: usize,
}

/// Who waits for a sign that all is heard which was changed before.
type Sign = oneshot::Sender<()>;

impl Count {
    fn is_whole(&self) -> bool {
        self.wanted > 0 && self.up == self.wanted
    }
}

/// One server is being listened to, until this is dropped.
struct Heard {
    coverage: Arc<Coverage>,
    /// Why it ends.
    reason: &'static str,
}

impl Coverage {
    fn new(hears: Arc<dyn Hears>) -> Self {
        Coverage { hears, count: Mutex::default() }
    }

    /// So many servers must be listened to; 0: nobody knows how many.
    fn want(&self, servers: usize) {
        self.change("topology", |count| count.wanted = servers);
    }

    /// One more is, which can be asked for signs there.
    fn heard(self: &Arc<Self>, ear: mpsc::UnboundedSender<Sign>) -> Heard {
        self.change("", |count| {
            count.up += 1;
            count.ears.retain(|ear| !ear.is_closed());
            count.ears.push(ear);
        });
        Heard { coverage: self.clone(), reason: "lost" }
    }

    fn is_whole(&self) -> bool {
        self.count.lock().is_whole()
    }

    fn ask_for_signs(&self) -> Vec<oneshot::Receiver<()>> {
        let ask = |ear: &mpsc::UnboundedSender<Sign>| {
            let (sign, seen) = oneshot::channel();
            ear.send(sign).ok().map(|()| seen)
        };
        self.count.lock().ears.iter().filter_map(ask).collect()
    }

    /// Under the lock, so that what is told is what is so.
    fn change(&self, reason: &'static str, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock();
        let was_whole = count.is_whole();
        change(&mut count);
        match (was_whole, count.is_whole()) {
            (false, true) => self.hears.hears(),
            (true, false) => self.hears.is_deaf(reason),
            _ => {}
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.coverage.change(self.reason, |count| count.up -= 1);
    }
}

/// Listens to all masters of the cluster, whichever they are. With every new topology all that is kept goes: slots may have
/// moved while nobody listened to where they went.
async fn follow_cluster(upstream: Arc<Upstream>, shared: Arc<Shared>, posts: Posts, runtime: Handle) {
    let mut changes = shared.changes();
    let mut tasks: HashMap<Address, (u16, JoinHandle<()>)> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let masters = masters(&shared, &tasks);
        posts.coverage.want(0);
        for address in tasks.keys().cloned().collect::<Vec<_>>() {
            let stays = masters.get(&address) == tasks.get(&address).map(|(slot, _)| slot);
            if !stays && let Some((_, task)) = tasks.remove(&address) {
                task.abort();
                // Its end is waited for: it counts until then.
                let _ = task.await;
            }
        }
        for (address, slot) in &masters {
            let node = shared.upstream(&upstream, address, false);
            tasks.entry(address.clone()).or_insert_with(|| (*slot, posts.listen(node, *slot, &runtime)));
        }
        posts.coverage.want(masters.len());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Every master that owns slots, and one of its slots: the one that is probed already, if it is still there.
fn masters(shared: &Shared, probed: &HashMap<Address, (u16, JoinHandle<()>)>) -> BTreeMap<Address, u16> {
    let topology = shared.topology();
    let mut masters = BTreeMap::new();
    for slot in 0..SLOTS as u16 {
        let Some(owner) = topology.owner(slot) else { continue };
        let address = &topology.node(owner).address;
        let is_probed = probed.get(address).is_some_and(|(probed, _)| *probed == slot);
        if is_probed || !masters.contains_key(address) {
            masters.insert(address.clone(), slot);
        }
    }
    masters
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

    #[derive(Default)]
    struct Counts {
        open: AtomicI32,
        deaf: AtomicI32,
    }

    impl Hears for Counts {
        fn changed(&self, _: &[u8]) {}
        fn all_changed(&self) {}
        fn hears(&self) {
            self.open.fetch_add(1, Relaxed);
        }
        fn is_deaf(&self, _: &'static str) {
            self.deaf.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn nothing_is_heard_before_every_server_is_listened_to() {
        let counts = Arc::new(Counts::default());
        let coverage = Arc::new(Coverage::new(counts.clone()));
        let seen = || (counts.open.load(Relaxed), counts.deaf.load(Relaxed));
        let heard = || coverage.heard(mpsc::unbounded_channel().0);
        let first = heard();
        assert_eq!(seen(), (0, 0), "nobody knows how many there are");
        coverage.want(2);
        assert_eq!(seen(), (0, 0), "one of two");
        let second = heard();
        assert_eq!(seen(), (1, 0));
        drop(first);
        drop(second);
        assert_eq!(seen(), (1, 1), "deaf once, with the first that is lost");
        let both = (heard(), heard());
        assert_eq!(seen(), (2, 1));
        coverage.want(0);
        coverage.want(2);
        assert_eq!(seen(), (3, 2), "with every topology it begins anew");
        drop(both);
    }
}
