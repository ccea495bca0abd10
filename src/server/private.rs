//! Commands that a server remembers something of: MULTI, WATCH, BLPOP, SUBSCRIBE, MONITOR, CLIENT TRACKING …
//!
//! Most clients' commands share their worker's link. A client that sends one of these is given a link of its own, and
//! everything that it sends goes over it until the server remembers nothing of it any more; then the link is handed
//! back. On both ways nothing is overtaken: a client moves only while none of its commands is under way (T23, T24).
//!
//! Inside MULTI nothing is loaded and nothing answered here: what the server queues, the server answers. What Weir does
//! not let pass (a refused command, AUTH) is answered with its error, and the EXEC becomes a DISCARD, as Redis does it
//! with commands that it cannot queue. The routed keys that a transaction writes are fenced right before its EXEC, over
//! Weir's own link: inside the transaction the fence would change EXEC's reply. Where they cannot be fenced the transaction is not
//! run, and EXEC is told why: what was to be changed counts as missed ([`super::change`]), as it does when a transaction is lost
//! with its link before its client has sent EXEC.

use super::aside;
use super::change::Touched;
use super::conn::{Conn, Flow, Muting, Request};
use super::lasting::{Lasting, Tagged, prolongs};
use super::lifetime::{Leaves, Written};
use super::missed;
use super::output::Output;
use super::own;
use crate::cache::route::Fence;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Handling, Spec, lookup};
use crate::resp::frame::{self, Reply};
use crate::resp::number;
use crate::resp::write::{self, Protocol};
use crate::store::redis::cluster::hide::Hide;
use crate::store::redis::link::{MARKER, Owed};
use crate::store::redis::request::request;
use crate::store::{Backend, Identity, StoreError, Way};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// What the server remembers of a client's connection, and so why the client keeps a link of its own.
#[derive(Default)]
pub struct Hold {
    transaction: Option<Transaction>,
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

/// Between MULTI and EXEC.
#[derive(Default)]
struct Transaction {
    /// Its first reply: what is told -UPSTREAM from here on stands in it or does not, and nobody knows.
    since: u64,
    /// A command in it was not let through.
    poisoned: bool,
    /// A command in it changes what the server remembers of the connection.
    changes_connection: bool,
    /// Routed keys that it writes.
    writes: Vec<Written>,
    /// Databases that a SELECT in it names. Which of them a write meets only the server will know: all are fenced.
    selects: BTreeSet<u32>,
    /// … and whose leases are dropped already.
    fenced: bool,
    /// Why that, or what is to be begun before EXEC, could not be done.
    failed: Option<StoreError>,
    /// What is to be seen to around it, and in which databases that is begun.
    lasting: Lasting,
    begun: Vec<(u32, Tagged)>,
    /// What it changes of what is kept near.
    changes: Touched,
}

impl Hold {
    /// Whether the server remembers anything still, once nothing is under way.
    fn holds(&self) -> bool {
        let Hold { transaction, watches, monitors, tracking, no_evict, no_touch, .. } = self;
        transaction.is_some() || *watches || *monitors || tracking.is_some() || *no_evict || *no_touch
    }

    /// The transaction has ended, and with it what was watched.
    fn forget_transaction(&mut self) {
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

    /// A transaction is open already at the server, and `queued` stands in it; nobody wants the replies to either.
    pub fn begin_transaction(&mut self, queued: &[u8], count: u32) {
        if let (Some(link), Some(hold)) = (self.way.link(), &mut self.hold) {
            link.send_and_forget(&[b"*1\r\n$5\r\nMULTI\r\n", queued].concat(), 1 + count);
            hold.transaction = Some(Transaction { since: self.replies.next(), ..Transaction::default() });
        }
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
        let subscribed = self.way.link().is_some_and(|link| link.subscriptions().any());
        hold.tracking.is_some() || hold.subscribes || subscribed
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

    /// Whether it is between MULTI and EXEC.
    pub fn in_transaction(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.transaction.is_some())
    }

    /// Whether its commands are queued, at the server or until it is known at which.
    pub(super) fn queues(&self) -> bool {
        self.in_transaction() || self.pending.is_some()
    }

    /// What the commands that are queued will change of what is kept near.
    pub(super) fn queued_changes(&self) -> Option<&Touched> {
        self.hold.as_ref()?.transaction.as_ref().map(|transaction| &transaction.changes)
    }

    /// Databases that a SELECT among them names.
    pub(super) fn queued_selects(&self) -> impl Iterator<Item = u32> {
        let transaction = self.hold.as_ref().and_then(|hold| hold.transaction.as_ref());
        transaction.into_iter().flat_map(|transaction| transaction.selects.iter().copied())
    }

    /// A command was queued, or not let through.
    pub(super) fn note_queued(&mut self, spec: Option<&Spec>, args: Args<'_>) {
        let touched = self.queued_change(spec, args);
        if let Some(transaction) = self.transaction() {
            transaction.changes.add(touched);
        }
    }

    /// The transaction, if there is one, must not be executed. Whether there is one.
    pub fn poison(&mut self) -> bool {
        if let Some(pending) = &mut self.pending {
            pending.poisoned = true;
        }
        self.transaction().map(|transaction| transaction.poisoned = true).is_some()
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
    let mut command = Vec::new();
    write::command(&mut command, ["CLIENT", "SETNAME", name]);
    link.send_and_forget(&command, 1);
}

/// A command of a client that has a link of its own, before it is looked at as any other: `None` if it is like any other.
pub fn intercept(conn: &mut Conn, spec: Option<&'static Spec>, request: Request<'_>) -> Option<Flow> {
    let hold = conn.hold.as_ref()?;
    if hold.transaction.is_some() {
        return Some(queue(conn, spec, request));
    }
    if conn.protocol() != Protocol::Resp2 {
        return None;
    }
    let ends_it = spec.is_some_and(|spec| matches!(spec.name, "quit" | "reset"));
    let subscribes = spec.is_some_and(|spec| is_subscription(spec.name));
    if hold.subscribes && !subscribes && conn.is_busy() {
        // What may be said depends on what the confirmations will say.
        return Some(Flow::Wait);
    }
    let subscribed = conn.way().link().is_some_and(|link| link.subscriptions().any());
    (subscribed && !subscribes && !ends_it).then(|| conn.forward(request))
}

fn is_subscription(name: &str) -> bool {
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
    let since = conn.replies.next();
    let Some(hold) = &mut conn.hold else { return Flow::Next };
    let transaction = Some(Transaction { since, ..Transaction::default() });
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
        let mut marker = Vec::new();
        write::command(&mut marker, [&b"PING"[..], MARKER]);
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

/// A command inside MULTI.
fn queue(conn: &mut Conn, spec: Option<&'static Spec>, request: Request<'_>) -> Flow {
    let Some(spec) = spec else { return conn.forward(request) };
    match spec.name {
        "exec" if request.args.len() == 1 => return exec(conn, request),
        "discard" if request.args.len() != 1 => {}
        "discard" if conn.is_upstream_user() => {
            return conn.ask_request(request, Hold::forget_transaction);
        }
        // A server discards the transaction of an EXEC that has too many arguments, too.
        "exec" | "discard" => {
            conn.forget_transaction();
            return conn.forward(request);
        }
        "quit" | "reset" => {
            conn.send_run(request.bytes);
            if !spec.arity_ok(request.args.len()) {
                conn.poison();
            }
            return own::run(conn, spec, request);
        }
        _ => {}
    }
    if let Some(why) = barred(spec, request.args) {
        conn.poison();
        return conn.refuse(spec, request, why);
    }
    if let Some(refusal) = conn.refuse_on_own_keys(spec, spec.access_of(request.args), request) {
        return refusal;
    }
    if missed::in_doubt(&conn.worker, conn.way(), spec, request.args) {
        conn.poison();
        return conn.answer(request, |out| write::error(out, missed::refusal()));
    }
    if let Some(command) = conn.queued_instead(spec, request.args) {
        return conn.forward_instead(request, &command);
    }
    let leaves = Leaves::of(spec, request.args);
    let writes = match spec.access_of(request.args) {
        Access::None | Access::Read if !prolongs(spec, request.args) => Vec::new(),
        _ => {
            let keys = conn.routed_keys(spec, request.args).into_iter();
            keys.map(|(key, route)| (key, route, leaves)).collect()
        }
    };
    let lasting = Lasting::of(&conn.worker.app.routes, spec, request.args, leaves);
    let selected = request.args.get(1).filter(|_| spec.name == "select").and_then(number::parse);
    if let Some(transaction) = conn.transaction() {
        transaction.selects.extend(selected.and_then(|db| u32::try_from(db).ok()));
        transaction.changes_connection |= matches!(spec.name, "select" | "client" | "hello");
        transaction.writes.extend(writes);
        transaction.lasting.join(lasting);
        transaction.fenced = false;
    }
    conn.forward(request)
}

/// Why a command may not be queued.
pub fn barred(spec: &Spec, args: Args<'_>) -> Option<&'static str> {
    const LATER: &str = "not inside MULTI; send it before MULTI or after EXEC";
    let sub = spec.resolve(args);
    match spec.handling_of(args) {
        Handling::Refused(why) => Some(why),
        Handling::Stateful(_) if is_subscription(spec.name) => Some(LATER),
        Handling::Own if matches!(spec.name, "auth" | "weir") => Some(LATER),
        Handling::Own if spec.name == "hello" && args.len() > 2 => Some(LATER),
        Handling::Own if spec.name == "client" && matches!(sub.name, "kill" | "list" | "reply" | "unblock") => {
            Some(LATER)
        }
        // The client that it names has another number at the server.
        Handling::Own if spec.name == "client" && sub.name == "tracking" && args.len() > 3 => {
            let redirects = args.from(3).iter().any(|word| word.eq_ignore_ascii_case(b"REDIRECT"));
            redirects.then_some(LATER)
        }
        _ => None,
    }
}

fn exec(conn: &mut Conn, request: Request<'_>) -> Flow {
    let db = conn.way().identity.db;
    let worker = conn.worker.clone();
    let replies = conn.replies.clone();
    let Some(transaction) = conn.transaction() else { return conn.forward(request) };
    if transaction.poisoned || replies.missed_since(transaction.since) {
        return abort(conn, request, "EXECABORT Transaction discarded because of previous errors.");
    }
    if let Some(why) = transaction.failed.take() {
        return give_up(conn, request, why);
    }
    let ahead = |written: &&Written| written.1.fence(written.2.a_value()) == Fence::Ahead;
    let keys: Vec<Vec<u8>> = transaction.writes.iter().filter(ahead).map(|(key, ..)| key.clone()).collect();
    let is_prepared = keys.is_empty() && transaction.lasting.is_empty();
    if !transaction.fenced && !is_prepared {
        transaction.fenced = true;
        let lasting = std::mem::take(&mut transaction.lasting);
        let dbs: BTreeSet<u32> = transaction.selects.iter().copied().chain([db]).collect();
        conn.run_errand(async move {
            let (lasts, engine) = (&lasting, &worker.engine);
            let begun = dbs.iter().map(|&db| async move { Ok((db, lasts.begin(engine, db).await?)) });
            let begun: Result<Vec<(u32, Tagged)>, StoreError> = join_all(begun).await.into_iter().collect();
            let fences = dbs.iter().map(|&db| worker.backend.fence_all(db, keys.clone()));
            let fenced: Result<Vec<()>, StoreError> = join_all(fences).await.into_iter().collect();
            move |conn: &mut Conn| {
                let Some(transaction) = conn.transaction() else { return };
                transaction.lasting = lasting;
                match (begun, fenced) {
                    (Ok(begun), Ok(_)) => transaction.begun = begun,
                    (Err(error), _) | (_, Err(error)) => transaction.failed = Some(error),
                }
            }
        });
        return Flow::Wait;
    }
    let mut transaction = std::mem::take(transaction);
    transaction.selects.insert(db);
    if !transaction.lasting.is_empty() {
        return exec_in_steps(conn, request, transaction);
    }
    let Transaction { writes, changes_connection, selects, .. } = transaction;
    conn.forget_transaction();
    if let Some(hold) = &mut conn.hold {
        hold.stained |= changes_connection;
    }
    let flow = conn.forward(request);
    conn.send_run(request.bytes);
    for (key, route, leaves) in &writes {
        worker.note_invalidation(route, db, key);
        if !conn.is_upstream_user() && !changes_connection {
            super::routed::settle(&conn.worker, key, route, *leaves, conn.way());
        }
    }
    if changes_connection {
        learn_connection(conn, selects, writes);
    } else if conn.is_upstream_user() && !writes.is_empty() {
        conn.cap_as_weir(writes);
    }
    flow
}

/// An EXEC after which something is to be seen to, before its client hears that it is done.
fn exec_in_steps(conn: &mut Conn, request: Request<'_>, transaction: Transaction) -> Flow {
    let Transaction { writes, changes_connection, selects, lasting, begun, .. } = transaction;
    conn.forget_transaction();
    if let Some(hold) = &mut conn.hold {
        hold.stained |= changes_connection;
    }
    conn.send_run(request.bytes);
    writes.iter().for_each(|(_, route, _)| route.metrics.invalidations.increment(1));
    let (worker, way, slot) = (conn.worker.clone(), conn.way().clone(), conn.open_slow());
    conn.run_errand(async move {
        let mut reply = way.run(OwnedArgs::from_iter(["EXEC"]).as_args()).await;
        if !changes_connection {
            for (key, route, leaves) in &writes {
                if let Some(ttl) = leaves.cap(route, &worker.engine) {
                    way.capped(key, ttl).await;
                }
                aside::release(&worker, route, key, &way, *leaves);
            }
        }
        for (db, tagged) in &begun {
            if let (Ok(_), Err(failure)) = (&reply, lasting.end(&worker.engine, *db, tagged).await) {
                reply = Err(failure);
            }
        }
        move |conn: &mut Conn| {
            conn.note_denial(&reply);
            conn.replies.finish(slot, own::answer_or_error(reply));
            if changes_connection {
                learn_connection(conn, selects, writes);
            }
        }
    });
    Flow::Next
}

/// A command that the client has no right to. Inside MULTI it spoils the transaction; an EXEC ends it.
pub fn deny(conn: &mut Conn, spec: Option<&'static Spec>, request: Request<'_>, text: String) -> Flow {
    if spec.is_none_or(|spec| spec.name != "exec") {
        conn.poison();
        return conn.answer(request, |out| write::error(out, text));
    }
    conn.pending = None;
    let text = format!("EXECABORT Transaction discarded because of: {text}");
    if conn.in_transaction() {
        return abort(conn, request, &text);
    }
    conn.answer(request, |out| write::error(out, text))
}

/// The server could not be asked for what stands before an EXEC: it forgets the transaction, and the client is told why.
fn give_up(conn: &mut Conn, request: Request<'_>, why: StoreError) -> Flow {
    conn.forget_transaction();
    conn.send_run(request.bytes);
    conn.send_alone(b"*1\r\n$7\r\nDISCARD\r\n");
    if let (Some(hold), true) = (&mut conn.hold, why.is_outage()) {
        // Nobody knows whether that comes to the server. The link serves no other client, and this one only if it needs it no more.
        hold.stained = true;
        conn.closing |= hold.holds();
    }
    let slot = conn.open_slow();
    conn.replies.finish(slot, own::answer_or_error(Err(why)));
    Flow::Next
}

/// The server forgets the transaction, and the client is told why.
fn abort(conn: &mut Conn, request: Request<'_>, text: &str) -> Flow {
    conn.forget_transaction();
    conn.send_run(request.bytes);
    conn.send_alone(b"*1\r\n$7\r\nDISCARD\r\n");
    conn.answer_now(|out| write::error(out, text));
    Flow::Next
}

/// After an EXEC that has changed what the server remembers of the connection: the server is asked what that is now.
/// The keys that it wrote are capped then, in every database that it may have written them to.
fn learn_connection(conn: &mut Conn, dbs: BTreeSet<u32>, writes: Vec<Written>) {
    let worker = conn.worker.clone();
    let (Some(link), Backend::Redis(redis)) = (conn.way().link().cloned(), conn.worker.backend.clone()) else { return };
    conn.run_errand(async move {
        let mut command = Vec::new();
        write::command(&mut command, ["CLIENT", "INFO"]);
        let mut reply = request(&link, &command).await;
        if reply.as_ref().is_ok_and(|reply| reply.starts_with(b"-")) {
            // It is a subscriber by now, who may not ask in RESP2. The EXEC is over, so another link may.
            reply = redis.ask(&["CLIENT", "LIST", "ID", &link.connection().to_string()]).await;
        }
        for db in if writes.is_empty() { BTreeSet::new() } else { dbs } {
            let way = worker.backend.way(&Identity { db, ..Identity::default() });
            writes.iter().for_each(|(key, route, leaves)| super::routed::settle(&worker, key, route, *leaves, &way));
        }
        move |conn: &mut Conn| match reply.ok().and_then(|reply| frame::decode(&reply, 2).ok()) {
            Some(Reply::Bulk(text)) if !text.is_empty() => apply(conn, &String::from_utf8_lossy(&text)),
            // The link is gone, and with it what the server knew.
            _ => conn.closing = true,
        }
    });
}

/// Takes on what the server's CLIENT INFO says.
fn apply(conn: &mut Conn, line: &str) {
    let field = |name: &str| line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| field(name).and_then(|text| text.parse::<u32>().ok());
    let protocol = if number("resp") == Some(3) { Protocol::Resp3 } else { Protocol::Resp2 };
    let flags = field("flags").unwrap_or_default();
    let identity = Identity { db: number("db").unwrap_or(0), protocol, ..conn.way().identity.clone() };
    let name = field("name").unwrap_or_default();
    if conn.client.said.lock().words().name != name {
        conn.client.said.lock().words_mut().name = name.to_owned();
    }
    if let Some(hold) = &mut conn.hold {
        hold.tracking = flags.contains('t').then(|| hold.tracking.unwrap_or(0));
        (hold.no_evict, hold.no_touch) = (flags.contains('e'), flags.contains('T'));
    }
    if let Some(link) = conn.way().link() {
        link.set_protocol(protocol);
    }
    conn.become_identity(identity);
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
    fn ask_request(&mut self, request: Request<'_>, note: impl FnOnce(&mut Hold) + 'static) -> Flow {
        self.send_run(request.bytes);
        self.ask_server(request.args.iter().collect(), note)
    }

    fn transaction(&mut self) -> Option<&mut Transaction> {
        self.hold.as_mut()?.transaction.as_mut()
    }

    /// It has ended, and with it what was watched.
    fn forget_transaction(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.forget_transaction();
        }
    }
}
