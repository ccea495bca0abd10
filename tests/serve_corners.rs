//! Corners in which a first version answered wrongly; each keeps a promise where two of its parts meet.

mod harness;

use harness::*;
use std::io::Write;

const MIB: u64 = 1024 * 1024;

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM products WHERE id = :id /* slow */"

[[route]]
name = "counter"
key = "counter:{{name}}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"

[[route]]
name = "product"
key = "product:{{id}}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
ttl = "5m"

[[route]]
name = "small"
key = "small:{{id}}"
load = "SELECT id, name FROM products WHERE id = :id /* small */"
max_value = "1B"
"#,
        database.held_column(500)
    )
}

over_all_pairs!(
    a_slow_command_holds_back_its_keys_that_are_on_no_route_too,
    a_row_that_is_not_stored_is_not_denied,
    the_first_ttl_is_the_key_s_own,
    no_option_of_getex_outlives_the_route,
    counters_beyond_doubles_are_exact,
    what_a_key_holds_is_believed_though_it_looks_like_nothing,
);

/// G3: an empty string, a hash without that field and a key of another type are no absent keys.
fn what_a_key_holds_is_believed_though_it_looks_like_nothing(pair: Pair) {
    let stack = Stack::start(
        pair,
        r#"
[[route]]
name = "user"
key = "user:{id}"
value = "hash"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"
[[route]]
name = "text"
key = "text:{id}"
value = "text"
load = "SELECT name FROM users WHERE id = :id /* text */"
on_modify = "pass"
"#,
    );
    let mut client = stack.weir.client();
    client.run("HGETALL user:7");
    assert_eq!(client.run("HDEL user:7 name"), Reply::Int(1));
    assert_eq!(client.run("HGET user:7 name"), Reply::Nil);
    assert_eq!(client.run("HMGET user:7 name none").items(), [Reply::Nil, Reply::Nil]);
    assert_eq!(client.run("HEXISTS user:7 name"), Reply::Int(0));
    assert_eq!(client.run("HSTRLEN user:7 name"), Reply::Int(0));
    assert_eq!(client.run("HGET user:7 visits"), Reply::bulk("7"));
    stack.assert_loads("user", 1);

    assert_eq!(client.cmd(&["SET", "text:7", ""]), Reply::ok());
    assert_eq!(client.run("GET text:7"), Reply::bulk(""));
    assert_eq!(client.run("STRLEN text:7"), Reply::Int(0));
    assert_eq!(client.run("GETRANGE text:7 0 9"), Reply::bulk(""));
    assert_eq!(client.run("GETEX text:7 EX 100"), Reply::bulk(""));
    assert_eq!(client.run("HSET text:8 field value"), Reply::Int(1));
    assert_eq!(client.run("MGET text:8 text:7").items(), [Reply::Nil, Reply::bulk("")]);
    stack.assert_loads("text", 0);
    assert_eq!(client.run("EXISTS text:7 text:900 text:8 text:7"), Reply::Int(3));
    assert_eq!(client.run("EXISTS text:7 text:900"), Reply::Int(1));
    stack.assert_loads("text", 1);
    assert_eq!(client.run("MGET text:8 text:9").items(), [Reply::Nil, Reply::bulk("user 9")]);
}

/// G3: a client reads its own writes, though only one of the command's keys is routed.
fn a_slow_command_holds_back_its_keys_that_are_on_no_route_too(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let pipeline = ["COPY counter:a plain", "GET plain", "SET other old", "EXISTS product:8 other", "DEL other"];
    client.send(&pipeline.iter().flat_map(|words| raw_command(words)).collect::<Vec<u8>>());
    assert_eq!(client.recv(), Reply::Int(1));
    assert_eq!(client.recv(), Reply::bulk("10"));
    assert_eq!(client.recv(), Reply::ok());
    assert_eq!(client.recv(), Reply::Int(2), "EXISTS runs before the DEL that was sent after it");
    assert_eq!(client.recv(), Reply::Int(1));
}

fn a_row_that_is_not_stored_is_not_denied(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GETEX small:1 EX 5").json()["id"], 1);
    assert_eq!(client.run("GETEX small:1").json()["id"], 1);
    assert_eq!(client.run("EXISTS small:1"), Reply::Int(1));
    assert_eq!(client.run("EXISTS small:1 product:1"), Reply::Int(2));
}

fn the_first_ttl_is_the_key_s_own(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for words in ["TTL product:1", "PTTL product:2", "EXPIRETIME product:3"] {
        assert!(matches!(client.run(words), Reply::Int(1..)), "{words}");
    }
}

fn no_option_of_getex_outlives_the_route(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for (id, words) in [(1, "PERSIST"), (2, "EX 9999999")] {
        for state in ["cold", "warm"] {
            assert_eq!(client.run(&format!("GETEX product:{id} {words}")).json()["id"], id, "{state}");
            let ttl = client.run(&format!("TTL product:{id}"));
            assert!(matches!(ttl, Reply::Int(1..=300)), "{state} {words}: {ttl:?}");
        }
    }
}

/// Lua's numbers are doubles; a counter's are not.
fn counters_beyond_doubles_are_exact(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("SET counter:a 9007199254740992");
    assert_eq!(client.run("INCR counter:a"), Reply::Int(9_007_199_254_740_993));
    assert_eq!(client.run("DECRBY counter:a 9007199254740992"), Reply::Int(1));
    client.run("SET counter:a -9223372036854775807");
    assert_eq!(client.run("DECR counter:a"), Reply::Int(i64::MIN));
    assert!(client.run("DECR counter:a").is_error("ERR increment or decrement would overflow"));
}

/// G8: what waits behind a slow command is bounded as what waits for a slow client is.
#[test]
fn replies_behind_a_slow_command_are_bounded() {
    let stack = Stack::with(Pair::EmbeddedPostgres, routes);
    let mut client = stack.weir.client();
    let value = vec![b'v'; MIB as usize];
    assert_eq!(client.cmd(&[&b"SET"[..], b"large", &value]), Reply::ok());
    let before = stack.weir.resident_bytes();
    let gate = stack.database.shut_gate();
    let commands: Vec<u8> =
        raw_command("GET slow:1").into_iter().chain((0..500).flat_map(|_| raw_command("GET large"))).collect();
    client.writer().write_all(&commands).expect("send");
    stack.wait_until_loading(1);
    for _ in 0..50 {
        assert_eq!(stack.weir.client().run("PING"), Reply::Simple("PONG".into()));
    }
    let grown = stack.weir.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "grown by {} MiB behind one slow command", grown / MIB);
    drop(gate);
    assert_eq!(client.recv().json()["id"], 1);
    for _ in 0..500 {
        assert!(matches!(client.recv(), Reply::Bulk(bytes) if bytes.len() == value.len()));
    }
}

/// A timeout is for an upstream that has stopped, not for one whose bytes keep coming: the proxy between holds each piece of
/// the reply for 20 ms, all of them for several times the timeout.
#[test]
fn a_large_reply_is_not_timed_out_while_it_comes() {
    let redis = Redis::start();
    let between = FaultProxy::start(redis.port());
    let weir =
        Weir::start(&format!("[upstream]\nurl = \"redis://127.0.0.1:{}/0\"\ntimeout = \"500ms\"\n", between.port()));
    let value = vec![b'v'; 4 * MIB as usize];
    assert_eq!(redis.client().cmd(&[&b"SET"[..], b"large", &value]), Reply::ok());
    let mut client = weir.client();
    between.set(Fault::Delay);
    for _ in 0..2 {
        let reply = client.run("GET large");
        assert!(matches!(&reply, Reply::Bulk(bytes) if bytes.len() == value.len()), "an error instead of the value");
    }
    assert!(between.hits() > 100, "the reply came in {} pieces", between.hits());
}

/// An upstream that can be read and not written still gets its misses answered.
#[test]
fn a_full_upstream_serves_rows_that_it_cannot_keep() {
    let stack = Stack::with(Pair::RedisPostgres, routes);
    let redis = stack.redis.as_ref().expect("the pair has a Redis");
    assert_eq!(redis.client().run("CONFIG SET maxmemory 1"), Reply::ok());
    let mut client = stack.weir.client();
    for id in 1..4 {
        assert_eq!(client.run(&format!("GET product:{id}")).json()["id"], id);
    }
    assert!(client.run("SET k v").is_error("OOM "));
    let reply = client.run("GETDEL product:5");
    assert!(reply.is_error("LOAD route 'product': the row was loaded and could not be stored"), "{reply:?}");
    assert_eq!(redis.client().run("CONFIG SET maxmemory 0"), Reply::ok());
    assert_eq!(client.run("GET product:1").json()["id"], 1);
    assert_eq!(redis.client().run("EXISTS product:1"), Reply::Int(1));
}

#[test]
fn an_mget_of_many_cold_keys_is_answered_and_nobody_waits_for_it() {
    let stack = Stack::with(Pair::EmbeddedPostgres, routes);
    let (mut client, mut other) = (stack.weir.client(), stack.weir.client());
    let keys: Vec<String> = (0..3000).map(|id| format!("product:{}", 100_000 + id)).collect();
    let words: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    for _ in 0..2 {
        client.cmd_later(&words);
    }
    assert_eq!(other.run("GET product:1").json()["id"], 1);
    for _ in 0..2 {
        assert!(client.recv().items().iter().all(|item| *item == Reply::Nil));
    }
}
