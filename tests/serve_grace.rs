//! Grace and early refresh: nobody waits for what is there yet, and what is there is never older than it may be. How seldom hot keys
//! are loaded so is shown by `proof_expiry`.

mod harness;

use harness::*;

over_all_pairs!(
    a_stale_value_is_served_at_once_and_refreshed_behind_its_reader,
    while_its_load_fails_a_value_is_served_through_its_grace,
    a_refresh_that_an_invalidation_overtook_stores_nothing,
    what_a_client_stores_behind_a_stale_read_stays,
    ttl_tells_the_fresh_part,
    what_clients_store_is_fresh_for_the_time_that_they_say,
    a_value_whose_row_is_gone_is_gone_after_its_refresh,
);

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "user"
key = "user:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id /* user */"
ttl = "50ms"
jitter = "0%"
grace = "1h"
[[route]]
name = "hash"
key = "hash:{{id}}"
value = "hash"
load = "SELECT id, name FROM users WHERE id = :id /* hash */"
ttl = "50ms"
jitter = "0%"
grace = "1h"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM users WHERE id = :id /* slow */"
ttl = "1ms"
jitter = "0%"
grace = "1h"
[[route]]
name = "failing"
key = "failing:{{id}}"
load = "SELECT {} AS detail FROM products WHERE id = :id /* failing */"
ttl = "1ms"
grace = "1h"
[[route]]
name = "long"
key = "long:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id /* long */"
ttl = "1h"
jitter = "0%"
grace = "10m"
on_modify = "pass"
"#,
        database.held_column(500),
        database.failing_column()
    )
}

fn refreshed(stack: &Stack, route: &str) -> f64 {
    stack.weir.metric("weir_loads_total", &[("route", route), ("trigger", "refresh")])
}

fn a_stale_value_is_served_at_once_and_refreshed_behind_its_reader(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert!(client.run("GET user:1").text().contains("user 1"));
    assert!(client.run("HGETALL hash:1").pairs().contains(&("name".into(), "user 1".into())));
    stack.database.sql("UPDATE users SET name = 'new'");
    wait_until("the time is over", || {
        client.run("PTTL user:1") == Reply::Int(0) && client.run("PTTL hash:1") == Reply::Int(0)
    });
    // Never nil, never waited for; and the next one is new.
    wait_until("the new row is there", || {
        let reply = client.run("GET user:1").text();
        assert!(reply.contains("user 1") || reply.contains("new"), "{reply}");
        reply.contains("new")
    });
    wait_until("a read of a field refreshes too", || client.run("HGET hash:1 name") == Reply::bulk("new"));
    wait_until("they are counted", || refreshed(&stack, "user") >= 1.0 && refreshed(&stack, "hash") >= 1.0);
    let stale = |route| stack.weir.metric("weir_lookups_total", &[("route", route), ("outcome", "stale_hit")]);
    assert!(stale("user") >= 1.0 && stale("hash") >= 1.0);
    let missed = stack.weir.metric("weir_loads_total", &[("route", "user"), ("trigger", "miss")]);
    assert_eq!(missed, 1.0, "only the first reader has waited");
}

fn while_its_load_fails_a_value_is_served_through_its_grace(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET failing:1").json()["detail"], "{}");
    stack.database.sql("UPDATE products SET detail = 'no json' WHERE id = 1");
    let failed = || stack.weir.metric("weir_loads_total", &[("route", "failing"), ("result", "error")]);
    wait_until("its refresh has failed", || {
        assert_eq!(client.run("GET failing:1").json()["detail"], "{}");
        failed() >= 1.0
    });
    for _ in 0..50 {
        assert_eq!(client.run("GET failing:1").json()["detail"], "{}");
    }
    assert!(failed() <= 3.0, "the key is left alone for a while: {} loads", failed());
}

fn a_refresh_that_an_invalidation_overtook_stores_nothing(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert!(client.run("GET slow:2").text().contains("user 2"));
    let gate = stack.database.shut_gate();
    wait_until("it is stale", || client.run("PTTL slow:2") == Reply::Int(0));
    client.run("GET slow:2");
    stack.wait_until_loading(1);
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 2");
    assert_eq!(client.run("DEL slow:2"), Reply::Int(1));
    let mut later = stack.weir.client();
    later.run_later("GET slow:2");
    drop(gate);
    assert!(later.recv().text().contains("new"));
    wait_until("the refresh was refused", || {
        stack.weir.metric("weir_fills_refused_total", &[("route", "slow"), ("reason", "invalidated")]) == 1.0
    });
    assert!(client.run("GET slow:2").text().contains("new"));
}

/// The refresh takes its lease after the SET, which had none to drop.
fn what_a_client_stores_behind_a_stale_read_stays(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let refused = || stack.weir.metric("weir_fills_refused_total", &[("route", "long")]);
    for round in 1..=20 {
        assert_eq!(client.run("SET long:5 old PX 1"), Reply::ok());
        wait_until("it is stale", || client.run("PTTL long:5") == Reply::Int(0));
        let both = [words("GET long:5"), words("SET long:5 new")];
        let replies = client.try_pipeline(&both).expect("an open connection");
        assert_eq!(replies, [Reply::bulk("old"), Reply::ok()]);
        wait_until("its refresh was refused", || refused() == f64::from(round));
        assert_eq!(client.run("GET long:5"), Reply::bulk("new"), "round {round}");
    }
}

fn ttl_tells_the_fresh_part(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let left = client.run("PTTL long:3").int();
    assert!((3_590_000..=3_600_000).contains(&left), "it reads through: {left}");
    assert!(matches!(client.run("TTL long:3"), Reply::Int(3590..=3600)));
    if let Some(raw) = stack.raw("PTTL long:3") {
        assert!(raw.int() > 4_190_000, "in the store it lives through its grace too: {raw:?}");
    }
    assert_eq!(client.run("PTTL long:900"), Reply::Int(-2));
    let state = |client: &mut Client, key: &str| {
        let explained = client.run(&format!("WEIR EXPLAIN {key}")).pairs();
        explained.into_iter().find(|(name, _)| name == "state").expect("a state").1
    };
    assert!(state(&mut client, "long:3").starts_with("present, fresh for another 3"));
    assert_eq!(state(&mut client, "long:900"), "absent, and remembered as a row that is not there");
    client.run("GET user:2");
    wait_until("it is stale", || state(&mut client, "user:2").starts_with("stale, and served for another 3"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs() as i64;
    let until = client.run("EXPIRETIME long:3").int() - now;
    assert!((3_580..=3_610).contains(&until), "{until}");
}

fn what_clients_store_is_fresh_for_the_time_that_they_say(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for (words, least, most) in [
        ("SET long:4 mine EX 100", 95_000, 100_000),
        ("SETEX long:4 100 mine", 95_000, 100_000),
        ("SET long:4 mine", 3_590_000, 3_600_000),
        ("SET long:4 mine EX 999999", 3_590_000, 3_600_000),
        ("EXPIRE long:4 50", 45_000, 50_000),
        ("GETEX long:4 PX 70000", 65_000, 70_000),
        ("SET long:4 1 KEEPTTL", 60_000, 70_000),
        ("INCR long:4", 60_000, 70_000),
        ("PERSIST long:4", 3_590_000, 3_600_000),
    ] {
        client.run(words);
        let left = client.run("PTTL long:4").int();
        assert!((least..=most).contains(&left), "{words}: {left}");
    }
    // It is not taken for stale, and so not for a row of the database.
    client.run("SET long:4 mine EX 100");
    for _ in 0..20 {
        assert_eq!(client.run("GET long:4"), Reply::bulk("mine"));
    }
    stack.assert_loads("long", 0);
}

fn a_value_whose_row_is_gone_is_gone_after_its_refresh(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert!(client.run("GET user:5").text().contains("user 5"));
    stack.database.sql("DELETE FROM users WHERE id = 5");
    wait_until("it is found gone", || client.run("GET user:5") == Reply::Nil);
    stack.database.sql("INSERT INTO users VALUES (5, 'again', NULL, 5)");
    assert_eq!(client.run("DEL user:5"), Reply::Int(0));
    assert!(client.run("GET user:5").text().contains("again"));
}

/// What was heard of a key's life a moment ago is not asked for again behind every read.
#[test]
fn a_key_that_is_read_all_the_time_is_asked_about_now_and_then() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let weir = Weir::start(&format!(
        r#"
[upstream]
url = "{}"
[database.main]
url = "{}"
[[route]]
name = "pen"
key = "pen:{{id}}"
value = "text"
load = "SELECT name FROM products WHERE id = :id"
ttl = "1h"
grace = "10m"
"#,
        redis.url(),
        database.url()
    ));
    let (mut client, mut direct) = (weir.client(), redis.client());
    assert_eq!(client.run("GET pen:1"), Reply::bulk("product 1"));
    for together in [1, 40] {
        wait_until("reads behind which nothing is asked", || {
            direct.run("CONFIG RESETSTAT");
            let found = client.pipeline(&vec![vec!["GET", "pen:1"]; together]);
            assert_eq!(found, vec![Reply::bulk("product 1"); together]);
            assert_eq!(direct.calls("get"), together as u64);
            direct.calls("pttl") == 0
        });
    }
    // Though others have shortened its life, it is found due a little later.
    database.sql("UPDATE products SET name = 'new' WHERE id = 1");
    assert_eq!(direct.run("PEXPIRE pen:1 599000"), Reply::Int(1));
    wait_until("it is refreshed", || client.run("GET pen:1") == Reply::bulk("new"));
    assert_eq!(weir.metric("weir_loads_total", &[("route", "pen"), ("trigger", "refresh")]), 1.0);
    wait_until("another moment has passed", || {
        direct.run("CONFIG RESETSTAT");
        client.run("GET pen:1");
        direct.calls("pttl") > 0
    });
}
