//! Commands that a server remembers something of: MULTI, WATCH, BLPOP, SUBSCRIBE, MONITOR, CLIENT TRACKING …
//!
//! Most clients' commands share their worker's link. A client that sends one of these is given a link of its own, and
//! everything that it sends goes over it until the server remembers nothing of it any more; then the link is handed
//! back. On both ways nothing is overtaken: a client moves only while none of its commands is under way (T23, T24).
//! What stands between MULTI and EXEC is [`super::transaction`]'s.

use super::conn::{Conn, Flow, Muting, Request};
use super::output::Output;
use super::own;
use super::transaction::{self, Transaction};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Spec, lookup};
use crate::resp::write::{self, Protocol};
use crate::store::redis::cluster::hide::Hide;
use crate::store::redis::link::{MARKER, Owed};
use crate::store::{Backend, StoreError, Way};
use std::rc::Rc;
use std::time::Duration;

/// What the server remembers of a client's connection, and so why the client keeps a link of its own.
#[derive(Default)]
pub struct Hold {
    pub(super) transaction: Option<Transaction>,
    watches: bool,
    monitors: bool,
    /// CLIENT TRACKING is on; the client that is told instead of this one, by Weir's number, or 0.
    pub tracking: Option<u64>,
    /// … of what it reads behind CLIENT CACHING YES.
    pub opts_in: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// A SUBSCRIBE or one of its kin is under way.
    subscribes: bool,
    /// The slots of commands that may take as long as they like.
    blocks: Vec<u64>,
    /// The link remembers what no command takes back: it is not handed on.
    pub stained: bool,
}

impl Hold {
    /// Whether the server remembers anything still, once nothing is under way.
    pub(super) fn holds(&self) -> bool {
        let Hold { transaction, watches, monitors, tracking, no_evict, no_touch, .. } = self;
        transaction.is_some() || *watches || *monitors || tracking.is_some() || *no_evict || *no_touch
    }

    /// The transaction has ended, and with it what was watched.
    pub(super) fn forget_transaction(&mut self) {
        (self.transaction, self.watches) = (None, false);
    }
}

impl Conn {
    /// Whether this client has a link of its own.
    pub fn is_private(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether a command is under way that may take as long as it likes.
    pub fn is_blocked(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| !hold.blocks.is_empty()) && self.replies.any_open()
    }

    /// Whether such a command is next to be answered: all that stands before it is done.
    pub fn waits_for_ever(&self) -> bool {
        let oldest = self.replies.oldest();
        self.hold.as_ref().zip(oldest).is_some_and(|(hold, oldest)| hold.blocks.contains(&oldest))
    }

    /// Inside WATCH and MULTI nothing is loaded: a fill would abort the EXEC (T25).
    pub fn loads(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| !hold.watches)
    }

    /// Moves to a link of its own; false while a command is under way on the shared one.
    pub fn enter(&mut self) -> bool {
        if self.hold.is_some() {
            return true;
        }
        if self.is_busy() {
            return false;
        }
        let worker = self.worker.clone();
        let Backend::Redis(redis) = &worker.backend else { return false };
        let way = Way::private(redis, self.way().identity.clone(), self.slot);
        if let Some(link) = way.link() {
            link.set_owner(Some(self.sink()));
            let name = self.client.said.lock().words().name.clone();
            if !name.is_empty() {
                send_name(link, &name);
            }
        }
        self.set_way(way);
        if let Some(shared) = redis.upstream().cluster() {
            self.sink = Rc::new(Hide::new(self.replies.clone(), shared.clone()));
        }
        self.hold = Some(Box::default());
        true
    }

    /// Whether every push that the server has sent is here, so that an answer of Weir's own overtakes none of them (G3).
    /// If not, the server is asked for a sign, and the command must wait for it.
    pub fn has_heard_all(&mut self) -> bool {
        if !self.listens() || self.let_go || std::mem::take(&mut self.heard) {
            return true;
        }
        if !self.is_busy() {
            let way = self.way.clone();
            self.run_errand(async move {
                // CLIENT is the one command that a CLIENT CACHING before it outlives. Whatever it comes to is a sign: a lost
                // link is told otherwise.
                let sign = OwnedArgs::from_iter(["CLIENT", "ID"]);
                let _ = way.run(sign.as_args()).await;
                |conn: &mut Conn| conn.heard = true
            });
        }
        false
    }

    /// Whether the server remembers nothing of this client any more, so that nobody who is told of its end finds it there
    /// still. If it may, it is told to forget, and the command must wait for that.
    pub fn has_let_go(&mut self) -> bool {
        let let_go = std::mem::take(&mut self.let_go);
        let busy = self.is_busy();
        let Some(hold) = self.hold.as_mut().filter(|_| !let_go) else { return true };
        if !busy {
            // Whom it serves, and in which database, is forgotten too.
            hold.stained = true;
            let way = self.way.clone();
            self.run_errand(async move {
                // A link that is lost is forgotten too.
                let _ = way.run(OwnedArgs::from_iter(["RESET"]).as_args()).await;
                |conn: &mut Conn| conn.let_go = true
            });
        }
        false
    }

    /// Whether the server may push something to this client.
    fn listens(&self) -> bool {
        let Some(hold) = &self.hold else { return false };
        hold.tracking.is_some() || hold.subscribes || self.is_subscriber()
    }

    /// Whether it has subscribed to something, as far as that is confirmed.
    pub(super) fn is_subscriber(&self) -> bool {
        self.way.link().is_some_and(|link| link.subscriptions().any())
    }

    /// Whether confirmations are to come that may make it a subscriber, or one no more.
    pub(super) fn awaits_confirmations(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.subscribes) && self.is_busy()
    }

    /// Works out the answer to a command that Weir asks of the server itself. The next command of a client that is pushed
    /// to waits for it, lest a push which that one causes comes before it.
    pub fn answer_with(&mut self, answer: impl Future<Output = Output> + 'static) {
        let slot = self.open_slow();
        if !self.listens() {
            return self.replies.finish_with(slot, answer);
        }
        self.run_errand(async move {
            let answer = answer.await;
            move |conn: &mut Conn| conn.replies.finish(slot, answer)
        });
    }

    /// Whether the server tracks only those of its reads that it opts in for.
    pub fn opts_in(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.tracking.is_some() && hold.opts_in)
    }

    /// Goes back to the shared link once the server remembers nothing of this client and nothing is under way. A client
    /// whose link is gone while the server remembered something must be told by its end.
    pub fn settle(&mut self) {
        let busy = self.is_busy() || self.errand_is_open();
        let (Some(hold), Some(link)) = (&mut self.hold, self.way.link()) else { return };
        self.client.note_link(link.connection(), link.subscriptions().any());
        if busy {
            return;
        }
        hold.subscribes = false;
        hold.blocks.clear();
        let remembers = hold.holds() || link.subscriptions().any();
        if self.replies.take_lost() && remembers {
            self.note_lost_transaction();
            self.closing = true;
        }
        if !remembers {
            self.leave();
        }
    }

    /// Goes back to the shared link.
    pub fn leave(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let identity = self.way().identity.clone();
        if let (Some(link), Backend::Redis(redis)) = (self.way().link(), &self.worker.backend) {
            link.set_owner(None);
            // After an error it may remember what it should have forgotten.
            if !hold.stained && !link.has_erred() && *link.identity() == identity {
                if !self.client.said.lock().words().name.is_empty() {
                    send_name(link, "");
                }
                redis.give_back(link.clone());
            }
        }
        self.sink = self.replies.clone();
        self.client.note_link(0, false);
        let way = self.worker.backend.way(&identity);
        self.set_way(way);
    }
}

/// So that the server's own CLIENT LIST and CLIENT GETNAME know the client.
fn send_name(link: &crate::store::redis::link::Link, name: &str) {
    let command = write::whole_command(["CLIENT", "SETNAME", name]);
    link.send_and_forget(&command, 1);
}

/// A command of a client that has a link of its own, before it is looked at as any other: `None` if it is like any other.
pub fn intercept(conn: &mut Conn, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
    let hold = conn.hold.as_ref()?;
    if hold.transaction.is_some() {
        return Some(transaction::queue(conn, spec, request));
    }
    if conn.protocol() != Protocol::Resp2 {
        return None;
    }
    let ends_it = spec.is_some_and(|spec| matches!(spec.name, "quit" | "reset"));
    let subscribes = spec.is_some_and(|spec| is_subscription(spec.name));
    if !subscribes && conn.awaits_confirmations() {
        // What may be said depends on what the confirmations will say.
        return Some(Flow::Wait);
    }
    (conn.is_subscriber() && !subscribes && !ends_it).then(|| conn.forward(request))
}

/// SUBSCRIBE and its kin.
pub fn is_subscription(name: &str) -> bool {
    matches!(name, "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe")
}

/// A command whose handling is `Stateful`, over a Redis.
pub fn run(conn: &mut Conn, spec: &'static Spec, request: Request<'_>) -> Flow {
    let args = request.args;
    let well_formed = spec.arity_ok(args.len()) && spec.resolve(args).arity_ok(args.len());
    if !well_formed || matches!(spec.name, "exec" | "discard") || (spec.name == "unwatch" && !conn.is_private()) {
        return conn.forward(request);
    }
    if spec.name == "multi" && conn.way().lane().is_some() {
        return conn.open_pending(request);
    }
    if !conn.enter() {
        return Flow::Wait;
    }
    let judged = conn.is_upstream_user();
    let transaction = Some(Transaction::opened(conn.replies.next()));
    let Some(hold) = &mut conn.hold else { return Flow::Next };
    match spec.name {
        // Whom the upstream may refuse these, only its answer tells whether they are.
        "multi" if judged => conn.ask_request(request, move |hold| hold.transaction = transaction),
        "watch" if judged => conn.ask_request(request, |hold| hold.watches = true),
        "unwatch" if judged => conn.ask_request(request, |hold| hold.watches = false),
        "multi" => {
            hold.transaction = transaction;
            conn.forward(request)
        }
        "watch" => {
            hold.watches = true;
            conn.forward(request)
        }
        "unwatch" => {
            hold.watches = false;
            conn.forward(request)
        }
        "monitor" => monitor(conn, request),
        name if is_subscription(name) => subscribe(conn, name, request),
        _ => block(conn, spec, request),
    }
}

/// A command that may take its time.
fn block(conn: &mut Conn, spec: &'static Spec, request: Request<'_>) -> Flow {
    // How long a module's command waits is its own affair, and what it leaves behind too.
    let learned = lookup(spec.name.as_bytes()).is_none();
    let timeout = conn.worker.app.upstream_timeout();
    let patience = if learned { None } else { patience(spec.name, request.args, timeout) };
    if let Some(refusal) = conn.refuse_on_own_keys(spec, spec.access_of(request.args), request) {
        return refusal;
    }
    if spec.access_of(request.args) != Access::Read {
        match conn.fence_routed(spec, request) {
            None => return Flow::Wait,
            Some(Err(text)) => return conn.answer(request, |out| write::error(out, text)),
            Some(Ok(())) => {}
        }
    }
    if matches!(spec.name, "wait" | "waitaof") {
        // Both speak of the writes that this connection has seen. A PING sees all that were made before it, and so
        // also those that this client made over the shared link.
        conn.send_alone(b"*1\r\n$4\r\nPING\r\n");
    }
    let slot = conn.send_owed(request, &[], Owed::Replies(1), patience);
    let oldest = conn.replies.oldest();
    if let Some(hold) = &mut conn.hold {
        hold.blocks.retain(|&earlier| Some(earlier) >= oldest);
        hold.blocks.push(slot);
        hold.stained |= learned;
    }
    Flow::Next
}

/// The client's own time limit and some for the way; `None`: it waits without end. What cannot be read is an error that
/// comes at once.
fn patience(name: &str, args: Args<'_>, timeout: Duration) -> Option<Duration> {
    let number = |argument: Option<&[u8]>| std::str::from_utf8(argument?).ok()?.parse::<f64>().ok();
    let seconds = match name {
        "blmpop" | "bzmpop" => number(args.get(1)),
        "wait" => number(args.get(2)).map(|milliseconds| milliseconds / 1e3),
        "waitaof" => number(args.get(3)).map(|milliseconds| milliseconds / 1e3),
        "xread" | "xreadgroup" => {
            let block = args.iter().position(|option| option.eq_ignore_ascii_case(b"BLOCK"));
            block.and_then(|at| number(args.get(at + 1))).map(|milliseconds| milliseconds / 1e3)
        }
        _ => number(args.get(args.len() - 1)),
    };
    match seconds {
        Some(0.0) => None,
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            // A tenth on top: a server that is busy wakes its waiters late.
            Ok(limit) => limit.checked_add(timeout + limit / 10),
            Err(_) => Some(timeout),
        },
        None => Some(timeout),
    }
}

fn subscribe(conn: &mut Conn, name: &str, request: Request<'_>) -> Flow {
    let timeout = Some(conn.worker.app.upstream_timeout());
    let channels = request.args.len() as u32 - 1;
    // Confirmations are no replies: CLIENT REPLY does not keep them back.
    conn.send_run(request.bytes);
    conn.replies.mute(false);
    if channels == 0 && name.contains("unsubscribe") {
        let marker = write::whole_command([&b"PING"[..], MARKER]);
        conn.send_owed(request, &marker, Owed::ConfirmationsToMarker, timeout);
    } else {
        conn.send_owed(request, &[], Owed::Confirmations(channels), timeout);
    }
    conn.replies.mute(conn.muting == Muting::All);
    if let Some(hold) = &mut conn.hold {
        hold.subscribes = true;
    }
    Flow::Next
}

fn monitor(conn: &mut Conn, request: Request<'_>) -> Flow {
    let timeout = Some(conn.worker.app.upstream_timeout());
    conn.send_owed(request, &[], Owed::Replies(1), timeout);
    if let Some(link) = conn.way().link() {
        link.set_monitors();
    }
    if let Some(hold) = &mut conn.hold {
        (hold.monitors, hold.stained) = (true, true);
    }
    Flow::Next
}

impl Conn {
    /// A server hangs up on those whose user has gone; they connect again with what they know by then.
    pub fn note_denial(&mut self, reply: &Result<Vec<u8>, StoreError>) {
        self.closing |= self.is_upstream_user() && reply.as_ref().is_err_and(StoreError::denies_user);
    }

    /// Asks the server to remember something of the connection, or to forget it; what it agrees to is noted. The client's
    /// next command waits for its answer.
    pub fn ask_server(&mut self, args: OwnedArgs, note: impl FnOnce(&mut Hold) + 'static) -> Flow {
        let way = self.way.clone();
        let slot = self.open_slow();
        self.run_errand(async move {
            let reply = way.run(args.as_args()).await;
            move |conn: &mut Conn| {
                if let (Ok(b"+OK\r\n"), Some(hold)) = (reply.as_deref(), &mut conn.hold) {
                    note(hold);
                }
                conn.note_denial(&reply);
                conn.replies.finish(slot, own::answer_or_error(reply));
            }
        });
        Flow::Next
    }

    /// The same, with the client's own command.
    pub(super) fn ask_request(&mut self, request: Request<'_>, note: impl FnOnce(&mut Hold) + 'static) -> Flow {
        self.send_run(request.bytes);
        self.ask_server(request.args.iter().collect(), note)
    }
}
