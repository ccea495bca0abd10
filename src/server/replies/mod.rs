//! One client's replies, in the order of its requests (G3), whatever order they are found in.
//!
//! Each request, or run of plain requests, that is not answered at once opens a *slot*. The first slot writes straight
//! into the client's output; later ones keep their bytes until they are first. The upstream's link delivers here
//! ([`mod@sink`]); a routed read whose reply could be that of an absent key is not passed on but handed to the session as
//! [`Missed`], and its slot stays open until the engine has answered.
//!
//! Holds no socket and starts nothing: it only keeps order, and wakes the session when there is something to do.

mod order;
mod read;
mod run;
mod sink;

pub use self::read::{DueRead, Missed, Place, Read};

use self::run::Run;
use super::change::Change;
use super::keys::KeyHashes;
use super::metrics::{CommandCounts, Path};
use super::output::Output;
use super::patience::Wait;
use super::reads::Reads;
use super::sampling::Drawn;
use super::window::Window;
use crate::config::Limits;
use crate::resp::write;
use futures_util::FutureExt;
use smallvec::{SmallVec, smallvec};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Commands that are answered together, by their indices for the counters. Of clients that do not send many at once they need no
/// allocation.
pub type Commands = SmallVec<[u16; 8]>;

/// See the module's page.
pub struct Replies {
    state: RefCell<State>,
    counts: Arc<CommandCounts>,
    /// What the client lets Weir wait for.
    pub wait: Wait,
}

#[derive(Default)]
struct State {
    output: Output,
    slots: VecDeque<Slot>,
    /// Number of the first of `slots`.
    first: u64,
    /// What the session is to be told; `None`: it was never told anything.
    news: Option<Box<News>>,
    /// The number after that of the newest slot whose commands the store has missed; 0: there was none.
    missed_last: u64,
    /// Of the open slots: how many are reads at the store, and how many the engine works on.
    reads: usize,
    slow: usize,
    /// Commands that are not answered yet.
    commands: usize,
    /// Bytes that slots hold until it is their turn.
    held: usize,
    /// Bytes of the commands that are not answered yet.
    asked: usize,
    waker: Option<Waker>,
    /// New slots are muted.
    muted: bool,
    /// The client is one of the upstream's users.
    as_user: bool,
    /// The client's private link has ended.
    lost: bool,
    /// How much more may be asked.
    window: Window,
    /// More bytes of replies than this are too many for a link that can be halted.
    most: usize,
    /// Of the output, bytes that nobody asked for; more of them than `most_pushed` end the client.
    pushed: usize,
    most_pushed: usize,
    /// The client has gone, or must go, and why.
    closed: Option<&'static str>,
}

/// What has become of routed reads.
#[derive(Default)]
struct News {
    missed: Vec<Missed>,
    /// Routes of reads that found a value, whether it was stale, and how many.
    hits: Vec<(usize, bool, u64)>,
    due: Vec<DueRead>,
    drawn: Vec<Drawn>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.hits.is_empty() && self.missed.is_empty() && self.due.is_empty() && self.drawn.is_empty()
    }
}

struct Slot {
    kind: Kind,
    commands: Commands,
    /// How many commands it answers.
    count: usize,
    opened: Instant,
    done: bool,
    output: Output,
    /// Bytes of the commands up to this one, from the one before it.
    asked: usize,
    /// Bytes of its replies that have come.
    came: usize,
    /// The beginning of a reply that is not yet whole. A link that breaks in it leaves nothing behind but an error in its
    /// place.
    partial: Vec<u8>,
    /// The reply has grown so large that its beginning is passed on before its end is known.
    streams: bool,
    /// CLIENT REPLY OFF or SKIP: nothing of it reaches the client.
    muted: bool,
    /// What its commands change: under way until they are answered.
    changes: Vec<Change>,
}

enum Kind {
    /// Commands that were forwarded, or an answer that is ready.
    Plain,
    /// A routed read at the store: its reply is gathered whole before it is judged.
    Read(Box<Read>),
    /// Routed reads at the store: each is judged when its reply is whole.
    Reads(Box<Run>),
    /// A command that the engine works on.
    Slow(KeyHashes),
}

impl Replies {
    /// Of a client that has asked nothing yet; `counts` are its worker's, and so is the time.
    pub fn new(counts: Arc<CommandCounts>, limits: &Limits, now: Instant) -> Self {
        let state = State {
            window: Window::new(limits.max_pipeline, limits.max_output),
            most: limits.max_output,
            most_pushed: limits.max_subscriber_output,
            ..State::default()
        };
        Replies { state: RefCell::new(state), counts, wait: Wait::new(now) }
    }

    /// Whether the client is one of the upstream's users.
    pub fn set_as_user(&self, as_user: bool) {
        self.state.borrow_mut().as_user = as_user;
    }

    /// Whether requests that open from here on are answered by nothing.
    pub fn mute(&self, muted: bool) {
        self.state.borrow_mut().muted = muted;
    }

    /// Wakes the session.
    pub fn wake(&self) {
        self.state.borrow_mut().wake();
    }

    /// Whether the private link has ended since the last call.
    pub fn take_lost(&self) -> bool {
        std::mem::take(&mut self.state.borrow_mut().lost)
    }

    /// Appends an answer that is known at once, after everything that is still open.
    pub fn now<T>(&self, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.state.borrow_mut().now(writer)
    }

    /// The same of an answer that is perhaps not known: false, and nothing is appended.
    pub fn now_if(&self, writer: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let is_first = state.slots.is_empty() && !state.muted;
        if is_first {
            return state.output.write(|out| {
                let before = out.len();
                let is_known = writer(out);
                if !is_known {
                    out.truncate(before);
                }
                is_known
            });
        }
        let mut answer = Vec::new();
        let is_known = writer(&mut answer);
        if is_known {
            state.now(|out| out.extend_from_slice(&answer));
        }
        is_known
    }

    /// Opens a slot for commands that are forwarded, which had come by then.
    pub fn open_plain(&self, commands: Commands, came: Instant) -> u64 {
        self.state.borrow_mut().open(Kind::Plain, commands, came)
    }

    /// What the commands of a slot change is under way until they are answered.
    pub fn hold(&self, slot: u64, changes: Vec<Change>) {
        let mut state = self.state.borrow_mut();
        let index = (slot - state.first) as usize;
        state.slots[index].changes = changes;
    }

    /// The same of the slot that was opened last. If nothing is open there, it is over already.
    pub fn hold_last(&self, change: Change) {
        let mut state = self.state.borrow_mut();
        let was_missed = state.missed_last == state.first + state.slots.len() as u64;
        match state.slots.back_mut().filter(|slot| !slot.done) {
            Some(slot) => slot.changes.push(change),
            None if was_missed => change.was_missed(),
            None => {}
        }
    }

    /// The number of the slot that is opened next.
    pub fn next(&self) -> u64 {
        let state = self.state.borrow();
        state.first + state.slots.len() as u64
    }

    /// Whether a command of a slot from this number on could not be brought to the upstream, for all that is known.
    pub fn missed_since(&self, slot: u64) -> bool {
        self.state.borrow().missed_last > slot
    }

    /// Opens a slot for a routed read at the store.
    pub fn open_read(&self, read: Read, command: u16) -> u64 {
        self.state.borrow_mut().open(Kind::Read(Box::new(read)), smallvec![command], Instant::now())
    }

    /// Opens a slot for routed reads at the store, which had come by then.
    pub fn open_reads(&self, reads: Reads, came: Instant) -> u64 {
        let mut state = self.state.borrow_mut();
        let count = reads.len();
        let slot = state.open(Kind::Reads(Box::new(Run::new(reads))), Commands::new(), came);
        let index = (slot - state.first) as usize;
        state.slots[index].count = count;
        state.commands += count;
        state.reads += count;
        slot
    }

    /// Opens a slot for a command that the engine works on.
    pub fn open_slow(&self, keys: KeyHashes, command: u16) -> u64 {
        self.state.borrow_mut().open(Kind::Slow(keys), smallvec![command], Instant::now())
    }

    /// The answer to a slow command.
    pub fn finish(&self, place: impl Into<Place>, answer: Output) {
        let place = place.into();
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (place.slot - state.first) as usize;
        let is_error = answer.begins_with(b"-");
        if is_error && answer.begins_with(b"-UPSTREAM ") {
            state.note_missed(index);
        }
        if matches!(state.slots[index].kind, Kind::Reads(_)) {
            return state.finish_read(index, place.read, answer, &self.counts);
        }
        self.counts.count(state.slots[index].commands[0], is_error);
        self.counts.observe(Path::Load, state.slots[index].opened, 1);
        if !state.slots[index].muted {
            state.held += answer.len();
            state.slots[index].came = answer.len();
            state.slots[index].output.append(answer);
        }
        state.close(index);
    }

    /// Works out a slow command's answer. It begins at once, so that what it sends first keeps its place before what the
    /// client's next command sends; a task of its own does the rest. A fault of our own ends in an error for this one
    /// command, not in a client that waits for ever.
    pub fn finish_with(self: &Rc<Self>, place: impl Into<Place>, answer: impl Future<Output = Output> + 'static) {
        let place = place.into();
        let replies = self.clone();
        let mut finished = Box::pin(async move {
            let answer = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
                let mut output = Output::default();
                output.write(|out| write::error(out, "ERR the proxy failed on this command; its log says more"));
                output
            });
            replies.finish(place, answer);
        });
        if finished.as_mut().now_or_never().is_none() {
            tokio::task::spawn_local(finished);
        }
    }

    /// Whether a request on one of these keys is open: for a routed write, any; for a read, only one that the engine
    /// works on.
    pub fn is_open(&self, keys: &KeyHashes, reads_too: bool) -> bool {
        let state = self.state.borrow();
        if state.slow == 0 && (!reads_too || state.reads == 0) {
            return false;
        }
        state.slots.iter().any(|slot| match &slot.kind {
            Kind::Plain => false,
            Kind::Read(read) => reads_too && !slot.done && read.keys.meet(keys),
            Kind::Reads(run) => !slot.done && run.meets(keys, reads_too),
            Kind::Slow(slow) => !slot.done && slow.meet(keys),
        })
    }

    /// Whether any request is open.
    pub fn any_open(&self) -> bool {
        !self.state.borrow().slots.is_empty()
    }

    /// How many requests are not answered yet; a run counts as one.
    pub fn unanswered(&self) -> usize {
        self.state.borrow().slots.iter().filter(|slot| !slot.done).count()
    }

    /// The slot that is to be answered next, if any is open.
    pub fn oldest(&self) -> Option<u64> {
        let state = self.state.borrow();
        (!state.slots.is_empty()).then_some(state.first)
    }

    /// Whether the engine works on any request.
    #[inline]
    pub fn any_slow(&self) -> bool {
        self.state.borrow().slow > 0
    }

    /// Whether any routed request is open.
    pub fn any_routed_open(&self) -> bool {
        let state = self.state.borrow();
        state.reads + state.slow > 0
    }

    /// Whether there is room for the reply to one more command, beside those to `gathered` that are not sent yet.
    pub fn has_room(&self, gathered: usize) -> bool {
        let state = self.state.borrow();
        state.window.admits(state.commands + gathered, state.queued())
    }

    /// For how many more commands there is room, for which there is room for one.
    pub fn room(&self, gathered: usize) -> usize {
        let state = self.state.borrow();
        state.window.room(state.commands + gathered, state.queued())
    }

    /// Which limit of the configuration is reached, if any, with `gathered` commands that are not sent yet.
    pub fn reached(&self, gathered: usize) -> Option<&'static str> {
        let state = self.state.borrow();
        state.window.reached(state.commands + gathered, state.queued())
    }

    /// Commands of `bytes` bytes have been acted on. Until the last of them is answered, somebody may hold them.
    pub fn note_asked(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(slot) = state.slots.back_mut().filter(|slot| !slot.done) {
            slot.asked += bytes;
            state.asked += bytes;
        }
    }

    /// What is held for this client: bytes of answers that it has not taken or cannot take yet, without those that another
    /// client answers for, and bytes of commands that are not answered.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state.borrow();
        (state.output.own() + state.held, state.asked)
    }

    /// Whether there is anything for the session to take.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.state.borrow().news.as_ref().is_some_and(|news| !news.is_empty())
    }

    /// The reads that found nothing since the last call.
    pub fn take_missed(&self) -> Vec<Missed> {
        self.state.borrow_mut().news.as_mut().map(|news| std::mem::take(&mut news.missed)).unwrap_or_default()
    }

    /// The routes of the reads that found a value since the last call, whether it was stale, and how many.
    pub fn take_hits(&self, mut each: impl FnMut(usize, bool, u64)) {
        let mut state = self.state.borrow_mut();
        let hits = state.news.iter_mut().flat_map(|news| news.hits.drain(..));
        hits.for_each(|(route, stale, count)| each(route, stale, count));
    }

    /// The reads since the last call of which a key is to be refreshed.
    pub fn take_due(&self) -> Vec<DueRead> {
        self.state.borrow_mut().news.as_mut().map(|news| std::mem::take(&mut news.due)).unwrap_or_default()
    }

    /// The keys that are to be checked, of reads that found them since the last call.
    pub fn take_drawn(&self) -> Vec<Drawn> {
        self.state.borrow_mut().news.as_mut().map(|news| std::mem::take(&mut news.drawn)).unwrap_or_default()
    }

    /// Works on the output.
    pub fn output<T>(&self, work: impl FnOnce(&mut Output) -> T) -> T {
        work(&mut self.state.borrow_mut().output)
    }

    /// Whom to wake when there is something to write or to load.
    pub fn set_waker(&self, waker: &Waker) {
        let mut state = self.state.borrow_mut();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    /// The client sends nothing for a while: it keeps no room for what it would ask.
    pub fn rest(&self) {
        let mut state = self.state.borrow_mut();
        if state.slots.is_empty() && state.slots.capacity() > 0 {
            state.slots = VecDeque::new();
        }
        state.output.rest();
        if state.news.as_ref().is_some_and(|news| news.is_empty()) {
            state.news = None;
        }
    }

    /// Nothing more will be written: what still comes is dropped.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = Some("gone");
        state.slots.clear();
        (state.held, state.asked) = (0, 0);
        state.output = Output::default();
    }

    /// Why the client must be let go, if it must: label `reason` of `weir_clients_closed_total`.
    pub fn closed(&self) -> Option<&'static str> {
        self.state.borrow().closed
    }
}
