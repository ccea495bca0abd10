//! Hash routes read through whole, and commands that need the old value find it (T26, T47).

mod harness;

use harness::*;

const ROUTES: &str = r#"
[[route]]
name = "user"
key = "user:{id}"
value = "hash"
load = "SELECT id, name, email, visits FROM users WHERE id = :id /* user */"

[[route]]
name = "counter"
key = "counter:{name}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"

[[route]]
name = "passing"
key = "passing:{name}"
value = "text"
load = "SELECT amount + 0 FROM counters WHERE name = :name /* passing */"
on_modify = "pass"

[[route]]
name = "rejecting"
key = "rejecting:{name}"
value = "text"
load = "SELECT amount - 0 FROM counters WHERE name = :name /* rejecting */"
on_modify = "reject"

[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
on_modify = "pass"

[[route]]
name = "graced"
key = "graced:{id}"
load = "SELECT id, name FROM products WHERE id = :id /* graced */"
grace = "1h"
"#;

over_all_pairs!(
    a_cold_hash_equals_its_row,
    every_hash_read_reads_through,
    an_absent_hash_is_empty_and_remembered,
    a_hash_write_meets_the_row,
    incr_continues_from_the_database,
    incr_on_an_absent_row_starts_at_zero,
    on_modify_pass_starts_from_nothing,
    on_modify_reject_changes_nothing,
    each_read_modify_write_finds_the_row,
    a_key_of_another_type_is_not_loaded_over,
    locks_are_left_alone,
    each_key_that_is_read_is_counted_once,
);

fn a_cold_hash_equals_its_row(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let expected = ["id", "7", "name", "user 7", "email", "u@example.org", "visits", "7"];
    let flat: Vec<Reply> = expected.iter().map(Reply::bulk).collect();
    assert_eq!(client.run("HGETALL user:7"), Reply::Array(flat.clone()));
    assert_eq!(client.run("HGETALL user:7"), Reply::Array(flat));
    stack.assert_loads("user", 1);
    assert!(client.run("TTL user:7").int() > 0, "a filled hash has a TTL");
    // A NULL column has no field.
    assert_eq!(client.run("HEXISTS user:8 email"), Reply::Int(0));
    assert_eq!(client.run("HLEN user:8"), Reply::Int(3));
}

fn every_hash_read_reads_through(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("HGET user:1 name"), Reply::bulk("user 1"));
    assert_eq!(
        client.run("HMGET user:3 visits nothing id"),
        Reply::Array(vec![Reply::bulk("3"), Reply::Nil, Reply::bulk("3"),])
    );
    assert_eq!(client.run("HLEN user:5"), Reply::Int(4));
    assert_eq!(client.run("HEXISTS user:7 visits"), Reply::Int(1));
    assert_eq!(client.run("HSTRLEN user:9 name"), Reply::Int(6));
    assert_eq!(client.run("HKEYS user:11").items().len(), 4);
    assert_eq!(client.run("HVALS user:12").items().len(), 3);
    assert_eq!(client.run("EXISTS user:13"), Reply::Int(1));
    stack.assert_loads("user", 8);
}

fn an_absent_hash_is_empty_and_remembered(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("HGETALL user:999"), Reply::Array(vec![]));
    assert_eq!(client.run("HGET user:999 name"), Reply::Nil);
    assert_eq!(client.run("HLEN user:999"), Reply::Int(0));
    stack.assert_loads("user", 1);
    assert_eq!(client.run("HGETALL user:abc"), Reply::Array(vec![]));
    stack.assert_loads("user", 1);
}

fn a_hash_write_meets_the_row(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("HINCRBY user:7 visits 5"), Reply::Int(12));
    assert_eq!(client.run("HSET user:9 visits 99"), Reply::Int(0), "the field was there");
    assert_eq!(client.run("HGET user:9 name"), Reply::bulk("user 9"));
    assert_eq!(client.run("HSETNX user:11 name other"), Reply::Int(0));
    assert_eq!(client.run("HDEL user:13 visits"), Reply::Int(1));
    assert_eq!(client.run("HLEN user:13"), Reply::Int(3));
}

fn incr_continues_from_the_database(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("INCR counter:a"), Reply::Int(11));
    assert_eq!(client.run("INCR counter:a"), Reply::Int(12));
    assert_eq!(client.run("INCRBY counter:b -40"), Reply::Int(1));
    assert_eq!(client.run("GET counter:a"), Reply::bulk("12"));
    stack.assert_loads("counter", 2);
}

fn incr_on_an_absent_row_starts_at_zero(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET counter:none"), Reply::Nil);
    assert_eq!(client.run("INCR counter:none"), Reply::Int(1));
    assert_eq!(client.run("GET counter:none"), Reply::bulk("1"), "the negative entry is gone");
    assert_eq!(client.run("INCR counter:nothing"), Reply::Int(1));
}

fn on_modify_pass_starts_from_nothing(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("INCR passing:a"), Reply::Int(1));
    stack.assert_loads("passing", 0);
    assert_eq!(client.run("GET passing:b"), Reply::bulk("41"), "reads still load");
    assert_eq!(client.run("INCR passing:b"), Reply::Int(42));
}

fn on_modify_reject_changes_nothing(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert!(client.run("INCR rejecting:a").is_error("ERR "));
    assert!(client.run("APPEND rejecting:a x").is_error("ERR "));
    stack.assert_loads("rejecting", 0);
    assert_eq!(client.run("GET rejecting:a"), Reply::bulk("10"));
    assert_eq!(client.run("INCR rejecting:a"), Reply::Int(11), "on a present key it runs");
}

fn each_read_modify_write_finds_the_row(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let cases: [(&str, Reply, Reply); 14] = [
        ("APPEND counter:a x", Reply::Int(3), Reply::bulk("10x")),
        ("SETRANGE counter:a 1 yz", Reply::Int(3), Reply::bulk("1yz")),
        ("GETSET counter:a new", Reply::bulk("10"), Reply::bulk("new")),
        ("GETDEL counter:a", Reply::bulk("10"), Reply::bulk("10")),
        ("SETNX counter:a new", Reply::Int(0), Reply::bulk("10")),
        ("SET counter:a new NX", Reply::Nil, Reply::bulk("10")),
        ("SET counter:a new XX", Reply::ok(), Reply::bulk("new")),
        ("SET counter:a new GET", Reply::bulk("10"), Reply::bulk("new")),
        ("SET counter:a new XX GET", Reply::bulk("10"), Reply::bulk("new")),
        ("DECR counter:a", Reply::Int(9), Reply::bulk("9")),
        ("INCRBYFLOAT counter:a 0.5", Reply::bulk("10.5"), Reply::bulk("10.5")),
        ("SETNX counter:none new", Reply::Int(1), Reply::bulk("new")),
        ("SET counter:none new XX", Reply::Nil, Reply::Nil),
        ("SET counter:none new NX GET", Reply::Nil, Reply::bulk("new")),
    ];
    for (words, reply, after) in cases {
        client.run("DEL counter:a counter:none");
        assert_eq!(client.run(words), reply, "{words}");
        let key = words.split(' ').nth(1).expect("a key");
        assert_eq!(client.cmd(&["GET", key]), after, "after {words}");
    }
}

fn a_key_of_another_type_is_not_loaded_over(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("HSET product:1 field value"), Reply::Int(1));
    let text = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(client.run("GET product:1"), Reply::Error(text.into()));
    assert_eq!(client.run("STRLEN product:1"), Reply::Error(text.into()));
    assert_eq!(client.run("MGET product:1 nothing"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
    assert_eq!(client.run("HGETALL product:1"), Reply::Array(vec![Reply::bulk("field"), Reply::bulk("value")]));
    stack.assert_loads("product", 0);
    assert_eq!(client.run("SET user:1 text"), Reply::ok());
    assert_eq!(client.run("HGETALL user:1"), Reply::Error(text.into()));
    assert_eq!(client.run("GET user:1"), Reply::bulk("text"));
    stack.assert_loads("user", 0);
    // The route's own type, asked for as another.
    assert_eq!(client.run("HGETALL counter:a"), Reply::Error(text.into()));
}

fn locks_are_left_alone(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("SET lock:x owner NX PX 3000000"), Reply::ok());
    assert_eq!(client.run("SET lock:x other NX PX 3000000"), Reply::Nil);
    let left = client.run("PTTL lock:x").int();
    assert!(left > 2_900_000 && left <= 3_000_000, "{left}");
}

/// By what its reader met first, whatever the command asked of it.
fn each_key_that_is_read_is_counted_once(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let reads = [
        ("HGET user:1 name", "miss"),
        ("HGET user:1 name", "hit"),
        ("HGET user:1 nowhere", "hit"),
        ("HMGET user:1 nowhere nothing", "hit"),
        ("HGET user:999 name", "miss"),
        ("HGET user:999 name", "negative_hit"),
        ("STRLEN product:1", "miss"),
        ("GETRANGE product:1 5000 6000", "hit"),
        ("TTL product:2", "miss"),
        ("TTL product:2", "hit"),
        ("TTL graced:1", "miss"),
        ("TTL graced:1", "hit"),
        ("GET graced:1", "hit"),
    ];
    for (count, (words, outcome)) in (1..).zip(reads) {
        let before = stack.weir.metric("weir_lookups_total", &[("outcome", outcome)]);
        client.run(words);
        wait_until("it is counted", || stack.weir.metric("weir_lookups_total", &[]) >= f64::from(count));
        let metrics = stack.weir.metrics();
        assert_eq!(metrics.sum("weir_lookups_total", &[]), f64::from(count), "{words}");
        assert_eq!(metrics.sum("weir_lookups_total", &[("outcome", outcome)]), before + 1.0, "{words}");
    }
    // Of several keys, each is counted as what it was.
    client.run("EXISTS user:1 user:2");
    client.run("MGET product:1 product:3");
    wait_until("they are counted", || stack.weir.metric("weir_lookups_total", &[]) >= (reads.len() + 4) as f64);
    let metrics = stack.weir.metrics();
    let of = |outcome: &str| reads.iter().filter(|(_, counted)| *counted == outcome).count() as f64;
    assert_eq!(metrics.sum("weir_lookups_total", &[("outcome", "hit")]), of("hit") + 2.0);
    assert_eq!(metrics.sum("weir_lookups_total", &[("outcome", "miss")]), of("miss") + 2.0);
}
