//! One client's commands in the cluster: pipelined to the nodes of their slots, and never overtaking each other there.
//!
//! Runs travel as whole slices, as they do to a single Redis. Their bytes are kept until they are answered; a command that
//! is redirected is taken out of its run and sent again, and its reply, and those behind it in the run, are held until
//! it is there.
//!
//! **Order** (T23). Two commands of one client on one key go to one node, over one link, in their order, as long as the
//! topology stays the same. What could break this is a second command that is sent by a newer topology, or while the
//! first is on its way along a redirect. So a client whose lane is not *settled* sends nothing new until all that it has
//! sent is answered; redirected commands are sent again one after the other, each after the answer to the one before.
//! Other clients have lanes of their own and are not held up.
//!
//! One limit is left: a command on several keys that meets a slot half moved (TRYAGAIN) is answered after commands
//! behind it in the same pipeline that had only keys which were there. A client that waits for its reply sees nothing of it.

use super::nodes::Nodes;
use super::persist;
use super::redirect::{Facts, Redirect};
use super::topology::NodeIndex;
use crate::config::Address;
use crate::resp::scan::{ReplyScanner, Strings};
use crate::resp::write;
use crate::store::StoreError;
use crate::store::redis::link::{Part, Sink};
use foldhash::fast::RandomState;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// See the module's page. Clones share it.
#[derive(Clone)]
pub struct Lane(Rc<Inner>);

struct Inner {
    nodes: Rc<Nodes>,
    /// Of the topology that all commands under way were sent by.
    version: Cell<u64>,
    /// Picks the node for commands without keys, and the replica.
    salt: usize,
    entries: RefCell<HashMap<u64, Entry, RandomState>>,
    /// Bytes of commands under way.
    kept: Cell<usize>,
    /// A command runs that must run alone.
    alone: Cell<bool>,
    /// Commands to be sent again, in order.
    again: RefCell<VecDeque<Again>>,
    /// A task works on `again`.
    sending_again: Cell<bool>,
    /// Itself, to give to links and tasks.
    this: Weak<Inner>,
}

/// Where a command goes by the lane's topology; equal for commands that may travel in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target(Option<NodeIndex>);

/// A run under way.
struct Entry {
    sink: Rc<dyn Sink>,
    commands: Vec<u8>,
    /// Where each command ends.
    ends: Vec<u32>,
    node: Option<Address>,
    deadline: Instant,
    /// A reply has been passed on in part.
    begun: bool,
    held: Option<Held>,
}

/// The replies of a run from the first redirected one on.
struct Held {
    /// Its position in the run.
    first: usize,
    /// `None`: not there yet, or sent again.
    replies: Vec<Option<Result<Vec<u8>, StoreError>>>,
    /// So many of them have come over the run's own link.
    came: usize,
    scanner: ReplyScanner,
    reply: Vec<u8>,
}

/// One command of a run to be sent again.
struct Again {
    id: u64,
    /// Position in the run.
    index: usize,
    redirect: Redirect,
}

/// With more bytes of commands under way a client is not read.
const MOST_KEPT: usize = 8 << 20;
/// Nesting that a reply may have, as for links.
const MOST_DEPTH: usize = 128;

impl Lane {
    /// A client that has sent nothing.
    pub fn new(nodes: Rc<Nodes>) -> Self {
        Lane(Rc::new_cyclic(|this| Inner {
            version: Cell::new(nodes.version()),
            nodes,
            salt: fastrand::usize(..),
            entries: RefCell::default(),
            kept: Cell::new(0),
            alone: Cell::new(false),
            again: RefCell::default(),
            sending_again: Cell::new(false),
            this: this.clone(),
        }))
    }

    /// The nodes that it leads to.
    pub fn nodes(&self) -> &Rc<Nodes> {
        &self.0.nodes
    }

    /// Whether new commands may go beside those under way: the topology is theirs, and none of them is redirected.
    #[inline]
    pub fn is_settled(&self) -> bool {
        let inner = &self.0;
        // Not the nodes' own version, which would take over the new topology: a run that has gathered is still of the old.
        inner.version.get() == inner.nodes.shared().version() && !inner.sending_again.get() && !inner.alone.get()
    }

    /// Whether any command that was sent here is under way.
    pub fn is_busy(&self) -> bool {
        !self.0.entries.borrow().is_empty() || self.0.alone.get()
    }

    /// Nothing is under way: from here on the newest topology holds.
    pub fn settle(&self) {
        self.0.version.set(self.0.nodes.version());
    }

    /// A command on all keys begins: nothing else is sent until the guard is dropped.
    pub fn run_alone(&self) -> Alone {
        self.0.alone.set(true);
        Alone(self.clone())
    }

    /// Where a command on `slot`, or one without keys, goes. `may_be_replica`: it changes nothing, and may be answered by
    /// a node that lags.
    #[inline]
    pub fn target(&self, slot: Option<u16>, may_be_replica: bool) -> Target {
        let nodes = &self.0.nodes;
        Target(match slot {
            Some(slot) if may_be_replica => nodes.replica(slot, self.0.salt),
            Some(slot) => nodes.owner(slot),
            None => nodes.any_master(self.0.salt),
        })
    }

    /// Sends a run of whole commands, which end at `ends`, and will hand their replies to entry `id` of `sink`.
    pub fn send(&self, target: Target, commands: &[u8], ends: Vec<u32>, sink: &Rc<dyn Sink>, id: u64) {
        let (inner, Target(node), count) = (&self.0, target, ends.len() as u32);
        inner.kept.set(inner.kept.get() + commands.len());
        let entry = Entry {
            sink: sink.clone(),
            commands: commands.to_vec(),
            ends,
            node: node.map(|node| inner.nodes.address(node)),
            deadline: Instant::now() + inner.nodes.timeout(),
            begun: false,
            held: None,
        };
        inner.entries.borrow_mut().insert(id, entry);
        let own: Rc<dyn Sink> = self.0.clone();
        match node {
            Some(node) => inner.nodes.link(node).send(commands, count, &own, id),
            None => own.failed(id, count, &nobody()),
        }
    }

    /// Ready once there is room for more commands.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.kept.get() > MOST_KEPT {
            // The replies that make room wake the client by themselves.
            return Poll::Pending;
        }
        self.0.nodes.poll_room(cx)
    }
}

fn nobody() -> StoreError {
    StoreError::Unavailable("no node of the cluster serves the slot".into()).unsent()
}

/// See [`Lane::run_alone`].
pub struct Alone(Lane);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.0.alone.set(false);
    }
}

impl Entry {
    fn command(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.commands[start as usize..self.ends[index] as usize]
    }

    /// From the reply at `first` on, everything is held.
    fn hold_from(&mut self, first: usize) -> &mut Held {
        let count = self.ends.len() - first;
        self.held.insert(Held {
            first,
            replies: vec![None; count],
            came: 0,
            scanner: ReplyScanner::new(MOST_DEPTH),
            reply: Vec::new(),
        })
    }
}

impl Held {
    /// Takes in bytes of replies; answers which of them are redirects.
    fn take(&mut self, mut bytes: &[u8], node: &Address) -> Vec<(usize, Redirect)> {
        let mut redirects = Vec::new();
        while !bytes.is_empty() {
            // The link has scanned the same bytes with the same result.
            let Ok(progress) = self.scanner.advance(bytes) else { break };
            self.reply.extend_from_slice(&bytes[..progress.consumed]);
            bytes = &bytes[progress.consumed..];
            if progress.complete {
                let reply = std::mem::take(&mut self.reply);
                match Redirect::read(&reply, node) {
                    Some(redirect) => redirects.push((self.first + self.came, redirect)),
                    None => self.replies[self.came] = Some(Ok(reply)),
                }
                self.came += 1;
            } else if progress.consumed == 0 {
                break;
            }
        }
        redirects
    }
}

impl Sink for Inner {
    fn reply(&self, id: u64, part: Part<'_>) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(&id) else { return };
        if entry.held.is_some() {
            drop(entries);
            return self.hold(id, part.bytes);
        }
        let redirected = part.errors.iter().position(|&(_, at)| Redirect::is_one(&part.bytes[at..]));
        let sink = entry.sink.clone();
        let Some(position) = redirected else {
            entry.begun = part.whole < part.bytes.len();
            if part.done {
                self.forget(entries.remove(&id));
            }
            drop(entries);
            return sink.reply(id, part);
        };
        let (first, at) = part.errors[position];
        entry.hold_from(first as usize);
        sink.redirected(id);
        drop(entries);
        if at > 0 {
            let (bytes, errors) = (&part.bytes[..at], &part.errors[..position]);
            sink.reply(id, Part { bytes, whole: at, done: false, errors, strings: part.strings });
        }
        self.hold(id, &part.bytes[at..]);
    }

    fn failed(&self, id: u64, missing: u32, error: &StoreError) {
        self.nodes.shared().want_newer(None);
        let mut again = Vec::new();
        {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(&id) else { return };
            let (count, missing) = (entry.ends.len(), missing as usize);
            let may_go_again = |entry: &Entry, index: usize| {
                error.is_unsent() || (error.is_lost() && Facts::of(entry.command(index)).only_reads)
            };
            let goes_again: Vec<bool> = (count - missing..count).map(|index| may_go_again(entry, index)).collect();
            if entry.held.is_none() {
                if entry.begun || !goes_again.contains(&true) {
                    let sink = entry.sink.clone();
                    self.forget(entries.remove(&id));
                    drop(entries);
                    return sink.failed(id, missing as u32, error);
                }
                entry.hold_from(count - missing);
                entry.sink.redirected(id);
            }
            let held = entry.held.as_mut().expect("it is held by now");
            for (index, goes) in (count - missing..count).zip(goes_again) {
                match goes {
                    true => again.push((index, Redirect::Later(error.clone()))),
                    false => held.replies[index - held.first] = Some(Err(error.clone())),
                }
            }
            held.came = held.replies.len();
        }
        self.send_again(id, again);
        self.finish(id);
    }
}

impl Inner {
    fn forget(&self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.kept.set(self.kept.get() - entry.commands.len());
        }
    }

    fn hold(&self, id: u64, bytes: &[u8]) {
        let redirects = {
            let mut entries = self.entries.borrow_mut();
            let Some(Entry { held: Some(held), node: Some(node), .. }) = entries.get_mut(&id) else { return };
            held.take(bytes, node)
        };
        self.send_again(id, redirects);
        self.finish(id);
    }

    /// Queues commands to be sent again, and sees to it that they are.
    fn send_again(&self, id: u64, commands: Vec<(usize, Redirect)>) {
        if commands.is_empty() {
            return;
        }
        let commands = commands.into_iter().map(|(index, redirect)| Again { id, index, redirect });
        self.again.borrow_mut().extend(commands);
        if !self.sending_again.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            tokio::task::spawn_local(async move { this.work_off().await });
        }
    }

    /// Sends the queued commands, each after the answer to the one before.
    async fn work_off(&self) {
        while let Some(Again { id, index, redirect }) = self.next_again() {
            let found = self.entries.borrow().get(&id).map(|entry| (entry.command(index).to_vec(), entry.deadline));
            let Some((command, deadline)) = found else { continue };
            let facts = Facts::of(&command);
            let answer = persist::after(&self.nodes, &command, facts, redirect, deadline).await;
            if let Some(Entry { held: Some(held), .. }) = self.entries.borrow_mut().get_mut(&id) {
                held.replies[index - held.first] = Some(answer);
            }
            if self.again.borrow().is_empty() {
                // Before the client is woken by its answer: it may then send again.
                self.sending_again.set(false);
            }
            self.finish(id);
        }
        self.sending_again.set(false);
    }

    fn next_again(&self) -> Option<Again> {
        self.again.borrow_mut().pop_front()
    }

    /// Hands over a run's held replies, once all of them are there.
    fn finish(&self, id: u64) {
        let entry = {
            let mut entries = self.entries.borrow_mut();
            let whole =
                |entry: &Entry| entry.held.as_ref().is_some_and(|held| held.replies.iter().all(Option::is_some));
            if !entries.get(&id).is_some_and(whole) {
                return;
            }
            entries.remove(&id)
        };
        let Some(Entry { held: Some(held), sink, commands, .. }) = entry else { return };
        self.kept.set(self.kept.get() - commands.len());
        let mut replies: Vec<Result<Vec<u8>, StoreError>> = held.replies.into_iter().flatten().collect();
        // Errors of Weir's own at the end are told as such.
        let answered = replies.iter().rposition(Result::is_ok).map_or(0, |last| last + 1);
        let failed = replies.split_off(answered);
        let (mut bytes, mut errors) = (Vec::new(), Vec::new());
        for (index, reply) in replies.into_iter().enumerate() {
            let at = bytes.len();
            match reply {
                Ok(reply) => bytes.extend_from_slice(&reply),
                Err(error) => write::error(&mut bytes, error.reply()),
            }
            if bytes[at] == b'-' {
                errors.push(((held.first + index) as u32, at));
            }
        }
        let whole = bytes.len();
        if whole > 0 {
            let (done, strings) = (failed.is_empty(), Strings::default());
            sink.reply(id, Part { bytes: &bytes, whole, done, errors: &errors, strings });
        }
        if let Some(Err(error)) = failed.first() {
            sink.failed(id, failed.len() as u32, error);
        }
    }
}
