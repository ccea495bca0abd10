//! A client's commands where the upstream is a cluster: what must be decided before the usual way, and what takes another.
//!
//! A command whose keys share a slot, or that has none, goes on as usual, to the node that [`Conn::slot`] tells. One on keys
//! in several slots, or about all of them, is run as a future and answered in its turn.

use super::conn::{Conn, Flow, Request};
use super::facade;
use super::keys::{KeyHashes, RoutedKey, RoutedKeys};
use super::lifetime::Leaves;
use super::listing;
use super::output::Output;
use super::replies::Read;
use super::routed::{self, Modify};
use super::transaction::barred;
use crate::cache::route::Route;
use crate::config::ReadFrom;
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::command::{Access, Handling, Spec, lookup};
use crate::resp::write::{self, Protocol};
use crate::store::Backend;
use crate::store::redis::cluster::lane::{Lane, Target};
use crate::store::redis::cluster::plan::{self, CROSS_SLOT, Plan, plan};
use std::rc::Rc;
use std::sync::Arc;

/// A transaction before its first key: no node is known yet that it could be opened at.
#[derive(Default)]
pub struct Pending {
    /// Commands without keys that were queued so far, whole.
    queued: Vec<u8>,
    count: u32,
    /// A command in it was not let through.
    pub(super) poisoned: bool,
}

/// More bytes of commands without keys do not wait for the first key.
const MOST_PENDING: usize = 64 << 10;

const WAITS: &str = "each node of a cluster counts the writes of its own connections; ask a node itself";
const TRACKS: &str = "each node of a cluster tracks the keys of its own connections only; \
    leave client-side caching off, for Weir caches near the application already";
const ONE_NODE: &str =
    "inside MULTI it would speak of one node of the cluster only; send it before MULTI or after EXEC";

impl Conn {
    /// Finds the command's place in the cluster. `None`: it goes on as usual; else it is dealt with, or must wait.
    pub(super) fn place_in_cluster(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
        let lane = self.way.lane()?.clone();
        if let Some(flow) = spec.and_then(|spec| self.speak_for_the_cluster(spec, request)) {
            return Some(flow);
        }
        self.slot = match plan(spec, request.args) {
            Plan::Slot(slot) => Some(slot),
            Plan::Any => None,
            Plan::CrossSlot => return Some(self.answer(request, |out| write::error(out, CROSS_SLOT))),
            _ if !self.lane_is_settled(&lane, request) => return Some(Flow::Wait),
            Plan::Split(_) => return Some(self.split(spec?, &lane, request)),
            Plan::Everywhere(_) | Plan::Walk => return Some(self.run_everywhere(spec?, &lane, request)),
        };
        if self.lane_is_settled(&lane, request) { None } else { Some(Flow::Wait) }
    }

    /// What is not asked of any node.
    fn speak_for_the_cluster(&mut self, spec: &'static Spec, request: Request<'_>) -> Option<Flow> {
        if facade::answers(spec, request.args) {
            let (client, protocol) = (self.client.clone(), self.protocol());
            return Some(self.answer(request, |out| facade::answer(spec, request.args, &client, protocol, out)));
        }
        refused(spec, request.args).map(|why| self.refuse(spec, request, why))
    }

    /// Whether new commands may be sent beside those under way. What has gathered is sent first: it belongs to the old
    /// topology.
    fn lane_is_settled(&mut self, lane: &Lane, request: Request<'_>) -> bool {
        if lane.is_settled() {
            return true;
        }
        self.send_run(request.bytes);
        if lane.is_busy() {
            return false;
        }
        lane.settle();
        true
    }

    /// Where a plain command goes.
    pub(super) fn plain_target(&self, args: Args<'_>) -> Target {
        let Some(lane) = self.way.lane() else { return Target::default() };
        let from_replica = lane.nodes().shared().read_from == ReadFrom::Replica;
        lane.target(self.slot, from_replica && plan::only_reads(args.get(0).and_then(lookup), args))
    }

    /// What runs as a future may overtake a command that is redirected, on a key that is not routed; so it waits for those
    /// under way. Routed reads are pipelined like plain commands.
    pub(super) fn lane_is_free_for(&mut self, access: Access, request: Request<'_>) -> bool {
        if access == Access::Read || self.way.lane().is_none() {
            return true;
        }
        self.send_run(request.bytes);
        !self.way.lane().is_some_and(Lane::is_busy)
    }

    /// A command on keys in several slots.
    fn split(&mut self, spec: &'static Spec, lane: &Lane, request: Request<'_>) -> Flow {
        self.send_run(request.bytes);
        let worker = self.worker.clone();
        let access = spec.access_of(request.args);
        if let Some(refusal) = self.refuse_on_own_keys(spec, access, request) {
            return refusal;
        }
        let Some(hashes) = KeyHashes::of(spec, request.args) else { return Flow::Next };
        if lane.is_busy() || self.replies.is_open(&hashes, access != Access::Read) {
            return Flow::Wait;
        }
        match RoutedKeys::find(&worker, spec, request.args) {
            Some(keys) if access == Access::Read && self.read_near(spec, request, &keys) => {}
            Some(keys) if access == Access::Read => self.read_split(spec, request, keys),
            Some(keys) => self.write_in_task(request, keys, Leaves::of(spec, request.args)),
            None => {
                let (command, way) = (request.command().into_owned(), self.way.clone());
                let slot = self.replies.open_slow(hashes, self.command_index());
                self.replies.finish_with(slot, routed::run(command, way));
            }
        }
        Flow::Next
    }

    fn read_split(&mut self, spec: &'static Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        let indices: Vec<usize> = keys.iter().map(|key| key.index).collect();
        let read = Read {
            command: request.command().into_owned(),
            keys: keys.hashes.clone(),
            route: indices[0],
            other_routes: indices[1..].into(),
            all_keys: spec.key_positions(request.args).count(),
            way: self.way.clone(),
            seen: false,
            opts_in: false,
            timed: None,
            drawn: None,
            patience: None,
        };
        let slot = self.replies.open_slow(keys.hashes, self.command_index());
        let worker = self.worker.clone();
        self.replies.finish_with(slot, async move { routed::read_from_store(&worker, read).await });
    }

    /// A routed write in a task of its own, for it waits until its keys are tagged, or its fences acknowledged: in a cluster they
    /// might meet different nodes.
    pub(super) fn write_in_task(&mut self, request: Request<'_>, keys: RoutedKeys<'_>, leaves: Leaves) {
        let routed = keys.iter().map(|RoutedKey { key, route, .. }| (key.to_vec(), Arc::clone(route))).collect();
        self.write_fenced(request, routed, keys.hashes, leaves);
    }

    /// A command of a module, or of a newer Redis, whose first argument is a routed key.
    pub(super) fn write_unknown(&mut self, request: Request<'_>, key: &[u8]) -> Flow {
        self.send_run(request.bytes);
        if self.way.lane().is_some_and(Lane::is_busy) {
            return Flow::Wait;
        }
        let routes: Vec<(Vec<u8>, Arc<Route>)> =
            self.worker.app.routes.find(key).map(|route| (key.to_vec(), route.clone())).into_iter().collect();
        let hashes = KeyHashes::one(hash(key));
        self.write_fenced(request, routes, hashes, Leaves::Nothing);
        Flow::Next
    }

    fn write_fenced(
        &mut self,
        request: Request<'_>,
        keys: Vec<(Vec<u8>, Arc<Route>)>,
        hashes: KeyHashes,
        leaves: Leaves,
    ) {
        if self.is_upstream_user() {
            self.write_as_user(request, keys, hashes, leaves);
            return;
        }
        let write =
            Modify { keys, lone: false, command: request.command().into_owned(), leaves, way: self.way.clone() };
        let slot = self.replies.open_slow(hashes, self.command_index());
        let worker: Rc<_> = self.worker.clone();
        self.replies.finish_with(slot, async move { routed::write(&worker, write).await });
    }

    /// A command about all keys, scripts or subscribers: nothing of this client runs beside it.
    fn run_everywhere(&mut self, spec: &Spec, lane: &Lane, request: Request<'_>) -> Flow {
        self.send_run(request.bytes);
        if self.replies.any_open() {
            return Flow::Wait;
        }
        let (alone, way, command) = (lane.run_alone(), self.way.clone(), request.command().into_owned());
        let hides = self.hides(spec, request.args);
        let slot = self.open_slow();
        self.replies.finish_with(slot, async move {
            let answer: Output = listing::run_everywhere(hides, command, way).await;
            drop(alone);
            answer
        });
        Flow::Next
    }

    /// MULTI of a client that shares links. It is opened at the node of its first key.
    pub(super) fn open_pending(&mut self, request: Request<'_>) -> Flow {
        if self.is_busy() {
            return Flow::Wait;
        }
        self.pending = Some(Box::default());
        self.answer(request, write::ok)
    }

    /// A command inside such a MULTI. `None`: the transaction is opened by now, and the command goes on.
    pub(super) fn pend(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
        let plan = plan(spec, request.args);
        let Pending { queued, count, .. } = self.pending.as_deref_mut()?;
        match spec {
            Some(spec) if spec.name == "discard" && request.args.len() == 1 => {
                self.pending = None;
                return Some(self.answer(request, write::ok));
            }
            Some(spec) if spec.name == "multi" && request.args.len() == 1 => {
                return Some(self.answer(request, |out| write::error(out, "ERR MULTI calls can not be nested")));
            }
            Some(spec) if plan == Plan::Any && waits_for_a_node(spec, request.args) && queued.len() < MOST_PENDING => {
                queued.extend_from_slice(&request.command());
                *count += 1;
                return Some(self.answer(request, |out| write::simple(out, "QUEUED")));
            }
            _ => {}
        }
        self.slot = if let Plan::Slot(slot) = plan { Some(slot) } else { None };
        if !self.enter() {
            return Some(Flow::Wait);
        }
        let Pending { queued, count, poisoned } = *self.pending.take()?;
        self.begin_transaction(&queued, count);
        if poisoned {
            self.poison();
        }
        None
    }

    /// A command of a client that has a link of its own to one node. `None`: it may go over that link.
    pub(super) fn place_beside(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
        let worker = self.worker.clone();
        let Backend::Redis(redis) = &worker.backend else { return None };
        redis.upstream().cluster()?;
        if self.in_transaction() {
            let of_the_whole =
                |spec: &&Spec| facade::answers(spec, request.args) || refused(spec, request.args).is_some();
            if let Some(spec) = spec.filter(of_the_whole) {
                self.poison();
                return Some(self.refuse(spec, request, ONE_NODE));
            }
        } else if let Some(flow) = spec.and_then(|spec| self.speak_for_the_cluster(spec, request)) {
            return Some(flow);
        }
        let link = self.way.link()?;
        let plan = plan(spec, request.args);
        let fits = match plan {
            Plan::Any => true,
            Plan::Slot(slot) => Arc::ptr_eq(link.upstream(), &redis.server_of(Some(slot))),
            _ => false,
        };
        let sharded = spec.is_some_and(|spec| spec.name == "ssubscribe");
        if fits || (link.subscriptions().any() && self.protocol() == Protocol::Resp2 && !sharded) {
            return None;
        }
        let (Some(spec), Plan::Everywhere(_) | Plan::Walk) = (spec, plan) else {
            let needs_link = spec.is_some_and(|spec| matches!(spec.handling_of(request.args), Handling::Stateful(_)));
            if self.poison() || needs_link || plan == Plan::CrossSlot {
                return Some(self.answer(request, |out| write::error(out, CROSS_SLOT)));
            }
            return Some(self.run_beside(spec, request));
        };
        if self.poison() {
            return Some(self.refuse(spec, request, ONE_NODE));
        }
        Some(self.run_beside(Some(spec), request))
    }

    /// Runs a command over the shared links, after all that came before it and before all that comes behind.
    fn run_beside(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Flow {
        if self.is_busy() {
            return Flow::Wait;
        }
        let access = spec.map_or(Access::Write, |spec| spec.access_of(request.args));
        if let Some(refusal) = spec.and_then(|spec| self.refuse_on_own_keys(spec, access, request)) {
            return refusal;
        }
        let (worker, loads) = (self.worker.clone(), self.loads());
        let way = worker.backend.way(&self.way.identity);
        let command = request.command().into_owned();
        let hides = spec.and_then(|spec| self.hides(spec, request.args));
        let keys = spec.map(|spec| self.routed_keys(spec, request.args)).unwrap_or_default();
        let all_keys = spec.map_or(0, |spec| spec.key_positions(request.args).count());
        let leaves = spec.map_or(Leaves::Nothing, |spec| Leaves::of(spec, request.args));
        let hashes = KeyHashes::one(0);
        let slot = self.replies.open_slow(hashes.clone(), self.command_index());
        self.run_errand(async move {
            let answer = match (keys.is_empty(), access) {
                (false, Access::Read) if loads => {
                    let routes: Vec<usize> =
                        keys.iter().filter_map(|(key, _)| Some(worker.app.routes.find_indexed(key)?.0)).collect();
                    let (route, other_routes) = (routes[0], routes[1..].into());
                    let read = Read {
                        command,
                        keys: hashes,
                        route,
                        other_routes,
                        all_keys,
                        way,
                        seen: false,
                        opts_in: false,
                        timed: None,
                        drawn: None,
                        patience: None,
                    };
                    routed::read_from_store(&worker, read).await
                }
                (true, _) | (_, Access::Read) => listing::run_everywhere(hides, command, way).await,
                (_, Access::Modify) if loads => {
                    routed::modify(&worker, Modify { keys, lone: all_keys == 1, command, leaves, way }).await
                }
                _ => routed::write(&worker, Modify { keys, lone: false, command, leaves, way }).await,
            };
            move |conn: &mut Conn| conn.replies.finish(slot, answer)
        });
        Flow::Next
    }
}

/// Why a command has no sense where the upstream is a cluster.
fn refused(spec: &Spec, args: Args<'_>) -> Option<&'static str> {
    let says_on = || args.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"on"));
    match (spec.name, spec.resolve(args).name) {
        ("wait" | "waitaof", _) => Some(WAITS),
        ("client", "tracking") if says_on() => Some(TRACKS),
        _ => None,
    }
}

/// Whether a command without keys may be queued before the transaction has a node: if the server would queue it.
fn waits_for_a_node(spec: &Spec, args: Args<'_>) -> bool {
    let well_formed = spec.arity_ok(args.len()) && spec.resolve(args).arity_ok(args.len());
    let other = matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset" | "cluster");
    let plain = matches!(spec.handling_of(args), Handling::Forward | Handling::Own);
    well_formed
        && plain
        && !other
        && spec.name != "client"
        && spec.name != "select"
        && spec.name != "hello"
        && barred(spec, args).is_none()
}
