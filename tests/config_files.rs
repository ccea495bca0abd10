//! What valid files come to, and that the files which the project ships are valid and complete.

#![allow(clippy::unwrap_used)] // a test may stop where it stands

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use weir::config::{self, Address, Auth, Config, DatabaseUrl, Encoding, Listen, OnModify, Part, Place, Rows, Secret};

const MANUAL: &str = include_str!("../config/weir.toml");

fn env(name: &str) -> Option<String> {
    match name {
        "WEIR_PASSWORD" => Some("hunter2".into()),
        "DATABASE_URL" => Some("postgres://app:secret@db/shop".into()),
        _ => None,
    }
}

fn valid(toml: &str) -> Config {
    let file = Path::new("/etc/weir/weir.toml");
    config::parse(toml, file, env).unwrap_or_else(|errors| panic!("{}", config::render_all(&errors, "", toml, false)))
}

#[test]
fn an_empty_file_is_a_plain_embedded_store() {
    let config = valid("");
    assert_eq!(config.server.listen, [Listen::Tcp("127.0.0.1:6380".parse().unwrap())]);
    assert_eq!(config.server.admin, "127.0.0.1:9600".parse().unwrap());
    assert!(config.server.workers > 0);
    assert_eq!(config.server.max_clients, 10_000);
    assert!(matches!(config.server.auth, Auth::Nothing) && config.server.tls.is_none());
    assert!(config.upstream.is_none() && config.databases.is_empty() && config.routes.is_empty());
    assert_eq!(config.embedded.max_memory, 256 << 20);
    assert_eq!((config.limits.max_command, config.limits.max_arguments), (512 << 20, 1 << 20));
    assert_eq!((config.limits.max_inline, config.limits.max_command_before_auth), (64 << 10, 16 << 10));
    assert_eq!((config.limits.max_output, config.limits.max_pipeline), (1 << 20, 10_000));
    assert_eq!((config.limits.max_negative, config.limits.max_fill_waiters), (100_000, 10_000));
    assert_eq!((config.limits.max_tags, config.limits.max_missed_invalidations), (128, 100_000));
    assert_eq!((config.limits.max_tags, config.limits.max_waiting_loads), (128, 1024));
    assert_eq!(config.limits.max_near, 64 << 20);
    let (auth, command) = (config.limits.auth_timeout, config.limits.command_timeout);
    let (idle, write) = (config.limits.idle_timeout, config.limits.write_timeout);
    assert_eq!([auth, command, idle, write], [10, 30, 0, 60].map(Duration::from_secs));
}

#[test]
fn a_route_says_less_than_it_means() {
    let config =
        valid("[database.main]\nurl = \"sqlite:a/shop.sqlite\"\n[[route]]\nkey = \"a:b:{id}\"\nload = \"SELECT 1\"\n");
    let database = &config.databases["main"];
    assert_eq!(database.url, DatabaseUrl::Sqlite("/etc/weir/a/shop.sqlite".into()));
    assert_eq!((database.pool, database.timeout, database.prepare), (16, Duration::from_secs(2), true));
    let route = &config.routes[0];
    let load = route.load().unwrap();
    assert_eq!((route.name.as_str(), load.database.as_str()), ("a:b", "main"));
    assert_eq!((load.sql.as_str(), load.parameters.len()), ("SELECT 1", 0));
    assert_eq!((load.rows, load.value, load.on_modify), (Rows::One, Encoding::Json, OnModify::Load));
    assert_eq!((route.ttl, load.negative_ttl), (Duration::from_secs(300), Duration::from_secs(60)));
    assert_eq!((route.jitter, load.max_value), (0.1, 1 << 20));
    assert_eq!((load.load_timeout, route.wait_for_fill()), (Duration::from_secs(2), Duration::ZERO));
    assert_eq!((route.near, load.checks), (Duration::ZERO, config::Checks::default()));
    assert_eq!((route.near, route.sliding), (Duration::ZERO, false));
}

#[test]
fn a_route_without_a_load_takes_only_what_concerns_it() {
    let config = valid(
        "[defaults]\nttl = \"1h\"\njitter = \"5%\"\nrows = \"many\"\nload_timeout = \"1s\"\nwait_for_fill = \"2s\"\n\
         near = \"3s\"\nsliding = true\n[[route]]\nkey = \"report:{*rest}\"\n\
         [[route]]\nkey = \"lock:{id}\"\nttl = \"1m\"\nwait_for_fill = \"0s\"\nsliding = false\n",
    );
    let [report, lock] = &config.routes[..] else { panic!("two routes") };
    assert!(report.load().is_none() && lock.load().is_none() && config.databases.is_empty());
    assert_eq!((report.ttl, report.jitter, report.near), (Duration::from_secs(3600), 0.05, Duration::from_secs(3)));
    assert_eq!((report.wait_for_fill(), lock.wait_for_fill()), (Duration::from_secs(2), Duration::ZERO));
    assert_eq!((report.sliding, lock.sliding), (true, false));
    let both = valid(
        "[database.main]\nurl = \"sqlite:x\"\n[defaults]\nwait_for_fill = \"2s\"\nrows = \"many\"\n\
         [[route]]\nkey = \"a:{x}\"\nload = \"SELECT 1\"\n[[route]]\nkey = \"b:{x}\"\n",
    );
    assert_eq!(both.routes[0].load().unwrap().rows, Rows::Many);
    assert_eq!(both.routes[1].wait_for_fill(), Duration::from_secs(2));
}

#[test]
fn every_key_is_heard() {
    let toml = r#"
[server]
listen = ["0.0.0.0:7000", "[::1]:7000", "tcp:localhost:0", "unix:weir.sock", "unix:/run/weir.sock"]
admin = "0.0.0.0:7001"
workers = 3
max_clients = 4
ready_after_warm = true
password = "env:WEIR_PASSWORD"
[upstream]
url = "redis://app:pw@cache:6390/2"
timeout = "1s"
[embedded]
max_memory = "2MiB"
[database.main]
url = "env:DATABASE_URL"
pool = 5
timeout = "3s"
prepare = false
[database.other]
url = "sqlite:/shop.sqlite"
[defaults]
database = "other"
rows = "many"
value = "msgpack"
ttl = "1h"
jitter = "0%"
negative_ttl = "0s"
max_value = "4KiB"
load_timeout = "1s"
on_modify = "pass"
near = "1s"
[[route]]
key = "a:{x}"
load = "SELECT 1"
[[route]]
name = "second"
key = "b:{x}:{y}:{*z}"
load = "SELECT :z, :x"
database = "main"
rows = "one"
value = "hash"
ttl = "2h"
jitter = "99%"
negative_ttl = "1ms"
max_value = "7B"
load_timeout = "3s"
on_modify = "reject"
near = "250ms"
warm = "SELECT x, y, z FROM b"
[[route]]
key = "c:{x}"
wait_for_fill = "4s"
[limits]
max_command = "1MiB"
max_arguments = 17
max_inline = "1KiB"
max_command_before_auth = "2KiB"
max_output = "3KiB"
max_output_total = "4MiB"
max_query_total = "5MiB"
max_subscriber_output = "6MiB"
max_private_links = 20
max_pipeline = 18
max_negative = 19
max_tags = 20
max_near = "7MiB"
max_fill_waiters = 21
max_missed_invalidations = 22
max_waiting_loads = 23
auth_timeout = "1s"
command_timeout = "2s"
idle_timeout = "3s"
write_timeout = "4s"
"#;
    let config = valid(toml);
    let server = &config.server;
    let addresses = ["0.0.0.0:7000", "[::1]:7000", "127.0.0.1:0"].map(|text| Listen::Tcp(text.parse().unwrap()));
    let sockets = ["/etc/weir/weir.sock", "/run/weir.sock"].map(|path| Listen::Unix(path.into()));
    assert_eq!(server.listen, [&addresses[..], &sockets].concat());
    assert_eq!(server.admin, "0.0.0.0:7001".parse().unwrap());
    assert_eq!((server.workers, server.max_clients, server.ready_after_warm), (3, 4, true));
    assert!(matches!(&server.auth, Auth::Password(Secret(password)) if password == "hunter2"));
    let upstream = config.upstream.as_ref().unwrap();
    assert_eq!((&upstream.place, upstream.db), (&Place::Tcp(Address { host: "cache".into(), port: 6390 }), 2));
    assert!(upstream.tls.is_none());
    assert_eq!((upstream.user.as_deref(), &upstream.password), (Some("app"), &Some(Secret("pw".into()))));
    assert_eq!(upstream.timeout, Duration::from_secs(1));
    assert_eq!(config.embedded.max_memory, 2 << 20);
    let main = &config.databases["main"];
    assert_eq!(main.url, DatabaseUrl::Postgres(Secret("postgres://app:secret@db/shop".into())));
    assert_eq!((main.pool, main.timeout, main.prepare), (5, Duration::from_secs(3), false));
    assert_eq!(&toml[main.origin.0.clone()], "\"env:DATABASE_URL\"");

    let [first, second, third] = &config.routes[..] else { panic!("three routes") };
    let load = first.load().unwrap();
    assert_eq!((first.name.as_str(), load.database.as_str()), ("a", "other"));
    assert_eq!((load.rows, load.value, load.on_modify), (Rows::Many, Encoding::MsgPack, OnModify::Pass));
    assert_eq!((first.ttl, load.negative_ttl), (Duration::from_secs(3600), Duration::ZERO));
    assert_eq!((first.jitter, load.max_value, load.load_timeout), (0.0, 4096, Duration::from_secs(1)));
    let load = second.load().unwrap();
    assert_eq!((second.name.as_str(), load.database.as_str()), ("second", "main"));
    assert_eq!((load.rows, load.value, load.on_modify), (Rows::One, Encoding::Hash, OnModify::Reject));
    assert_eq!((second.ttl, load.negative_ttl), (Duration::from_secs(7200), Duration::from_millis(1)));
    assert_eq!((second.jitter, load.max_value, load.load_timeout), (0.99, 7, Duration::from_secs(3)));
    assert_eq!((first.near, second.near), (Duration::from_secs(1), Duration::from_millis(250)));
    assert_eq!(load.parameters, ["x", "z"], "in the order of the pattern");
    assert_eq!(load.warm.as_ref().map(|warm| warm.sql.as_str()), Some("SELECT x, y, z FROM b"));
    assert_eq!(third.load().is_none().then(|| third.wait_for_fill()), Some(Duration::from_secs(4)));
    assert_eq!(second.key.parts.last(), Some(&Part::Rest("z".into())));
    assert_eq!(&toml[second.key_origin.0.clone()], "\"b:{x}:{y}:{*z}\"");
    assert_eq!(&toml[load.origin.0.clone()], "\"SELECT :z, :x\"");

    let limits = &config.limits;
    assert_eq!((limits.max_command, limits.max_arguments, limits.max_inline), (1 << 20, 17, 1 << 10));
    assert_eq!((limits.max_command_before_auth, limits.max_output), (2 << 10, 3 << 10));
    assert_eq!((limits.max_output_total, limits.max_query_total), (4 << 20, 5 << 20));
    assert_eq!((limits.max_subscriber_output, limits.max_private_links), (6 << 20, 20));
    assert_eq!((limits.max_pipeline, limits.max_negative, limits.max_tags, limits.max_fill_waiters), (18, 19, 20, 21));
    assert_eq!((limits.max_near, limits.max_missed_invalidations, limits.max_waiting_loads), (7 << 20, 22, 23));
}

#[test]
fn a_secret_may_stand_in_a_file_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
    std::fs::write(folder.path().join("weir.toml"), "[server]\npassword = \"file:password\"\n").unwrap();
    let config = config::load(&folder.path().join("weir.toml")).unwrap();
    assert!(matches!(&config.server.auth, Auth::Password(Secret(password)) if password == "s3cret"));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn routes_that_overlap_only_in_part_are_accepted() {
    let keys = ["product:count", "product:{id}", "product:{id}:{x}", "product:{*rest}", "a:{x}:b", "a:b:{y}"];
    let routes = keys
        .iter()
        .enumerate()
        .map(|(n, key)| format!("[[route]]\nname = \"r{n}\"\nkey = {key:?}\nload = \"SELECT 1\"\n"));
    valid(&format!("[database.main]\nurl = \"sqlite:x\"\n{}", routes.collect::<String>()));
}

#[test]
fn the_manual_is_a_valid_file() {
    let config = valid(MANUAL);
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["product", "user", "category", "report"]);
}

/// The manual with every default that it shows as a comment.
fn uncommented() -> String {
    without_prefix(MANUAL, "# ")
}

/// The text with `prefix` taken off every line that is then a key.
fn without_prefix(text: &str, prefix: &str) -> String {
    let bare = |line: &str| {
        let rest = line.strip_prefix(prefix).filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| is_word(key)));
        rest.unwrap_or(line).to_owned()
    };
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn the_manual_shows_the_true_defaults() {
    let (shown, bare) = (valid(&uncommented()), valid(MANUAL));
    let without_places = |config: &Config| {
        let text = format!("{config:?}");
        let mut pieces = text.split("Origin(");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |all, piece| all + piece.split_once(')').unwrap().1)
    };
    assert_eq!(without_places(&shown), without_places(&bare));
}

#[test]
fn the_manual_shows_every_key_of_the_schema_and_no_other() {
    let manual: toml::Table = without_prefix(&uncommented(), "# Example: ").parse().unwrap();
    let mut shown = BTreeSet::new();
    for (section, keys) in &manual {
        let tables: Vec<&toml::Value> = match (section.as_str(), keys) {
            ("database", toml::Value::Table(databases)) => databases.values().collect(),
            (_, toml::Value::Array(routes)) => routes.iter().collect(),
            _ => vec![keys],
        };
        let keys = tables.iter().filter_map(|table| table.as_table()).flat_map(|table| table.keys());
        shown.extend(keys.map(|key| format!("{section}.{key}")));
    }
    // What routes share stands in the manual once, under [[route]].
    let shared: Vec<String> = shown.iter().filter_map(|key| key.strip_prefix("route.").map(str::to_owned)).collect();
    let own = ["name", "key", "load", "warm"];
    shown.extend(shared.iter().filter(|key| !own.contains(&key.as_str())).map(|key| format!("defaults.{key}")));
    assert_eq!(shown, schema_keys());
}

fn schema_keys() -> BTreeSet<String> {
    let schema = config::schema();
    let sections = schema["properties"].as_object().unwrap();
    let keys = |section: &Value| {
        let table =
            [&section["properties"], &section["additionalProperties"]["properties"], &section["items"]["properties"]];
        table.iter().find_map(|properties| properties.as_object()).unwrap().keys().cloned().collect::<Vec<_>>()
    };
    sections
        .iter()
        .flat_map(|(name, section)| keys(section).into_iter().map(move |key| format!("{name}.{key}")))
        .collect()
}

#[test]
fn the_schema_describes_every_key_and_knows_no_null() {
    fn walk(schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(property["description"].is_string(), "{path} has no description");
            assert!(property["type"].is_string(), "{path} has no type");
            walk(property, &path);
            walk(&property["items"], &path);
            walk(&property["additionalProperties"], &path);
        }
    }
    walk(&config::schema(), "");
    assert!(!config::schema().to_string().contains("null"));
    assert_eq!(config::schema()["properties"]["route"]["items"]["required"], serde_json::json!(["key"]));
}
