//! MULTI and EXEC.
//!
//! Inside MULTI nothing is loaded and nothing answered here: what the server queues, the server answers. What Weir does
//! not let pass (a refused command, AUTH) is answered with its error, and the EXEC becomes a DISCARD, as Redis does it
//! with commands that it cannot queue. The routed keys that a transaction writes are fenced right before its EXEC, over
//! Weir's own link: inside the transaction the fence would change EXEC's reply. Where they cannot be fenced the transaction is not
//! run, and EXEC is told why: what was to be changed counts as missed ([`super::change`]), as it does when a transaction is lost
//! with its link before its client has sent EXEC.

use super::aside;
use super::change::Touched;
use super::conn::{Conn, Flow, Request};
use super::lasting::{Lasting, Tagged, prolongs};
use super::lifetime::{Leaves, Written};
use super::missed;
use super::own;
use super::private::{Hold, is_subscription};
use super::routed;
use crate::cache::route::Fence;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Handling, Spec};
use crate::resp::frame::{self, Reply};
use crate::resp::number;
use crate::resp::write::{self, Protocol};
use crate::store::redis::request::request;
use crate::store::{Backend, Identity, StoreError};
use futures_util::future::join_all;
use std::collections::BTreeSet;

/// Between MULTI and EXEC.
#[derive(Default)]
pub struct Transaction {
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

impl Transaction {
    /// One whose first reply is this.
    pub fn opened(since: u64) -> Self {
        Transaction { since, ..Transaction::default() }
    }
}

/// A command inside MULTI.
pub fn queue(conn: &mut Conn, spec: Option<&'static Spec>, request: Request<'_>) -> Flow {
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
    let turns_to_resp2 = spec.name == "hello" && request.args.get(1) == Some(b"2");
    if turns_to_resp2 && conn.awaits_confirmations() {
        return Flow::Wait;
    }
    // A subscriber stays in RESP3. In RESP2 messages are arrays like any other: those that come behind the HELLO 2, as EXEC's own elements
    // or before it is known to have run, could not be told from replies.
    let of_subscribers = (turns_to_resp2 && conn.is_subscriber()).then_some(LATER);
    if let Some(why) = barred(spec, request.args).or(of_subscribers) {
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

const LATER: &str = "not inside MULTI; send it before MULTI or after EXEC";

/// Why a command may not be queued.
pub fn barred(spec: &Spec, args: Args<'_>) -> Option<&'static str> {
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
            routed::settle(&conn.worker, key, route, *leaves, conn.way());
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
        let command = write::whole_command(["CLIENT", "INFO"]);
        let mut reply = request(&link, &command).await;
        if reply.as_ref().is_ok_and(|reply| reply.starts_with(b"-")) {
            // Not every user may ask. The EXEC is over, so Weir's own may, over another link.
            reply = redis.ask(&["CLIENT", "LIST", "ID", &link.connection().to_string()]).await;
        }
        for db in if writes.is_empty() { BTreeSet::new() } else { dbs } {
            let way = worker.backend.way(&Identity { db, ..Identity::default() });
            writes.iter().for_each(|(key, route, leaves)| routed::settle(&worker, key, route, *leaves, &way));
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
    /// A transaction is open already at the server, and `queued` stands in it; nobody wants the replies to either.
    pub fn begin_transaction(&mut self, queued: &[u8], count: u32) {
        if let (Some(link), Some(hold)) = (self.way.link(), &mut self.hold) {
            link.send_and_forget(&[b"*1\r\n$5\r\nMULTI\r\n", queued].concat(), 1 + count);
            hold.transaction = Some(Transaction::opened(self.replies.next()));
        }
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
