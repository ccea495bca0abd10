//! One pipelined connection to the upstream: shared by all clients of a worker that have the same identity, or private
//! to one client for as long as the server must remember something of its connection (MULTI, SUBSCRIBE, BLPOP …).
//!
//! Whoever has commands to send appends their bytes and one *entry* that says how many replies are owed and to whom.
//! The link's task writes everything that has gathered with one write per wake-up, and hands the bytes of the replies
//! back, entry by entry, in order. It never waits for a whole reply: bytes go on as they come.
//!
//! Promises: an entry is answered exactly once, by its own replies or by one failure; once nothing has moved on the link
//! for `timeout`, what has waited so long has failed, and its late replies reach nobody; what waits so long for a connection
//! has failed, and is not sent; a broken link fails what was in flight and reconnects with jittered back-off; what is
//! queued is bounded, because a link that has stopped answering takes nothing more.
//!
//! A private link differs in five things: it does not connect again, for what the server remembered is gone; it does not
//! connect at all while no shared link is up, for a dead server must not be knocked at by every client; its oldest entry
//! alone has a deadline, which may be far away or nowhere (BLPOP); frames that answer nobody go to its owner, who may also
//! halt its reading; and it ends with its last handle, at once.
//! Everything here stays on one thread. tests/serve_upstream.rs holds it to this with a stopped and a restarted Redis.

mod deliver;
mod drive;
mod wire;

use super::handshake::Upstream;
use super::privates::Permit;
use crate::resp::scan::Strings;
use crate::resp::write::Protocol;
use crate::store::{Identity, StoreError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

pub use super::frames::Subscriptions;
pub(super) use drive::{FIRST_PAUSE, LONGEST_PAUSE};

/// Who is owed replies. Called on the link's thread, while nothing of the link is borrowed.
pub trait Sink {
    /// Some more bytes of the replies to entry `id`.
    fn reply(&self, id: u64, part: Part<'_>);

    /// Entry `id` will get no more: `missing` replies did not come, or not to their end.
    fn failed(&self, id: u64, missing: u32, error: &StoreError);

    /// Some of the replies to entry `id` will come from another server than was thought: of a cluster.
    fn redirected(&self, _id: u64) {}

    /// A whole frame that answers no entry. Only the owner of a private link is told.
    fn push(&self, _frame: &[u8]) {}

    /// Whether the owner of a private link wants no more bytes for now; [`Link::resume`] ends it.
    fn is_full(&self) -> bool {
        false
    }

    /// The private link is up, and has its number at the server.
    fn connected(&self) {}

    /// The private link has ended. Entries in flight are told before.
    fn lost(&self) {}
}

/// What an entry is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// So many replies.
    Replies(u32),
    /// A confirmation for each of so many channels, or one error.
    Confirmations(u32),
    /// Confirmations up to the reply of a PING [`MARKER`] that was sent behind: UNSUBSCRIBE from everything confirms
    /// nobody knows how often.
    ConfirmationsToMarker,
}

/// What the PING behind an UNSUBSCRIBE from everything says.
pub const MARKER: &[u8] = b"weir:no-more-confirmations";

/// Bytes of an entry's replies, as they came.
pub struct Part<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// So many of them go up to the end of a reply; the others belong to a reply that is not yet whole.
    pub whole: usize,
    /// These are the last.
    pub done: bool,
    /// Which of the entry's replies, counted from its first, begin here and are errors, and where in `bytes`.
    pub errors: &'a [(u32, usize)],
    /// The first replies that begin here, as far as they were seen to be strings: there may be more.
    pub strings: Strings,
}

/// Takes replies that nobody wants.
struct Discard;

impl Sink for Discard {
    fn reply(&self, _: u64, _: Part<'_>) {}
    fn failed(&self, _: u64, _: u32, _: &StoreError) {}
}

struct Entry {
    replies: u32,
    missing: u32,
    /// It answers with confirmations of subscriptions.
    confirms: bool,
    /// … which end with the marker.
    to_marker: bool,
    /// How long it may take; `None`: as long as it likes.
    patience: Option<Duration>,
    sink: Rc<dyn Sink>,
    id: u64,
    sent: Instant,
    /// Where it begins among all bytes that were ever queued.
    begins: u64,
}

impl Entry {
    /// Replies that are complete, and those that are not.
    fn progress(&self) -> (u32, u32) {
        (self.replies - self.missing, self.missing)
    }
}

/// A handle to the link; clones share it.
#[derive(Clone)]
pub struct Link(Rc<Inner>);

impl Link {
    /// The owner of a private link is gone: what is under way on it fails, whoever else holds it.
    pub fn close(&self) {
        if let Some(private) = &self.0.private {
            private.closed.set(true);
            self.0.wake_driver();
        }
    }
}

impl Drop for Link {
    /// The link's own task holds it too; it looks up when it is the only one left.
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 2 {
            self.0.wake_driver();
        }
    }
}

struct Inner {
    upstream: Arc<Upstream>,
    identity: Identity,
    /// Of a private link.
    private: Option<Private>,
    state: Cell<State>,
    why_down: RefCell<StoreError>,
    /// Bytes that wait for the next write.
    out: RefCell<Vec<u8>>,
    /// How many bytes were queued since the link was opened, and how many of them were taken from `out` to be written.
    queued: Cell<u64>,
    taken: Cell<u64>,
    entries: RefCell<VecDeque<Entry>>,
    discard: Rc<dyn Sink>,
    /// The driver's waker, taken when it is woken, so that a wake-up with many commands wakes it once.
    driver: Cell<Option<Waker>>,
    /// When bytes last moved, in either direction. A reply that is long in coming, or a command that is long in going,
    /// is no reason to give up while it comes or goes.
    progress: Cell<Instant>,
    /// Clients that wait until `out` has room.
    waiting_for_room: RefCell<Vec<Waker>>,
}

/// What only a private link knows.
#[derive(Default)]
struct Private {
    /// Its right to be, for as long as it is connected.
    permit: RefCell<Option<Permit>>,
    /// Who gets what answers no entry.
    owner: RefCell<Option<Rc<dyn Sink>>>,
    /// The number that the server gave the connection; 0: not known yet.
    connection: Cell<u64>,
    /// As HELLO has it by now.
    protocol: Cell<Protocol>,
    subscriptions: Cell<Subscriptions>,
    monitors: Cell<bool>,
    /// It has answered an error: what it remembers may not be what was asked.
    erred: Cell<bool>,
    /// Its owner is gone.
    closed: Cell<bool>,
    /// The beginning of a frame that is looked at as a whole.
    frame: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Never connected yet, or connecting again at once: commands may queue for it.
    Connecting,
    /// Connected.
    Up,
    /// Connected, but the oldest entry has waited longer than the timeout: takes nothing until bytes come.
    Stalled,
    /// Known to be down: commands fail at once.
    Down,
}

/// Above this many unwritten bytes clients stop being read.
const ROOM: usize = 8 << 20;

impl Link {
    /// A link that connects as soon as its worker's runtime gets to it.
    pub fn open(upstream: Arc<Upstream>, identity: Identity) -> Self {
        Link::start(upstream, identity, None)
    }

    /// The same for one client alone; it ends with its first failure, and without a permit at once.
    pub(super) fn open_private(upstream: Arc<Upstream>, identity: Identity, permit: Option<Permit>) -> Self {
        let (protocol, permit) = (Cell::new(identity.protocol), RefCell::new(permit));
        let private = Private { protocol, permit, ..Private::default() };
        Link::start(upstream, identity, Some(private))
    }

    fn start(upstream: Arc<Upstream>, identity: Identity, private: Option<Private>) -> Self {
        let link = Link(Rc::new(Inner {
            upstream,
            identity,
            private,
            state: Cell::new(State::Connecting),
            why_down: RefCell::new(StoreError::Unavailable("not connected yet".into())),
            out: RefCell::default(),
            queued: Cell::new(0),
            taken: Cell::new(0),
            entries: RefCell::default(),
            discard: Rc::new(Discard),
            driver: Cell::new(None),
            progress: Cell::new(Instant::now()),
            waiting_for_room: RefCell::default(),
        }));
        tokio::task::spawn_local(drive::drive(link.0.clone()));
        link
    }

    /// Appends whole commands that will be answered by `replies` replies, all of them for entry `id` of `sink`.
    pub fn send(&self, commands: &[u8], replies: u32, sink: &Rc<dyn Sink>, id: u64) {
        self.send_owed(commands, Owed::Replies(replies), Some(self.0.upstream.timeout), sink, id);
    }

    /// The same for commands that answer in another way, or in another time: at most `patience`, `None`: without end.
    pub fn send_owed(&self, commands: &[u8], owed: Owed, patience: Option<Duration>, sink: &Rc<dyn Sink>, id: u64) {
        let (replies, confirms, to_marker) = match owed {
            Owed::Replies(replies) => (replies, false, false),
            Owed::Confirmations(channels) => (channels.max(1), true, false),
            Owed::ConfirmationsToMarker => (1, true, true),
        };
        let inner = &self.0;
        let fail = |error: &StoreError| sink.failed(id, if confirms { 1 } else { replies }, error);
        match inner.state.get() {
            State::Up | State::Connecting => {
                let (sink, sent, begins) = (sink.clone(), Instant::now(), inner.queued.get());
                let entry = Entry { replies, missing: replies, confirms, to_marker, patience, sink, id, sent, begins };
                inner.enqueue(commands, entry);
            }
            State::Stalled => fail(&StoreError::Timeout),
            State::Down => fail(&inner.why_down.borrow().clone().unsent()),
        }
    }

    /// Appends whole commands whose replies nobody wants.
    pub fn send_and_forget(&self, commands: &[u8], replies: u32) {
        self.send(commands, replies, &self.0.discard.clone(), 0);
    }

    /// Ready once the link has room for more; clients wait for it before they are read.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.out.borrow().len() < ROOM {
            return Poll::Ready(());
        }
        self.0.waiting_for_room.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Whether anybody but one holder of this handle, and the link's own task, has one.
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 2
    }

    /// Whether it is one client's own.
    pub fn is_private(&self) -> bool {
        self.0.private.is_some()
    }

    /// As whom it was opened.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The server that it leads to.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.0.upstream
    }

    /// Whether it has ended, or is known to carry nothing.
    pub fn is_down(&self) -> bool {
        matches!(self.0.state.get(), State::Down | State::Stalled)
    }
}

/// Of private links.
impl Link {
    /// Who gets what answers no entry; nobody, once the link is idle.
    pub fn set_owner(&self, owner: Option<Rc<dyn Sink>>) {
        if let Some(private) = &self.0.private {
            *private.owner.borrow_mut() = owner;
        }
    }

    /// It waits for its next client, or serves it.
    pub(super) fn set_idle(&self, idle: bool) {
        let private = self.0.private.as_ref();
        private.and_then(|private| private.permit.borrow().as_ref().map(|permit| permit.set_idle(idle)));
    }

    /// Whether a private link has answered an error.
    pub fn has_erred(&self) -> bool {
        self.0.private.as_ref().is_some_and(|private| private.erred.get())
    }

    /// Takes its right to be, so that another link may be in its place.
    pub(super) fn take_permit(&self) -> Option<Permit> {
        self.0.private.as_ref()?.permit.take()
    }

    /// The owner takes bytes again.
    pub fn resume(&self) {
        self.0.wake_driver();
    }

    /// As HELLO has it.
    pub fn protocol(&self) -> Protocol {
        self.0.private.as_ref().map_or(self.0.identity.protocol, |private| private.protocol.get())
    }

    /// HELLO is about to be sent.
    pub fn set_protocol(&self, protocol: Protocol) {
        if let Some(private) = &self.0.private {
            private.protocol.set(protocol);
        }
    }

    /// What the connection has subscribed to, as far as confirmed.
    pub fn subscriptions(&self) -> Subscriptions {
        self.0.private.as_ref().map(|private| private.subscriptions.get()).unwrap_or_default()
    }

    /// MONITOR has been confirmed: lines of it may come between replies.
    pub fn set_monitors(&self) {
        if let Some(private) = &self.0.private {
            private.monitors.set(true);
        }
    }

    /// The number that the server gave the connection; 0: not known yet.
    pub fn connection(&self) -> u64 {
        self.0.private.as_ref().map_or(0, |private| private.connection.get())
    }
}

impl Inner {
    fn enqueue(&self, commands: &[u8], entry: Entry) {
        self.out.borrow_mut().extend_from_slice(commands);
        self.queued.set(self.queued.get() + commands.len() as u64);
        self.entries.borrow_mut().push_back(entry);
        self.wake_driver();
    }

    fn wake_driver(&self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// The instant at which the oldest entry that still waits will have waited too long.
    fn next_deadline(&self) -> Option<Instant> {
        let entries = self.entries.borrow();
        let waiting = entries.iter().find(|entry| !Rc::ptr_eq(&entry.sink, &self.discard))?;
        self.deadline(waiting)
    }

    /// An entry has waited too long once nothing has moved for its patience since it was sent.
    fn deadline(&self, entry: &Entry) -> Option<Instant> {
        Some(entry.sent.max(self.progress.get()) + entry.patience?)
    }

    /// Fails the entries that have waited too long. They stay in the queue, so that their late replies are swallowed.
    fn time_out(&self, now: Instant) {
        loop {
            let overdue = {
                let mut entries = self.entries.borrow_mut();
                let waiting = entries.iter_mut().find(|entry| !Rc::ptr_eq(&entry.sink, &self.discard));
                waiting
                    .filter(|entry| self.deadline(entry).is_some_and(|deadline| deadline <= now))
                    .map(|entry| (std::mem::replace(&mut entry.sink, self.discard.clone()), entry.id, entry.missing))
            };
            let Some((sink, id, missing)) = overdue else { return };
            self.state.set(State::Stalled);
            sink.failed(id, missing, &StoreError::Timeout);
        }
    }

    /// A link that nobody asks anything cannot tell a server that hangs: as long as another link has failed it asks itself, so that
    /// a Weir with little to do knows as well that its upstream is down.
    fn probe_if_others_fail(&self) {
        if self.private.is_none()
            && self.state.get() == State::Up
            && self.entries.borrow().is_empty()
            && self.upstream.has_failed()
        {
            let (sink, sent, begins): (Rc<dyn Sink>, _, _) = (Rc::new(Discard), Instant::now(), self.queued.get());
            let patience = Some(self.upstream.timeout);
            let entry = Entry {
                replies: 1,
                missing: 1,
                confirms: false,
                to_marker: false,
                patience,
                sink,
                id: 0,
                sent,
                begins,
            };
            self.enqueue(b"*1\r\n$4\r\nPING\r\n", entry);
        }
    }

    /// Fails everything in flight: the link is gone, or could not be made.
    fn fail_all(&self, error: &StoreError) {
        *self.why_down.borrow_mut() = error.clone();
        self.out.borrow_mut().clear();
        let taken = self.taken.replace(self.queued.get());
        let entries = std::mem::take(&mut *self.entries.borrow_mut());
        let unsent = error.clone().unsent();
        for entry in entries {
            let error = if entry.begins < taken { error } else { &unsent };
            entry.sink.failed(entry.id, if entry.confirms { 1 } else { entry.missing }, error);
        }
        self.wake_waiting_for_room();
    }

    /// Whether nobody holds a handle any more, nor waits for a reply; for a private link the handle alone counts, and less
    /// than its owner's end.
    fn is_abandoned(self: &Rc<Self>) -> bool {
        match &self.private {
            Some(private) => private.closed.get() || Rc::strong_count(self) == 1,
            None => Rc::strong_count(self) == 1 && self.entries.borrow().is_empty(),
        }
    }

    /// Whether the owner of a private link wants no more bytes for now.
    fn is_halted(&self) -> bool {
        self.private
            .as_ref()
            .is_some_and(|private| private.owner.borrow().as_ref().is_some_and(|owner| owner.is_full()))
    }

    fn wake_waiting_for_room(&self) {
        for waker in self.waiting_for_room.take() {
            waker.wake();
        }
    }
}
