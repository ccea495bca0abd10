//! Commands that Weir answers itself: those about the connection, INFO, and its own.

use super::as_user::Verdict;
use super::client_command as client;
use super::conn::{Conn, Flow, Muting, Request};
use super::info;
use super::output::Output;
use super::weir;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::Spec;
use crate::resp::write::{self, Protocol};
use crate::store::redis::Redis;
use crate::store::redis::link::Link;
use crate::store::{Backend, Identity, StoreError, Way};

/// Answers a command whose handling is `Own`.
pub fn run(conn: &mut Conn, spec: &'static Spec, request: Request<'_>) -> Flow {
    let args = request.args;
    let sub = spec.resolve(args);
    if !spec.arity_ok(args.len()) || !sub.arity_ok(args.len()) {
        conn.answer_now(|out| wrong_arity(out, spec, sub));
        return Flow::Next;
    }
    match spec.name {
        "ping" => ping(conn, args),
        "auth" => return auth(conn, args),
        "hello" => return hello(conn, args),
        "select" => return select(conn, args),
        // Its client is listened to meanwhile: it may leave.
        "quit" | "reset" if conn.is_blocked() || !conn.has_let_go() => return Flow::Wait,
        "quit" => {
            conn.answer_now(write::ok);
            conn.closing = true;
        }
        "reset" => return reset(conn),
        "client" => return client::run(conn, spec, sub.name, request),
        "info" => info(conn, args),
        "acl" => conn.answer_now(|out| write::bulk(out, conn.client.said.lock().user())),
        "weir" => return weir::run(conn, spec, request),
        other => conn.answer_now(|out| write::error(out, format!("ERR '{other}' is not served by Weir"))),
    }
    Flow::Next
}

/// Redis's words.
fn wrong_arity(out: &mut Vec<u8>, spec: &Spec, sub: &Spec) {
    let name = if std::ptr::eq(spec, sub) { spec.name.to_string() } else { format!("{}|{}", spec.name, sub.name) };
    write::error(out, format!("ERR wrong number of arguments for '{name}' command"));
}

fn ping(conn: &Conn, args: Args<'_>) {
    conn.answer_now(|out| match (args.len(), args.get(1)) {
        (1, _) => write::simple(out, "PONG"),
        (2, Some(text)) => write::bulk(out, text),
        _ => write::error(out, "ERR wrong number of arguments for 'ping' command"),
    });
}

/// Lets the client be `user`, if that is its password. `None`: the upstream is asked, and the command comes again.
fn authenticate(conn: &mut Conn, user: &[u8], password: &[u8]) -> Option<Verdict> {
    let app = conn.worker.app.clone();
    let verdict = match app.access.admit(user, password) {
        _ if app.access.asks_upstream() => conn.authenticate_upstream(user, password)?,
        Some(user) => {
            conn.become_user(Some(user));
            Ok(())
        }
        None => Err("WRONGPASS invalid username-password pair or user is disabled.".into()),
    };
    if verdict.is_err() {
        metrics::counter!("weir_auth_failures_total").increment(1);
    }
    Some(verdict)
}

fn auth(conn: &mut Conn, args: Args<'_>) -> Flow {
    let pair = match args.len() {
        2 => (&b"default"[..], &args[1]),
        3 => (&args[1], &args[2]),
        _ => {
            conn.answer_now(|out| write::error(out, "ERR syntax error"));
            return Flow::Next;
        }
    };
    if conn.worker.app.access.stranger().is_some() && args.len() == 2 {
        conn.answer_now(|out| {
            write::error(
                out,
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            );
        });
        return Flow::Next;
    }
    match authenticate(conn, pair.0, pair.1) {
        Some(Ok(())) => conn.answer_now(write::ok),
        Some(Err(text)) => conn.answer_now(|out| write::error(out, text)),
        None => return Flow::Wait,
    }
    Flow::Limits
}

/// What HELLO asks for.
struct Hello<'a> {
    protocol: Option<Protocol>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    /// Errors are Redis's.
    fn parse(args: Args<'a>) -> Result<Self, String> {
        let protocol =
            match args.get(1).map(|version| std::str::from_utf8(version).ok().and_then(|text| text.parse().ok())) {
                None => None,
                Some(None) => return Err("ERR Protocol version is not an integer or out of range".into()),
                Some(Some(2)) => Some(Protocol::Resp2),
                Some(Some(3)) => Some(Protocol::Resp3),
                Some(Some(0_i64..) | Some(_)) => return Err("NOPROTO unsupported protocol version".into()),
            };
        let mut hello = Hello { protocol, auth: None, name: None };
        let mut at = 2;
        while let Some(option) = args.get(at) {
            match (option.to_ascii_uppercase().as_slice(), args.get(at + 1), args.get(at + 2)) {
                (b"AUTH", Some(user), Some(password)) => {
                    hello.auth = Some((user, password));
                    at += 3;
                }
                (b"SETNAME", Some(name), _) => {
                    check_name(name)?;
                    hello.name = Some(name);
                    at += 2;
                }
                _ => return Err(format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option))),
            }
        }
        Ok(hello)
    }
}

fn hello(conn: &mut Conn, args: Args<'_>) -> Flow {
    if conn.is_busy() {
        // What was asked in the old version is answered in it, and must not be overtaken on another link.
        return Flow::Wait;
    }
    let said = match Hello::parse(args) {
        Ok(hello) => say_hello(conn, hello),
        Err(text) => Some(Err(text)),
    };
    let Some(said) = said else { return Flow::Wait };
    if let Err(text) = said {
        conn.answer_now(|out| write::error(out, text));
        return Flow::Limits;
    }
    let greeting = greeting(conn);
    match link_that_speaks_otherwise(conn) {
        None => conn.answer_now(|out| out.extend_from_slice(&greeting)),
        // Answered once the server knows: what it pushes from now on must be in the new version.
        Some(link) => {
            let (way, protocol) = (conn.way().clone(), conn.protocol());
            let slot = conn.open_slow();
            link.set_protocol(protocol);
            conn.run_errand(async move {
                let version = if protocol == Protocol::Resp3 { "3" } else { "2" };
                let said = way.run(OwnedArgs::from_iter(["HELLO", version]).as_args()).await;
                move |conn: &mut Conn| {
                    conn.note_denial(&said);
                    conn.replies.finish(slot, answer_or_error(said.map(|_| greeting)));
                }
            });
        }
    }
    Flow::Limits
}

/// The client's own link, if it does not speak the client's version of the protocol yet.
fn link_that_speaks_otherwise(conn: &Conn) -> Option<Link> {
    let link = conn.way().link().filter(|_| conn.is_private())?;
    (link.protocol() != conn.protocol()).then(|| link.clone())
}

fn greeting(conn: &Conn) -> Vec<u8> {
    let (version, protocol) = (conn.worker.app.redis_version(), conn.protocol());
    let mut out = Vec::new();
    write::map(&mut out, protocol, 7);
    let text = |out: &mut Vec<u8>, name, value: &str| {
        write::bulk(out, name);
        write::bulk(out, value);
    };
    text(&mut out, "server", "redis");
    text(&mut out, "version", &version);
    write::bulk(&mut out, "proto");
    write::integer(&mut out, if protocol == Protocol::Resp3 { 3 } else { 2 });
    write::bulk(&mut out, "id");
    write::integer(&mut out, conn.client.id as i64);
    text(&mut out, "mode", "standalone");
    text(&mut out, "role", "master");
    write::bulk(&mut out, "modules");
    write::array(&mut out, 0);
    out
}

/// `None`: the upstream is asked who it is, and the command comes again.
fn say_hello(conn: &mut Conn, hello: Hello<'_>) -> Option<Verdict> {
    if let Some((user, password)) = hello.auth
        && let Err(text) = authenticate(conn, user, password)?
    {
        return Some(Err(text));
    }
    Some(take_on(conn, hello))
}

/// What is left of it once it is known who the client is.
fn take_on(conn: &mut Conn, hello: Hello<'_>) -> Verdict {
    if !conn.authenticated {
        return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                    the same time"
            .into());
    }
    if let Some(name) = hello.name {
        conn.client.said.lock().words_mut().name = String::from_utf8_lossy(name).into_owned();
    }
    if let Some(protocol) = hello.protocol {
        conn.become_identity(Identity { protocol, ..conn.way().identity.clone() });
    }
    Ok(())
}

/// Redis's rule for names of clients and libraries.
pub fn check_name(name: &[u8]) -> Result<(), String> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err("ERR Client names cannot contain spaces, newlines or special characters.".into())
}

/// Databases of the embedded store, as many as Redis has by default.
const DATABASES: i64 = 16;

fn select(conn: &mut Conn, args: Args<'_>) -> Flow {
    if conn.is_busy() {
        return Flow::Wait;
    }
    let number = std::str::from_utf8(&args[1]).ok().and_then(|text| text.parse::<i64>().ok());
    let worker = conn.worker.clone();
    match &worker.backend {
        Backend::Embedded(_) => match number {
            None => conn.answer_now(|out| write::error(out, "ERR value is not an integer or out of range")),
            Some(number) if (0..DATABASES).contains(&number) => selected(conn, number as u32),
            Some(_) => conn.answer_now(|out| write::error(out, "ERR DB index is out of range")),
        },
        Backend::Redis(redis) if redis.upstream().cluster().is_some() => match number {
            None => conn.answer_now(|out| write::error(out, "ERR value is not an integer or out of range")),
            Some(0) => selected(conn, 0),
            Some(_) => conn.answer_now(|out| write::error(out, "ERR SELECT is not allowed in cluster mode")),
        },
        Backend::Redis(redis) => {
            let db = number.and_then(|number| u32::try_from(number).ok());
            let identity = db.map(|db| Identity { db, ..conn.way().identity.clone() });
            match identity {
                Some(identity) if !conn.is_private() && identity.user.is_none() && redis.has(&identity) => {
                    selected(conn, identity.db)
                }
                _ => ask_to_select(conn, redis, db, args),
            }
        }
    }
    Flow::Next
}

fn selected(conn: &mut Conn, db: u32) {
    conn.become_identity(Identity { db, ..conn.way().identity.clone() });
    conn.answer_now(write::ok);
}

/// The upstream knows which databases it has: it is asked over the client's own link, or over one that is not used
/// again afterwards.
fn ask_to_select(conn: &mut Conn, redis: &Redis, db: Option<u32>, args: Args<'_>) {
    let way =
        if conn.is_private() { conn.way().clone() } else { Way::private(redis, conn.way().identity.clone(), None) };
    let args: OwnedArgs = args.iter().collect();
    let slot = conn.open_slow();
    conn.run_errand(async move {
        let reply = way.run(args.as_args()).await;
        move |conn: &mut Conn| {
            // While nobody can be asked, those that every server has are believed in: routed reads go on (G7).
            let reply = match reply {
                Err(error)
                    if error.is_outage() && !conn.is_private() && db.is_some_and(|db| i64::from(db) < DATABASES) =>
                {
                    Ok(b"+OK\r\n".to_vec())
                }
                reply => reply,
            };
            if let (Ok(b"+OK\r\n"), Some(db)) = (reply.as_deref(), db) {
                conn.become_identity(Identity { db, ..conn.way().identity.clone() });
            }
            conn.note_denial(&reply);
            conn.replies.finish(slot, answer_or_error(reply));
        }
    });
}

/// The upstream's reply as it is, or why there is none.
pub fn answer_or_error(reply: Result<Vec<u8>, StoreError>) -> Output {
    let mut answer = Output::default();
    match reply {
        Ok(reply) => answer.extend(&reply),
        Err(error) => {
            let text = super::routed::upstream_text(error);
            answer.write(|out| write::error(out, text));
        }
    }
    answer
}

fn reset(conn: &mut Conn) -> Flow {
    if conn.is_busy() {
        return Flow::Wait;
    }
    if let Some(hold) = &mut conn.hold {
        hold.stained = true;
    }
    conn.leave();
    if conn.muting == Muting::All {
        // A RESET that was to be skipped stays unheard.
        conn.muting = Muting::Off;
        conn.replies.mute(false);
    }
    *conn.client.said.lock() = super::clients::Said::default();
    let app = conn.worker.app.clone();
    conn.become_user(app.access.stranger());
    conn.become_identity(Identity { db: conn.worker.backend.first_db(), ..Identity::default() });
    conn.answer_now(|out| write::simple(out, "RESET"));
    Flow::Limits
}

/// INFO of the upstream with Weir's own section behind it, or of the embedded store.
fn info(conn: &mut Conn, args: Args<'_>) {
    let sections: Vec<String> =
        args.from(1).iter().map(|section| String::from_utf8_lossy(section).to_ascii_lowercase()).collect();
    let (worker, protocol) = (conn.worker.clone(), conn.protocol());
    if let Backend::Embedded(embedded) = &worker.backend {
        let text = info::of_embedded(&worker.app, embedded, &sections);
        return conn.answer_now(|out| write::verbatim(out, protocol, text));
    }
    let args: OwnedArgs = args.iter().collect();
    let way = conn.way().clone();
    conn.answer_with(async move {
        let reply = way.run(args.as_args()).await;
        answer_or_error(reply.map(|reply| info::with_own_section(&worker.app, reply, protocol, &sections)))
    });
}
