//! One worker's links to the nodes, for one identity: one to each node, opened when it is first needed.

use super::super::handshake::Upstream;
use super::super::link::Link;
use super::shared::Shared;
use super::topology::{NodeIndex, Topology};
use crate::config::Address;
use crate::store::Identity;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// See the module's page.
pub struct Nodes {
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
    identity: Identity,
    topology: RefCell<Arc<Topology>>,
    version: Cell<u64>,
    /// `true`: links that only read.
    links: RefCell<HashMap<(Address, bool), Link>>,
    /// The same, by position in the topology; `None`: not opened yet.
    by_index: RefCell<Vec<Option<Link>>>,
}

impl Nodes {
    /// Opens nothing yet.
    pub fn new(upstream: Arc<Upstream>, shared: Arc<Shared>, identity: Identity) -> Self {
        Nodes {
            topology: RefCell::new(Arc::new(Topology::unknown())),
            version: Cell::new(0),
            links: RefCell::default(),
            by_index: RefCell::default(),
            upstream,
            shared,
            identity,
        }
    }

    /// What all workers know.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As whom.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How long one command may take.
    pub fn timeout(&self) -> Duration {
        self.upstream.timeout
    }

    /// Takes over the newest topology and answers its version. Links to nodes that are no longer in it are dropped; what
    /// is under way on them is still answered.
    #[inline]
    pub fn version(&self) -> u64 {
        let newest = self.shared.version();
        if newest != self.version.get() {
            self.take_over();
        }
        self.version.get()
    }

    fn take_over(&self) {
        let topology = self.shared.topology();
        self.links.borrow_mut().retain(|(address, _), _| topology.knows(address));
        *self.by_index.borrow_mut() = vec![None; topology.nodes().len()];
        self.version.set(topology.version);
        *self.topology.borrow_mut() = topology;
    }

    /// The topology that indices are of.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    /// The master of a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> Option<NodeIndex> {
        self.topology.borrow().owner(slot)
    }

    /// A master that `salt` picks; `None` while no node is known.
    pub fn any_master(&self, salt: usize) -> Option<NodeIndex> {
        let topology = self.topology.borrow();
        let count = topology.masters().count().max(1);
        topology.masters().nth(salt % count)
    }

    /// The replica of a slot that `salt` picks, or its master if it has none.
    pub fn replica(&self, slot: u16, salt: usize) -> Option<NodeIndex> {
        let topology = self.topology.borrow();
        let owner = topology.owner(slot)?;
        let replicas = topology.replicas(owner);
        Some(if replicas.is_empty() { owner } else { replicas[salt % replicas.len()] })
    }

    /// Where a node listens.
    pub fn address(&self, index: NodeIndex) -> Address {
        self.topology.borrow().node(index).address.clone()
    }

    /// The link to a node of the topology.
    #[inline]
    pub fn link(&self, index: NodeIndex) -> Link {
        if let Some(Some(link)) = self.by_index.borrow().get(usize::from(index)) {
            return link.clone();
        }
        let (address, is_replica) = {
            let topology = self.topology.borrow();
            let node = topology.node(index);
            (node.address.clone(), node.is_replica)
        };
        let link = self.open(address, is_replica);
        self.by_index.borrow_mut()[usize::from(index)] = Some(link.clone());
        link
    }

    /// The link to any address, as to a master.
    pub fn link_to(&self, address: &Address) -> Link {
        self.open(address.clone(), false)
    }

    fn open(&self, address: Address, only_reads: bool) -> Link {
        let mut links = self.links.borrow_mut();
        let link = links.entry((address, only_reads)).or_insert_with_key(|(address, only_reads)| {
            Link::open(self.shared.upstream(&self.upstream, address, *only_reads), self.identity.clone())
        });
        link.clone()
    }

    /// Whether the cluster says that a node listens there.
    pub fn knows(&self, address: &Address) -> bool {
        self.version();
        self.topology.borrow().knows(address)
    }

    /// Ready once every link has room for more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let full = self.by_index.borrow().iter().flatten().any(|link| link.poll_room(cx).is_pending());
        if full { Poll::Pending } else { Poll::Ready(()) }
    }
}
