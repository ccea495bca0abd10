//! Measured consistency: what clients are answered is compared with the database, and what is counted is so.

mod harness;

use harness::*;

over_all_pairs!(
    what_is_as_the_database_has_it_is_equal,
    what_was_changed_behind_weirs_back_is_told_from_what_was_not,
    invalidated_keys_come_out_equal_a_second_later,
    where_it_is_off_nothing_is_asked_of_the_database,
);

/// Every hit is checked.
const HITS: &str = r#"
check_hits = 1
ttl = "1h"
negative_ttl = "1h"
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"
[[route]]
name = "hash"
key = "hash:{id}"
value = "hash"
load = "SELECT id, name, email, visits FROM users WHERE id = :id"
[[route]]
name = "list"
key = "users:{visits}"
rows = "many"
load = "SELECT id, name FROM users WHERE visits = :visits ORDER BY id"
"#;

fn checks(weir: &Weir, route: &str, result: &str, after: &str) -> f64 {
    weir.metric("weir_consistency_checks_total", &[("route", route), ("result", result), ("after", after)])
}

fn skipped(weir: &Weir, reason: &str) -> f64 {
    weir.metric("weir_consistency_checks_skipped_total", &[("reason", reason)])
}

#[track_caller]
fn wait_for_checks(weir: &Weir, route: &str, result: &str, after: &str, count: usize) {
    wait_until(&format!("{count} checks of {route} are {result}, {after}"), || {
        checks(weir, route, result, after) >= count as f64
    });
    assert_eq!(checks(weir, route, result, after), count as f64);
}

fn what_is_as_the_database_has_it_is_equal(pair: Pair) {
    let stack = Stack::start(pair, HITS);
    let (weir, mut client) = (&stack.weir, stack.weir.client());
    for words in ["GET user:1", "GET user:2", "GET user:900", "HGETALL hash:3", "GET users:4", "GET users:999"] {
        client.run(words);
    }
    assert_eq!(weir.metric("weir_lookups_total", &[("outcome", "hit")]), 0.0);
    // A miss is no hit; of the MGET two keys are.
    for (words, route, equal) in [
        ("GET user:1", "user", 1),
        ("STRLEN user:2", "user", 2),
        ("GET user:900", "user", 3),
        ("MGET user:1 user:2 user:5", "user", 5),
        ("MGET user:1 user:2 user:5", "user", 8),
        ("HGETALL hash:3", "hash", 1),
        ("HGET hash:3 name", "hash", 2),
        ("GET users:4", "list", 1),
        ("GET users:999", "list", 2),
    ] {
        client.run(words);
        wait_for_checks(weir, route, "equal", "hit", equal);
    }
    assert_eq!(weir.metric("weir_consistency_checks_total", &[]), 12.0);
    assert_eq!(weir.metric("weir_loads_total", &[("trigger", "check")]), 12.0);
    assert_eq!(weir.metric("weir_consistency_checks_waiting", &[]), 0.0);
}

fn what_was_changed_behind_weirs_back_is_told_from_what_was_not(pair: Pair) {
    let stack = Stack::start(pair, HITS);
    let (weir, mut client) = (&stack.weir, stack.weir.client());
    for words in ["GET user:1", "GET user:2", "GET user:900", "GET user:3", "HGETALL hash:4"] {
        client.run(words);
    }
    stack.database.sql("UPDATE users SET name = 'new' WHERE id IN (1, 4)");
    stack.database.sql("DELETE FROM users WHERE id = 2");
    stack.database.sql("INSERT INTO users VALUES (900, 'late', NULL, 1)");
    for (words, route, result) in [
        ("GET user:1", "user", "stale"),
        ("GET user:2", "user", "extra"),
        ("GET user:900", "user", "missing"),
        ("GET user:3", "user", "equal"),
        ("HGETALL hash:4", "hash", "stale"),
    ] {
        client.run(words);
        wait_for_checks(weir, route, result, "hit", 1);
    }
    wait_until("it is told", || weir.log().contains("clients are answered otherwise than the database has it"));
    assert!(!weir.log().contains("user:1"), "no key: {}", weir.log());
    assert!(client.run("GET user:1").text().contains("user 1"), "it is left as it is");
    wait_for_checks(weir, "user", "stale", "hit", 2);
    assert_eq!(client.run("WEIR REFRESH user:1"), Reply::Int(1));
    assert!(client.run("GET user:1").text().contains("new"));
    wait_for_checks(weir, "user", "equal", "hit", 2);
    // What a client stores is not the database's, and a value of another type was never loaded.
    assert_eq!(client.run("SET user:5 mine"), Reply::ok());
    assert_eq!(client.run("GET user:5"), Reply::bulk("mine"));
    wait_for_checks(weir, "user", "stale", "hit", 3);
    assert_eq!(client.run("SADD hash:999 member"), Reply::Int(1));
    assert_eq!(client.run("EXISTS hash:999"), Reply::Int(1));
    wait_until("it is passed over", || skipped(weir, "absent") == 1.0);
}

fn invalidated_keys_come_out_equal_a_second_later(pair: Pair) {
    let routes = r#"
check_invalidations = 1
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id"
tags = ["visits:{visits}"]
"#;
    let stack = Stack::start(pair, routes);
    let (weir, mut client) = (&stack.weir, stack.weir.client());
    for id in 1..=6 {
        client.run(&format!("GET user:{id}"));
    }
    stack.database.sql("UPDATE users SET name = 'new'");
    assert_eq!(client.run("DEL user:1 user:2"), Reply::Int(2));
    assert_eq!(client.run("WEIR INVALIDATE visits:3 visits:4"), Reply::Int(2));
    assert_eq!(client.run("UNLINK user:5"), Reply::Int(1));
    for id in 1..=4 {
        assert!(client.run(&format!("GET user:{id}")).text().contains("new"));
    }
    wait_for_checks(weir, "user", "equal", "1s", 4);
    wait_until("who is not asked for again is passed over", || skipped(weir, "absent") >= 1.0);
    // No hit, and nothing else: user:6 is old, and nobody has said so.
    assert_eq!(weir.metric("weir_consistency_checks_total", &[("after", "1s")]), 4.0);
    assert_eq!(weir.metric("weir_consistency_checks_total", &[("after", "hit")]), 0.0);
}

fn where_it_is_off_nothing_is_asked_of_the_database(pair: Pair) {
    let routes = r#"
[[route]]
name = "off"
key = "off:{id}"
load = "SELECT id, name FROM users WHERE id = :id /* off */"
[[route]]
name = "on"
key = "on:{id}"
check_hits = 1
load = "SELECT name FROM users WHERE id = :id"
"#;
    let stack = Stack::start(pair, routes);
    let mut client = stack.weir.client();
    for words in ["GET off:1", "GET off:900", "GET on:1"] {
        client.run(words);
    }
    for _ in 0..20 {
        client.run("GET off:1");
        client.run("GET off:900");
    }
    assert_eq!(client.run("DEL off:2"), Reply::Int(0));
    client.run("GET on:1");
    wait_for_checks(&stack.weir, "on", "equal", "hit", 1);
    assert_eq!(stack.weir.metric("weir_consistency_checks_total", &[]), 1.0);
    stack.assert_loads("off", 2);
}

/// Whichever way a key is changed through Weir.
#[test]
fn every_way_of_invalidating_is_checked() {
    let routes = r#"
check_invalidations = 1
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id"
tags = ["visits:{visits}"]
[[route]]
name = "report"
key = "report:{id}"
[invalidation]
channel = "changes"
"#;
    let stack = Stack::start(Pair::RedisSqlite, routes);
    let (weir, mut client) = (&stack.weir, stack.weir.client());
    wait_until("the channel is heard", || weir.metric("weir_invalidation_channel_up", &[]) == 1.0);
    for id in 1..=9 {
        client.run(&format!("GET user:{id}"));
    }
    client.run("UNLINK user:1");
    client.cmd(&["EVAL", "return redis.call('DEL', KEYS[1])", "1", "user:2"]);
    client.run("MULTI");
    client.run("DEL user:3");
    client.run("EXEC");
    client.run("EXPIRE user:4 100");
    client.run("RENAME user:5 nobodys");
    client.run("DEL report:1 other:1");
    let mut other = stack.redis.as_ref().expect("there is a Redis").client();
    assert_eq!(other.cmd(&["PUBLISH", "changes", r#"{"keys": ["user:6"], "tags": ["visits:7"]}"#]), Reply::Int(1));
    wait_until("it is applied", || weir.metric("weir_invalidation_events_total", &[("result", "applied")]) == 1.0);
    client.run("SET user:8 mine");
    for id in 1..=9 {
        client.run(&format!("GET user:{id}"));
    }
    wait_for_checks(weir, "user", "equal", "1s", 7);
    wait_for_checks(weir, "user", "stale", "1s", 1);
    // And once more, later.
    wait_for_checks(weir, "user", "equal", "10s", 7);
    wait_for_checks(weir, "user", "stale", "10s", 1);
}

/// What the client saw was the near value, though the store has another by now.
#[test]
fn of_a_near_hit_the_near_value_is_compared() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let proxy = FaultProxy::start_for(redis.port(), "TRACKING");
    let weir = Weir::start(&format!(
        r#"
[upstream]
url = "redis://127.0.0.1:{}/0"
timeout = "20s"
[database.main]
url = "{}"
[[route]]
name = "text"
key = "text:{{id}}"
value = "text"
near = "1h"
check_hits = 1
load = "SELECT name FROM products WHERE id = :id"
"#,
        proxy.port(),
        database.url()
    ));
    wait_until("the near cache is open", || weir.metric("weir_near_open", &[]) == 1.0);
    let mut client = weir.client();
    let near_hits = || weir.metric("weir_lookups_total", &[("outcome", "near_hit")]);
    wait_until("it is kept near", || {
        assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
        near_hits() >= 1.0
    });
    wait_until("that is equal", || {
        weir.metric("weir_consistency_checks_waiting", &[]) == 0.0 && checks(&weir, "text", "equal", "hit") >= 1.0
    });
    // From here on Weir does not hear of changes, and takes some seconds to find that out.
    proxy.set(Fault::BlackHole);
    database.sql("UPDATE products SET name = 'new' WHERE id = 1");
    assert_eq!(redis.client().run("SET text:1 new EX 100"), Reply::ok());
    assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    wait_for_checks(&weir, "text", "stale", "hit", 1);
}

/// The gate holds checks as it holds loads.
fn gated(database: &Database) -> String {
    format!(
        r#"
check_hits = 1
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM users WHERE id = :id /* slow */"
[[route]]
name = "user"
key = "user:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id"
"#,
        database.held_column(0)
    )
}

#[test]
fn what_changes_during_its_check_is_not_counted() {
    for pair in [Pair::EmbeddedPostgres, Pair::RedisPostgres] {
        let stack = Stack::with(pair, gated);
        let mut client = stack.weir.client();
        client.run("GET slow:1");
        let gate = stack.database.shut_gate();
        client.run("GET slow:1");
        stack.wait_until_loading(1);
        stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
        assert_eq!(client.run("DEL slow:1"), Reply::Int(1));
        drop(gate);
        wait_until("it is given up", || skipped(&stack.weir, "changed") == 1.0);
        assert_eq!(stack.weir.metric("weir_consistency_checks_total", &[]), 0.0);
    }
}

/// Clients come first.
#[test]
fn while_the_database_is_busy_nothing_is_checked() {
    let stack = Stack::with(Pair::EmbeddedPostgres, gated);
    let mut client = stack.weir.client();
    client.run("GET user:1");
    let gate = stack.database.shut_gate();
    let mut others: Vec<Client> = (0..8).map(|_| stack.weir.client()).collect();
    for (id, other) in (1..).zip(&mut others) {
        other.run_later(&format!("GET slow:{id}"));
    }
    stack.wait_until_loading(8);
    client.run("GET user:1");
    wait_until("it is skipped", || skipped(&stack.weir, "busy") == 1.0);
    drop(gate);
    others.iter_mut().for_each(|other| drop(other.recv()));
    wait_until("the database is idle", || {
        client.run("GET user:1");
        checks(&stack.weir, "user", "equal", "hit") >= 1.0
    });
}

/// G8: what waits is bounded, and invalidations do not crowd out hits.
#[test]
fn what_waits_for_its_check_is_bounded() {
    let stack =
        Stack::start(Pair::EmbeddedSqlite, &HITS.replace("check_hits = 1", "check_hits = 1\ncheck_invalidations = 1"));
    let mut client = stack.weir.client();
    client.run("GET user:1");
    let keys: Vec<String> = (0..5_000).map(|id| format!("user:{id}0")).collect();
    assert_eq!(client.run(&format!("DEL {}", keys.join(" "))), Reply::Int(0));
    assert!(skipped(&stack.weir, "queue_full") >= 1.0);
    assert!(stack.weir.metric("weir_consistency_checks_waiting", &[]) <= 3.0 * 4096.0);
    client.run("GET user:1");
    wait_for_checks(&stack.weir, "user", "equal", "hit", 1);
}

/// In a cluster each key is looked at, and refreshed, at its own node.
#[test]
fn keys_of_all_slots_are_checked_and_refreshed() {
    let (cluster, database) = (RedisCluster::start(0), Sqlite::shop());
    let weir = Weir::start(&(servers(Some(&cluster.url()), &database.url()) + HITS));
    let mut client = weir.client();
    let keys: Vec<String> = (1..=8).flat_map(|id| [format!("user:{id}"), format!("hash:{id}")]).collect();
    let read = |client: &mut Client, key: &String| {
        client.run(&format!("{} {key}", if key.starts_with("hash") { "HGETALL" } else { "GET" }))
    };
    keys.iter().for_each(|key| drop(read(&mut client, key)));
    let both = |result: &str| checks(&weir, "user", result, "hit") + checks(&weir, "hash", result, "hit");
    for (count, key) in (1..).zip(&keys) {
        read(&mut client, key);
        wait_until("it is equal", || both("equal") == f64::from(count));
    }
    client.run("MGET user:1 user:2 user:3 user:4");
    wait_until("all of them are", || both("equal") == 20.0);
    database.sql("UPDATE users SET name = 'new'");
    for (count, key) in (1..).zip(&keys) {
        read(&mut client, key);
        wait_until("it is stale", || both("stale") == f64::from(count));
        assert_eq!(client.run(&format!("WEIR REFRESH {key}")), Reply::Int(1));
        read(&mut client, key);
        wait_until("it is equal again", || both("equal") == 20.0 + f64::from(count));
    }
    assert_eq!(client.run("GET user:900"), Reply::Nil);
    assert_eq!(client.run("GET user:900"), Reply::Nil);
    wait_until("absence is seen at its node too", || both("equal") == 37.0);
}

/// What cannot be looked at is told beforehand, and then passed over.
#[test]
fn a_right_that_checks_lack_is_told() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    assert_eq!(redis.client().run("ACL SETUSER weir on >secret ~* &* +@all -hgetall"), Reply::ok());
    let url = format!("redis://weir:secret@127.0.0.1:{}/0", redis.port());
    let config =
        format!("[upstream]\nurl = \"{url}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\n", database.url());
    let config = format!("{config}[defaults]\n{HITS}");
    let told = check(&config);
    assert!(told.code == Some(69) && told.stderr.contains("'hgetall'"), "{told:?}");
    assert!(!check(&config.replace("check_hits = 1", "")).stderr.contains("'hgetall'"));
    let weir = Weir::start(&config);
    let mut client = weir.client();
    for words in ["HGET hash:1 name", "HGET hash:1 name", "GET user:1", "GET user:1"] {
        client.run(words);
    }
    wait_for_checks(&weir, "user", "equal", "hit", 1);
    wait_until("it is passed over", || skipped(&weir, "failed") == 1.0);
}
