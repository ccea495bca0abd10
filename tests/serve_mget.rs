//! MGET keeps its order whatever mixture it meets, asks once for all that is missing, and never nests an error (T45).

mod harness;

use harness::*;

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "product"
key = "product:{{id}}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"

[[route]]
name = "counter"
key = "counter:{{name}}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"

[[route]]
name = "failing"
key = "failing:{{id}}"
load = "SELECT id, {} AS detail FROM products WHERE id = :id /* failing */"
"#,
        database.failing_column()
    )
}

over_all_pairs!(
    forty_misses_of_a_hundred_are_one_statement,
    a_mixture_keeps_its_order,
    a_failed_load_fails_the_whole_command,
    more_keys_than_one_step_takes_are_one_statement,
);

fn names(ids: impl Iterator<Item = u32>) -> Vec<String> {
    ids.map(|id| format!("product:{id}")).collect()
}

fn mget(client: &mut Client, keys: &[String]) -> Reply {
    let words: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    client.cmd(&words)
}

fn forty_misses_of_a_hundred_are_one_statement(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    // Every fifth and every third of five is present: hits and misses alternate.
    let present = names((1..=100).filter(|id| id % 5 != 0 && id % 5 != 3));
    assert_eq!(present.len(), 60);
    mget(&mut client, &present);
    assert_eq!(stack.database.runs("/* product */").unwrap_or(1), 1);
    let reply = mget(&mut client, &names(1..=100));
    for (item, id) in reply.items().iter().zip(1..) {
        assert_eq!(item.json()["id"], id);
    }
    assert_eq!(reply.items().len(), 100);
    assert_eq!(stack.database.runs("/* product */").unwrap_or(2), 2);
    let metrics = stack.weir.metrics();
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "hit")]), 60.0);
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "miss")]), 100.0);
    mget(&mut client, &names(1..=100));
    assert_eq!(stack.database.runs("/* product */").unwrap_or(2), 2, "all are hits now");
}

fn a_mixture_keeps_its_order(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("SET plain text");
    client.run("GET product:2");
    client.run("GET product:998");
    let reply = client.run(
        "MGET counter:a product:1 plain product:2 absent product:998 product:999 product:abc product:1 counter:b counter:none",
    );
    let items = reply.items();
    assert_eq!(items[0], Reply::bulk("10"));
    assert_eq!(items[1].json()["id"], 1);
    assert_eq!(items[2], Reply::bulk("text"));
    assert_eq!(items[3].json()["id"], 2);
    assert_eq!(items[4..8], vec![Reply::Nil; 4]);
    assert_eq!(items[8], items[1], "the same key twice");
    assert_eq!(items[9], Reply::bulk("41"));
    assert_eq!(items[10], Reply::Nil);
}

fn a_failed_load_fails_the_whole_command(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    stack.database.sql("UPDATE products SET detail = 'broken' WHERE id = 3");
    assert!(client.run("MGET product:1 failing:3 product:2").is_error("LOAD "));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "exactly one reply was given");
    assert_eq!(client.run("GET product:1").json()["id"], 1, "others are not spoiled");
}

/// 200 rows, 100 absences, and each tenth key twice.
fn more_keys_than_one_step_takes_are_one_statement(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let mut keys = names(1..=300);
    keys.extend(names((10..=300).step_by(10)));
    for round in 0..2 {
        let reply = mget(&mut client, &keys);
        for (item, id) in reply.items().iter().zip((1..=300).chain((10..=300).step_by(10))) {
            match id <= 200 {
                true => assert_eq!(item.json()["id"], id, "round {round}"),
                false => assert_eq!(*item, Reply::Nil, "round {round}"),
            }
        }
        assert_eq!(reply.items().len(), 330);
        assert_eq!(stack.database.runs("/* product */").unwrap_or(1), 1, "round {round}");
    }
    let metrics = stack.weir.metrics();
    let lookups = |outcome| metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", outcome)]);
    assert_eq!((lookups("miss"), lookups("negative_hit")), (330.0, 110.0));
    if let Some(redis) = &stack.redis {
        let mut raw = redis.client();
        let count = |raw: &mut Client, pattern: &str| raw.run(&format!("KEYS {pattern}")).items().len();
        assert_eq!(count(&mut raw, "product:*"), 200);
        assert_eq!(count(&mut raw, "weir:*none:product:*"), 100);
        assert_eq!(count(&mut raw, "weir:*lease:*"), 0, "every lease was given back");
    }
}

/// What keys may hold is no matter of how many are asked for.
#[test]
fn keys_that_are_loaded_together_are_stored_as_if_each_were_alone() {
    let stack = Stack::start(
        Pair::RedisSqlite,
        r#"
[[route]]
key = "hash:{id}"
load = "SELECT id, name FROM products WHERE id = :id"
value = "hash"
ttl = "1h"

[[route]]
key = "none:{id}"
load = "SELECT id FROM products WHERE id = :id"
negative_ttl = "0s"

[[route]]
key = "big:{id}"
load = "SELECT id, name FROM products WHERE id = :id"
max_value = "8B"
"#,
    );
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    // Two of each kind and more: a step for one is another.
    let reply = client.run("MGET hash:1 none:900 big:1 hash:2 none:901 big:2 none:3 none:4");
    let items = reply.items();
    assert_eq!(items[0..2], vec![Reply::Nil; 2]);
    assert_eq!(items[2].json()["id"], 1);
    assert_eq!(items[7].json()["id"], 4);
    assert_eq!(raw.run("HGET hash:2 name"), Reply::bulk("product 2"));
    assert!(matches!(raw.run("PTTL hash:2"), Reply::Int(1..)));
    assert_eq!(raw.run("EXISTS big:1 big:2 none:900 none:901"), Reply::Int(0));
    assert_eq!(raw.run("EXISTS none:3 none:4"), Reply::Int(2));
    assert_eq!(raw.run("KEYS weir:*:none:9*").items().len(), 0, "no absence is remembered");
    assert_eq!(raw.run("KEYS weir:*lease:*").items().len(), 0, "every lease was given back");
}

/// One key has changed since it was found missing; one script for all says so of that key alone.
#[test]
fn a_key_that_is_written_while_it_is_loaded_with_others_keeps_what_was_written() {
    let stack = Stack::with(Pair::RedisPostgres, |database| {
        let held = database.held_column(500);
        format!(
            "[[route]]\nname = \"slow\"\nkey = \"slow:{{id}}\"\n\
             load = \"SELECT id, name, {held} AS held FROM products WHERE id = :id /* slow */\"\n"
        )
    });
    let mut raw = stack.redis.as_ref().expect("there is a Redis").client();
    let gate = stack.database.shut_gate();
    let (mut reader, mut other) = (stack.weir.client(), stack.weir.client());
    reader.run_later("MGET slow:1 slow:2 slow:3 slow:4 slow:900");
    stack.wait_until_loading(1);
    assert_eq!(other.run("SET slow:2 mine"), Reply::ok());
    other.run("DEL slow:3");
    // Past Weir, so that the lease stands.
    assert_eq!(raw.run("SET slow:4 theirs"), Reply::ok());
    drop(gate);
    assert_eq!(reader.recv().items().len(), 5);
    assert_eq!(raw.run("GET slow:2"), Reply::bulk("mine"));
    assert_eq!(raw.run("EXISTS slow:3"), Reply::Int(0));
    assert_eq!(raw.run("GET slow:4"), Reply::bulk("theirs"));
    assert_eq!(raw.run("GET slow:1").json()["name"], "product 1");
    for (reason, fills) in [("invalidated", 2.0), ("occupied", 1.0)] {
        let refused = [("route", "slow"), ("reason", reason)];
        assert_eq!(stack.weir.metric("weir_fills_refused_total", &refused), fills, "{reason}");
    }
    assert_eq!(raw.run("KEYS weir:*lease:*").items().len(), 0, "every lease was given back");
}

#[test]
fn an_upstream_that_has_forgotten_the_scripts_is_sent_them() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    assert_eq!(raw.run("SCRIPT FLUSH"), Reply::ok());
    assert_eq!(mget(&mut client, &names(1..=3)).items()[2].json()["id"], 3);
    assert_eq!(raw.run("EXISTS product:1 product:2 product:3"), Reply::Int(3));
}

/// Weir's user may not touch one of the keys: the others are stored nevertheless.
#[test]
fn a_right_that_is_missing_for_one_key_is_nothing_to_the_others() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    client.run("PING");
    // All keys but product:2, which is read all the same.
    let rights = "ACL SETUSER default resetkeys ~product:1 ~product:3 ~weir:* ~_weir* %R~product:2";
    assert_eq!(raw.run(rights), Reply::ok());
    let reply = mget(&mut client, &names(1..=3));
    for (item, id) in reply.items().iter().zip(1..) {
        assert_eq!(item.json()["id"], id);
    }
    assert_eq!(raw.run("ACL SETUSER default allkeys"), Reply::ok());
    assert_eq!(raw.run("EXISTS product:1 product:3"), Reply::Int(2));
    assert_eq!(raw.run("EXISTS product:2"), Reply::Int(0));
}
