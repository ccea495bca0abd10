//! CLIENT and its subcommands: what Weir knows of its own clients, and what the server must remember of one.

use super::client_list;
use super::clients::Client;
use super::conn::{Conn, Flow, Muting, Request};
use super::own::{answer_or_error, check_name};
use super::private::Hold;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::Spec;
use crate::resp::write;
use crate::store::Backend;
use crate::store::redis::Redis;

/// Answers `CLIENT sub …`, of which the number of arguments is right.
pub fn run(conn: &mut Conn, spec: &'static Spec, sub: &str, request: Request<'_>) -> Flow {
    let args = request.args;
    let over_redis = matches!(conn.worker.backend, Backend::Redis(_));
    match sub {
        "id" => conn.answer_now(|out| write::integer(out, conn.client.id as i64)),
        "getname" => conn.answer_now(|out| match conn.client.said.lock().words().name.as_str() {
            "" => write::nil(out, conn.protocol()),
            name => write::bulk(out, name),
        }),
        "setname" => set_name(conn, &args[2]),
        "setinfo" => conn.answer_now(|out| set_info(conn, &word(args, 2), &args[3], out)),
        "info" => client_list::info(conn),
        "list" => client_list::list(conn, args),
        "kill" => kill(conn, args),
        "reply" => reply(conn, &word(args, 2)),
        "no-evict" | "no-touch" if over_redis => return pin(conn, sub, request),
        "no-evict" | "no-touch" => conn.answer_now(|out| match word(args, 2).as_str() {
            "on" | "off" => write::ok(out),
            _ => write::error(out, "ERR syntax error"),
        }),
        "tracking" if over_redis => return tracking(conn, request),
        "getredir" if over_redis => conn.answer_now(|out| {
            let redirect = conn.hold.as_ref().and_then(|hold| hold.tracking).map_or(-1, |client| client as i64);
            write::integer(out, redirect);
        }),
        "trackinginfo" if over_redis => tracking_info(conn, args),
        "caching" | "help" if over_redis => return conn.forward(request),
        "unblock" if over_redis => unblock(conn, args),
        "unblock" => conn.answer_now(|out| write::integer(out, 0)),
        "tracking" | "getredir" | "trackinginfo" | "caching" => {
            return conn.refuse(spec, request, "the embedded store tracks no keys; leave client-side caching off");
        }
        _ => conn.answer_now(|out| {
            let sub = as_redis_prints(&args[1]);
            write::error(out, [b"ERR unknown subcommand '", sub, b"'. Try CLIENT HELP."].concat());
        }),
    }
    Flow::Next
}

/// What Redis shows of a client's words in an error.
fn as_redis_prints(word: &[u8]) -> &[u8] {
    let word = &word[..word.len().min(128)];
    &word[..memchr::memchr(0, word).unwrap_or(word.len())]
}

fn word(args: Args<'_>, index: usize) -> String {
    args.get(index).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default()
}

fn set_name(conn: &mut Conn, name: &[u8]) {
    conn.answer_now(|out| match check_name(name) {
        Ok(()) => write::ok(out),
        Err(error) => write::error(out, error),
    });
    if check_name(name).is_ok() {
        conn.client.said.lock().words_mut().name = String::from_utf8_lossy(name).into_owned();
        if conn.is_private() {
            let command = write::whole_command([&b"CLIENT"[..], b"SETNAME", name]);
            conn.send_alone(&command);
        }
    }
}

fn set_info(conn: &Conn, attribute: &str, value: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(value).into_owned();
    let mut said = conn.client.said.lock();
    match (attribute, check_name(value)) {
        ("lib-name" | "lib-ver", Err(_)) => {
            write::error(out, format!("ERR {attribute} cannot contain spaces, newlines or special characters."));
        }
        ("lib-name", Ok(())) => {
            said.words_mut().library = text;
            write::ok(out);
        }
        ("lib-ver", Ok(())) => {
            said.words_mut().library_version = text;
            write::ok(out);
        }
        _ => write::error(out, format!("ERR Unrecognized option '{attribute}'")),
    }
}

/// What CLIENT KILL picks clients by; all that are given must fit.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    peer: Option<String>,
    local: Option<String>,
    user: Option<String>,
    /// Subscribers, or others.
    subscribed: Option<bool>,
    /// None of them is of the wanted kind.
    none: bool,
    /// Also the client that asks.
    oneself: bool,
}

impl Filter {
    /// Errors are Redis's.
    fn parse(args: Args<'_>) -> Result<Self, String> {
        let mut filter = Filter::default();
        let mut at = 2;
        while at < args.len() {
            let value = args.get(at + 1).ok_or("ERR syntax error")?;
            let text = String::from_utf8_lossy(value).into_owned();
            match word(args, at).as_str() {
                "id" => {
                    let id = text.parse().ok().filter(|&id| id > 0);
                    filter.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
                }
                "addr" => filter.peer = Some(text),
                "laddr" => filter.local = Some(text),
                "user" => filter.user = Some(text),
                "type" => match text.to_ascii_lowercase().as_str() {
                    "normal" => filter.subscribed = Some(false),
                    "pubsub" => filter.subscribed = Some(true),
                    "master" | "replica" | "slave" => filter.none = true,
                    _ => return Err(format!("ERR Unknown client type '{text}'")),
                },
                "skipme" => match text.to_ascii_lowercase().as_str() {
                    "yes" => filter.oneself = false,
                    "no" => filter.oneself = true,
                    _ => return Err("ERR syntax error".into()),
                },
                _ => return Err("ERR syntax error".into()),
            }
            at += 2;
        }
        Ok(filter)
    }

    fn fits(&self, client: &Client) -> bool {
        let is = |wanted: &Option<String>, address: &str| wanted.as_ref().is_none_or(|wanted| wanted == address);
        !self.none
            && self.id.is_none_or(|id| id == client.id)
            && self.subscribed.is_none_or(|subscribed| subscribed == client.is_subscribed())
            && is(&self.peer, &client.peer)
            && is(&self.local, &client.local)
            && is(&self.user, client.said.lock().user())
    }
}

/// Of Weir's own clients. The old form names an address, may name the asking client, and answers OK.
fn kill(conn: &mut Conn, args: Args<'_>) {
    let old_form = args.len() == 3;
    let filter = match old_form {
        true => {
            let peer = Some(String::from_utf8_lossy(&args[2]).into_owned());
            Ok(Filter { peer, oneself: true, ..Filter::default() })
        }
        false => Filter::parse(args),
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(text) => return conn.answer_now(|out| write::error(out, text)),
    };
    let own = conn.client.id;
    let others = conn.worker.app.clients.kill(|client| client.id != own && filter.fits(client));
    let oneself = filter.oneself && filter.fits(&conn.client);
    // Whoever ends itself is told so before.
    conn.closing |= oneself;
    let killed = others.len() + usize::from(oneself);
    let answer = move |out: &mut Vec<u8>| match (old_form, killed) {
        (false, _) => write::integer(out, killed as i64),
        (true, 0) => write::error(out, "ERR No such client"),
        (true, _) => write::ok(out),
    };
    let links: Vec<u64> = others.iter().map(|client| client.connection()).filter(|&link| link > 0).collect();
    match &conn.worker.backend {
        Backend::Redis(redis) if !links.is_empty() && redis.upstream().cluster().is_none() => {
            let redis = redis.clone();
            conn.answer_with(async move {
                end_links(&redis, links).await;
                let mut reply = Vec::new();
                answer(&mut reply);
                answer_or_error(Ok(reply))
            });
        }
        _ => conn.answer_now(answer),
    }
}

/// Once a client is told that others are gone, so is what they had subscribed to and waited for at the server. Without the
/// right to end them the links end a moment later.
async fn end_links(redis: &Redis, links: Vec<u64>) {
    let ended = links.into_iter().map(|link| async move {
        let _ = redis.ask(&["CLIENT", "KILL", "ID", &link.to_string()]).await;
    });
    futures_util::future::join_all(ended).await;
}

fn reply(conn: &mut Conn, mode: &str) {
    match mode {
        "on" => {
            conn.muting = Muting::Off;
            conn.replies.mute(false);
            conn.answer_now(write::ok);
        }
        "off" => {
            conn.muting = Muting::All;
            conn.replies.mute(true);
        }
        "skip" if conn.muting != Muting::All => conn.muting = Muting::Next,
        "skip" => {}
        _ => conn.answer_now(|out| write::error(out, "ERR syntax error")),
    }
}

/// NO-EVICT and NO-TOUCH: the server remembers them of a connection.
fn pin(conn: &mut Conn, sub: &str, request: Request<'_>) -> Flow {
    if !conn.enter() {
        return Flow::Wait;
    }
    let (on, no_evict) = (word(request.args, 2) == "on", sub == "no-evict");
    ask(conn, request.args.iter().collect(), move |hold| {
        let held = if no_evict { &mut hold.no_evict } else { &mut hold.no_touch };
        *held = on;
    })
}

/// Such a link is not handed on: nobody takes back what it remembers.
fn ask(conn: &mut Conn, args: OwnedArgs, note: impl FnOnce(&mut Hold) + 'static) -> Flow {
    if let Some(hold) = &mut conn.hold {
        hold.stained = true;
    }
    conn.ask_server(args, note)
}

/// The server tracks what this client reads. Invalidations may be redirected to another client of Weir's, which clients
/// name by the number that CLIENT ID told it.
fn tracking(conn: &mut Conn, request: Request<'_>) -> Flow {
    if !conn.enter() {
        return Flow::Wait;
    }
    let args = request.args;
    let redirect = (3..args.len()).find(|&at| word(args, at) == "redirect").map(|at| at + 1);
    let id = redirect.and_then(|at| std::str::from_utf8(args.get(at)?).ok()?.parse::<u64>().ok());
    let (mode, opts_in) = (word(args, 2), (3..args.len()).any(|at| word(args, at) == "optin"));
    let note = move |redirect| {
        move |hold: &mut Hold| match mode.as_str() {
            "on" => (hold.tracking, hold.opts_in) = (Some(redirect), opts_in),
            "off" => hold.tracking = None,
            _ => {}
        }
    };
    let (Some(at), Some(id)) = (redirect, id) else {
        return ask(conn, args.iter().collect(), note(0));
    };
    let target = conn.worker.app.clients.get(id).map_or(0, |client| client.connection());
    if target == 0 {
        // Redis's words: without a link of its own that client could not be told anything.
        conn.answer_now(|out| write::error(out, "ERR The client ID you want redirect to does not exist"));
        return Flow::Next;
    }
    let target = target.to_string();
    let args = args.iter().enumerate().map(|(index, word)| if index == at { target.as_bytes() } else { word });
    ask(conn, args.collect(), note(id))
}

/// As the server tells it, but for the number of the client that is told.
fn tracking_info(conn: &mut Conn, args: Args<'_>) {
    let redirect = conn.hold.as_ref().and_then(|hold| hold.tracking).filter(|&client| client > 0);
    let args: OwnedArgs = args.iter().collect();
    let way = conn.way().clone();
    conn.answer_with(async move {
        answer_or_error(way.run(args.as_args()).await.map(|reply| match redirect {
            Some(client) => with_redirect(&reply, client),
            None => reply,
        }))
    });
}

fn with_redirect(reply: &[u8], client: u64) -> Vec<u8> {
    const FIELD: &[u8] = b"redirect\r\n:";
    let Some(at) = memchr::memmem::find(reply, FIELD) else { return reply.to_vec() };
    let (before, after) = reply.split_at(at + FIELD.len());
    let rest = &after[memchr::memchr(b'\r', after).unwrap_or(after.len())..];
    [before, client.to_string().as_bytes(), rest].concat()
}

/// Of another client of Weir's, which the upstream knows by another number.
fn unblock(conn: &mut Conn, args: Args<'_>) {
    if args.len() == 4 && !matches!(word(args, 3).as_str(), "timeout" | "error") {
        return conn.answer_now(|out| write::error(out, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = std::str::from_utf8(&args[2]).ok().and_then(|text| text.parse::<i64>().ok());
    let Some(id) = id else {
        return conn.answer_now(|out| write::error(out, "ERR value is not an integer or out of range"));
    };
    let target = u64::try_from(id).ok().and_then(|id| conn.worker.app.clients.get(id));
    let connection = target.map_or(0, |client| client.connection());
    let number = connection.to_string();
    let args: OwnedArgs =
        args.iter().enumerate().map(|(index, word)| if index == 2 { number.as_bytes() } else { word }).collect();
    let way = conn.way().clone();
    conn.answer_with(async move { answer_or_error(way.run(args.as_args()).await) });
}
