//! `[invalidation] channel`: who changes rows behind Weir's back tells which keys and tags that concerns.

mod harness;

use harness::*;

const CHANNEL: &str = "shop:changes";

fn start(redis: &Redis, sqlite: &Sqlite) -> Weir {
    Weir::start(&format!(
        r#"
[upstream]
url = "{}"
timeout = "20s"
[database.main]
url = "{}"
timeout = "20s"
[[route]]
key = "user:{{id}}"
load = "SELECT id, name, visits FROM users WHERE id = :id"
tags = ["visits:{{visits}}"]
ttl = "1h"
negative_ttl = "1h"
[invalidation]
channel = "{CHANNEL}"
"#,
        redis.url(),
        sqlite.url()
    ))
}

fn is_heard(weir: &Weir) {
    wait_until("the channel is heard", || weir.metric("weir_invalidation_channel_up", &[]) == 1.0);
}

fn name(client: &mut Client, id: u64) -> String {
    client.run(&format!("GET user:{id}")).json()["name"].as_str().expect("a user").to_owned()
}

fn events(weir: &Weir, result: &str) -> f64 {
    weir.metric("weir_invalidation_events_total", &[("result", result)])
}

#[test]
fn what_is_told_on_the_channel_is_loaded_again_by_every_proxy() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let proxies = [start(&redis, &sqlite), start(&redis, &sqlite)];
    proxies.iter().for_each(is_heard);
    let mut client = proxies[0].client();
    assert_eq!([1, 2, 3].map(|id| name(&mut client, id)), ["user 1", "user 2", "user 3"]);
    assert_eq!(client.run("GET user:900"), Reply::Nil);
    sqlite.sql("UPDATE users SET name = 'new'; INSERT INTO users VALUES (900, 'late', NULL, 50)");

    let told = redis.client().cmd(&[
        "PUBLISH",
        CHANNEL,
        r#"{"keys": ["user:1", "no such"], "tags": ["visits:3", "visits:50"]}"#,
    ]);
    assert_eq!(told, Reply::Int(2));
    for proxy in &proxies {
        wait_until("it is done", || events(proxy, "applied") == 1.0);
    }
    assert_eq!([1, 2, 3, 900].map(|id| name(&mut client, id)), ["new", "user 2", "new", "late"]);
    let invalidated: f64 = proxies.iter().map(|p| p.metric("weir_invalidations_total", &[("source", "event")])).sum();
    assert_eq!(invalidated, 2.0, "each value was there once");
}

#[test]
fn what_is_not_understood_is_told_and_nothing_else_happens() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis, &sqlite);
    is_heard(&weir);
    let mut publisher = redis.client();
    for message in ["", "user:1", r#"{"key": "user:1"}"#, r#"{"keys": ["user:1"]"#, "\u{0}"] {
        assert_eq!(publisher.cmd(&["PUBLISH", CHANNEL, message]), Reply::Int(1), "{message}");
    }
    wait_until("all are read", || events(&weir, "malformed") == 5.0);
    assert!(weir.log().contains("write {\"keys\"") || weir.log().contains(r#"write {\"keys\""#), "{}", weir.log());
    publisher.cmd(&["PUBLISH", CHANNEL, r#"{"keys": ["user:1"]}"#]);
    wait_until("the next is done", || events(&weir, "applied") == 1.0);
}

#[test]
fn the_channel_is_heard_again_after_the_connection_was_lost() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis, &sqlite);
    is_heard(&weir);
    let mut client = weir.client();
    name(&mut client, 1);
    assert!(redis.client().run("CLIENT KILL TYPE pubsub").int() >= 1);
    wait_until("the loss is told", || weir.log().contains("[invalidation] channel is not heard"));
    is_heard(&weir);
    sqlite.sql("UPDATE users SET name = 'new'");
    wait_until("it is subscribed", || {
        redis.client().cmd(&["PUBLISH", CHANNEL, r#"{"keys": ["user:1"]}"#]) == Reply::Int(1)
    });
    wait_until("the change is seen", || name(&mut client, 1) == "new");
}

/// A Redis that is full drops what it is told to; one that takes no writes at all is not asked for what it holds meanwhile.
#[test]
fn what_is_told_of_is_not_served_while_redis_refuses_to_drop_it() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis, &sqlite);
    is_heard(&weir);
    let (mut client, mut raw) = (weir.client(), redis.client());
    let event = r#"{"keys": ["user:1"], "tags": ["visits:3"]}"#;
    assert_eq!([1, 2, 3].map(|id| name(&mut client, id)), ["user 1", "user 2", "user 3"]);
    sqlite.sql("UPDATE users SET name = 'new'");
    assert_eq!(raw.run("CONFIG SET maxmemory 1"), Reply::ok());
    raw.cmd(&["PUBLISH", CHANNEL, event]);
    wait_until("it is done", || events(&weir, "applied") == 1.0);
    assert_eq!([1, 2, 3].map(|id| name(&mut client, id)), ["new", "user 2", "new"]);

    assert_eq!(raw.run("CONFIG SET maxmemory 0"), Reply::ok());
    assert_eq!([1, 3].map(|id| name(&mut client, id)), ["new", "new"]);
    sqlite.sql("UPDATE users SET name = 'newer'");
    assert_eq!(raw.run("CONFIG SET min-replicas-to-write 1"), Reply::ok());
    raw.cmd(&["PUBLISH", CHANNEL, event]);
    let missed = || weir.metric("weir_missed_invalidations", &[]);
    wait_until("it is remembered", || missed() > 0.0);
    assert_eq!([1, 3].map(|id| name(&mut client, id)), ["newer", "newer"]);
    assert_eq!(raw.run("CONFIG SET min-replicas-to-write 0"), Reply::ok());
    wait_until("it is done", || missed() == 0.0 && events(&weir, "applied") == 2.0);
    assert_eq!([1, 3].map(|id| name(&mut client, id)), ["newer", "newer"]);
    assert!(raw.run("GET user:1").text().contains("newer"), "it is kept again");
}

#[test]
fn a_channel_needs_an_upstream() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weir.toml");
    std::fs::write(&path, "[invalidation]\nchannel = \"c\"\n").expect("the file can be written");
    let checked = run_weir(&["check", path.to_str().expect("a plain path")]);
    assert_eq!(checked.code, Some(78));
    assert!(checked.stderr.contains("add [upstream], or remove this"), "{}", checked.stderr);
}
