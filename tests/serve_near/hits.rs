//! What is answered without Redis, and what never is.

use crate::harness::*;
use crate::setup::*;

#[test]
fn what_is_kept_is_answered_without_redis_in_both_protocols() {
    let scene = Scene::start(1);
    let (weir, redis) = (scene.weir(), &scene.redis);
    redis.client().run("HSET hash:99 a 1 b 2");
    redis.client().run("SET text:99 hello");
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = weir.client();
        client.run(hello);
        bring_in(&scene.redis, &mut client, "GET text:99");
        bring_in(&scene.redis, &mut client, "HGETALL hash:99");
        let reads = [
            "GET text:99",
            "MGET text:99",
            "STRLEN text:99",
            "GETRANGE text:99 1 2",
            "EXISTS text:99",
            "TYPE text:99",
            "HGETALL hash:99",
            "HGET hash:99 b",
            "HGET hash:99 none",
            "HMGET hash:99 b none a",
            "HLEN hash:99",
            "HKEYS hash:99",
            "HEXISTS hash:99 a",
            "GET hash:99",
            "HGET text:99 a",
            "MGET hash:99 text:99 text:99",
        ];
        let mut direct = redis.client();
        direct.run(hello);
        let expected: Vec<Reply> = reads.iter().map(|read| direct.run(read)).collect();
        let hits = near_hits(weir);
        assert_eq!(direct.run("CONFIG RESETSTAT"), Reply::ok());
        for (read, expected) in reads.iter().zip(&expected) {
            assert_eq!(client.run(read), *expected, "{read} after {hello}");
        }
        // Not HGET, which Weir itself asks for the server's mark now and then; the hits below count it.
        for command in ["get", "mget", "strlen", "getrange", "hgetall", "hmget", "exists", "type", "pttl"] {
            assert_eq!(redis.client().calls(command), 0, "{command} has reached Redis after {hello}");
        }
        assert_eq!(near_hits(weir) - hits, reads.len() as f64 + 2.0, "each key counts");
        // What the server alone knows, it is asked for.
        assert_eq!(client.run("TTL text:99"), Reply::Int(-1));
        assert!(redis.client().calls("ttl") > 0);
        assert_eq!(client.run("DUMP text:99"), direct.run("DUMP text:99"));
        assert!(client.run("GET text:99 x").is_error("ERR wrong number of arguments"));
    }
    assert!(weir.metric("weir_command_duration_seconds_count", &[("path", "near")]) >= 32.0);
    assert!(weir.metric("weir_near_entries", &[]) >= 2.0 && weir.metric("weir_near_bytes", &[]) > 0.0);
    let mut client = weir.client();
    assert_eq!(
        [client.run("GET far:1"), client.run("GET far:1")],
        [Reply::bulk("product 1"), Reply::bulk("product 1")]
    );
    assert!(!is_kept(&mut client, "far:1"), "its route does not ask for it");
    client.run_later("CLIENT REPLY SKIP");
    client.run_later("GET text:99");
    assert_eq!(client.run("STRLEN text:99"), Reply::Int(5), "a muted hit says nothing");
}

#[test]
fn loaded_rows_come_in_with_the_next_read() {
    let scene = Scene::start(1);
    let mut client = scene.weir().client();
    for read in ["GET text:1", "HGETALL hash:1", "MGET text:2"] {
        client.run(read);
        bring_in(&scene.redis, &mut client, read);
    }
    assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    assert_eq!(client.run("GET text:2"), Reply::bulk("product 2"));
    assert_eq!(client.run("HGET hash:1 name"), Reply::bulk("product 1"));
    assert_eq!(client.run("GET text:999"), Reply::Nil);
    assert!(!is_kept(&mut client, "text:999"), "what is not there is not kept");
}

/// T45.
#[test]
fn mget_keeps_positions_whatever_is_kept() {
    let scene = Scene::start(1);
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    let mut random = fastrand::Rng::with_seed(seed());
    let expected = |key: &str| match key.split_once(':').expect("a route") {
        ("other", _) => Reply::bulk("o"),
        (_, id) => match id.parse::<u32>() {
            Ok(1..=20) => Reply::bulk(format!("product {id}")),
            _ => Reply::Nil,
        },
    };
    direct.run("SET other:1 o");
    for round in 0..300 {
        let keys: Vec<String> = (0..random.usize(1..8))
            .map(|_| match random.u8(..10) {
                0 => "other:1".to_owned(),
                1 => "text:99999".to_owned(),
                2 => format!("far:{}", random.u32(1..=20)),
                _ => format!("text:{}", random.u32(1..=20)),
            })
            .collect();
        let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        let expected: Vec<Reply> = keys.iter().map(|key| expected(key)).collect();
        assert_eq!(client.cmd(&words), Reply::Array(expected), "round {round}: {words:?}");
        if random.u8(..10) == 0 {
            direct.run(&format!("DEL text:{}", random.u32(1..=20)));
        }
    }
    assert!(near_hits(scene.weir()) > 0.0, "nothing was kept: nothing was shown");
}

/// T24: what the server must see goes to the server.
#[test]
fn clients_that_the_server_remembers_are_answered_by_the_server() {
    let scene = Scene::start(1);
    let mut other = scene.weir().client();
    bring_in(&scene.redis, &mut other, "GET text:1");
    let mut client = scene.weir().client();
    client.run("WATCH text:1");
    scene.redis.client().run("CONFIG RESETSTAT");
    assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    assert_eq!(client.run("MULTI"), Reply::ok());
    assert_eq!(client.run("GET text:1"), Reply::Simple("QUEUED".into()));
    assert_eq!(client.run("EXEC"), Reply::Array(vec![Reply::bulk("product 1")]));
    assert_eq!(scene.redis.client().calls("get"), 2);
    client.run("HELLO 3");
    assert_eq!(client.run("CLIENT TRACKING on"), Reply::ok());
    assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    assert_eq!(scene.redis.client().calls("get"), 3);
    scene.redis.client().run("SET text:1 new");
    assert_eq!(client.recv(), Reply::Push(vec![Reply::bulk("invalidate"), Reply::Array(vec![Reply::bulk("text:1")])]));
}
