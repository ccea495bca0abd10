//! What all workers know of the cluster: its newest topology, and how it becomes newer.
//!
//! Whoever is redirected, or finds a node gone, *wants* a newer topology and goes on by itself. The wishes of all workers
//! fall together: one worker at a time asks the cluster, at most once in [`PAUSE`], and the others see its answer.

use super::super::handshake::Upstream;
use super::nodes::Nodes;
use super::topology::Topology;
use crate::config::{Address, ReadFrom};
use crate::resp::frame;
use crate::store::StoreError;
use crate::store::redis::request::request;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// See the module's page.
#[derive(Debug)]
pub struct Shared {
    seeds: Vec<Address>,
    /// Who answers plain reads.
    pub read_from: ReadFrom,
    newest: RwLock<Arc<Topology>>,
    /// Of `newest`, to compare without a lock.
    version: AtomicU64,
    changed: watch::Sender<u64>,
    wanted: Notify,
    /// Held by the one worker that asks.
    turn: tokio::sync::Mutex<()>,
    /// Who is likely to know most: the node that a redirect named.
    knows_more: Mutex<Option<Address>>,
    /// What links share, for each node and side of it; `true`: links that only read.
    upstreams: Mutex<HashMap<(Address, bool), Arc<Upstream>>>,
}

/// The cluster is asked no more often.
const PAUSE: Duration = Duration::from_millis(50);
/// Without any sign it is asked this often: nodes may have joined that nobody was sent to.
const PERIOD: Duration = Duration::from_secs(30);

impl Shared {
    /// A cluster of which only the configuration is known.
    pub fn new(seeds: Vec<Address>, read_from: ReadFrom) -> Self {
        Shared {
            seeds,
            read_from,
            newest: RwLock::new(Arc::new(Topology::unknown())),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            wanted: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            knows_more: Mutex::default(),
            upstreams: Mutex::default(),
        }
    }

    /// A node that is known from the configuration.
    pub fn seed(&self) -> Address {
        self.seeds[0].clone()
    }

    /// Whether any node has told of the others.
    pub fn is_known(&self) -> bool {
        self.version() > 0
    }

    /// Of the newest topology.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest topology.
    pub fn topology(&self) -> Arc<Topology> {
        self.newest.read().clone()
    }

    /// Somebody has met a node that is gone, or was sent to `knows_more`.
    pub fn want_newer(&self, knows_more: Option<&Address>) {
        if let Some(address) = knows_more {
            *self.knows_more.lock() = Some(address.clone());
        }
        self.wanted.notify_one();
    }

    /// Tells of each change of the topology.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits for a change of the topology, but no longer than `limit`.
    pub async fn change_within(&self, limit: Duration) {
        let mut changed = self.changed.subscribe();
        // Neither the time's end nor the end of everything is a reason to do something else.
        let _ = tokio::time::timeout(limit, changed.changed()).await;
    }

    /// What all links to this node share.
    pub fn upstream(&self, of: &Upstream, address: &Address, only_reads: bool) -> Arc<Upstream> {
        let mut upstreams = self.upstreams.lock();
        let known = upstreams.entry((address.clone(), only_reads));
        known.or_insert_with(|| Arc::new(of.of_node(address.clone(), only_reads))).clone()
    }

    fn publish(&self, mut found: Topology) {
        let mut newest = self.newest.write();
        if newest.says_the_same(&found) {
            return;
        }
        let version = newest.version + 1;
        let (masters, nodes) = (found.masters().count(), found.nodes().len());
        tracing::info!(version, masters, nodes, "the cluster's topology is new");
        let mut upstreams = self.upstreams.lock();
        for ((address, _), upstream) in upstreams.iter() {
            upstream.note_master(found.has_master(address));
            if !found.has_master(address) {
                upstream.standing().forget();
            }
        }
        upstreams.retain(|(address, _), _| found.knows(address));
        drop(upstreams);
        found.version = version;
        *newest = Arc::new(found);
        self.version.store(version, Ordering::Release);
        drop(newest);
        self.changed.send_replace(version);
    }

    /// Those who may know, the likeliest first.
    fn whom_to_ask(&self) -> Vec<Address> {
        let topology = self.topology();
        let mut known: Vec<Address> = topology.nodes().iter().map(|node| node.address.clone()).collect();
        let mut seeds = self.seeds.clone();
        fastrand::shuffle(&mut known);
        fastrand::shuffle(&mut seeds);
        let mut all: Vec<Address> = self.knows_more.lock().take().into_iter().collect();
        for address in known.into_iter().chain(seeds) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

/// Keeps the topology new for as long as its worker lives, taking turns with the other workers.
pub async fn keep_newest(nodes: Rc<Nodes>) {
    let shared = nodes.shared().clone();
    loop {
        let _turn = shared.turn.lock().await;
        if shared.is_known() {
            // Whichever ends first: it is time.
            let _ = tokio::time::timeout(PERIOD, shared.wanted.notified()).await;
        }
        match ask(&nodes).await {
            Ok(topology) => shared.publish(topology),
            Err(error) => tracing::debug!(%error, "no node of the cluster tells its topology"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks at once, and not when the next turn comes.
pub async fn renew(nodes: &Nodes) {
    if let Ok(topology) = ask(nodes).await {
        nodes.shared().publish(topology);
    }
}

/// The topology as the node at `address` tells it.
pub async fn view(nodes: &Nodes, address: &Address) -> Result<Topology, StoreError> {
    const SLOTS: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n";
    let link = nodes.link_to(address);
    let answer = tokio::time::timeout(nodes.timeout(), request(&link, SLOTS)).await;
    answer.unwrap_or(Err(StoreError::Timeout)).and_then(|reply| {
        let reply = frame::decode(&reply, 8).map_err(|error| StoreError::Protocol(error.to_string()))?;
        Topology::parse(&reply, address)
    })
}

/// The topology as the first node tells it that answers.
async fn ask(nodes: &Nodes) -> Result<Topology, StoreError> {
    let mut failure = StoreError::Unavailable("no node is known".into());
    for address in nodes.shared().whom_to_ask() {
        match view(nodes, &address).await {
            Ok(topology) if topology.nodes().is_empty() => {}
            Ok(topology) => return Ok(topology),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
