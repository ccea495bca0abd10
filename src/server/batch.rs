//! What gathers of the commands that came together, and how it is sent: plain commands that follow each other travel upstream as one
//! slice and wait as one slot (a *run*), and so do routed reads ([`super::reads`]).

use super::change::Change;
use super::conn::{Conn, Flow, Request};
use super::embedded_server;
use super::metrics::Path;
use super::near::{KeysOfRoutes, NearHits};
use super::reads::Gathering;
use super::replies::Commands;
use crate::cache::near::{Moment, Near};
use crate::store::Backend;
use crate::store::redis::cluster::lane::Target;
use crate::store::redis::link::Owed;
use smallvec::smallvec;
use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What gathers of the commands that came together until they are all acted on.
pub struct Batch {
    pub(super) run: Run,
    /// Routed reads that wait for their run to be sent. Of it and `run` one at most is not empty.
    pub(super) reads: Gathering,
    /// When the bytes that are being acted on had come.
    now: Instant,
    /// The same as the near cache reckons it, once it was asked.
    moment: Cell<Option<Moment>>,
    /// Commands that the embedded store has answered: plain ones, and routed reads.
    pub(super) embedded: (usize, usize),
    /// Reads that the near cache has answered.
    pub(super) near_hits: NearHits,
    /// Room to count the keys of one command in.
    pub(super) near_keys: KeysOfRoutes,
}

impl Default for Batch {
    /// Nothing, as of now.
    fn default() -> Self {
        Batch {
            run: Run::default(),
            reads: Gathering::default(),
            now: Instant::now(),
            moment: Cell::default(),
            embedded: (0, 0),
            near_hits: NearHits::default(),
            near_keys: KeysOfRoutes::default(),
        }
    }
}

impl Batch {
    /// Commands that wait for their run to be sent.
    fn gathered(&self) -> usize {
        self.run.commands.len() + self.reads.len()
    }
}

/// Plain commands that stand together in the bytes being acted on.
#[derive(Default)]
pub(super) struct Run {
    bytes: Range<usize>,
    commands: Commands,
    /// In a cluster: where in the bytes of the run each command ends, and the node that all of them go to.
    ends: Vec<u32>,
    target: Target,
    /// What they change.
    changes: Vec<Change>,
}

impl Run {
    /// Whether a command to this target that begins here is the next of it.
    pub(super) fn goes_on(&self, at: usize, target: &Target) -> bool {
        !self.commands.is_empty() && self.bytes.end == at && self.target == *target
    }

    /// An empty one, of commands to the upstream itself, begins here.
    pub(super) fn begin(&mut self, at: usize) {
        (self.bytes, self.target) = (at..at, Target::default());
    }

    /// One more, which ends there.
    pub(super) fn push(&mut self, command: u16, end: usize, is_cluster: bool) {
        self.bytes.end = end;
        self.commands.push(command);
        if is_cluster {
            self.ends.push((end - self.bytes.start) as u32);
        }
    }
}

impl Conn {
    /// What comes next is acted on as of this moment.
    pub fn set_time(&mut self, now: Instant) {
        let batch = self.batch();
        batch.now = now;
        batch.moment.set(None);
    }

    /// When the bytes that are being acted on had come.
    pub(super) fn now(&self) -> Instant {
        self.batch.as_ref().map_or_else(Instant::now, |batch| batch.now)
    }

    /// The same as the near cache reckons it.
    #[inline]
    pub(super) fn moment(&self, near: &Near) -> Moment {
        let Some(batch) = &self.batch else { return near.moment(self.now()) };
        batch.moment.get().unwrap_or_else(|| {
            let moment = near.moment(batch.now);
            batch.moment.set(Some(moment));
            moment
        })
    }

    /// Commands that wait for their run to be sent.
    pub fn gathered(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.gathered())
    }

    /// What gathers now.
    #[inline]
    pub(super) fn batch(&mut self) -> &mut Batch {
        self.batch.get_or_insert_with(|| self.worker.take_batch())
    }

    /// Hands a command to the store as it is.
    pub fn forward(&mut self, request: Request<'_>) -> Flow {
        match &self.worker.backend {
            Backend::Embedded(embedded) => {
                let (context, args) = (self.way.context(), request.args);
                self.answer_now(|out| {
                    let is_done = embedded.execute_known(self.command, context, args, out)
                        || embedded_server::answer(&self.worker.app, context, args, out);
                    if !is_done {
                        embedded.execute(context, args, out);
                    }
                });
                self.batch().embedded.0 += 1;
            }
            Backend::Redis(_) if request.inline => {
                let command = request.command();
                return self.forward_instead(request, &command);
            }
            Backend::Redis(_) => {
                let is_cluster = self.way.lane().is_some();
                let target = if is_cluster { self.plain_target(request.args) } else { Target::default() };
                let command = self.command;
                let run = &mut self.batch().run;
                if run.goes_on(request.start, &target) {
                    run.push(command, request.end, is_cluster);
                } else {
                    self.send_run(request.bytes);
                    let run = &mut self.batch().run;
                    (run.bytes.start, run.target) = (request.start, target);
                    run.push(command, request.end, is_cluster);
                }
            }
        }
        Flow::Next
    }

    /// Sends `command` in a client's command's place.
    pub fn forward_instead(&mut self, request: Request<'_>, command: &[u8]) -> Flow {
        self.send_run(request.bytes);
        let mut run = Run { bytes: 0..command.len(), commands: smallvec![self.command], ..Run::default() };
        if self.way.lane().is_some() {
            (run.ends, run.target) = (vec![command.len() as u32], self.plain_target(request.args));
        }
        self.batch().run = run;
        self.send_run(command);
        Flow::Next
    }

    /// Sends a command that answers in another way, or in another time, than others; `behind` goes with it. Answers its slot.
    pub fn send_owed(&mut self, request: Request<'_>, behind: &[u8], owed: Owed, patience: Option<Duration>) -> u64 {
        self.send_run(request.bytes);
        let slot = self.replies.open_plain(smallvec![self.command], self.now());
        if let Some(link) = self.way.link() {
            let bytes = [&request.command(), behind].concat();
            link.send_owed(&bytes, owed, patience, &self.sink, slot);
        }
        slot
    }

    /// Sends a command of Weir's own over the client's link; nobody wants its reply.
    pub fn send_alone(&self, command: &[u8]) {
        if let Some(link) = self.way.link() {
            link.send_and_forget(command, 1);
        }
    }

    /// Sends what has gathered.
    pub fn send_run(&mut self, bytes: &[u8]) {
        self.send_plain(bytes);
        self.send_reads();
    }

    /// Sends the run of plain commands that has gathered, as one slice with one slot.
    pub(super) fn send_plain(&mut self, bytes: &[u8]) {
        let Some(batch) = self.batch.as_mut().filter(|batch| !batch.run.commands.is_empty()) else { return };
        let Run { bytes: range, commands, ends, target, changes } = std::mem::take(&mut batch.run);
        let replies = commands.len() as u32;
        let slot = self.replies.open_plain(commands, batch.now);
        if !changes.is_empty() {
            self.replies.hold(slot, changes);
        }
        match self.way.lane() {
            None => self.way.send(&bytes[range], replies, &self.sink, slot),
            Some(lane) => lane.send(target, &bytes[range], ends, &self.sink, slot),
        }
    }

    /// Sends the routed reads that have gathered, as one slice with one slot.
    pub(super) fn send_reads(&mut self) {
        let Some(batch) = self.batch.as_mut().filter(|batch| !batch.reads.is_empty()) else { return };
        let reads = batch.reads.take(&self.way, batch.now, &self.worker);
        let replies = reads.replies();
        // A link that is down fails them at once, which finds their slot open.
        let bytes = reads.bytes();
        let slot = self.replies.open_reads(reads, batch.now);
        self.way.send(&bytes, replies, &self.sink, slot);
    }

    /// Sends the commands of a slot that is open already, which end at `ends`.
    pub(super) fn send(&self, commands: &[u8], ends: &[u32], slot: u64) {
        match self.way.lane() {
            None => self.way.send(commands, ends.len() as u32, &self.sink, slot),
            Some(lane) => {
                let target = lane.target(self.slot, false);
                lane.send(target, commands, ends.to_vec(), &self.sink, slot);
            }
        }
    }

    /// All whole commands that came together, at `begun`, are acted on.
    pub fn end_batch(&mut self, bytes: &[u8], begun: Instant) {
        self.send_run(bytes);
        self.client.note_command(self.command, begun);
        let Some(mut batch) = self.batch.take() else { return };
        let (plain, reads) = std::mem::take(&mut batch.embedded);
        let near = batch.near_hits.count(&self.worker.app.routes);
        self.worker.give_batch_back(batch);
        for (path, commands) in [(Path::Pass, plain), (Path::Upstream, reads), (Path::Near, near)] {
            if commands > 0 {
                self.worker.counts.observe(path, begun, commands);
            }
        }
    }

    /// What the newest command changes is under way until it is answered.
    pub(super) fn hold_until_answered(&mut self, change: Change) {
        match &mut self.batch {
            Some(batch) if !batch.run.commands.is_empty() => batch.run.changes.push(change),
            _ => self.replies.hold_last(change),
        }
    }
}
