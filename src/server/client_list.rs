//! CLIENT LIST and CLIENT INFO: Weir's own clients, each as Redis would show it.
//!
//! What a client without a link of its own does, Weir knows. Of one that has, the upstream knows more: that it is blocked,
//! what it is subscribed to, what it has queued; its CLIENT LIST is asked for those links, and its words are passed on.

use super::buffers::Buffer;
use super::clients::Client;
use super::conn::Conn;
use super::own::answer_or_error;
use crate::resp::args::Args;
use crate::resp::command::COMMANDS;
use crate::resp::frame::{self, Reply};
use crate::resp::write::{self, Protocol};
use crate::store::Backend;
use std::collections::HashMap;
use std::sync::Arc;

/// Which clients are shown.
enum Picked {
    Id(Vec<u64>),
    /// `Some(true)`: subscribers.
    All(Option<bool>),
    /// All of Weir's clients are others.
    None,
}

impl Picked {
    /// Errors are Redis's.
    fn parse(args: Args<'_>) -> Result<Self, String> {
        let words: Vec<String> =
            args.from(2).iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => Ok(Picked::All(None)),
            ["type", "normal"] => Ok(Picked::All(Some(false))),
            ["type", "pubsub"] => Ok(Picked::All(Some(true))),
            ["type", "master" | "replica" | "slave"] => Ok(Picked::None),
            ["type", other] => Err(format!("ERR Unknown client type '{other}'")),
            ["id", ids @ ..] if !ids.is_empty() => {
                let ids = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
                ids.map(Picked::Id).map_err(|_| "ERR Invalid client ID".into())
            }
            _ => Err("ERR syntax error".into()),
        }
    }

    fn fits(&self, client: &Client) -> bool {
        match self {
            Picked::Id(ids) => ids.contains(&client.id),
            Picked::All(subscribed) => subscribed.is_none_or(|subscribed| subscribed == client.is_subscribed()),
            Picked::None => false,
        }
    }
}

/// CLIENT LIST.
pub fn list(conn: &mut Conn, args: Args<'_>) {
    match Picked::parse(args) {
        Ok(picked) => {
            let clients = conn.worker.app.clients.all();
            let clients = clients.into_iter().filter(|client| picked.fits(client)).collect();
            answer(conn, clients, "client|list");
        }
        Err(text) => conn.answer_now(|out| write::error(out, text)),
    }
}

/// CLIENT INFO.
pub fn info(conn: &mut Conn) {
    answer(conn, vec![conn.client.clone()], "client|info");
}

/// `asked`: what the asking client is doing.
fn answer(conn: &mut Conn, clients: Vec<Arc<Client>>, asked: &'static str) {
    let (protocol, own, app) = (conn.protocol(), conn.client.id, conn.worker.app.clone());
    let connections: Vec<u64> = clients.iter().map(|client| client.connection()).filter(|&id| id > 0).collect();
    let lines = move |told: &HashMap<u64, String>| {
        let of_link = |id| app.clients.of_connection(id).map_or(-1, |client| client.id as i64);
        clients.iter().fold(String::new(), |text, client| {
            let command = (client.id == own).then_some(asked);
            text + &line(client, command, told.get(&client.connection()).map(String::as_str), of_link)
        })
    };
    let Backend::Redis(redis) = &conn.worker.backend else {
        return conn.answer_now(|out| write::verbatim(out, protocol, lines(&HashMap::new())));
    };
    // In a cluster each node has numbers of its own.
    if connections.is_empty() || redis.upstream().cluster().is_some() {
        return conn.answer_now(|out| write::verbatim(out, protocol, lines(&HashMap::new())));
    }
    let redis = redis.clone();
    conn.answer_with(async move {
        let ids = connections.iter().map(u64::to_string);
        let words: Vec<String> = ["CLIENT", "LIST", "ID"].map(String::from).into_iter().chain(ids).collect();
        // Without its answer the list is still true, and says less.
        let told = redis.ask(&words).await.ok().map(|reply| read(&reply)).unwrap_or_default();
        let mut reply = Vec::new();
        write::verbatim(&mut reply, protocol, lines(&told));
        answer_or_error(Ok(reply))
    });
}

/// The upstream's lines, by their number.
fn read(reply: &[u8]) -> HashMap<u64, String> {
    let Ok(Reply::Bulk(text)) = frame::decode(reply, 2) else { return HashMap::new() };
    let text = String::from_utf8_lossy(&text);
    let by_number = text.lines().filter_map(|line| Some((field(line, "id")?.parse().ok()?, line.to_owned())));
    by_number.collect()
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// One line of CLIENT LIST, with Redis 7's fields in their order. What nobody measures is 0. `told` is the upstream's
/// line of the client's own link; `of_link` finds a client by the number of its link.
fn line(client: &Client, command: Option<&str>, told: Option<&str>, of_link: impl Fn(u64) -> i64) -> String {
    let said = client.said.lock();
    let told = |name, otherwise| told.and_then(|line| field(line, name)).unwrap_or(otherwise);
    let command = command.unwrap_or_else(|| told("cmd", last_command(client)));
    // 0: tracking is on, and nobody else is told.
    let redirect = match told("redir", "-1").parse() {
        Ok(link @ 1..) => of_link(link),
        Ok(0) => 0,
        _ => -1,
    };
    format!(
        "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} qbuf={} \
         qbuf-free=0 argv-mem=0 multi-mem={} rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem=0 events=r cmd={command} user={} \
         redir={redirect} resp={} lib-name={} lib-ver={}\n",
        client.id,
        client.peer,
        client.local,
        said.words().name,
        client.age(),
        client.idle(),
        told("flags", "N"),
        said.db,
        told("sub", "0"),
        told("psub", "0"),
        told("ssub", "0"),
        told("multi", "-1"),
        told("watch", "0"),
        client.held(Buffer::Query),
        told("multi-mem", "0"),
        client.held(Buffer::Output),
        said.user(),
        if said.protocol == Protocol::Resp3 { 3 } else { 2 },
        said.words().library,
        said.words().library_version,
    )
}

/// As the command table names it.
fn last_command(client: &Client) -> &'static str {
    COMMANDS.get(usize::from(client.last_command())).map_or("NULL", |spec| spec.name)
}
