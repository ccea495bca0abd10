//! The configuration, validated: what the other floors may rely on.
//!
//! `parse` turns a TOML file into [`Config`] or into errors that name file, line and column and say what to write
//! instead. Nothing above this floor sees a raw string where a type can say more.
//!
//! The way of a file: `raw` is what serde reads, `setting` one value with its place, `keys` finds unknown keys, the
//! other modules each know the rules of one kind of value, and `parse` walks through them. It knows nothing of live
//! databases: whether a statement prepares is found above, and told with [`Diagnostic::at`].

mod choices;
mod context;
pub mod database_url;
pub mod demo;
pub mod diagnostic;
pub mod durations;
mod keys;
mod listen;
mod one_in;
mod parse;
pub mod pattern;
mod raw;
mod redact;
mod routes;
mod schema;
mod secret;
mod server;
mod setting;
pub mod shadow;
pub mod shares;
pub mod sizes;
pub mod sql;
pub mod tags;
mod tls;
mod upstream;
mod upstream_tls;
mod upstream_url;
mod users;

pub use diagnostic::{Diagnostic, Source, render_all};
pub use parse::{load, parse};
pub use schema::{schema, users_schema};
pub use tags::{TagPart, TagPattern};

use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[upstream]`; `None`: the embedded store.
    pub upstream: Option<Upstream>,
    /// `[embedded]`.
    pub embedded: Embedded,
    /// `[database.NAME]`.
    pub databases: BTreeMap<String, Database>,
    /// `ttl` of `[defaults]`, for what is tagged under no route; default 5 min.
    pub default_ttl: Duration,
    /// `[[route]]`, in the order of the file: the first that matches wins.
    pub routes: Vec<Route>,
    /// `[invalidation] channel`: on which others tell what they have changed; default none.
    pub invalidation_channel: Option<String>,
    /// `[limits]`.
    pub limits: Limits,
}

/// A string that must not be shown: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// `[server]`: where clients and operators connect.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where RESP clients connect; default `127.0.0.1:6380`.
    pub listen: Vec<Listen>,
    /// Admin HTTP; default `127.0.0.1:9600`.
    pub admin: SocketAddr,
    /// Worker threads; never 0 here (0 in the file: one per core).
    pub workers: usize,
    /// Most clients at once; default 10,000.
    pub max_clients: usize,
    /// Who may connect.
    pub auth: Auth,
    /// For the places of `listen` that speak TLS.
    pub tls: Option<Tls>,
    /// Clients are sent here only once `warm` of every route is done; default: at once.
    pub ready_after_warm: bool,
}

impl Server {
    /// Whether whoever connects to this place over the network would be served without having proved who it is. Only
    /// loopback is, then (protected mode).
    pub fn is_open(&self, place: &Listen) -> bool {
        let certified = matches!(place, Listen::Tls(_)) && self.tls.as_ref().is_some_and(|tls| tls.asks_clients);
        matches!(self.auth, Auth::Nothing) && !certified && !matches!(place, Listen::Unix(_))
    }
}

/// A place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Plain TCP.
    Tcp(SocketAddr),
    /// TLS over TCP.
    Tls(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl Listen {
    /// Address and port, where it has them.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listen::Tcp(address) | Listen::Tls(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }
}

/// As people are told of it.
impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Tls(address) => write!(f, "{address} (TLS)"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What clients must give to AUTH.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nothing; then only loopback and unix sockets may connect.
    Nothing,
    /// `[server] password`.
    Password(Secret),
    /// `[server] users`: the name and password of one of them.
    Users(Users),
    /// `[server] auth = "upstream"`: what the upstream asks for.
    Upstream,
}

/// `[server] users`: a file of its own.
#[derive(Clone, Debug)]
pub struct Users {
    /// Name and text of the file, for errors found later.
    pub source: Arc<Source>,
    /// In the order of their names.
    pub users: Vec<User>,
    /// Where the file is named.
    pub origin: Origin,
}

/// `[user.NAME]`. What is `None` is left out of the file, and allows all.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name; `default` is who connects without AUTH, if it has `nopass`.
    pub name: String,
    /// SHA-256 of each of its passwords.
    pub passwords: Vec<[u8; 32]>,
    /// Any password will do.
    pub nopass: bool,
    /// Whether it may connect at all; default true.
    pub enabled: bool,
    /// Whether commands that may write are taken from it; default false.
    pub read_only: bool,
    /// Whether it may run scripts though not all keys, channels and commands are its own; default false.
    pub scripts: bool,
    /// Redis's words, in order: `+@all`, `-@dangerous`, `+get`, `+config|get`.
    pub commands: Option<Vec<Word>>,
    /// Which keys.
    pub keys: Option<Vec<KeyRule>>,
    /// Patterns of channels.
    pub channels: Option<Vec<String>>,
}

/// A word of the file, with its place.
#[derive(Clone, Debug)]
pub struct Word {
    /// As written.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// A pattern of keys, as Redis writes it: `~p`, `%R~p`, `%W~p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    /// The pattern alone.
    pub pattern: String,
    /// Keys that match may be read.
    pub reads: bool,
    /// Keys that match may be written.
    pub writes: bool,
}

/// `[server] tls`, its files read.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What a handshake needs.
    pub config: Arc<rustls::ServerConfig>,
    /// Whether clients must show a certificate of a known authority.
    pub asks_clients: bool,
}

/// `[upstream]`: the Redis behind us.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The place of the URL in the file.
    pub origin: Origin,
    /// Where to find it.
    pub place: Place,
    /// TLS towards all servers of the place; `None`: in clear.
    pub tls: Option<UpstreamTls>,
    /// Database number of the URL; default 0.
    pub db: u32,
    /// User of the URL, for AUTH.
    pub user: Option<String>,
    /// Password of the URL, for AUTH.
    pub password: Option<Secret>,
    /// How long one command may take; default 250 ms.
    pub timeout: Duration,
    /// Who answers plain reads, in a cluster; default the masters.
    pub read_from: ReadFrom,
    /// What becomes of its keys of routes with `load` once it is another server than before; default: they are dropped.
    pub when_replaced: WhenReplaced,
}

/// What is done with a server that was restarted, or has taken another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenReplaced {
    /// It may lack invalidations: what can be loaded again is dropped.
    Drop,
    /// It is taken to hold all that was acknowledged.
    Keep,
}

/// Which nodes of a cluster answer plain reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The slot's master.
    Master,
    /// One of its replicas, if it has any; they may lag.
    Replica,
}

/// Where the Redis behind us is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this address (`redis`, `rediss`).
    Tcp(Address),
    /// Behind this socket, an absolute path (`redis+unix`).
    Unix(PathBuf),
    /// Wherever the sentinels say that the master is (`redis-sentinel`, `rediss-sentinel`).
    Sentinel(Sentinels),
    /// On the nodes of a cluster, of which these are known beforehand; never empty (`redis-cluster`, `rediss-cluster`).
    Cluster(Vec<Address>),
}

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The sentinels of a `redis-sentinel` URL, and whom to ask them for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// Those known beforehand; never empty. They tell of the others.
    pub addresses: Vec<Address>,
    /// The master's name in the sentinels' configuration.
    pub name: String,
    /// User for AUTH at the sentinels, which have users of their own.
    pub user: Option<String>,
    /// Password for AUTH at the sentinels.
    pub password: Option<Secret>,
}

/// TLS towards the upstream: whom to trust, and with which certificate to come.
#[derive(Clone)]
pub struct UpstreamTls {
    /// Authorities and client certificate, read when the configuration was.
    pub client: Arc<rustls::ClientConfig>,
    /// What servers' certificates must be made out to; `None`: the host that is connected to.
    pub server_name: Option<ServerName<'static>>,
}

/// `[embedded]`: the store inside Weir.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Most bytes of keys and values, with the store's own overhead; default 256 MiB.
    pub max_memory: usize,
}

/// `[database.NAME]`.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name in the file.
    pub name: String,
    /// Which database, and where.
    pub url: DatabaseUrl,
    /// Connections at most: also the cap on concurrent loads; default 16.
    pub pool: usize,
    /// The longest a statement or a connection attempt may take; default 2 s.
    pub timeout: Duration,
    /// Named prepared statements; `false` behind PgBouncer in transaction mode; default true.
    pub prepare: bool,
    /// Where the section's `url` stands in the file, for errors found later.
    pub origin: Origin,
}

/// The kinds of database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `postgres://user:password@host:port/name?sslmode=…&sslrootcert=…`, as libpq reads it. Holds secrets.
    Postgres(Secret),
    /// `sqlite:PATH`, relative to the folder of the configuration file.
    Sqlite(PathBuf),
}

/// A place in the configuration file: byte range. Empty where the key was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin(pub Range<usize>);

/// `[[route]]` with `[defaults]` applied.
#[derive(Clone, Debug)]
pub struct Route {
    /// Metric label; default: the pattern's literal head without its last ':'.
    pub name: String,
    /// Which keys.
    pub key: Pattern,
    /// The longest a value is fresh; default 5 min.
    pub ttl: Duration,
    /// Each TTL is shortened by a random share up to this, in `[0, 1)`; default 0.1.
    pub jitter: f64,
    /// Who fills its keys.
    pub filler: Filler,
    /// Under which names its keys can be invalidated together; default none.
    pub tags: Vec<TagPattern>,
    /// Whether a read of a key renews its TTL; default false.
    pub sliding: bool,
    /// How long an entry of the near cache lives at most; zero, the default: there is none.
    pub near: Duration,
    /// Where `key` stands in the file.
    pub key_origin: Origin,
}

/// Who fills the keys of a route.
#[derive(Clone, Debug)]
pub enum Filler {
    /// Weir, from a database: the route has a `load`.
    Load(Load),
    /// The applications themselves (cache-aside).
    Clients {
        /// How long a read of an absent key waits for another client's SET; zero, the default: not at all.
        wait_for_fill: Duration,
    },
}

impl Route {
    /// Its `load`, if it has one.
    pub fn load(&self) -> Option<&Load> {
        match &self.filler {
            Filler::Load(load) => Some(load),
            Filler::Clients { .. } => None,
        }
    }

    /// How long a read of one of its absent keys waits for a client's SET; zero: not at all.
    pub fn wait_for_fill(&self) -> Duration {
        match &self.filler {
            Filler::Load(_) => Duration::ZERO,
            Filler::Clients { wait_for_fill } => *wait_for_fill,
        }
    }
}

/// `load`, and what is said of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the `[database.NAME]` that it runs on.
    pub database: String,
    /// SQL with named parameters, each of them a part of the pattern.
    pub sql: String,
    /// The names of its parameters, each once, in the order of the pattern.
    pub parameters: Vec<String>,
    /// One row or many; default one.
    pub rows: Rows,
    /// How rows are written; default JSON.
    pub value: Encoding,
    /// How long "no such row" is remembered; zero: not; default 60 s.
    pub negative_ttl: Duration,
    /// Larger values are served and not stored, in bytes; default 1 MiB.
    pub max_value: usize,
    /// A load is cancelled after this; default: the database's `timeout`.
    pub load_timeout: Duration,
    /// What INCR, APPEND, HSET … do on an absent key; default load.
    pub on_modify: OnModify,
    /// How long after its TTL a value may still be served; default zero.
    pub grace: Duration,
    /// XFetch's beta; zero, the default: no early refresh.
    pub early_refresh: f64,
    /// Which of its keys are compared with the database.
    pub checks: Checks,
    /// Where the statement stands in the file.
    pub origin: Origin,
    /// Which keys are loaded at start; `None`, the default: none.
    pub warm: Option<Warm>,
}

/// Which keys of a route are compared with the database, to measure how consistent they are: one in so many, by chance; 0, the
/// default: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Of those that clients are answered from what is stored, near or remembered as absent.
    pub hits: u32,
    /// Of those that are changed through this process.
    pub invalidations: u32,
}

/// `warm`: a statement without parameters, whose columns are named like the key's parts.
#[derive(Clone, Debug)]
pub struct Warm {
    /// It.
    pub sql: String,
    /// Where it stands in the file.
    pub origin: Origin,
}

/// A key pattern: literals and parts that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As written.
    pub text: String,
    /// In order; no two parameters without a literal between them.
    pub parts: Vec<Part>,
}

/// One piece of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Literal(String),
    /// `{name}`: one or more bytes other than ':'.
    Segment(String),
    /// `{*name}`: one or more bytes of any kind; only as the last part.
    Rest(String),
}

/// How many rows a `load` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// An object; no row is "not found", more than one is an error.
    One,
    /// An array, perhaps empty.
    Many,
}

/// How rows are written into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An object, or an array of them, in the column order of the statement.
    Json,
    /// The same as MessagePack.
    MsgPack,
    /// A Redis hash, one field a column; a NULL column has no field. Only with [`Rows::One`].
    Hash,
    /// One column as it is. Only with [`Rows::One`].
    Text,
}

/// What a command that needs the old value does on an absent routed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnModify {
    /// Load it first.
    Load,
    /// Run it on the absent key, as Redis would.
    Pass,
    /// Refuse it.
    Reject,
}

/// `[limits]`: bounds on what a client may ask of Weir.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of one command; default 512 MiB.
    pub max_command: usize,
    /// Most arguments of one command; default 1,048,576.
    pub max_arguments: usize,
    /// Most bytes of one inline command; default 64 KiB, as in Redis.
    pub max_inline: usize,
    /// Most bytes of one command before AUTH; default 16 KiB.
    pub max_command_before_auth: usize,
    /// Most bytes that one client's unsent replies may hold before Weir stops reading its commands; default 1 MiB.
    pub max_output: usize,
    /// Most bytes that all clients' unsent replies may hold before those with the most are closed; default 1 GiB.
    pub max_output_total: usize,
    /// Most bytes that all clients' unanswered commands may hold before those with the most are closed; default 1 GiB.
    pub max_query_total: usize,
    /// Most bytes of messages, invalidations and MONITOR's lines that wait for one client before it is closed; default
    /// 32 MiB.
    pub max_subscriber_output: usize,
    /// Most links to the upstream that serve one client each; default 10,000.
    pub max_private_links: usize,
    /// Most commands of one client in flight before Weir stops reading more; default 10,000.
    pub max_pipeline: usize,
    /// Most negative entries that one Weir process keeps alive; default 100,000.
    pub max_negative: usize,
    /// Most tags of one key; default 128.
    pub max_tags: usize,
    /// Most bytes of the near cache, with what holding its keys and values costs; default 64 MiB.
    pub max_near: usize,
    /// Most reads of one Weir process that wait for a client's SET at once; default 10,000.
    pub max_fill_waiters: usize,
    /// Most keys and tags of which one process remembers that the upstream has missed their invalidation; default 100,000.
    pub max_missed_invalidations: usize,
    /// Most loads of one Weir process that wait for a turn at one database; default 1,024.
    pub max_waiting_loads: usize,
    /// The longest until a client has shaken hands and, where it must, given AUTH; default 10 s.
    pub auth_timeout: Duration,
    /// The longest from a command's first byte to its last; default 30 s.
    pub command_timeout: Duration,
    /// The longest that a client may ask nothing; zero, the default: for ever.
    pub idle_timeout: Duration,
    /// The longest that a client may take no byte of its replies; default 60 s.
    pub write_timeout: Duration,
}
