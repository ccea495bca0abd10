//! The file as written: sections and keys, none of them validated, each with its place.
//!
//! No `tag` and no `flatten`: serde buffers through both and loses the places. That is why the keys which `[defaults]`
//! shares with `[[route]]` stand twice. The doc comments of the fields are the descriptions in the JSON schema.

use super::one_in::OneIn;
use super::setting::{At, Setting};
use super::shares::Share;
use super::sizes::Size;
use super::{Encoding, OnModify, ReadFrom, Rows, WhenReplaced};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::time::Duration;

/// Weir: a caching proxy between Redis clients, Redis and SQL databases.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Where clients and operators connect.
    pub server: Server,
    /// The Redis behind Weir. Leave the section out for the embedded store.
    #[schemars(with = "Option<Upstream>")]
    pub upstream: Option<Spanned<Upstream>>,
    /// The store inside Weir, used when there is no [upstream].
    pub embedded: Embedded,
    /// The SQL databases, each under a name of its own: [database.main].
    #[schemars(with = "BTreeMap<String, Database>")]
    pub database: BTreeMap<String, Spanned<Database>>,
    /// Any key of a route but name, key, load and warm: what routes that do not say otherwise use, as far as it concerns them.
    pub defaults: Defaults,
    /// Which keys, and what is said of them: which statement answers them, or how long clients' own values may live. The
    /// first route that matches a key wins.
    #[schemars(with = "Vec<Route>")]
    pub route: Vec<Spanned<Route>>,
    /// What others tell of changes.
    pub invalidation: Invalidation,
    /// Bounds on what a client may ask.
    pub limits: Limits,
}

/// `[server]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where Redis clients connect: address:port, or unix:PATH. Default: ["127.0.0.1:6380"].
    pub listen: Option<Setting<Vec<At<String>>>>,
    /// Address for metrics and health checks over HTTP. Default: "127.0.0.1:9600".
    pub admin: Option<Setting<String>>,
    /// Worker threads; 0 is one per core. Default: 0.
    pub workers: Option<Setting<usize>>,
    /// Most clients at once. Default: 10000.
    pub max_clients: Option<Setting<usize>>,
    /// What clients must give to AUTH: the password, "env:NAME" or "file:PATH".
    /// Default: none, and then only loopback may connect.
    pub password: Option<Setting<String>>,
    /// A file of users, each with a password and rights of its own, instead of one password. Default: none.
    pub users: Option<Setting<String>>,
    /// "upstream": the upstream checks what clients give to AUTH, and keeps their rights. Default: Weir checks it.
    pub auth: Option<Setting<String>>,
    /// Whether /readyz waits until `warm` of every route is done. Default: false.
    pub ready_after_warm: Option<Setting<bool>>,
    /// Certificate and key: every address of `listen` then speaks TLS, but those written as tcp:address:port.
    #[schemars(with = "Option<Tls>")]
    pub tls: Option<Spanned<Tls>>,
}

/// The file that `[server] users` names.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UsersFile {
    /// The users, each under its name: [user.app].
    #[schemars(with = "BTreeMap<String, User>")]
    pub user: BTreeMap<String, Spanned<User>>,
}

/// `[user.NAME]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// "sha256:HEX", "env:NAME" or "file:PATH".
    pub password: Option<Setting<String>>,
    /// Several of them: any will do.
    pub passwords: Option<Setting<Vec<At<String>>>>,
    /// Whether any password will do. Default: false.
    pub nopass: Option<Setting<bool>>,
    /// Redis's words, in order: "+@all", "-@dangerous", "+get", "-flushall", "+config|get". Default: all.
    pub commands: Option<Setting<Vec<At<String>>>>,
    /// Redis's patterns: "~product:*", "%R~stats:*", "%W~log:*". Default: all.
    pub keys: Option<Setting<Vec<At<String>>>>,
    /// Patterns of channels. Default: all.
    pub channels: Option<Setting<Vec<At<String>>>>,
    /// Whether commands that may write are taken from it. Default: false.
    pub read_only: Option<Setting<bool>>,
    /// Whether it may run scripts though its commands, keys or channels are limited. Danger: what a script does is not
    /// checked. Default: false.
    pub scripts: Option<Setting<bool>>,
    /// Whether it may connect. Default: true.
    pub enabled: Option<Setting<bool>>,
}

/// `[server] tls`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["cert", "key"]))]
pub struct Tls {
    /// Weir's certificate and those between it and its authority: a file in PEM.
    pub cert: Option<Setting<String>>,
    /// The certificate's private key: a file in PEM.
    pub key: Option<Setting<String>>,
    /// Certificates of authorities: clients must show a certificate that one of them has signed. Default: none is asked for.
    pub client_ca: Option<Setting<String>>,
}

/// `[upstream]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Upstream {
    /// redis://[user[:password]@]host[:port][/database], rediss://, redis+unix://, redis-sentinel://,
    /// redis-cluster://, "env:NAME" or "file:PATH".
    pub url: Option<Setting<String>>,
    /// How long one command may take. Default: "250ms".
    pub timeout: Option<Setting<Duration>>,
    /// Who answers plain reads in a cluster: "master" or "replica". Default: "master".
    pub read_from: Option<Setting<ReadFrom>>,
    /// What becomes of keys that can be loaded again once the server is another than before: "drop" or "keep". Default: "drop".
    pub when_replaced: Option<Setting<WhenReplaced>>,
    /// Certificates for rediss://, rediss-sentinel:// and rediss-cluster://. Default: the system's authorities, no client certificate.
    #[schemars(with = "UpstreamTls")]
    pub tls: Option<Spanned<UpstreamTls>>,
    /// User for AUTH at the sentinels. Default: none.
    pub sentinel_user: Option<Setting<String>>,
    /// Password for AUTH at the sentinels, "env:NAME" or "file:PATH". Default: none.
    pub sentinel_password: Option<Setting<String>>,
}

/// `[upstream] tls`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM file of the authorities that may have signed the upstream's certificate. Default: the system's.
    pub ca: Option<Setting<String>>,
    /// PEM file of the client certificate, with its chain. Default: none is shown.
    pub cert: Option<Setting<String>>,
    /// PEM file of the client certificate's private key.
    pub key: Option<Setting<String>>,
    /// What the upstream's certificate is made out to. Default: the host that is connected to.
    pub server_name: Option<Setting<String>>,
}

/// `[embedded]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    /// Most memory for keys and values; the least used make way. Default: "256MiB".
    pub max_memory: Option<Setting<Size>>,
}

/// `[database.NAME]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Database {
    /// postgres://user@host/name or sqlite:PATH, "env:NAME" or "file:PATH".
    pub url: Option<Setting<String>>,
    /// Most connections, and so the most loads at once. Default: 16.
    pub pool: Option<Setting<usize>>,
    /// The longest a statement or a connection attempt may take. Default: "2s".
    pub timeout: Option<Setting<Duration>>,
    /// Whether to use named prepared statements; false behind PgBouncer in transaction mode. Default: true.
    pub prepare: Option<Setting<bool>>,
}

/// `[defaults]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// The [database.NAME] that loads run on. Default: the only one there is.
    pub database: Option<Setting<String>>,
    /// "one": an object, no row is "not found"; "many": an array, perhaps empty. Default: "one".
    pub rows: Option<Setting<Rows>>,
    /// How rows are written: "json", "msgpack", "hash" (for HGETALL) or "text" (one column as it is). Default: "json".
    pub value: Option<Setting<Encoding>>,
    /// The longest a value is fresh. Default: "5m".
    pub ttl: Option<Setting<Duration>>,
    /// Each TTL is shortened by a random share up to this. Default: "10%".
    pub jitter: Option<Setting<Share>>,
    /// How long "no such row" is remembered; "0s": not. Default: "60s".
    pub negative_ttl: Option<Setting<Duration>>,
    /// Larger values are served, not cached. Default: "1MiB".
    pub max_value: Option<Setting<Size>>,
    /// A load is cancelled after this. Default: the database's timeout.
    pub load_timeout: Option<Setting<Duration>>,
    /// What INCR, APPEND, HSET … do on an absent key: "load", "pass" or "reject". Default: "load".
    pub on_modify: Option<Setting<OnModify>>,
    /// Names under which many keys can be invalidated at once: "products", "category:{category_id}"; what stands in braces
    /// is a part of the key or a column. Default: none.
    pub tags: Option<Setting<Vec<At<String>>>>,
    /// How long after its TTL a value may still be served, at once while one load refreshes it, and when that load fails;
    /// "0s": not at all. Default: "0s".
    pub grace: Option<Setting<Duration>>,
    /// How eagerly a value is refreshed before its TTL is over: XFetch's beta; 0: not. Default: 0.
    pub early_refresh: Option<Setting<f64>>,
    /// One in so many hits is compared with what the database has; 0: none. Default: 0.
    pub check_hits: Option<Setting<OneIn>>,
    /// The key of one in so many invalidations is compared with what the database has 1, 10 and 60 seconds later; 0: none.
    /// Default: 0.
    pub check_invalidations: Option<Setting<OneIn>>,
    /// Whether a read of a key renews its TTL. Default: false.
    pub sliding: Option<Setting<bool>>,
    /// How long Weir may keep what it has read in its own memory; "0s": it keeps nothing. Default: "0s".
    pub near: Option<Setting<Duration>>,
    /// Without `load`: the first read of an absent key is answered nil, and others wait this long for its client's SET; "0s":
    /// they do not wait. Default: "0s".
    pub wait_for_fill: Option<Setting<Duration>>,
}

/// `[[route]]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["key"]))]
pub struct Route {
    /// Label in metrics and errors. Default: the pattern's literal head without its last colon.
    pub name: Option<Setting<String>>,
    /// Which keys, as in "product:{id}": {x} matches anything but a colon, {*x} the rest.
    pub key: Option<Setting<String>>,
    /// The statement, with parts of the key as named parameters: "SELECT … WHERE id = :id". Default: none, the applications
    /// fill these keys themselves.
    pub load: Option<Setting<String>>,
    /// A statement whose columns are named like the key's parts: those keys are loaded at start. Default: none.
    pub warm: Option<Setting<String>>,
    /// The [database.NAME] that the load runs on. Default: the only one there is.
    pub database: Option<Setting<String>>,
    /// "one": an object, no row is "not found"; "many": an array, perhaps empty. Default: "one".
    pub rows: Option<Setting<Rows>>,
    /// How rows are written: "json", "msgpack", "hash" (for HGETALL) or "text" (one column as it is). Default: "json".
    pub value: Option<Setting<Encoding>>,
    /// The longest a value is fresh. Default: "5m".
    pub ttl: Option<Setting<Duration>>,
    /// Each TTL is shortened by a random share up to this. Default: "10%".
    pub jitter: Option<Setting<Share>>,
    /// How long "no such row" is remembered; "0s": not. Default: "60s".
    pub negative_ttl: Option<Setting<Duration>>,
    /// Larger values are served, not cached. Default: "1MiB".
    pub max_value: Option<Setting<Size>>,
    /// A load is cancelled after this. Default: the database's timeout.
    pub load_timeout: Option<Setting<Duration>>,
    /// What INCR, APPEND, HSET … do on an absent key: "load", "pass" or "reject". Default: "load".
    pub on_modify: Option<Setting<OnModify>>,
    /// Names under which many keys can be invalidated at once: "products", "category:{category_id}"; what stands in braces
    /// is a part of the key or a column. Default: none.
    pub tags: Option<Setting<Vec<At<String>>>>,
    /// How long after its TTL a value may still be served, at once while one load refreshes it, and when that load fails;
    /// "0s": not at all. Default: "0s".
    pub grace: Option<Setting<Duration>>,
    /// How eagerly a value is refreshed before its TTL is over: XFetch's beta; 0: not. Default: 0.
    pub early_refresh: Option<Setting<f64>>,
    /// One in so many hits is compared with what the database has; 0: none. Default: 0.
    pub check_hits: Option<Setting<OneIn>>,
    /// The key of one in so many invalidations is compared with what the database has 1, 10 and 60 seconds later; 0: none.
    /// Default: 0.
    pub check_invalidations: Option<Setting<OneIn>>,
    /// Whether a read of a key renews its TTL. Default: false.
    pub sliding: Option<Setting<bool>>,
    /// How long Weir may keep what it has read in its own memory; "0s": it keeps nothing. Default: "0s".
    pub near: Option<Setting<Duration>>,
    /// Without `load`: the first read of an absent key is answered nil, and others wait this long for its client's SET; "0s":
    /// they do not wait. Default: "0s".
    pub wait_for_fill: Option<Setting<Duration>>,
}

impl Route {
    /// Takes from `[defaults]` what the route does not say itself, and what concerns a route of its kind.
    pub fn inherit(&mut self, defaults: &Defaults) {
        or(&mut self.ttl, &defaults.ttl);
        or(&mut self.jitter, &defaults.jitter);
        or(&mut self.tags, &defaults.tags);
        or(&mut self.sliding, &defaults.sliding);
        or(&mut self.near, &defaults.near);
        match self.load {
            Some(_) => self.inherit_for_load(defaults),
            None => or(&mut self.wait_for_fill, &defaults.wait_for_fill),
        }
    }

    /// All that `[defaults]` says, whatever kind of route it is for.
    pub fn of_defaults(defaults: &Defaults) -> Self {
        let mut route = Route::default();
        route.inherit(defaults);
        route.inherit_for_load(defaults);
        route
    }

    fn inherit_for_load(&mut self, defaults: &Defaults) {
        or(&mut self.database, &defaults.database);
        or(&mut self.rows, &defaults.rows);
        or(&mut self.value, &defaults.value);
        or(&mut self.negative_ttl, &defaults.negative_ttl);
        or(&mut self.max_value, &defaults.max_value);
        or(&mut self.load_timeout, &defaults.load_timeout);
        or(&mut self.on_modify, &defaults.on_modify);
        or(&mut self.grace, &defaults.grace);
        or(&mut self.early_refresh, &defaults.early_refresh);
        or(&mut self.check_hits, &defaults.check_hits);
        or(&mut self.check_invalidations, &defaults.check_invalidations);
    }
}

fn or<T: Clone>(own: &mut Option<T>, default: &Option<T>) {
    if own.is_none() {
        own.clone_from(default);
    }
}

/// `[invalidation]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Invalidation {
    /// A channel of the upstream on which others tell what they have changed: {"keys": [...], "tags": [...]}. Default: none.
    pub channel: Option<Setting<String>>,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of one command. Default, and the most: "512MiB".
    pub max_command: Option<Setting<Size>>,
    /// Most arguments of one command. Default: 1048576.
    pub max_arguments: Option<Setting<usize>>,
    /// Most bytes of one inline command. Default: "64KiB".
    pub max_inline: Option<Setting<Size>>,
    /// Most bytes of one command before AUTH. Default: "16KiB".
    pub max_command_before_auth: Option<Setting<Size>>,
    /// Most bytes of unsent replies of one client before Weir stops reading its commands. Default: "1MiB".
    pub max_output: Option<Setting<Size>>,
    /// Most bytes of unsent replies of all clients before those with the most are closed. Default: "1GiB".
    pub max_output_total: Option<Setting<Size>>,
    /// Most bytes of unanswered commands of all clients before those with the most are closed. Default: "1GiB".
    pub max_query_total: Option<Setting<Size>>,
    /// Most bytes of messages that wait for one subscriber before it is closed. Default: "32MiB".
    pub max_subscriber_output: Option<Setting<Size>>,
    /// Most links to the upstream that serve one client each (MULTI, SUBSCRIBE, BLPOP …). Default: 10000.
    pub max_private_links: Option<Setting<usize>>,
    /// Most commands of one client in flight. Default: 10000.
    pub max_pipeline: Option<Setting<usize>>,
    /// Most negative entries that one process keeps. Default: 100000.
    pub max_negative: Option<Setting<usize>>,
    /// Most tags of one key; a value with more is served, not cached. Default: 128.
    pub max_tags: Option<Setting<usize>>,
    /// Most memory of the near cache. Default: "64MiB".
    pub max_near: Option<Setting<Size>>,
    /// Most reads of one process that wait for a client's SET at once (wait_for_fill). Default: 10000.
    pub max_fill_waiters: Option<Setting<usize>>,
    /// Most keys and tags of which one process remembers that Redis has missed their invalidation. Default: 100000.
    pub max_missed_invalidations: Option<Setting<usize>>,
    /// Most loads of one process that wait for a free connection of one database. Default: 1024.
    pub max_waiting_loads: Option<Setting<usize>>,
    /// How long a new client may take for the TLS handshake, and how long until AUTH where that is asked for. Default: "10s".
    pub auth_timeout: Option<Setting<Duration>>,
    /// How long a command may take to arrive once it has begun. Default: "30s".
    pub command_timeout: Option<Setting<Duration>>,
    /// How long a client may ask nothing; "0s": for ever. Default: "0s".
    pub idle_timeout: Option<Setting<Duration>>,
    /// How long a client may take no byte of its replies. Default: "60s".
    pub write_timeout: Option<Setting<Duration>>,
}
