//! Makes a connection to the upstream ready for use: TCP, protocol version, credentials, database, scripts.

use super::scripts::{ACQUIRE, FILL, IF_PRESENT, INVALIDATE, Script};
use crate::config;
use crate::resp::frame::{self, Reply};
use crate::resp::scan::ReplyScanner;
use crate::resp::write::{self, Protocol};
use crate::store::{Identity, StoreError};
use crate::transport::Transport;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What all links of the process share: where the upstream is, and what it said of itself.
#[derive(Debug)]
pub struct Upstream {
    /// How long one command may take.
    pub timeout: Duration,
    config: config::Upstream,
    links_up: AtomicUsize,
    said: RwLock<Said>,
    reconnects: metrics::Counter,
}

/// What the upstream said in the newest handshake.
#[derive(Clone, Debug, Default)]
struct Said {
    version: String,
    /// SHA-1 of each of [`SCRIPTS`], as SCRIPT LOAD answered them.
    hashes: Vec<String>,
    failure: String,
}

/// The scripts that every handshake loads.
static SCRIPTS: [&Script; 4] = [&ACQUIRE, &FILL, &INVALIDATE, &IF_PRESENT];

/// A connection attempt, handshake included, may take this long, or `timeout` if that is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The handshake's replies are short; one longer than this is not a Redis.
const MOST_HANDSHAKE: usize = 64 << 10;

impl Upstream {
    /// As the configuration says; nothing is connected yet.
    pub fn new(config: config::Upstream) -> Self {
        metrics::describe_gauge!("weir_upstream_up", "1 if the upstream is connected");
        Upstream {
            timeout: config.timeout,
            config,
            links_up: AtomicUsize::new(0),
            said: RwLock::default(),
            reconnects: metrics::counter!("weir_upstream_reconnects_total"),
        }
    }

    /// Whether at least one link is up.
    pub fn is_up(&self) -> bool {
        self.links_up.load(Relaxed) > 0
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    /// The number of the Redis database that the links have selected.
    pub fn db(&self) -> u32 {
        self.config.db
    }

    /// `redis_version` of the newest handshake; empty before the first.
    pub fn version(&self) -> String {
        self.said.read().version.clone()
    }

    /// The hash of a script, once any link has been up.
    pub fn hash_of(&self, script: &'static Script) -> Option<String> {
        let index = SCRIPTS.iter().position(|&known| std::ptr::eq(known, script))?;
        self.said.read().hashes.get(index).cloned()
    }

    /// A link came up, or went down after it had been up.
    pub(super) fn note_link(&self, up: bool) {
        // Under the lock: two workers' links go down together, and the last to count must be the last to tell.
        let mut said = self.said.write();
        let links = if up { self.links_up.fetch_add(1, Relaxed) + 1 } else { self.links_up.fetch_sub(1, Relaxed) - 1 };
        metrics::gauge!("weir_upstream_up").set(if links > 0 { 1.0 } else { 0.0 });
        if up && !said.failure.is_empty() {
            self.reconnects.increment(1);
            tracing::info!(upstream = %self.address(), "upstream is back");
            said.failure.clear();
        }
    }

    /// A link broke or could not be made. The same failure is logged once, not at every attempt.
    pub(super) fn note_failure(&self, error: &StoreError) {
        let text = error.to_string();
        let mut said = self.said.write();
        if said.failure != text {
            tracing::warn!(upstream = %self.address(), error = %text, "upstream link is down");
            said.failure = text;
        }
    }
}

/// Connects and shakes hands, within a time limit.
pub(super) async fn connect(upstream: &Upstream, identity: &Identity) -> Result<Transport, StoreError> {
    let mut commands = opening_commands(&upstream.config, identity);
    commands.push(words(&["CLIENT", "SETNAME", "weir"]));
    if identity.user.is_some() {
        return Ok(within_limit(upstream, &commands).await?.0);
    }
    commands.extend(SCRIPTS.iter().map(|script| words(&["SCRIPT", "LOAD", script.text])));
    commands.push(words(&["INFO", "server"]));
    let (stream, replies) = within_limit(upstream, &commands).await?;
    let mut said = Said::default();
    for (command, reply) in commands.iter().zip(replies) {
        note_reply(&mut said, command, reply);
    }
    let mut known = upstream.said.write();
    said.failure = std::mem::take(&mut known.failure);
    *known = said;
    drop(known);
    Ok(stream)
}

/// The same for a private link, which runs no scripts of ours; answers the connection's number at the server too, or 0
/// if the server does not tell.
pub(super) async fn connect_private(upstream: &Upstream, identity: &Identity) -> Result<(Transport, u64), StoreError> {
    let mut commands = opening_commands(&upstream.config, identity);
    commands.push(words(&["CLIENT", "ID"]));
    let (stream, replies) = within_limit(upstream, &commands).await?;
    match replies.last() {
        Some(&Reply::Integer(number)) => Ok((stream, number as u64)),
        _ => Ok((stream, 0)),
    }
}

async fn within_limit(upstream: &Upstream, commands: &[Vec<String>]) -> Result<(Transport, Vec<Reply>), StoreError> {
    let limit = CONNECT_TIMEOUT.max(upstream.timeout);
    match tokio::time::timeout(limit, shake_hands(upstream, commands)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("no handshake within {} ms", limit.as_millis()))),
    }
}

/// Sends `commands` on a new connection. None may fail but those on the connection itself, which a user may lack the
/// right to, and which nothing depends on.
async fn shake_hands(upstream: &Upstream, commands: &[Vec<String>]) -> Result<(Transport, Vec<Reply>), StoreError> {
    let mut stream = dial(&upstream.config).await?;
    let mut bytes = Vec::new();
    for command in commands {
        write::command(&mut bytes, command.iter());
    }
    stream.write_all(&bytes).await.map_err(unreachable)?;
    let replies = read_replies(&mut stream, commands.len()).await?;
    for (command, reply) in commands.iter().zip(&replies) {
        if let (Reply::Error(text), false) = (reply, command[0] == "CLIENT") {
            let text = String::from_utf8_lossy(text);
            return Err(StoreError::Refused(format!("{} answered {text}", command[0])));
        }
    }
    Ok((stream, replies))
}

async fn dial(config: &config::Upstream) -> Result<Transport, StoreError> {
    let stream = TcpStream::connect((config.host.as_str(), config.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(Transport::Tcp(stream))
}

/// HELLO is sent only for RESP3, so that a Redis older than 6 serves RESP2 clients.
fn opening_commands(config: &config::Upstream, identity: &Identity) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    match (&identity.user, &config.user, &config.password) {
        (Some(client), ..) => commands.push(words(&["AUTH", &client.user, &client.password.0])),
        (None, Some(user), Some(password)) => commands.push(words(&["AUTH", user, &password.0])),
        (None, None, Some(password)) => commands.push(words(&["AUTH", &password.0])),
        _ => {}
    }
    if identity.protocol == Protocol::Resp3 {
        commands.push(words(&["HELLO", "3"]));
    }
    if identity.db != 0 {
        commands.push(words(&["SELECT", &identity.db.to_string()]));
    }
    commands
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn note_reply(said: &mut Said, command: &[String], reply: Reply) {
    match (command[0].as_str(), reply.as_bytes()) {
        ("SCRIPT", Some(hash)) => said.hashes.push(String::from_utf8_lossy(hash).into_owned()),
        ("INFO", Some(text)) => said.version = info_field(&String::from_utf8_lossy(text), "redis_version"),
        _ => {}
    }
}

fn info_field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_string()
}

async fn read_replies(stream: &mut Transport, count: usize) -> Result<Vec<Reply>, StoreError> {
    let mut scanner = ReplyScanner::new(16);
    let mut replies = Vec::new();
    let mut bytes = Vec::new();
    let (mut begun, mut scanned) = (0, 0);
    while replies.len() < count {
        let progress = scanner.advance(&bytes[scanned..]).map_err(|error| StoreError::Protocol(error.to_string()))?;
        scanned += progress.consumed;
        if progress.complete {
            let reply =
                frame::decode(&bytes[begun..scanned], 16).map_err(|error| StoreError::Protocol(error.to_string()))?;
            begun = scanned;
            replies.push(reply);
            continue;
        }
        if progress.consumed > 0 {
            continue;
        }
        if bytes.len() > MOST_HANDSHAKE {
            return Err(StoreError::Protocol("the handshake's replies are too long for a Redis".into()));
        }
        if stream.read_buf(&mut bytes).await.map_err(unreachable)? == 0 {
            return Err(StoreError::Unavailable("the upstream closed the connection during the handshake".into()));
        }
    }
    Ok(replies)
}

fn unreachable(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
