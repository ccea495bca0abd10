//! A read of a routed key answers the row; the second one is a hit; what is no row is remembered; what cannot be one asks
//! nobody (G4, T10, T41).

mod harness;

use harness::*;
use std::collections::BTreeSet;
use std::time::Instant;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
ttl = "1000s"
jitter = "10%"
negative_ttl = "1h"

[[route]]
name = "forgetful"
key = "forgetful:{id}"
load = "SELECT id, name FROM products WHERE id = :id /* forgetful */"
negative_ttl = "0s"

[[route]]
name = "fleeting"
key = "fleeting:{id}"
load = "SELECT id, price, name FROM products WHERE id = :id /* fleeting */"
negative_ttl = "200ms"

[[route]]
name = "cheaper"
key = "cheaper:{price}"
rows = "many"
load = "SELECT id, price FROM products WHERE price < :price ORDER BY id /* cheaper */"

[[route]]
name = "packed"
key = "packed:{id}"
value = "msgpack"
load = "SELECT id, name, price FROM products WHERE id = :id AND id > 0 /* packed */"

[[route]]
name = "name"
key = "name:{id}"
value = "text"
load = "SELECT name FROM products WHERE id = :id /* name */"
"#;

over_all_pairs!(
    the_second_get_is_a_hit,
    ttl_is_shortened_by_jitter_and_never_lengthened,
    an_absent_row_is_loaded_once,
    without_negative_ttl_an_absent_row_is_loaded_each_time,
    a_negative_entry_ends_with_its_ttl,
    a_row_inserted_and_invalidated_is_seen,
    a_set_replaces_a_negative_entry,
    a_key_that_cannot_be_a_row_asks_nobody,
    keys_that_are_no_text_pass_through,
    each_encoding_is_served,
    every_string_read_reads_through,
);

fn product(id: u32) -> String {
    format!(r#"{{"id":{id},"name":"product {id}","price":{}}}"#, 100 + id)
}

fn the_second_get_is_a_hit(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:1"), Reply::bulk(product(1)));
    assert_eq!(client.run("GET product:1"), Reply::bulk(product(1)));
    stack.assert_loads("product", 1);
    let metrics = stack.weir.metrics();
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "miss")]), 1.0);
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "hit")]), 1.0);
    assert_eq!(metrics.sum("weir_loads_total", &[("trigger", "miss"), ("result", "row")]), 1.0);
    assert_eq!(metrics.sum("weir_fills_total", &[("route", "product"), ("result", "stored")]), 1.0);
    if let Some(raw) = stack.raw("GET product:1") {
        assert_eq!(raw, Reply::bulk(product(1)), "the value stands raw in Redis");
    }
}

fn ttl_is_shortened_by_jitter_and_never_lengthened(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    for id in 1..=20 {
        client.run(&format!("GET product:{id}"));
        let left = client.run(&format!("PTTL product:{id}")).int();
        let elapsed = start.elapsed().as_millis() as i64 + 1;
        assert!(left <= 1_000_000, "{left} ms is longer than the route's ttl");
        assert!(left >= 900_000 - elapsed, "{left} ms is shorter than ttl less jitter");
        seen.insert(left / 2_000);
    }
    assert!(seen.len() > 3, "twenty TTLs are nearly equal: {seen:?}");
}

fn an_absent_row_is_loaded_once(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:999"), Reply::Nil);
    assert_eq!(client.run("GET product:999"), Reply::Nil);
    stack.assert_loads("product", 1);
    assert_eq!(stack.weir.metric("weir_lookups_total", &[("outcome", "negative_hit")]), 1.0);
    assert_eq!(stack.weir.metric("weir_loads_total", &[("result", "empty")]), 1.0);
}

fn without_negative_ttl_an_absent_row_is_loaded_each_time(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    for _ in 0..3 {
        assert_eq!(client.run("GET forgetful:999"), Reply::Nil);
    }
    stack.assert_loads("forgetful", 3);
}

fn a_negative_entry_ends_with_its_ttl(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET fleeting:999"), Reply::Nil);
    stack.database.sql("INSERT INTO products VALUES (999, 'late', 5, '{}')");
    wait_until("the row is seen", || {
        client.run("GET fleeting:999") == Reply::bulk(r#"{"id":999,"price":5,"name":"late"}"#)
    });
}

fn a_row_inserted_and_invalidated_is_seen(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:999"), Reply::Nil);
    stack.database.sql("INSERT INTO products VALUES (999, 'late', 5, '{}')");
    assert_eq!(client.run("GET product:999"), Reply::Nil, "nobody has said that there is a row now");
    client.run("DEL product:999");
    assert_eq!(client.run("GET product:999"), Reply::bulk(r#"{"id":999,"name":"late","price":5}"#));
    stack.assert_loads("product", 2);
}

fn a_set_replaces_a_negative_entry(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:999"), Reply::Nil);
    assert_eq!(client.run("SET product:999 mine"), Reply::ok());
    assert_eq!(client.run("GET product:999"), Reply::bulk("mine"));
}

fn a_key_that_cannot_be_a_row_asks_nobody(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let hostile =
        ["abc", "1;drop table products", "1 OR 1=1", "1.5", "", "99999999999999999999", "1'", "1\0", "1\r\n", "0x1"];
    for part in hostile {
        assert_eq!(client.cmd(&["GET", &format!("product:{part}")]), Reply::Nil, "product:{part:?}");
    }
    stack.assert_loads("product", 0);
    assert_eq!(client.run("GET product:1"), Reply::bulk(product(1)), "the table is still there");
}

fn keys_that_are_no_text_pass_through(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    for key in [&b"product:\xff\xfe"[..], b"name:\xc3", b"\x00\xff"] {
        assert_eq!(client.cmd(&[b"GET", key]), Reply::Nil);
        assert_eq!(client.cmd(&[b"SET", key, b"\x00\r\n\xff"]), Reply::ok());
        assert_eq!(client.cmd(&[b"GET", key]), Reply::bulk(b"\x00\r\n\xff"));
    }
    stack.assert_loads("product", 0);
    stack.assert_loads("name", 0);
}

fn each_encoding_is_served(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET cheaper:103"), Reply::bulk(r#"[{"id":1,"price":101},{"id":2,"price":102}]"#));
    assert_eq!(client.run("GET cheaper:1"), Reply::bulk("[]"), "no rows are an empty array and not an absence");
    assert_eq!(client.run("GET name:3"), Reply::bulk("product 3"));
    assert_eq!(client.run("GET packed:1"), Reply::bulk(b"\x83\xa2id\x01\xa4name\xa9product 1\xa5price\x65"));
}

fn every_string_read_reads_through(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    let len = product(11).len() as i64;
    assert_eq!(client.run("STRLEN product:11"), Reply::Int(len));
    assert_eq!(client.run("GETRANGE product:12 1 4"), Reply::bulk(r#""id""#));
    assert_eq!(client.run("EXISTS product:13"), Reply::Int(1));
    assert_eq!(client.run("EXISTS product:999"), Reply::Int(0));
    assert_eq!(client.run("GETEX product:14 EX 50"), Reply::bulk(product(14)));
    assert!(client.run("PTTL product:14").int() <= 50_000);
    assert_eq!(client.run("EXISTS product:15 product:16 product:998"), Reply::Int(2));
    assert_eq!(client.run("EXISTS product:11 product:17"), Reply::Int(2), "one is present and one is cold");
    assert_eq!(client.run("TYPE product:11"), Reply::Simple("string".into()));
}
