//! A Redis Cluster as upstream: clients see one Redis.
//!
//! A client's command goes to the node that serves its keys' slot ([`plan`]), over the worker's link to that node
//! ([`nodes`]). Plain commands are pipelined in their client's [`lane`]; what needs several nodes, and what Weir itself
//! asks, runs as a future ([`Cluster`]'s `run` and `ask`). What a node sends elsewhere is sent there ([`redirect`],
//! [`persist`]), and all workers learn from it ([`shared`]).
//!
//! Promises:
//! - No MOVED, ASK, TRYAGAIN, CLUSTERDOWN or LOADING reaches a client. A command is sent again until its deadline,
//!   `[upstream] timeout` after it was first sent, and then answered by `-UPSTREAM …`.
//! - A command that a node may have executed is never sent again, unless it only reads.
//! - Commands of one client on one key never overtake each other, whatever moves meanwhile ([`lane`] has the one limit).
//! - MGET, MSET, DEL, UNLINK, EXISTS and TOUCH work on any keys ([`split`]); commands about the whole keyspace, about
//!   scripts or about subscribers are asked of every master ([`everywhere`]).
//! - A routed key's value, lease and negative entry share a slot, so the cache protocol's scripts run at one node. A routed
//!   write is sent only after its fence was acknowledged: the two could meet different nodes while the slot moves.
//!
//! - A client with a link of its own (MULTI, WATCH, BLPOP, SUBSCRIBE …) has it to one node: that of its first key, which
//!   MULTI waits for. What it asks of other nodes meanwhile goes beside that link; what must go over it and cannot is refused.
//!
//! Limits:
//! - A transaction, a WATCH or a blocking command whose slot moves under it fails (`-UPSTREAM refused: …`), and so does one
//!   on a second slot (`-CROSSSLOT`). MONITOR shows one node; WAIT and CLIENT TRACKING, which nodes answer each for itself,
//!   are refused.
//! - Other commands on keys in several slots get Redis's own `-CROSSSLOT`; there is no SELECT.
//! - Parts of one split command are no single step, and FLUSHALL or SCRIPT LOAD may succeed at some masters only: then the
//!   answer is an error.
//! - While a slot is half moved, scripts of the cache protocol wait, since one of their keys is always absent: a slot that
//!   is left half moved for good makes loads of its keys fail (`-UPSTREAM refused: TRYAGAIN …`), not stale.
//! - Replicas answer plain reads only if `[upstream] read_from = "replica"`, and then they may lag.
//!
//! tests/serve_cluster.rs holds it to this: resharding and failover under load, with values that carry key and version.

pub mod everywhere;
pub mod hide;
pub mod lane;
pub mod nodes;
pub mod persist;
pub mod plan;
pub mod redirect;
pub mod shared;
pub mod split;
pub mod topology;

use self::nodes::Nodes;
use self::plan::Plan;
use self::redirect::Facts;
use self::shared::Shared;
use super::handshake::Upstream;
use super::side_key::slot;
use crate::resp::args::Args;
use crate::resp::command::lookup;
use crate::resp::write;
use crate::store::{Identity, StoreError};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// One worker's links to all nodes.
pub struct Cluster {
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
    /// For each identity that any client has taken on, Weir's own first.
    nodes: RefCell<HashMap<Identity, Rc<Nodes>>>,
}

impl Cluster {
    /// Begins to look for the nodes. Must run on the worker's own runtime.
    pub fn open(upstream: Arc<Upstream>, shared: Arc<Shared>) -> Self {
        let cluster = Cluster { upstream, shared, nodes: RefCell::default() };
        tokio::task::spawn_local(shared::keep_newest(cluster.nodes(&Identity::default())));
        cluster
    }

    /// The links for clients of `identity`.
    pub fn nodes(&self, identity: &Identity) -> Rc<Nodes> {
        let mut all = self.nodes.borrow_mut();
        if let Some(nodes) = all.get(identity) {
            return nodes.clone();
        }
        // Links that no client has any more end here, so that they are no more than the identities in use.
        all.retain(|_, nodes| Rc::strong_count(nodes) > 1);
        let nodes = Rc::new(Nodes::new(self.upstream.clone(), self.shared.clone(), identity.clone()));
        all.insert(identity.clone(), nodes.clone());
        nodes
    }
}

impl Cluster {
    /// What the links to the node of a slot share, or those to any master; while none is known, those to a seed.
    pub fn server_of(&self, slot: Option<u16>) -> Arc<Upstream> {
        let topology = self.shared.topology();
        let index = slot.and_then(|slot| topology.owner(slot)).or_else(|| topology.masters().next());
        let address = index.map_or_else(|| self.shared.seed(), |index| topology.node(index).address.clone());
        self.shared.upstream(&self.upstream, &address, false)
    }
}

/// Runs a command wherever it belongs, and waits for its reply's bytes.
pub async fn run(nodes: &Nodes, args: Args<'_>) -> Result<Vec<u8>, StoreError> {
    let deadline = Instant::now() + nodes.timeout();
    let plan = plan::plan(args.get(0).and_then(lookup), args);
    let command = || write::whole_command(args.iter());
    match plan {
        Plan::Slot(_) | Plan::Any => persist::first(nodes, &command(), Facts::of_args(args), deadline).await,
        Plan::Split(split) => split::run(nodes, split, args, deadline).await,
        Plan::Everywhere(join) => everywhere::run(nodes, join, &command()).await,
        Plan::Walk => everywhere::walk(nodes, args).await,
        Plan::CrossSlot => {
            let mut reply = Vec::new();
            write::error(&mut reply, plan::CROSS_SLOT);
            Ok(reply)
        }
    }
}

/// Runs another whole command in the place of one that every master answers, and joins the answers in that one's way.
pub async fn run_instead(nodes: &Nodes, args: Args<'_>, command: &[u8]) -> Result<Vec<u8>, StoreError> {
    match plan::plan(args.get(0).and_then(lookup), args) {
        Plan::Everywhere(join) => everywhere::run(nodes, join, command).await,
        _ => run(nodes, args).await,
    }
}

/// Sends one whole command to the node of `key`, whatever its arguments look like, and waits for its reply's bytes.
pub async fn ask(nodes: &Nodes, key: &[u8], command: &[u8]) -> Result<Vec<u8>, StoreError> {
    let facts = Facts { slot: Some(slot(key)), only_reads: false, may_speak_for_itself: false };
    persist::first(nodes, command, facts, Instant::now() + nodes.timeout()).await
}
