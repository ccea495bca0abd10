//! Sliding: what is read stays, what nobody reads goes, and nobody's own end of a key is undone.

mod harness;

use harness::*;

over_all_pairs!(
    what_is_read_is_loaded_once_and_stays,
    every_kind_of_read_renews,
    who_ends_a_key_ends_it,
    whose_end_is_held_is_the_value_that_was_there
);

fn routes(_: &Database) -> String {
    r#"
[[route]]
name = "brief"
key = "brief:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* brief */"
ttl = "1s"
jitter = "0%"
load_timeout = "50ms"
sliding = true
tags = ["visits:{visits}"]
[[route]]
name = "close"
key = "close:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* close */"
ttl = "1s"
jitter = "0%"
load_timeout = "50ms"
sliding = true
near = "1h"
tags = ["visits:{visits}"]
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"
ttl = "1h"
sliding = true
tags = ["user-{id}", "visits:{visits}"]
[[route]]
name = "hash"
key = "hash:{id}"
load = "SELECT id, name FROM users WHERE id = :id /* hash */"
value = "hash"
ttl = "1h"
sliding = true
[[route]]
name = "graced"
key = "graced:{id}"
load = "SELECT id, name FROM users WHERE id = :id /* graced */"
ttl = "1h"
grace = "1h"
sliding = true
[[route]]
name = "short"
key = "short:{id}"
ttl = "100ms"
sliding = true
[[route]]
name = "session"
key = "session:{id}"
ttl = "1h"
sliding = true
"#
    .to_owned()
}

fn renewals(stack: &Stack, route: &str, result: &str) -> f64 {
    stack.weir.metric("weir_renewals_total", &[("route", route), ("result", result)])
}

fn what_is_read_is_loaded_once_and_stays(pair: Pair) {
    let stack = Stack::with(pair, routes);
    stays_while_it_is_read(&stack, "brief");
    let mut client = stack.weir.client();
    assert_eq!(client.run("SET short:1 v"), Reply::ok());
    wait_until("what nobody reads goes", || client.run("PTTL short:1") == Reply::Int(-2));
}

/// What the near cache answers, the upstream does not see; yet it must not end there while it is asked for here.
#[test]
fn what_is_read_from_near_is_renewed_in_time() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    stays_while_it_is_read(&stack, "close");
    let near = stack.weir.metric("weir_lookups_total", &[("route", "close"), ("outcome", "near_hit")]);
    assert!(near >= 1.0);
}

fn stays_while_it_is_read(stack: &Stack, route: &str) {
    let mut client = stack.weir.client();
    let mut id = 0;
    // On a machine that stands still for longer than the key lives it is loaded again: then another key shows it.
    wait_until("a key was read for many of its TTLs", || {
        id += 1;
        let loads = stack.weir.metric("weir_loads_total", &[("route", route)]);
        client.run("SET marker 1 PX 4000");
        while client.run("EXISTS marker") == Reply::Int(1) {
            assert!(client.run(&format!("GET {route}:{id}")).text().contains(&format!("user {id}")));
        }
        stack.weir.metric("weir_loads_total", &[("route", route)]) - loads == 1.0
            && client.run(&format!("WEIR INVALIDATE visits:{id}")) == Reply::Int(1)
    });
    assert!(renewals(stack, route, "renewed") >= 1.0);
}

/// Less than nine tenths of an hour is left, and more than nothing.
fn is_cut(client: &mut Client, key: &str) -> bool {
    matches!(client.run(&format!("PTTL {key}")), Reply::Int(1..=1_000_000))
}

fn every_kind_of_read_renews(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for words in ["SET session:1 v EX 900", "SET session:2 v EX 900", "SET session:3 v PX 900000"] {
        assert_eq!(client.run(words), Reply::ok());
    }
    for key in ["session:1", "session:2", "session:3"] {
        // To ask how long it lives is not to read it.
        assert!((0..10).all(|_| is_cut(&mut client, key)), "{key}");
    }
    assert_eq!(renewals(&stack, "session", "renewed"), 0.0);
    assert_eq!(client.run("GET session:1"), Reply::bulk("v"));
    wait_until("GET renews", || !is_cut(&mut client, "session:1"));
    assert_eq!(client.run("MGET session:2 session:3 session:9").items().len(), 3);
    wait_until("MGET renews all", || !is_cut(&mut client, "session:2") && !is_cut(&mut client, "session:3"));
    assert_eq!(renewals(&stack, "session", "renewed"), 3.0);
    for _ in 0..20 {
        client.run("GET session:1");
    }
    assert_eq!(renewals(&stack, "session", "renewed"), 3.0, "once in a tenth of the TTL is enough");
    for (write, read) in [
        ("HSET session:h f v", "HGET session:h f"),
        ("RPUSH session:l v", "LRANGE session:l 0 -1"),
        ("SADD session:s v", "SCARD session:s"),
        ("SET session:e v", "STRLEN session:e"),
    ] {
        client.run(write);
        let key = write.split(' ').nth(1).expect("a key");
        // SET, and only SET, gives a TTL that a read renews.
        stack.raw(&format!("PEXPIRE {key} 900000"));
        if stack.redis.is_some() {
            client.run(read);
            wait_until(read, || !is_cut(&mut client, key));
        }
    }
    let ttl = client.run("PTTL session:1").int();
    assert!((3_200_000..=3_600_000).contains(&ttl), "the route's TTL, jittered: {ttl}");
}

fn who_ends_a_key_ends_it(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let mut left = 0.0;
    for (route, key, words) in [
        ("session", "session:1", "EXPIRE session:1 900"),
        ("session", "session:2", "PEXPIRE session:2 900000"),
        ("session", "session:3", "GETEX session:3 EX 900"),
        ("session", "session:4", "SET session:4 v NX EX 900"),
        ("user", "user:1", "EXPIRE user:1 900"),
    ] {
        match (route, words.contains("NX")) {
            ("user", _) => drop(client.run(&format!("GET {key}"))),
            (_, false) => drop(client.run(&format!("SET {key} v"))),
            (_, true) => {}
        }
        client.run(words);
        let before = renewals(&stack, route, "left");
        assert!(client.run(&format!("GET {key}")) != Reply::Nil);
        wait_until(words, || renewals(&stack, route, "left") == before + 1.0);
        assert!(is_cut(&mut client, key), "{words}");
        left += 1.0;
    }
    assert_eq!(left, 5.0);
    assert_eq!(renewals(&stack, "session", "renewed") + renewals(&stack, "user", "renewed"), 0.0);
    // One who ends a key earlier still, or for good, is not undone either.
    assert_eq!(client.run("DEL session:1"), Reply::Int(1));
    assert_eq!(client.run("GET session:1"), Reply::Nil);
}

fn whose_end_is_held_is_the_value_that_was_there(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let mut number = 100;
    let mut read_after = |commands: &str, result: &str| {
        number += 1;
        let key = format!("session:{number}");
        client.run("SET other v EX 900");
        commands.split('|').for_each(|words| drop(client.run(&words.replace('$', &key))));
        let before = renewals(&stack, "session", result);
        assert!(client.run(&format!("GET {key}")) != Reply::Nil, "{commands}");
        wait_until(commands, || renewals(&stack, "session", result) == before + 1.0);
        assert_eq!(is_cut(&mut client, &key), result == "left", "{commands}");
    };
    for commands in [
        "SET $ old|EXPIRE $ 900|SET $ new EX 900",
        "SET $ old|EXPIRE $ 900|SET $ new XX EX 900",
        "SET $ old|GETEX $ EX 900|SETEX $ 900 new",
        "SET $ old|PEXPIRE $ 900000|PSETEX $ 900000 new",
        "SET $ old|EXPIRE $ 900|DEL $|SET $ new EX 900",
        "SET $ lock NX EX 900|DEL $|SET $ new EX 900",
        "SET $ lock NX EX 900|UNLINK another $|SET $ new EX 900",
        "SET $ lock NX EX 900|GETDEL $|SET $ new EX 900",
        "SET $ old|EXPIRE $ 900|RENAME other $",
        "SET $ old|EXPIRE $ 900|COPY other $ REPLACE",
        "SET $ old|EXPIRE $ 900|DEL $|RENAMENX other $",
        "SET $ old|EXPIRE $ 900|RENAME $ elsewhere|RENAMENX other $",
        "SET $ old|EXPIRE $ 900|WEIR SET $ new EX 900 TAGS t",
        "EXPIRE $ 900|SET $ new EX 900",
        "MULTI|SET $ old|EXPIRE $ 900|SET $ new EX 900|EXEC",
        "SET $ old|EXPIRE $ 900|MULTI|DEL $|SET $ new EX 900|EXEC",
    ] {
        read_after(commands, "renewed");
    }
    for commands in [
        "SET $ 1|EXPIRE $ 900|INCR $",
        "SET $ v|EXPIRE $ 900|SET $ w KEEPTTL",
        "SET $ v NX EX 900|SET $ w NX EX 900",
        "SET $ v NX EX 900|SETNX $ w",
        "SET $ old|EXPIRE $ 900|SET $ new|EXPIRE $ 900",
        "SET $ old|EXPIRE $ 900|MULTI|SET $ new|EXPIRE $ 900|EXEC",
    ] {
        read_after(commands, "left");
    }
}

/// What a load, or a value that begins from nothing, comes after.
#[test]
fn whoever_removes_a_value_lets_go_of_its_end() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    for (key, commands) in [
        ("session:1", "SET session:1 old|EXPIRE session:1 900|DEL session:1|APPEND session:1 new"),
        ("session:2", "SET session:2 lock NX EX 900|GETDEL session:2|SETNX session:2 new"),
        ("session:3", "SET session:3 old|EXPIRE session:3 900|RENAME session:3 session:4|INCR session:3"),
        ("session:5", "WEIR SET session:5 old TAGS t|EXPIRE session:5 900|WEIR INVALIDATE t|INCR session:5"),
        ("user:1", "GET user:1|EXPIRE user:1 900|WEIR REFRESH user:1"),
        ("user:2", "GET user:2|EXPIRE user:2 900|WEIR INVALIDATE user-2|GET user:2"),
        ("user:3", "EXPIRE user:3 900|DEL user:3|GET user:3"),
    ] {
        commands.split('|').for_each(|words| assert!(!client.run(words).is_error(""), "{words}"));
        assert_eq!(raw.run(&format!("PEXPIRE {key} 900000")), Reply::Int(1), "{commands}");
        assert!(client.run(&format!("GET {key}")) != Reply::Nil, "{commands}");
        wait_until(commands, || !is_cut(&mut client, key));
    }
}

#[test]
fn what_is_renewed_keeps_its_tags() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    for tag in ["visits:1", "user-1"] {
        let before = renewals(&stack, "user", "renewed");
        client.run("GET user:1");
        raw.run("PEXPIRE user:1 900000");
        for index in raw.run("KEYS weir:*index:*").items() {
            raw.run(&format!("DEL {}", index.text()));
        }
        client.run("GET user:1");
        wait_until("it is renewed", || renewals(&stack, "user", "renewed") == before + 1.0);
        let [index, note] =
            ["index:visits:1", "tags:user:1"].map(|name| raw.run(&format!("KEYS weir:*{name}")).items()[0].text());
        let mut left = |key: &str| raw.run(&format!("PTTL {key}")).int();
        let (index, note, value) = (left(&index), left(&note), left("user:1"));
        assert!(index >= value && note >= value && value > 3_000_000, "{index} {note} {value}");
        assert_eq!(client.run(&format!("WEIR INVALIDATE {tag}")), Reply::Int(1), "{tag}");
    }
}

#[test]
fn what_is_stale_is_refreshed_and_not_renewed() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    client.run("GET graced:1");
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
    raw.run("PEXPIRE graced:1 3599000");
    assert!(client.run("GET graced:1").text().contains("user 1"), "at once");
    wait_until("it is refreshed", || client.run("GET graced:1").text().contains("new"));
    assert_eq!(renewals(&stack, "graced", "renewed"), 0.0);
    // A fresh one is renewed to its TTL and its grace.
    raw.run("PEXPIRE graced:1 4000000");
    assert!(client.run("GET graced:1").text().contains("new"));
    wait_until("it is renewed", || renewals(&stack, "graced", "renewed") == 1.0);
    assert!(matches!(raw.run("PTTL graced:1"), Reply::Int(6_800_000..=7_200_000)));
    assert!(matches!(client.run("PTTL graced:1"), Reply::Int(3_200_000..=3_600_000)));
}

#[test]
fn over_a_cluster_reads_renew_too() {
    let (cluster, database) = (RedisCluster::start(0), Database::shop(Pair::RedisSqlite));
    let weir = Weir::start(&(servers(Some(&cluster.url()), &database.url()) + &routes(&database)));
    let mut client = weir.client();
    for id in 1..6 {
        client.run(&format!("SET session:{id} v EX 900"));
        assert_eq!(client.run(&format!("GET session:{id}")), Reply::bulk("v"));
        wait_until("it is renewed", || !is_cut(&mut client, &format!("session:{id}")));
    }
}
