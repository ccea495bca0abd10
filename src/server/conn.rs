//! What one client's commands do: each goes to the store as it is, to the engine, or is answered here.
//!
//! Most commands come by a shorter way ([`super::series`], [`super::short_cut`]). The others are told apart here: commands on data
//! ([`super::data`]), Weir's own ([`super::own`]), and those that a server remembers something of, which go over a link of the
//! client's own ([`super::private`]). What is to be sent gathers until all that came together is acted on ([`super::batch`]).
//!
//! A later command of the same client on a key that an earlier one still works on waits for it (G3): [`Flow::Wait`].

use super::access::User;
use super::as_user::Verdict;
use super::aside::Batches;
use super::batch::Batch;
use super::clients::Client;
use super::clustered::Pending;
use super::errand::Errand;
use super::keys::KeyHashes;
use super::learned::Word;
use super::metrics::{self, CommandCounts};
use super::own;
use super::private::{self, Hold};
use super::replies::Replies;
use super::rights::Rights;
use super::transaction;
use super::worker::Worker;
use crate::resp::args::Args;
use crate::resp::command::{Flags, Handling, Spec, lookup, lookup_indexed};
use crate::resp::scan::ScanLimits;
use crate::resp::write::{self, Protocol};
use crate::store::redis::link::Sink;
use crate::store::{Backend, Identity, Way};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

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
    pub(super) errand: Option<Errand>,
    /// What an errand has found out about the command that waited for it.
    pub(super) verdict: Option<Box<Verdict>>,
    pub(super) sink: Rc<dyn Sink>,
    /// What gathers while bytes are acted on: the worker's, for it acts on one client at a time. `None`: nothing has.
    pub(super) batch: Option<Box<Batch>>,
    /// Slot of the command being acted on, if the upstream is a cluster and the command has keys.
    pub(super) slot: Option<u16>,
    /// In a cluster: a transaction that has no node yet.
    pub(super) pending: Option<Box<Pending>>,
    /// Which of its commands came together, once one of them might wait for another client.
    pub(super) batches: OnceCell<Rc<Batches>>,
    /// Index of the command being acted on, for the counters.
    pub(super) command: u16,
}

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
        write::whole_command(self.args.iter()).into()
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
            return transaction::deny(self, known.map(|(_, spec)| spec), request, text);
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

    /// Where replies to this client go.
    pub fn sink(&self) -> Rc<dyn Sink> {
        self.sink.clone()
    }

    /// Its commands take this way from here on. Nothing of it may be under way.
    pub fn set_way(&mut self, way: Way) {
        self.way = way;
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
