//! What one client's commands do: each goes to the store as it is, to the engine, or is answered here.
//!
//! Plain commands that follow each other travel upstream as one slice and wait as one slot (a *run*), and most of them come by a
//! shorter way ([`super::short_cut`]). A command on a routed key ends the run:
//! - a read goes to the store too, and comes back to the engine only if its reply could be an absent key's; reads of one key each
//!   that follow each other make a run of their own ([`super::reads`]);
//! - a write first drops the key's lease (the fence), and says no longer TTL than the route's ([`super::lifetime`]); of a key
//!   that applications fill themselves the lease goes afterwards ([`super::aside`]);
//! - a command that needs the old value makes the key present first.
//!
//! A later command of the same client on a key that an earlier one still works on waits for it (G3): [`Flow::Wait`].
//! Commands that a server remembers something of go over a link of the client's own, see [`super::private`].

use super::access::User;
use super::as_user::Verdict;
use super::aside::{Batches, Patience};
use super::change::Change;
use super::clients::Client;
use super::clustered::Pending;
use super::keys::{KeyHashes, RoutedKey, RoutedKeys};
use super::lasting::Lasting;
use super::learned::Word;
use super::lifetime::{self, Bounds, Leaves};
use super::metrics::{self, CommandCounts, Path};
use super::missed;
use super::near::{KeysOfRoutes, NearHits};
use super::private::{self, Hold};
use super::reads::Gathering;
use super::replies::{Commands, Missed, Read, Replies};
use super::rights::Rights;
use super::routed::{self, Modify};
use super::sampling::DrawnKeys;
use super::worker::Worker;
use super::{embedded_server, own};
use crate::cache::consistency::Source;
use crate::cache::near::{Moment, Near};
use crate::cache::route::{Fence, Route};
use crate::config::OnModify;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Flags, Handling, Spec, lookup, lookup_indexed};
use crate::resp::scan::{ScanLimits, may_be_absent_among};
use crate::resp::write::{self, Protocol};
use crate::store::redis::cluster::lane::Target;
use crate::store::redis::link::{Owed, Sink};
use crate::store::{Backend, Identity, Way};
use futures_util::FutureExt;
use smallvec::smallvec;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next one.
    Next,
    /// The next one, under other limits (AUTH).
    Limits,
    /// This one again, once an earlier one is answered.
    Wait,
}

/// One client's state, without its socket.
pub struct Conn {
    /// The thread it is served on.
    pub worker: Rc<Worker>,
    /// Its replies, in order.
    pub replies: Rc<Replies>,
    /// Who it is.
    pub client: Arc<Client>,
    /// Whether it may send more than AUTH.
    pub authenticated: bool,
    /// What it may do; `None`: everything that the upstream lets it do.
    rights: Option<Arc<Rights>>,
    /// It will be closed once its replies are sent.
    pub closing: bool,
    /// Why it has a link of its own; `None`: it has none.
    pub hold: Option<Box<Hold>>,
    /// CLIENT REPLY.
    pub muting: Muting,
    /// Every push that the server sent before the command being acted on is here: see [`Conn::has_heard_all`].
    pub(super) heard: bool,
    /// The server has forgotten this client: see [`Conn::has_let_go`].
    pub(super) let_go: bool,
    pub(super) way: Way,
    errand: Option<Errand>,
    /// What an errand has found out about the command that waited for it.
    verdict: Option<Box<Verdict>>,
    pub(super) sink: Rc<dyn Sink>,
    /// What gathers while bytes are acted on: the worker's, for it acts on one client at a time. `None`: nothing has.
    batch: Option<Box<Batch>>,
    /// Slot of the command being acted on, if the upstream is a cluster and the command has keys.
    pub(super) slot: Option<u16>,
    /// In a cluster: a transaction that has no node yet.
    pub(super) pending: Option<Box<Pending>>,
    /// Which of its commands came together, once one of them might wait for another client.
    batches: OnceCell<Rc<Batches>>,
    /// Index of the command being acted on, for the counters.
    command: u16,
}

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

/// Something that the client's next command waits for, and what is to be done to the client then.
type Errand = Rc<RefCell<Option<After>>>;
/// What an errand comes to.
pub type After = Box<dyn FnOnce(&mut Conn)>;

/// Whether replies are sent at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Muting {
    /// They are.
    #[default]
    Off,
    /// Not that of the next command.
    Next,
    /// None.
    All,
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

/// One command, where it stands among the bytes that came with it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// All bytes being acted on.
    pub bytes: &'a [u8],
    /// Where in them the command begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Its arguments.
    pub args: Args<'a>,
    /// In the telnet style, or with another TTL than its client has said: the upstream is sent another form of it.
    pub inline: bool,
}

impl<'a> Request<'a> {
    /// The command as an array of bulk strings, whatever it came as.
    pub(super) fn command(&self) -> Cow<'a, [u8]> {
        if !self.inline {
            return self.bytes[self.start..self.end].into();
        }
        let mut command = Vec::new();
        write::command(&mut command, self.args.iter());
        command.into()
    }
}

impl Conn {
    /// A client that has said nothing yet.
    pub fn new(worker: Rc<Worker>, client: Arc<Client>) -> Self {
        let replies = Rc::new(Replies::new(worker.counts.clone(), &worker.app.config.limits, worker.clock()));
        let identity = Identity { db: worker.backend.first_db(), ..Identity::default() };
        client.said.lock().db = identity.db;
        let mut conn = Conn {
            sink: replies.clone(),
            way: worker.backend.way(&identity),
            worker,
            replies,
            client,
            authenticated: false,
            rights: None,
            closing: false,
            hold: None,
            muting: Muting::Off,
            heard: false,
            let_go: false,
            errand: None,
            verdict: None,
            batch: None,
            slot: None,
            pending: None,
            batches: OnceCell::new(),
            command: CommandCounts::UNKNOWN,
        };
        let app = conn.worker.app.clone();
        conn.become_user(app.access.stranger());
        conn
    }

    /// From here on this client is that user of Weir's; `None`: it has to say who it is.
    pub fn become_user(&mut self, user: Option<&Arc<User>>) {
        self.authenticated = user.is_some();
        self.rights = user.and_then(|user| user.rights.clone());
        self.client.said.lock().set_user(user.map_or("", |user| &user.name));
    }

    /// This client's way to the store.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// HELLO.
    pub fn protocol(&self) -> Protocol {
        self.way.identity.protocol
    }

    /// From here on this client is somebody else to the store. Nothing of it may be under way.
    pub fn become_identity(&mut self, identity: Identity) {
        {
            let mut said = self.client.said.lock();
            (said.db, said.protocol) = (identity.db, identity.protocol);
        }
        self.replies.set_as_user(identity.user.is_some());
        self.way = match &self.hold {
            Some(_) => self.way.with_identity(identity),
            None => self.worker.backend.way(&identity),
        };
    }

    /// What this client may send now.
    pub fn scan_limits(&self) -> ScanLimits {
        let limits = &self.worker.app.config.limits;
        ScanLimits {
            max_command: if self.authenticated { limits.max_command } else { limits.max_command_before_auth },
            max_arguments: limits.max_arguments,
            max_inline: limits.max_inline,
            authenticated: self.authenticated,
        }
    }

    /// Acts on one command.
    pub fn act(&mut self, request: Request<'_>) -> Flow {
        if self.errand.is_some() {
            return Flow::Wait;
        }
        let flow = self.act_unless_muted(request);
        if flow != Flow::Wait {
            // Nothing that was asked for one command may be said of the next.
            self.verdict = None;
        } else {
            self.hurry();
        }
        flow
    }

    fn act_unless_muted(&mut self, request: Request<'_>) -> Flow {
        if self.muting != Muting::Next {
            return self.dispatch(request);
        }
        self.send_run(request.bytes);
        self.replies.mute(true);
        self.muting = Muting::Off;
        let flow = self.dispatch(request);
        self.send_run(request.bytes);
        if flow == Flow::Wait {
            self.muting = Muting::Next;
        }
        self.replies.mute(self.muting == Muting::All);
        flow
    }

    fn dispatch(&mut self, request: Request<'_>) -> Flow {
        let Some(name) = request.args.get(0) else { return Flow::Next };
        let known = lookup_indexed(name);
        self.command = known.map_or(CommandCounts::UNKNOWN, |(index, _)| index);
        if let Some((_, spec)) = known
            && let Some(flow) = self.short_cut(spec, request)
        {
            return flow;
        }
        // What follows may look at what is open.
        self.send_reads();
        if known.is_none() && is_http(name) {
            self.send_run(request.bytes);
            tracing::warn!(client = &*self.client.peer, "what looks like an HTTP request was hung up on");
            metrics::closed("http");
            self.closing = true;
            return Flow::Next;
        }
        if !self.authenticated && !known.is_some_and(|(_, spec)| spec.flags.contains(Flags::NO_AUTH)) {
            return self.answer(request, |out| write::error(out, "NOAUTH Authentication required."));
        }
        if let Some(text) = self.rights.as_ref().and_then(|rights| rights.refusal(known, request.args)) {
            return private::deny(self, known.map(|(_, spec)| spec), request, text);
        }
        let spec = match known {
            Some((_, spec)) => Some(spec),
            None => match self.learned(name) {
                Word::Command(spec) => Some(spec),
                Word::Unknown => None,
                Word::New => return Flow::Wait,
            },
        };
        match spec.and_then(|spec| self.shortened(spec, request.args)) {
            Some(other) => {
                let args = other.as_args();
                self.proceed(args.get(0).and_then(lookup), Request { args, inline: true, ..request })
            }
            None => self.proceed(spec, request),
        }
    }

    /// Whether it may run every command, on every key.
    pub(super) fn has_no_limits(&self) -> bool {
        self.rights.is_none()
    }

    /// The command that a client's command becomes on a route, by its TTL; `None`: it is as it should be.
    fn shortened(&self, spec: &Spec, args: Args<'_>) -> Option<OwnedArgs> {
        if !lifetime::says(spec) {
            return None;
        }
        let route = self.worker.app.routes.find(args.get(1)?)?;
        let share = self.worker.engine.share(&route.config);
        let finely = !self.is_upstream_user();
        let bounds = Bounds { most: route.config.ttl, share, finely, grace: route.grace() };
        lifetime::shortened(spec, args, bounds)
    }

    /// Acts on a command that its client may give.
    fn proceed(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Flow {
        // Before anything of it is sent, whichever way it goes.
        let change = self.begin_change(spec, request.args);
        let queues = self.queues();
        let flow = self.carry_out(spec, request);
        if flow != Flow::Wait {
            if queues {
                self.note_queued(spec, request.args);
            }
            change.into_iter().for_each(|change| self.hold_until_answered(change));
        }
        flow
    }

    /// What the newest command changes is under way until it is answered.
    fn hold_until_answered(&mut self, change: Change) {
        match &mut self.batch {
            Some(batch) if !batch.run.commands.is_empty() => batch.run.changes.push(change),
            _ => self.replies.hold_last(change),
        }
    }

    fn carry_out(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Flow {
        if let Some(flow) = self.intercept(spec, request) {
            return flow;
        }
        if self.way.lane().is_some()
            && let Some(flow) = self.place_in_cluster(spec, request)
        {
            return flow;
        }
        let Some(spec) = spec else { return self.unknown(request) };
        match spec.handling_of(request.args) {
            Handling::Forward => self.data(spec, request),
            // Only the upstream knows whether it would answer.
            Handling::Own if self.is_upstream_user() && matches!(spec.name, "ping" | "acl") => self.forward(request),
            Handling::Own => {
                self.send_run(request.bytes);
                match self.may_have_answered(spec, request) {
                    None => return Flow::Wait,
                    Some(Err(text)) => return self.answer(request, |out| write::error(out, text)),
                    Some(Ok(())) => {}
                }
                if self.has_heard_all() { own::run(self, spec, request) } else { Flow::Wait }
            }
            Handling::Stateful(why) => match &self.worker.backend {
                Backend::Redis(_) => private::run(self, spec, request),
                Backend::Embedded(_) => self.refuse(spec, request, why),
            },
            Handling::Refused(why) => self.refuse(spec, request, why),
        }
    }

    /// A command of a client that has a link of its own, or must get one; `None`: it is like any other.
    fn intercept(&mut self, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
        if self.pending.is_some()
            && let Some(flow) = self.pend(spec, request)
        {
            return Some(flow);
        }
        self.hold.as_ref()?;
        self.place_beside(spec, request).or_else(|| private::intercept(self, spec, request))
    }

    /// The error for a command that Weir does not serve.
    pub fn refuse(&mut self, spec: &Spec, request: Request<'_>, why: &str) -> Flow {
        let name = full_name(spec, request.args);
        self.answer(request, |out| write::error(out, format!("ERR '{name}' is not served by Weir: {why}")))
    }

    /// Whether anything of this client is under way, or about to be.
    pub fn is_busy(&self) -> bool {
        self.replies.any_open() || self.gathered() > 0
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

    /// Where replies to this client go.
    pub fn sink(&self) -> Rc<dyn Sink> {
        self.sink.clone()
    }

    /// Its commands take this way from here on. Nothing of it may be under way.
    pub fn set_way(&mut self, way: Way) {
        self.way = way;
    }

    /// The client's next command waits until `errand` is over; what that comes to is then done first.
    pub fn run_errand<A: FnOnce(&mut Conn) + 'static>(&mut self, errand: impl Future<Output = A> + 'static) {
        let cell = Errand::default();
        self.errand = Some(cell.clone());
        let replies = self.replies.clone();
        tokio::task::spawn_local(async move {
            let after: After = match AssertUnwindSafe(errand).catch_unwind().await {
                Ok(after) => Box::new(after),
                Err(_) => Box::new(|conn| conn.closing = true),
            };
            *cell.borrow_mut() = Some(after);
            replies.wake();
        });
    }

    /// What an errand finds out about the command being acted on: one question a command. `None`: the command waits for the
    /// answer, and is acted on again.
    pub fn ask(&mut self, question: impl Future<Output = Verdict> + 'static) -> Option<Verdict> {
        if let Some(verdict) = &self.verdict {
            return Some((**verdict).clone());
        }
        self.run_errand(async move {
            let verdict = question.await;
            move |conn: &mut Conn| conn.verdict = Some(Box::new(verdict))
        });
        None
    }

    /// Whether an errand is not over yet.
    pub fn errand_is_open(&self) -> bool {
        self.errand.is_some()
    }

    /// Does what an errand has come to.
    fn finish_errand(&mut self) {
        let after = self.errand.as_ref().and_then(|errand| errand.borrow_mut().take());
        if let Some(after) = after {
            self.errand = None;
            after(self);
        }
    }

    /// A slot for an answer that takes its time and has to do with no key.
    pub fn open_slow(&self) -> u64 {
        self.replies.open_slow(KeyHashes::one(0), self.command)
    }

    /// Answers at once, in order.
    pub(super) fn answer(&mut self, request: Request<'_>, writer: impl FnOnce(&mut Vec<u8>)) -> Flow {
        self.send_run(request.bytes);
        self.answer_now(writer);
        Flow::Next
    }

    /// Answers in order, with no run before it, and counts the command.
    pub fn answer_now(&self, writer: impl FnOnce(&mut Vec<u8>)) {
        let is_error = self.replies.now(|out| {
            let begin = out.len();
            writer(out);
            out.get(begin) == Some(&b'-')
        });
        self.worker.counts.count(self.command, is_error);
    }

    /// The same of an answer that is perhaps not known: false, and nothing is done.
    pub(super) fn answer_if(&self, writer: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut is_error = false;
        let is_known = self.replies.now_if(|out| {
            let begin = out.len();
            let is_known = writer(out);
            is_error = out.get(begin) == Some(&b'-');
            is_known
        });
        if is_known {
            self.worker.counts.count(self.command, is_error);
        }
        is_known
    }

    /// What the upstream says of a name that the table does not have. If it must be asked first, the command waits for it.
    fn learned(&mut self, name: &[u8]) -> Word {
        let Backend::Redis(redis) = &self.worker.backend else { return Word::Unknown };
        let word = self.worker.learned.word(name);
        if let Word::New = word {
            let (redis, worker, name) = (redis.clone(), self.worker.clone(), name.to_vec());
            self.run_errand(async move {
                let reply = redis.ask(&[&b"COMMAND"[..], b"INFO", &name]).await;
                worker.learned.learn(&name, reply.as_deref().ok());
                |_: &mut Conn| ()
            });
        }
        word
    }

    /// A command that not even the upstream knows, as far as it could be asked; it may have been loaded since, so its word
    /// counts. Its first argument may be a key that it changes.
    fn unknown(&mut self, request: Request<'_>) -> Flow {
        if self.replies.any_routed_open() {
            return Flow::Wait;
        }
        let key = request.args.get(1).filter(|key| self.worker.app.routes.find(key).is_some());
        if let Some(key) = key {
            if self.way.lane().is_some() || self.is_upstream_user() {
                return self.write_unknown(request, key);
            }
            self.send_run(request.bytes);
            self.way.fence(key);
        }
        self.forward(request)
    }

    /// A command on data.
    fn data(&mut self, spec: &'static Spec, request: Request<'_>) -> Flow {
        let app = &self.worker.app;
        if app.routes.is_empty() && self.way.lane().is_none() && !app.has_own_keys() {
            return self.forward(request);
        }
        let access = spec.access_of(request.args);
        if access == Access::None {
            // FLUSHALL, KEYS, SCRIPT …: it may see or change every key.
            let wide = spec.flags.contains(Flags::WRITE) || spec.flags.contains(Flags::READONLY);
            let waits = wide && self.replies.any_routed_open();
            return if waits { Flow::Wait } else { self.without_own_keys(spec, request) };
        }
        if let Some(refusal) = self.refuse_on_own_keys(spec, access, request) {
            return refusal;
        }
        let worker = self.worker.clone();
        let Some(keys) = RoutedKeys::find(&worker, spec, request.args) else {
            let waits = self.replies.any_routed_open()
                && KeyHashes::of(spec, request.args)
                    .is_some_and(|hashes| self.replies.is_open(&hashes, access != Access::Read));
            return if waits { Flow::Wait } else { self.forward(request) };
        };
        if self.replies.is_open(&keys.hashes, access != Access::Read) || !self.lane_is_free_for(access, request) {
            return Flow::Wait;
        }
        match access {
            Access::Read if self.read_in_doubt(spec, request, &keys) => {}
            Access::Read if self.prolongs(spec, request, &keys) => self.read_prolonging(request, keys),
            Access::Read if !self.loads() => return self.forward(request),
            Access::Read if self.read_near(spec, request, &keys) => {}
            Access::Read if keys.tells_life_without_grace(spec) => self.read_life(spec, request, keys),
            Access::Read => self.read(spec, request, keys),
            Access::Modify if self.loads() && keys.iter().any(|key| key.route.on_modify() != OnModify::Pass) => {
                self.modify(spec, request, keys)
            }
            _ if self.is_upstream_user() => {
                let routed = keys.iter().map(|key| (key.key.to_vec(), key.route.clone())).collect();
                return self.write_as_user(request, routed, keys.hashes, Leaves::of(spec, request.args));
            }
            _ => self.write(spec, request, keys),
        }
        Flow::Next
    }

    /// A routed read: at the store first.
    fn read(&mut self, spec: &Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let command = request.command();
        let (way, RoutedKey { key, index, route, .. }) = (self.way.clone(), *keys.first());
        let caps = (spec.name == "getex" && request.args.len() > 2)
            .then(|| (route.clone(), key.to_vec(), Leaves::of(spec, request.args)));
        let patience = self.patience(route);
        let other_routes: Box<[usize]> = keys.others().iter().map(|key| key.index).collect();
        let all_keys = if spec.first == spec.last { 1 } else { spec.key_positions(request.args).count() };
        let count_hits = || {
            route.metrics.lookups.hit.increment(1);
            keys.others().iter().for_each(|key| key.route.metrics.lookups.hit.increment(1));
        };
        let (seen, opts_in) = (self.is_private(), self.opts_in());
        let timed = self.time(spec, request.args, &keys);
        let drawn = self.draw(&keys);
        let command_of = || command.to_vec();
        let read = |keys, timed, drawn| Read {
            command: command_of(),
            keys,
            route: index,
            other_routes,
            all_keys,
            way,
            seen,
            opts_in,
            timed,
            drawn,
            patience,
        };
        match &self.worker.backend {
            Backend::Redis(_) => {
                let drawn = (!drawn.is_empty()).then(|| Box::new(DrawnKeys(drawn)));
                let asked = timed.as_ref().map(|timed| timed.commands(&command, request.args));
                let slot = self.replies.open_read(read(keys.hashes, timed, drawn), self.command);
                match asked {
                    None => self.send(&command, &[command.len() as u32], slot),
                    Some((commands, ends)) => self.send(&commands, &ends, slot),
                }
                if let Some((route, key, leaves)) = caps {
                    routed::cap(&self.worker, &route, &key, &self.way, leaves);
                }
            }
            Backend::Embedded(embedded) => {
                let mut reply = Vec::new();
                if !embedded.execute_known(self.command, self.way.context(), request.args, &mut reply) {
                    embedded.execute(self.way.context(), request.args, &mut reply);
                }
                let due = timed.map(|timed| self.refresh_embedded(embedded, request.args, &timed));
                if may_be_absent_among(&reply, all_keys) {
                    let slot = self.replies.open_slow(keys.hashes.clone(), self.command);
                    return self.start_read(Missed {
                        place: slot.into(),
                        read: read(keys.hashes, None, None),
                        reply: Ok(reply),
                    });
                }
                if let Some((route, key, leaves)) = caps {
                    routed::cap(&self.worker, &route, &key, &self.way, leaves);
                }
                match due {
                    None => count_hits(),
                    Some(due) => self.count_timed(&keys, &due),
                }
                for (route, key) in drawn {
                    self.worker.engine.check_hit(self.worker.app.routes.get(route), key, Source::Store);
                }
                self.batch().embedded.1 += 1;
                self.answer_now(|out| out.extend_from_slice(&reply));
            }
        }
    }

    /// A routed command that needs the old value: the engine's work.
    fn modify(&mut self, spec: &'static Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let modify = Modify {
            keys: keys.iter().map(|key| (key.key.to_vec(), key.route.clone())).collect(),
            lone: spec.key_positions(request.args).count() == 1,
            command: request.command().into_owned(),
            leaves: Leaves::of(spec, request.args),
            way: self.way.clone(),
        };
        let slot = self.replies.open_slow(keys.hashes, self.command);
        let worker = self.worker.clone();
        self.replies.finish_with(slot, async move { routed::modify(&worker, modify).await });
    }

    /// A routed write: fenced, as it is, and capped.
    fn write(&mut self, spec: &'static Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let leaves = Leaves::of(spec, request.args);
        let lasting = match keys.iter().any(|key| key.route.keeps_notes()) {
            true => Lasting::of(&self.worker.app.routes, spec, request.args, leaves),
            false => Lasting::default(),
        };
        let waits = leaves.a_value() && missed::in_doubt(&self.worker, &self.way, spec, request.args);
        if lasting.waits() || waits || self.way.lane().is_some() {
            return self.write_in_steps(request, keys, leaves);
        }
        for key in keys.iter() {
            self.worker.note_invalidation(key.route, self.way.identity.db, key.key);
            if key.route.fence(leaves.a_value()) == Fence::Ahead {
                self.way.fence(key.key);
            }
        }
        lasting.send_ahead(&self.way);
        self.forward(request);
        self.send_run(request.bytes);
        keys.iter().for_each(|key| routed::settle(&self.worker, key.key, key.route, leaves, &self.way));
    }

    /// How a read of a key of this route waits for another client to fill it.
    pub(super) fn patience(&self, route: &Route) -> Option<Patience> {
        let waits = !route.config.wait_for_fill().is_zero() && !self.is_private() && self.muting == Muting::Off;
        waits.then(|| Patience::new(self.worker.engine.reader(self.client.id), self.batches.get_or_init(Rc::default)))
    }

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

    /// The client has sent more.
    pub fn begin_batch(&self) {
        self.batches.get().inspect(|batches| batches.begin());
    }

    /// What it has sent cannot be done yet: it must not be other clients that this waits for.
    pub fn hurry(&self) {
        let Some(batches) = self.batches.get() else { return };
        if batches.waiting() > 0 && batches.waiting() == self.replies.unanswered() {
            batches.begin();
        }
    }

    /// The routed keys of a command, and their routes.
    pub fn routed_keys(&self, spec: &Spec, args: Args<'_>) -> Vec<(Vec<u8>, Arc<Route>)> {
        let keys = RoutedKeys::find(&self.worker, spec, args);
        keys.iter().flat_map(RoutedKeys::iter).map(|key| (key.key.to_vec(), key.route.clone())).collect()
    }

    /// Drops the leases of a command's routed keys, ahead of it. `None`: the command waits for that.
    pub fn fence_routed(&mut self, spec: &Spec, request: Request<'_>) -> Option<Verdict> {
        self.send_run(request.bytes);
        let keys = self.routed_keys(spec, request.args);
        if self.is_upstream_user() && !keys.is_empty() {
            return self.fence_as_weir(&keys);
        }
        for (key, route) in keys {
            self.worker.note_invalidation(&route, self.way.identity.db, &key);
            self.way.fence(&key);
        }
        Some(Ok(()))
    }

    /// Sends a command of Weir's own over the client's link; nobody wants its reply.
    pub fn send_alone(&self, command: &[u8]) {
        if let Some(link) = self.way.link() {
            link.send_and_forget(command, 1);
        }
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

    /// Sends what has gathered.
    pub fn send_run(&mut self, bytes: &[u8]) {
        self.send_plain(bytes);
        self.send_reads();
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

    /// Sends the commands of a slot that is open already, which end at `ends`.
    fn send(&self, commands: &[u8], ends: &[u32], slot: u64) {
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

    /// What has become due since the last time, before anything new is acted on.
    #[inline]
    pub fn catch_up(&mut self) {
        self.finish_errand();
        if self.replies.has_news() {
            self.start_missed();
        }
        if self.hold.is_some() {
            self.settle();
        }
    }

    /// Starts the engine on the reads that found nothing at the store, and counts those that found something.
    fn start_missed(&mut self) {
        let routes = &self.worker.app.routes;
        self.replies.take_hits(|route, stale, count| {
            let lookups = &routes.get(route).metrics.lookups;
            if stale { &lookups.stale_hit } else { &lookups.hit }.increment(count);
        });
        self.refresh_due();
        self.check_drawn();
        for missed in self.replies.take_missed() {
            self.start_read(missed);
        }
    }

    pub(super) fn start_read(&self, missed: Missed) {
        let worker = self.worker.clone();
        self.replies.finish_with(missed.place, async move { routed::read(&worker, missed.read, missed.reply).await });
    }

    /// The newest command, where it was not acted on by itself.
    pub(super) fn set_command(&mut self, index: u16) {
        self.command = index;
    }

    /// Index of the command being acted on, for the counters.
    pub fn command_index(&self) -> u16 {
        self.command
    }
}

impl Drop for Conn {
    /// Nobody is left who would take the reply to a command that may take its time, or for ever.
    fn drop(&mut self) {
        self.begin_batch();
        if let (Some(_), Some(link)) = (&self.hold, self.way.link()) {
            link.close();
        }
    }
}

/// A web page must not make a browser send commands: the body of a POST would be some. Redis's guard, before AUTH too.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// A command's name with its subcommand, as people write it.
fn full_name(spec: &Spec, args: Args<'_>) -> String {
    let sub = spec.resolve(args);
    let name = if std::ptr::eq(sub, spec) { spec.name.to_string() } else { format!("{} {}", spec.name, sub.name) };
    name.to_uppercase()
}
