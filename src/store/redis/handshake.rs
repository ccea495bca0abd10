//! Makes a connection to the upstream ready for use: protocol version, credentials, database, scripts.

use super::cluster::shared as cluster;
use super::dial;
use super::events::Events;
use super::eviction::Policies;
use super::failure;
use super::listen::Waiters;
use super::master::{Moves, Whereabouts};
use super::scripts::{
    ACQUIRE, ENTER, FILL, IF_PRESENT, INDEX, INVALIDATE, NEXT, NOTE, RELEASE, RENEW, SET_ASIDE, Script,
};
use super::sentinel;
use super::side_key;
use super::subscriber;
use super::talk::{self, Command, Talk};
use super::together::{ACQUIRE_ALL, FILL_ALL, INDEX_ALL};
use super::trust::{self, Mark, Picks, RUN_ID, Standing, Trust};
use crate::config::{self, Address, Place, WhenReplaced};
use crate::resp::frame::Reply;
use crate::resp::write::Protocol;
use crate::store::ends::Ends;
use crate::store::{Credentials, Identity, StoreError};
use crate::transport::Transport;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// What all links of the process share: where the upstream is, and what it said of itself.
#[derive(Debug)]
pub struct Upstream {
    /// How long one command may take.
    pub timeout: Duration,
    config: config::Upstream,
    /// Which server it is at present; `None`: always the one of the configuration.
    master: Option<Arc<Whereabouts>>,
    /// What is known of the nodes, if this is a cluster.
    cluster: Option<Arc<cluster::Shared>>,
    /// For links to a cluster's replicas.
    only_reads: bool,
    /// It is one node of a cluster.
    is_node: bool,
    /// Whether what the upstream holds may be served; of a cluster, all of it.
    trust: Arc<Trust>,
    /// Whether what this server holds may be.
    standing: Standing,
    /// It is a node that is no master of its cluster any more.
    left: watch::Sender<bool>,
    said: Arc<RwLock<Said>>,
    /// Of this upstream, or of all nodes of the cluster.
    policies: Arc<Policies>,
    /// Tells this process's leases from others'.
    process: Arc<str>,
    /// Ends of others' leases, as heard.
    ends: Arc<Ends>,
    /// Why the newest link broke or was not made; empty while all is well.
    failure: Mutex<String>,
    /// What it refused last of the cache protocol.
    refusal: Mutex<String>,
    reconnects: metrics::Counter,
}

/// What the upstream said in the newest handshake.
#[derive(Clone, Debug, Default)]
struct Said {
    version: String,
    /// SHA-1 of each of [`SCRIPTS`], as SCRIPT LOAD answered them.
    hashes: Vec<String>,
    /// Of this upstream, or of all nodes of the cluster.
    links_up: usize,
}

/// The scripts that every handshake loads.
static SCRIPTS: [&Script; 14] = [
    &ACQUIRE,
    &FILL,
    &INVALIDATE,
    &RELEASE,
    &IF_PRESENT,
    &INDEX,
    &ENTER,
    &SET_ASIDE,
    &NEXT,
    &NOTE,
    &RENEW,
    &ACQUIRE_ALL,
    &FILL_ALL,
    &INDEX_ALL,
];

/// A connection attempt, handshake included, may take this long, or `timeout` if that is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

impl Upstream {
    /// As the configuration says; nothing is connected yet.
    pub fn new(config: config::Upstream) -> Self {
        metrics::describe_gauge!("weir_upstream_up", "1 if the upstream is connected");
        let cluster = match &config.place {
            Place::Cluster(seeds) => Some(Arc::new(cluster::Shared::new(seeds.clone(), config.read_from))),
            _ => None,
        };
        let trust: Arc<Trust> = Arc::default();
        Upstream {
            timeout: config.timeout,
            cluster,
            only_reads: false,
            is_node: false,
            standing: Standing::new(trust.clone()),
            trust,
            left: watch::Sender::new(false),
            master: matches!(config.place, Place::Sentinel(_)).then(Arc::default),
            config,
            said: Arc::default(),
            policies: Arc::default(),
            process: format!("{:016x}", fastrand::u64(..)).into(),
            ends: Arc::default(),
            failure: Mutex::default(),
            refusal: Mutex::default(),
            reconnects: metrics::counter!("weir_upstream_reconnects_total"),
        }
    }

    /// What the links to one node of this cluster share. What a node says of itself is said for all of them.
    pub(super) fn of_node(&self, address: Address, only_reads: bool) -> Self {
        Upstream {
            timeout: self.timeout,
            config: config::Upstream { place: Place::Tcp(address), ..self.config.clone() },
            master: None,
            cluster: None,
            only_reads,
            is_node: true,
            trust: self.trust.clone(),
            standing: Standing::new(self.trust.clone()),
            left: watch::Sender::new(false),
            said: self.said.clone(),
            policies: self.policies.clone(),
            process: self.process.clone(),
            ends: self.ends.clone(),
            failure: Mutex::default(),
            refusal: Mutex::default(),
            reconnects: self.reconnects.clone(),
        }
    }

    /// Whether this node is a master of its cluster.
    pub(super) fn note_master(&self, is_master: bool) {
        self.left.send_if_modified(|left| std::mem::replace(left, !is_master) == is_master);
    }

    /// Waits until this node is no master of its cluster any more; why private links must leave it.
    pub(super) async fn leaves(&self) -> StoreError {
        // The sender lives as long as this future.
        let _ = self.left.subscribe().wait_for(|left| *left).await;
        StoreError::Unavailable("the node is no master of the cluster any more".into())
    }

    /// What is known of the nodes; `None`: this is no cluster.
    pub fn cluster(&self) -> Option<&Arc<cluster::Shared>> {
        self.cluster.as_ref()
    }

    /// Begins to follow the master, where sentinels know which server that is. Call it once.
    pub fn follow(&self, runtime: &Handle) {
        if let (Place::Sentinel(sentinels), Some(master)) = (&self.config.place, &self.master) {
            runtime.spawn(sentinel::follow(self.config.clone(), sentinels.clone(), master.clone()));
        }
    }

    /// Begins to hear of the ends of other processes' leases. Call it once, where there are routes.
    pub fn listen(self: &Arc<Self>, runtime: &Handle) {
        runtime.spawn(subscriber::subscribe(self.clone(), Waiters::new(self.clone())));
    }

    /// Begins to pass on what is told on `channel`. Call it once.
    pub fn hear_events(self: &Arc<Self>, channel: &str, to: mpsc::Sender<Bytes>, runtime: &Handle) {
        runtime.spawn(subscriber::subscribe(self.clone(), Events::new(channel, to)));
    }

    /// Begins to look whether a server is another than before, and what then must go. Call it once, before any link is opened.
    pub fn keep_trust(self: &Arc<Self>, picks: Picks, runtime: &Handle) {
        self.trust.begin();
        runtime.spawn(trust::keep(self.clone(), picks));
    }

    /// Whether what a server may have lost is to be dropped, as the configuration says.
    pub fn drops_when_replaced(&self) -> bool {
        self.config.when_replaced == WhenReplaced::Drop
    }

    /// Whether it is known what the upstream is, or that it is away.
    pub fn is_settled(&self) -> bool {
        self.is_known_down() || (self.is_up() && self.trust.is_settled())
    }

    /// Whether what it holds may be served.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Whether what this one server holds may be.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether it is one node of a cluster.
    pub(super) fn is_node(&self) -> bool {
        self.is_node
    }

    /// Every server that takes writes, and one of its slots.
    pub(super) fn servers(self: &Arc<Self>) -> Vec<(Arc<Upstream>, u16)> {
        let Some(shared) = &self.cluster else { return vec![(self.clone(), 0)] };
        let first_slots = shared.topology().first_slots();
        first_slots.into_iter().map(|(address, slot)| (shared.upstream(self, &address, false), slot)).collect()
    }

    /// What its servers do when they are full.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Ends of other processes' leases.
    pub fn ends(&self) -> &Arc<Ends> {
        &self.ends
    }

    /// This process's mark on its leases: 16 digits.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Tells a link when it must leave its server for another.
    pub(super) fn moves(&self) -> Moves {
        Moves::of(self.master.as_deref())
    }

    /// Replies that are errors came. One of them may say that the server takes no writes: then it is no master.
    pub(super) fn note_errors(&self, replies: &[u8]) {
        if self.master.is_some() && memchr::memmem::find(replies, b"-READONLY").is_some() {
            self.doubt_master();
        }
    }

    fn doubt_master(&self) {
        if let Some(master) = &self.master {
            master.doubt();
        }
    }

    async fn dial(&self, moves: &mut Moves) -> Result<Transport, StoreError> {
        let tls = self.config.tls.as_ref();
        if let Some(master) = moves.address().await {
            return dial::address(&master?, tls).await;
        }
        match &self.config.place {
            Place::Unix(path) => dial::socket(path).await,
            Place::Tcp(address) => dial::address(address, tls).await,
            Place::Sentinel(_) | Place::Cluster(_) => {
                Err(StoreError::Unavailable("no one server stands for all".into()))
            }
        }
    }

    /// Whether at least one link is up, and commands can find their node.
    pub fn is_up(&self) -> bool {
        self.said.read().links_up > 0 && self.cluster.as_ref().is_none_or(|cluster| cluster.is_known())
    }

    /// Whether the newest link broke or could not be made, and none has come up since.
    pub(super) fn has_failed(&self) -> bool {
        !self.failure.lock().is_empty()
    }

    /// Whether no link is up, and the newest one broke or could not be made.
    pub(super) fn is_known_down(&self) -> bool {
        self.said.read().links_up == 0 && !self.failure.lock().is_empty()
    }

    /// Where it is, for messages.
    pub fn address(&self) -> String {
        self.config.place.to_string()
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
        if up {
            said.links_up += 1
        } else {
            said.links_up -= 1
        }
        metrics::gauge!("weir_upstream_up").set(if said.links_up > 0 { 1.0 } else { 0.0 });
        let mut failure = self.failure.lock();
        if up && !failure.is_empty() {
            self.reconnects.increment(1);
            tracing::info!(upstream = %self.address(), "upstream is back");
            failure.clear();
        }
    }

    /// Waits until it is known which server it is, at most `limit` long.
    pub(super) async fn found(&self, limit: Duration) -> Result<(), StoreError> {
        let found = tokio::time::timeout(limit, async { self.moves().address().await.transpose() }).await;
        found.unwrap_or(Err(StoreError::Timeout)).map(drop)
    }

    /// What tells, beside its run id, whether a server may be trusted, as far as it can be asked over a connection of this identity.
    fn question_of_trust(&self, identity: &Identity) -> Option<Command> {
        match self.trust.is_on() {
            true if self.is_node => Some(talk::command(&["INFO", "replication"])),
            true if identity.db == self.db() => {
                Some(talk::command(&["HGET", &String::from_utf8_lossy(&side_key::epoch(0)), RUN_ID]))
            }
            _ => None,
        }
    }

    /// A connection was made that carries nothing yet: which process is it to, and may what that holds be served?
    fn meet(&self, commands: &[Command], replies: &[Reply]) {
        let told = |command: &[&str]| {
            let mut exchange = commands.iter().zip(replies);
            exchange.find(|(asked, _)| asked.iter().zip(command).all(|(a, b)| a == b)).map(|(_, reply)| reply)
        };
        let Some(server) = told(&["INFO", "server"]).and_then(Reply::as_bytes) else { return };
        let mark = match (told(&["HGET"]), told(&["INFO", "replication"]).and_then(Reply::as_bytes)) {
            (Some(mark), _) => Mark::of(mark),
            (None, Some(text)) if self.is_node && has_followed_nobody(text) => Mark::OfNobodyElse,
            _ => Mark::Unknown,
        };
        self.standing.meet(&run_id(server), &mark);
    }

    /// A link that may not ask which process it leads to is to carry nothing before one of Weir's own is up, which may.
    fn vouch_for(&self, identity: &Identity) -> Result<(), StoreError> {
        match identity.user.is_none() || !self.trust.is_on() || self.said.read().links_up > 0 {
            true => Ok(()),
            false => Err(StoreError::Unavailable("no link of Weir's own is up".into())),
        }
    }

    /// The upstream refused a step of the cache protocol: then nothing is cached, which must not go unnoticed. The same
    /// refusal is logged once.
    pub(super) fn note_refusal(&self, error: &StoreError) {
        let text = error.reply();
        let mut refusal = self.refusal.lock();
        if *refusal != text {
            let hint = failure::advice(error);
            tracing::warn!(upstream = %self.address(), error = %text, hint, "the upstream refuses what caching needs");
            *refusal = text;
        }
    }

    /// A link broke or could not be made. The same failure is logged once, not at every attempt.
    pub(super) fn note_failure(&self, error: &StoreError) {
        if let Some(master) = &self.master {
            master.miss();
        }
        let text = error.to_string();
        let mut failure = self.failure.lock();
        if *failure != text {
            let hint = failure::advice(error);
            tracing::warn!(upstream = %self.address(), error = %text, hint, "upstream link is down");
            *failure = text;
        }
    }
}

/// Connects and shakes hands, within a time limit. `moves` tells from then on when the server must be left.
pub(super) async fn connect(
    upstream: &Upstream,
    identity: &Identity,
    moves: &mut Moves,
) -> Result<Transport, StoreError> {
    let mut commands = opening_commands(&upstream.config, identity);
    commands.push(talk::command(&["CLIENT", "SETNAME", "weir"]));
    if upstream.only_reads {
        commands.push(talk::command(&["READONLY"]));
    }
    // A replica has its master's scripts.
    if identity.user.is_some() || upstream.only_reads {
        let (stream, _) = within_limit(upstream, &commands, moves).await?;
        upstream.vouch_for(identity)?;
        return Ok(stream);
    }
    commands.extend(SCRIPTS.iter().map(|script| talk::command(&["SCRIPT", "LOAD", script.text])));
    commands.push(talk::command(&["INFO", "server"]));
    commands.extend(upstream.question_of_trust(identity));
    commands.push(talk::command(&["INFO", "memory"]));
    let (stream, replies) = within_limit(upstream, &commands, moves).await?;
    upstream.meet(&commands, &replies);
    let mut said = Said::default();
    for (command, reply) in commands.iter().zip(replies) {
        note_reply(upstream, &mut said, command, reply);
    }
    let mut known = upstream.said.write();
    said.links_up = known.links_up;
    *known = said;
    drop(known);
    Ok(stream)
}

/// The same for a private link, which runs no scripts of ours; answers the connection's number at the server too, or 0
/// if the server does not tell.
pub(super) async fn connect_private(
    upstream: &Upstream,
    identity: &Identity,
    moves: &mut Moves,
) -> Result<(Transport, u64), StoreError> {
    let mut commands = opening_commands(&upstream.config, identity);
    if identity.user.is_none() && upstream.trust.is_on() {
        commands.push(talk::command(&["INFO", "server"]));
        commands.extend(upstream.question_of_trust(identity));
    }
    commands.push(talk::command(&["CLIENT", "ID"]));
    let (stream, replies) = within_limit(upstream, &commands, moves).await?;
    upstream.vouch_for(identity)?;
    upstream.meet(&commands, &replies);
    match replies.last() {
        Some(&Reply::Integer(number)) => Ok((stream, number as u64)),
        _ => Ok((stream, 0)),
    }
}

/// The same as Weir's own user, to look at what the server is and holds.
pub(super) async fn connect_to_look(upstream: &Upstream, identity: &Identity) -> Result<Transport, StoreError> {
    let commands = opening_commands(&upstream.config, identity);
    Ok(within_limit(upstream, &commands, &mut upstream.moves()).await?.0)
}

/// What the server says of a client's credentials now, on a connection that ends with the answer. The inner error is its
/// refusal.
pub(super) async fn try_credentials(
    upstream: &Upstream,
    credentials: &Credentials,
) -> Result<Result<(), String>, StoreError> {
    let ask = async {
        let mut talk = Talk::new(upstream.dial(&mut upstream.moves()).await?);
        talk.exchange(&[talk::command(&["AUTH", &credentials.user, &credentials.password.0])]).await
    };
    let limit = CONNECT_TIMEOUT.max(upstream.timeout);
    let replies = tokio::time::timeout(limit, ask).await.map_err(|_| StoreError::Timeout)??;
    match replies.first() {
        Some(Reply::Error(text)) => Ok(Err(String::from_utf8_lossy(text).into_owned())),
        _ => Ok(Ok(())),
    }
}

async fn within_limit(
    upstream: &Upstream,
    commands: &[Command],
    moves: &mut Moves,
) -> Result<(Transport, Vec<Reply>), StoreError> {
    let limit = CONNECT_TIMEOUT.max(upstream.timeout);
    match tokio::time::timeout(limit, shake_hands(upstream, commands, moves)).await {
        Ok(result) => result,
        Err(_) => {
            // A server that speaks no TLS may wait for the end of the line that it takes our bytes for.
            let way_out = match upstream.config.tls {
                Some(_) => "; if no TLS is spoken there, write `redis://` in place of `rediss://`",
                None => "",
            };
            Err(StoreError::Unavailable(format!("no handshake within {} ms{way_out}", limit.as_millis())))
        }
    }
}

/// Sends `commands` on a new connection. None may fail but those on the connection itself, which a user may lack the
/// right to, and which nothing depends on.
async fn shake_hands(
    upstream: &Upstream,
    commands: &[Command],
    moves: &mut Moves,
) -> Result<(Transport, Vec<Reply>), StoreError> {
    let mut talk = Talk::new(upstream.dial(moves).await?);
    let replies = talk.exchange(commands).await?;
    for (command, reply) in commands.iter().zip(&replies) {
        match reply {
            // Without its mark a server can be served from, if less is known of it.
            Reply::Error(text) if !matches!(command[0].as_str(), "CLIENT" | "HGET") => {
                return Err(talk::refused(command, text));
            }
            reply if command[0] == "ROLE" && !talk::is_master(reply) => {
                upstream.doubt_master();
                return Err(StoreError::Unavailable("the master has become a replica".into()));
            }
            _ => {}
        }
    }
    Ok((talk.into_stream()?, replies))
}

/// HELLO is sent only for RESP3, so that a Redis older than 6 serves RESP2 clients.
fn opening_commands(config: &config::Upstream, identity: &Identity) -> Vec<Command> {
    let mut commands: Vec<Command> = match &identity.user {
        Some(client) => vec![talk::command(&["AUTH", &client.user, &client.password.0])],
        None => talk::auth(config.user.as_deref(), config.password.as_ref()).into_iter().collect(),
    };
    if identity.protocol == Protocol::Resp3 {
        commands.push(talk::command(&["HELLO", "3"]));
    }
    if identity.db != 0 {
        commands.push(talk::command(&["SELECT", &identity.db.to_string()]));
    }
    if let (Place::Sentinel(_), None) = (&config.place, &identity.user) {
        commands.push(talk::command(&["ROLE"]));
    }
    commands
}

fn note_reply(upstream: &Upstream, said: &mut Said, command: &Command, reply: Reply) {
    let Some(text) = reply.as_bytes().map(String::from_utf8_lossy) else { return };
    match (command[0].as_str(), command.get(1).map(String::as_str)) {
        ("SCRIPT", _) => said.hashes.push(text.into_owned()),
        ("INFO", Some("server")) => said.version = info_field(&text, "redis_version"),
        ("INFO", Some("memory")) => {
            upstream.policies.note(&upstream.address(), &info_field(&text, "maxmemory_policy"));
        }
        _ => {}
    }
}

/// The process that INFO SERVER is the answer of; empty: it does not tell.
pub(super) fn run_id(info: &[u8]) -> String {
    info_field(&String::from_utf8_lossy(info), "run_id")
}

/// Whether INFO REPLICATION is that of a master which never was a replica: it has no second replication id.
fn has_followed_nobody(info: &[u8]) -> bool {
    let text = String::from_utf8_lossy(info);
    info_field(&text, "role") == "master" && info_field(&text, "master_replid2").bytes().all(|digit| digit == b'0')
}

fn info_field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_string()
}
