//! An invalidation beats every load that began before it (G1, T1, T2).
//!
//! For each way to change a key, one timeline:
//! 1. client A asks for a cold key; its load has read the old row and is not done,
//! 2. the row is changed in the database,
//! 3. client B changes the key through Weir and has the reply,
//! 4. client B asks for the key: it must neither wait for A's load nor ever see its row,
//! 5. A's load ends: its row is not stored.

mod harness;

use harness::*;
use std::sync::atomic::{AtomicBool, Ordering};

over_all_pairs!(
    a_get_after_an_invalidation_never_sees_the_old_row,
    a_set_during_a_load_stays,
    a_negative_load_that_an_insert_overtook_is_not_remembered,
);

#[test]
fn scripts_invalidate_as_commands_do() {
    for pair in [Pair::RedisSqlite, Pair::RedisPostgres] {
        let stack = Stack::with(pair, routes);
        for (id, way) in (1..).zip([
            vec!["EVAL", "return redis.call('DEL', KEYS[1])", "1", "KEY"],
            vec!["EVAL", "redis.call('SET', KEYS[1], 'x') return redis.call('DEL', KEYS[1])", "1", "KEY"],
        ]) {
            overtake(&stack, id, &way);
        }
    }
}

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM products WHERE id = :id /* slow */"
negative_ttl = "1h"
ttl = "1h"
"#,
        database.held_column(500)
    )
}

/// `KEY` stands for the routed key.
fn in_words(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

fn a_get_after_an_invalidation_never_sees_the_old_row(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let ways = [
        "DEL KEY",
        "DEL other KEY",
        "UNLINK KEY",
        "EXPIRE KEY 0",
        "PEXPIRE KEY -1",
        "GETDEL KEY",
        "FLUSHDB",
        "FLUSHALL",
    ];
    for (id, way) in (1..).zip(ways) {
        overtake(&stack, id, &in_words(way));
    }
    if pair.has_postgres() {
        let refused = stack.weir.metric("weir_fills_total", &[("route", "slow"), ("result", "refused")]);
        // GETDEL first makes the key present, and so waits for the old load instead of overtaking it.
        assert!(refused >= ways.len() as f64 - 1.0, "only {refused} fills met the fence");
    }
}

/// The timeline of this file's head.
#[track_caller]
fn overtake(stack: &Stack, id: u32, way: &[&str]) {
    let key = format!("slow:{id}");
    let way: Vec<String> =
        way.iter().map(|word| if *word == "KEY" { key.clone() } else { (*word).to_owned() }).collect();
    let (mut a, mut b) = (stack.weir.client(), stack.weir.client());
    let gate = stack.database.shut_gate();
    a.cmd_later(&["GET", &key]);
    stack.wait_until_loading(1);
    stack.database.sql(&format!("UPDATE products SET name = 'new' WHERE id = {id}"));
    let waits_for_the_load = way[0] == "GETDEL";
    if waits_for_the_load {
        b.cmd_later(&way);
        drop(gate);
        b.recv();
        b.cmd_later(&["GET", &key]);
    } else {
        let reply = b.cmd(&way);
        assert!(!matches!(reply, Reply::Error(_)), "{way:?}: {reply:?}");
        b.cmd_later(&["GET", &key]);
        if gate.is_some() {
            // The new load runs although the old one is still there: B has not joined it.
            stack.wait_until_loading(2);
        }
        drop(gate);
    }
    assert_eq!(b.recv().json()["name"], "new", "after {way:?}");
    let old_or_new = a.recv().json()["name"].as_str().expect("a name").to_owned();
    assert!(old_or_new == "new" || old_or_new == format!("product {id}"), "{old_or_new}");
    assert_eq!(b.cmd(&["GET", &key]).json()["name"], "new", "after {way:?}, once both loads have ended");
    assert_eq!(a.cmd(&["GET", &key]).json()["name"], "new", "after {way:?}, for the first client too");
}

fn a_set_during_a_load_stays(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let ways = [
        "SET KEY mine",
        "SET KEY mine EX 500",
        "SETEX KEY 500 mine",
        "MSET other x KEY mine",
        "PSETEX KEY 500000 mine",
        "RENAME source KEY",
    ];
    for (id, way) in (1..).zip(ways) {
        let key = format!("slow:{id}");
        let way = way.replace("KEY", &key);
        let (mut a, mut b) = (stack.weir.client(), stack.weir.client());
        assert_eq!(b.run("SET source mine"), Reply::ok());
        let gate = stack.database.shut_gate();
        a.cmd_later(&["GET", &key]);
        stack.wait_until_loading(1);
        let reply = b.run(&way);
        assert!(!matches!(reply, Reply::Error(_)), "{way}: {reply:?}");
        assert_eq!(b.cmd(&["GET", &key]), Reply::bulk("mine"), "after {way}, while the load runs");
        drop(gate);
        a.recv();
        assert_eq!(b.cmd(&["GET", &key]), Reply::bulk("mine"), "after {way}, once the load has ended");
        assert_eq!(a.cmd(&["GET", &key]), Reply::bulk("mine"), "after {way}, for the first client too");
    }
}

fn a_negative_load_that_an_insert_overtook_is_not_remembered(pair: Pair) {
    let stack = Stack::with(pair, |database| {
        // As a condition without a column of its own, it is held before any row is looked for.
        let held = database.held_column(500);
        format!(
            "[[route]]\nname = \"slow\"\nkey = \"slow:{{id}}\"\nnegative_ttl = \"1h\"\n\
             load = \"SELECT id, name FROM products WHERE {held} > 0 AND id = :id /* slow */\"\n"
        )
    });
    let (mut a, mut b) = (stack.weir.client(), stack.weir.client());
    let gate = stack.database.shut_gate();
    a.run_later("GET slow:999");
    if gate.is_some() {
        stack.wait_until_loading(1);
    } else {
        // SQLite may look for the row first, find none and be done.
        wait_until("the load has begun", || stack.weir.metric("weir_lookups_total", &[("outcome", "miss")]) == 1.0);
    }
    stack.database.sql("INSERT INTO products VALUES (999, 'late', 5, '{}')");
    b.run("DEL slow:999");
    drop(gate);
    assert_eq!(b.run("GET slow:999").json()["name"], "late");
    a.recv();
    assert_eq!(a.run("GET slow:999").json()["name"], "late");
}

/// A row that is there is never told to be absent, however often its key is invalidated between the load and the command:
/// neither to a client on a shared link, nor to one whose reads Redis itself must see.
#[test]
fn a_row_is_found_under_constant_invalidation() {
    let route = "[[route]]\nname = \"price\"\nkey = \"price:{id}\"\nvalue = \"text\"\nload = \"SELECT price FROM products WHERE id = :id\"\n";
    let stack = Stack::start(Pair::RedisSqlite, route);
    let ends = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..6 {
            threads.spawn(|| {
                let mut client = stack.weir.client();
                let deletions = vec![vec!["DEL", "price:1"]; 20];
                while !ends.load(Ordering::SeqCst) {
                    client.pipeline(&deletions);
                }
            });
        }
        let readers = (0..6).map(|number| {
            let mut client = stack.weir.client();
            threads.spawn(move || {
                if number % 2 == 0 {
                    assert_eq!(client.run("CLIENT TRACKING on"), Reply::ok());
                }
                (0..400).map(|_| client.run("GET price:1")).filter(|reply| *reply != Reply::bulk("101")).collect()
            })
        });
        let readers: Vec<_> = readers.collect();
        let told: Vec<Vec<Reply>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        ends.store(true, Ordering::SeqCst);
        assert!(told.iter().all(Vec::is_empty), "{told:?}");
    });
}
