//! One client's replies, in the order of its requests (G3), whatever order they are found in.
//!
//! Each request, or run of plain requests, that is not answered at once opens a *slot*. The first slot writes straight
//! into the client's output; later ones keep their bytes until they are first. The upstream's link delivers here as a
//! [`Sink`]; a routed read whose reply could be that of an absent key is not passed on but handed to the session as
//! [`Missed`], and its slot stays open until the engine has answered.
//!
//! Holds no socket and starts nothing: it only keeps order, and wakes the session when there is something to do.

mod run;

use self::run::Run;
use super::aside::Patience;
use super::change::Change;
use super::keys::KeyHashes;
use super::metrics::{CommandCounts, Path};
use super::output::Output;
use super::patience::Wait;
use super::reads::Reads;
use super::sampling::{Drawn, DrawnKeys};
use super::timed::{Due, Settled, Timed};
use super::unstored::may_do_without;
use super::window::Window;
use crate::cache::error::upstream_error;
use crate::config::Limits;
use crate::resp::scan::may_be_absent_among;
use crate::resp::write;
use crate::store::redis::link::{Part, Sink};
use crate::store::{StoreError, Way};
use futures_util::FutureExt;
use smallvec::{SmallVec, smallvec};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// A routed read that went to the store as it is.
pub struct Read {
    /// The whole command, not inline.
    pub command: Vec<u8>,
    /// Its keys, routed or not.
    pub keys: KeyHashes,
    /// Index of the first routed one's route.
    pub route: usize,
    /// Indices of the others' routes.
    pub other_routes: Box<[usize]>,
    /// How many keys it has, routed or not: EXISTS counts those that are there.
    pub all_keys: usize,
    /// Where it runs.
    pub way: Way,
    /// The server must see the read itself, for it remembers what this client has read.
    pub seen: bool,
    /// … and only if CLIENT CACHING YES stands before it.
    pub opts_in: bool,
    /// What was asked with it, and is answered behind its own reply.
    pub timed: Option<Box<Timed>>,
    /// Which of its keys are to be checked, if it is a hit.
    pub drawn: Option<Box<DrawnKeys>>,
    /// How it waits for another client to fill its key; `None`: not at all.
    pub patience: Option<Patience>,
}

impl Read {
    /// Whether it may be answered without the store that has failed it so: see [`super::unstored`].
    pub fn may_do_without(&self, failure: &StoreError) -> bool {
        !self.seen && may_do_without(&self.way, failure)
    }
}

/// Where a reply goes: a slot, and if that is a run of reads, the number of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: u64,
    read: usize,
}

impl From<u64> for Place {
    fn from(slot: u64) -> Self {
        Place { slot, read: 0 }
    }
}

/// A routed read that found nothing, or not even the store, and where its answer is waited for.
pub struct Missed {
    /// There.
    pub place: Place,
    /// The read.
    pub read: Read,
    /// What the store answered.
    pub reply: Result<Vec<u8>, StoreError>,
}

/// A read of which keys are to be refreshed.
pub struct DueRead {
    /// The whole command, not inline.
    pub command: Vec<u8>,
    /// The database that it was run in.
    pub db: u32,
    /// Which keys.
    pub keys: Vec<Due>,
}

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

/// From this size on a reply streams through, byte by byte as it comes.
const STREAMED: usize = 64 << 10;

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

impl Slot {
    fn new(kind: Kind, commands: Commands, opened: Instant) -> Self {
        let (output, partial) = (Output::default(), Vec::new());
        Slot {
            kind,
            count: commands.len(),
            commands,
            opened,
            done: false,
            output,
            asked: 0,
            came: 0,
            partial,
            streams: false,
            muted: false,
            changes: Vec::new(),
        }
    }
}

impl State {
    fn now<T>(&mut self, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.muted {
            return writer(&mut Vec::new());
        }
        match self.slots.back_mut() {
            None => self.output.write(writer),
            Some(Slot { kind: Kind::Plain, done: true, muted: false, output, .. }) => {
                let before = output.len();
                let result = output.write(writer);
                let added = output.len() - before;
                self.held += added;
                result
            }
            Some(&mut Slot { opened, .. }) => {
                let mut slot = Slot { done: true, ..Slot::new(Kind::Plain, Commands::new(), opened) };
                let result = slot.output.write(writer);
                self.held += slot.output.len();
                self.slots.push_back(slot);
                result
            }
        }
    }

    fn queued(&self) -> usize {
        self.output.len() + self.held
    }

    fn open(&mut self, kind: Kind, commands: Commands, opened: Instant) -> u64 {
        match kind {
            Kind::Plain | Kind::Reads(_) => {}
            Kind::Read(_) => self.reads += 1,
            Kind::Slow(_) => self.slow += 1,
        }
        self.commands += commands.len();
        self.slots.push_back(Slot { muted: self.muted, ..Slot::new(kind, commands, opened) });
        self.first + self.slots.len() as u64 - 1
    }

    /// Ends a slot, and lets out every answer that is now in turn.
    fn close(&mut self, index: usize) {
        let next = self.first + self.slots.len() as u64;
        let slot = &mut self.slots[index];
        slot.done = true;
        slot.changes = Vec::new();
        if let Kind::Reads(run) = &mut slot.kind {
            run.gather_into(&mut slot.output);
        }
        self.commands -= slot.count;
        self.asked -= slot.asked;
        self.window.answered(self.first + index as u64, next, slot.came, slot.count);
        match slot.kind {
            Kind::Plain | Kind::Reads(_) => {}
            Kind::Read(_) => self.reads -= 1,
            Kind::Slow(_) => self.slow -= 1,
        }
        while self.slots.front().is_some_and(|slot| slot.done) {
            let slot = self.slots.pop_front().expect("there is a first slot");
            self.first += 1;
            self.held -= slot.output.len();
            self.output.append(slot.output);
        }
        if let Some(Slot { kind: kind @ (Kind::Plain | Kind::Reads(_)), output, .. }) = self.slots.front_mut() {
            let mut begun = std::mem::take(output);
            if let Kind::Reads(run) = kind {
                run.let_out(&mut begun);
            }
            self.held -= begun.len();
            self.output.append(begun);
        }
        self.wake();
    }

    /// What the commands of a slot were to change, the store has perhaps not changed.
    fn note_missed(&mut self, index: usize) {
        self.slots[index].changes.iter().for_each(Change::was_missed);
        self.missed_last = self.missed_last.max(self.first + index as u64 + 1);
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Bytes of forwarded commands' replies: whole replies go on to the client if it is their turn.
    fn pass_on(&mut self, index: usize, part: &Part<'_>) {
        let slot = &mut self.slots[index];
        if slot.muted {
            return;
        }
        let held_before = slot.output.len();
        let output = if index == 0 { &mut self.output } else { &mut slot.output };
        let (whole, begun) = part.bytes.split_at(part.whole);
        if !whole.is_empty() {
            output.extend(&slot.partial);
            output.extend(whole);
            slot.partial.clear();
            slot.streams = false;
        }
        slot.partial.extend_from_slice(begun);
        if slot.streams || slot.partial.len() > STREAMED {
            output.extend(&slot.partial);
            slot.partial = Vec::new();
            slot.streams = true;
        }
        self.held += slot.output.len() - held_before;
    }

    /// A read's reply is whole: it is a hit and goes on, or a miss and is handed to the session.
    fn judge(&mut self, index: usize, counts: &CommandCounts) {
        let slot = &mut self.slots[index];
        let Kind::Read(read) = &mut slot.kind else { return };
        let mut reply = std::mem::take(&mut slot.partial);
        let mut settled = Settled::default();
        if let Some(timed) = read.timed.take() {
            let came = reply.len();
            settled = timed.settle(&reply);
            reply.truncate(settled.own);
            let answers = came - reply.len();
            slot.came = slot.came.saturating_sub(answers);
            self.held -= answers;
        }
        // Also of an MGET that has missed others of its keys.
        if !settled.due.is_empty() {
            let (command, db, keys) = (read.command.clone(), read.way.identity.db, settled.due.clone());
            self.news.get_or_insert_default().due.push(DueRead { command, db, keys });
        }
        if !may_be_absent_among(&reply, read.all_keys) {
            if slot.muted {
                self.held -= reply.len();
            } else {
                slot.output = Output::whole(reply);
            }
            let news = self.news.get_or_insert_default();
            news.drawn.extend(read.drawn.take().into_iter().flat_map(|drawn| drawn.0));
            let stale = |route: &usize| settled.due.iter().any(|due| due.is_stale() && due.route == *route);
            let routes = std::iter::once(&read.route).chain(&read.other_routes);
            news.hits.extend(routes.map(|route| (*route, stale(route), 1)));
            counts.count(slot.commands[0], false);
            counts.observe(Path::Upstream, slot.opened, 1);
            return self.close(index);
        }
        self.held -= reply.len();
        self.miss(index, Ok(reply));
    }

    /// Hands a read to the session, for the engine to answer.
    fn miss(&mut self, index: usize, reply: Result<Vec<u8>, StoreError>) {
        let slot = &mut self.slots[index];
        let Kind::Read(read) = &slot.kind else { return };
        let keys = read.keys.clone();
        let Kind::Read(mut read) = std::mem::replace(&mut slot.kind, Kind::Slow(keys)) else { return };
        read.timed = None;
        self.held -= std::mem::take(&mut slot.partial).len();
        self.reads -= 1;
        self.slow += 1;
        self.news.get_or_insert_default().missed.push(Missed {
            place: (self.first + index as u64).into(),
            read: *read,
            reply,
        });
        self.wake();
    }
}

impl Replies {
    fn count_plain(&self, slot: &mut Slot) {
        self.counts.observe(Path::Pass, slot.opened, slot.commands.len());
        slot.commands.drain(..).for_each(|command| self.counts.count(command, false));
    }
}

impl Sink for Replies {
    fn reply(&self, slot: u64, part: Part<'_>) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        let slot = &mut state.slots[index];
        if matches!(slot.kind, Kind::Reads(_)) {
            return state.judge_run(index, &part, &self.counts);
        }
        slot.came += if slot.muted { 0 } else { part.bytes.len() };
        for &(error, _) in part.errors {
            // Behind a read's own reply stand others that no client has asked for.
            if let Some(command) = slot.commands.get_mut(error as usize) {
                self.counts.count(std::mem::replace(command, CommandCounts::COUNTED), true);
            }
        }
        if !matches!(slot.kind, Kind::Plain) {
            slot.partial.extend_from_slice(part.bytes);
            state.held += part.bytes.len();
            return if part.done {
                state.judge(index, &self.counts)
            };
        }
        if part.done {
            self.count_plain(slot);
        }
        state.pass_on(index, &part);
        if part.done { state.close(index) } else { state.wake() }
    }

    fn push(&self, frame: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        state.pushed = state.pushed.min(state.output.len()) + frame.len();
        state.output.extend(frame);
        if state.pushed > state.most_pushed {
            state.closed = Some("max_subscriber_output");
        }
        state.wake();
    }

    /// What was pushed does not count, for it has a limit of its own.
    fn is_full(&self) -> bool {
        let state = self.state.borrow();
        state.queued() > state.most + state.pushed.min(state.output.len())
    }

    fn redirected(&self, slot: u64) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        if let Kind::Read(read) = &mut state.slots[index].kind {
            read.timed.iter_mut().for_each(|timed| timed.keep_nothing());
        }
    }

    fn connected(&self) {
        self.wake();
    }

    fn lost(&self) {
        let mut state = self.state.borrow_mut();
        state.lost = true;
        state.wake();
    }

    fn failed(&self, slot: u64, missing: u32, error: &StoreError) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        let slot = &mut state.slots[index];
        if slot.streams {
            // The client has the beginning of a reply that will have no end.
            state.closed = Some("cut_reply");
            return state.wake();
        }
        if state.as_user && error.denies_user() {
            // A server hangs up on those whose user has gone; they connect again with what they know by then.
            state.closed = Some("upstream_auth");
            return state.wake();
        }
        if matches!(state.slots[index].kind, Kind::Reads(_)) {
            return state.fail_run(index, error, &self.counts);
        }
        let slot = &mut state.slots[index];
        let timed = if let Kind::Read(read) = &slot.kind { read.timed.as_ref() } else { None };
        if timed.is_some_and(|timed| missing as usize <= timed.questions()) {
            // The client's own reply is whole.
            return state.judge(index, &self.counts);
        }
        let missing = if matches!(slot.kind, Kind::Read(_)) { 1 } else { missing };
        if matches!(&slot.kind, Kind::Read(read) if read.may_do_without(error)) {
            return state.miss(index, Err(error.clone()));
        }
        if error.is_outage() {
            state.note_missed(index);
        }
        let slot = &mut state.slots[index];
        let first_missing = slot.commands.len() - missing as usize;
        slot.commands.drain(first_missing..).for_each(|command| self.counts.count(command, true));
        slot.commands.drain(..).for_each(|command| self.counts.count(command, false));
        let held_before = slot.output.len() + if matches!(slot.kind, Kind::Read(_)) { slot.partial.len() } else { 0 };
        let mut text = String::new();
        upstream_error(&mut text, error).expect("a string takes every text");
        for _ in 0..if slot.muted { 0 } else { missing } {
            slot.output.write(|out| write::error(out, &text));
        }
        let held = slot.output.len();
        state.held = state.held + held - held_before;
        state.close(index);
    }
}
