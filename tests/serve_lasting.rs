//! A key's tags end no earlier than the key (T8): whatever prolongs it, moves it or is queued by MULTI, WEIR INVALIDATE finds it.

mod harness;

use harness::*;
use weir::store::redis::side_key::{Beside, Kind};

over_all_pairs!(what_a_refresh_puts_in_a_values_place_has_the_tags_that_clients_named);

fn routes(_: &Database) -> String {
    r#"
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"
tags = ["users", "user-{id}", "visits:{visits}"]
ttl = "1h"
[[route]]
name = "brief"
key = "brief:{id}"
load = "SELECT id, name, visits FROM users WHERE id = :id /* brief */"
tags = ["brief:{visits}"]
ttl = "1s"
jitter = "0%"
load_timeout = "50ms"
[[route]]
name = "keyed"
key = "keyed:{id}"
load = "SELECT id, name FROM users WHERE id = :id /* keyed */"
tags = ["keyed-{id}"]
ttl = "1h"
[[route]]
name = "slides"
key = "slides:{id}"
load = "SELECT id, name FROM users WHERE id = :id /* slides */"
value = "hash"
ttl = "1h"
sliding = true
[[route]]
name = "page"
key = "page:{id}"
ttl = "1h"
tags = ["page-{id}"]
"#
    .to_owned()
}

fn stack() -> (Stack, Client, Client) {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (client, raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    (stack, client, raw)
}

/// What time does in the end, and an eviction at any moment.
fn forget_all_indexes(raw: &mut Client) {
    for index in raw.run("KEYS weir:*index:*").items() {
        assert_eq!(raw.run(&format!("DEL {}", index.text())), Reply::Int(1));
    }
}

#[test]
fn what_prolongs_a_key_prolongs_all_its_tags() {
    let (_stack, mut client, mut raw) = stack();
    let soon = "99999999999";
    for words in [
        "EXPIRE user:1 100",
        "PEXPIRE user:1 100000",
        &format!("EXPIREAT user:1 {soon}"),
        &format!("PEXPIREAT user:1 {soon}000"),
        "PERSIST user:1",
        "GETEX user:1 EX 100",
        "GETEX user:1 PERSIST",
        "EXPIRE user:1 100 LT",
    ] {
        for tag in ["visits:1", "user-1"] {
            client.run("GET user:1");
            forget_all_indexes(&mut raw);
            client.run(words);
            assert_eq!(client.run(&format!("WEIR INVALIDATE {tag}")), Reply::Int(1), "{words} {tag}");
            assert_eq!(raw.run("EXISTS user:1"), Reply::Int(0), "{words} {tag}");
        }
    }
}

/// The same in time, with nothing deleted by hand.
fn outlives_its_first_index_entry(stack: &Stack) {
    let mut client = stack.weir.client();
    let mut id = 0;
    // The key must be prolonged before it ends: on a machine that stands still meanwhile, with another key again.
    wait_until("a key was prolonged for longer than it was indexed at first", || {
        id += 1;
        let key = format!("brief:{id}");
        client.run(&format!("GET {key}"));
        client.run("SET marker 1 PX 4000");
        while client.run("EXISTS marker") == Reply::Int(1) {
            if client.run(&format!("EXPIRE {key} 1")) != Reply::Int(1) {
                return false;
            }
        }
        match client.run(&format!("EXPIRE {key} 1")) == Reply::Int(1) {
            true => client.run(&format!("WEIR INVALIDATE brief:{id}")) == Reply::Int(1),
            false => false,
        }
    });
}

#[test]
fn a_key_that_is_prolonged_for_long_is_found_at_redis() {
    outlives_its_first_index_entry(&Stack::with(Pair::RedisSqlite, routes));
}

#[test]
fn a_key_that_is_prolonged_for_long_is_found_in_the_embedded_store() {
    outlives_its_first_index_entry(&Stack::with(Pair::EmbeddedSqlite, routes));
}

#[test]
fn a_value_that_is_put_in_another_place_takes_its_tags_along() {
    let (_stack, mut client, mut raw) = stack();
    for (words, place) in [
        ("RENAME user:2 elsewhere", "elsewhere"),
        ("RENAME user:2 page:2", "page:2"),
        ("RENAME user:2 user:3", "user:3"),
        ("COPY user:2 elsewhere", "elsewhere"),
        ("COPY user:2 page:2 REPLACE", "page:2"),
        ("RENAMENX user:2 elsewhere", "elsewhere"),
    ] {
        for tag in ["visits:2", "user-2", "users"] {
            assert!(client.run("GET user:2").text().contains("user 2"));
            client.run(words);
            assert_eq!(raw.run(&format!("EXISTS {place}")), Reply::Int(1), "{words}");
            // … and keeps them there.
            if place != "elsewhere" {
                forget_all_indexes(&mut raw);
                assert_eq!(client.run(&format!("EXPIRE {place} 50")), Reply::Int(1), "{words}");
            }
            client.run(&format!("WEIR INVALIDATE {tag}"));
            assert_eq!(raw.run(&format!("EXISTS {place}")), Reply::Int(0), "{words} {tag}");
            raw.run(&format!("DEL user:2 {place}"));
        }
    }
}

/// COPY makes its source present first, and so its tags known.
#[test]
fn what_is_loaded_to_be_copied_takes_its_tags_along() {
    let (_stack, mut client, mut raw) = stack();
    assert_eq!(client.run("COPY user:8 elsewhere"), Reply::Int(1));
    assert_eq!(client.run("WEIR INVALIDATE visits:8"), Reply::Int(2), "both");
    assert_eq!(raw.run("EXISTS elsewhere user:8"), Reply::Int(0));
}

#[test]
fn a_value_takes_its_tags_along_into_another_database() {
    let (_stack, mut client, mut raw) = stack();
    raw.run("SELECT 5");
    for (words, place) in [("MOVE user:2 5", "user:2"), ("COPY user:2 there DB 5", "there")] {
        client.run("GET user:2");
        assert_eq!(client.run(words), Reply::Int(1), "{words}");
        assert_eq!(client.run("SELECT 5"), Reply::ok());
        assert_eq!(client.run("WEIR INVALIDATE visits:2"), Reply::Int(1), "{words}");
        assert_eq!(raw.run(&format!("EXISTS {place}")), Reply::Int(0), "{words}");
        assert_eq!(client.run("SELECT 0"), Reply::ok());
    }
}

#[test]
fn what_clients_store_over_a_value_in_any_way_is_found_by_the_tags_that_its_key_tells() {
    let (_stack, mut client, mut raw) = stack();
    for words in [
        "SET user:4 mine",
        "SET user:4 mine KEEPTTL",
        "SET user:4 mine XX",
        "SET user:4 mine XX EX 100",
        "GETSET user:4 mine",
        "SETEX user:4 100 mine",
        "MSET user:4 mine other:4 mine",
        "APPEND user:4 more",
        "SETRANGE user:4 0 more",
    ] {
        client.run("GET user:4");
        forget_all_indexes(&mut raw);
        client.run(words);
        // What is changed where it stands has the tags that it was given with its life.
        let in_place = words.starts_with("APPEND") || words.starts_with("SETRANGE");
        if in_place {
            client.run("EXPIRE user:4 100");
        }
        assert_eq!(client.run("WEIR INVALIDATE user-4"), Reply::Int(1), "{words}");
        assert_eq!(raw.run("EXISTS user:4"), Reply::Int(0), "{words}");
    }
    let page = ["SET page:1 v NX", "SETNX page:1 v", "RPUSH page:1 v", "INCR page:1", "HSET page:1 f v"];
    for words in page.into_iter().chain(["EVAL redis.call('set',KEYS[1],'v') 1 page:1"]) {
        client.run(words);
        assert_eq!(client.run("WEIR INVALIDATE page-1"), Reply::Int(1), "{words}");
    }
    // Of an absent row nothing was loaded: what INCR makes of nothing has its key's tags all the same.
    assert_eq!(client.run("INCR user:900"), Reply::Int(1));
    assert_eq!(client.run("WEIR INVALIDATE user-900"), Reply::Int(1));
    client.run("SET plain v");
    let dump = raw.cmd(&["DUMP", "plain"]);
    let Reply::Bulk(dump) = dump else { panic!("a dump is a text: {dump:?}") };
    assert_eq!(client.cmd(&[&b"RESTORE"[..], b"user:5", b"0", &dump]), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE user-5"), Reply::Int(1));
}

/// What a SET of a key with tags is at the upstream: one call, and replies that are Redis's own.
#[test]
fn a_set_of_a_key_with_tags_is_one_step_that_answers_as_redis_does() {
    let (stack, _, mut raw) = stack();
    let plain = Redis::start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut client, mut redis) = (stack.weir.client(), plain.client());
        [&mut client, &mut redis].into_iter().for_each(|one| drop(one.run(hello)));
        for words in [
            "SET page:1 a",
            "SET page:1 b NX",
            "SET page:1 c XX GET",
            "SET page:absent c XX",
            "SET page:absent c XX GET",
            "SET page:1 d PX 100000 KEEPTTL",
            "SET page:1 d EX 0",
            "SET page:1 d nonsense",
            &format!("SET page:1 {}", "x ".repeat(8500)),
            "SETEX page:1 100 e",
            "SETEX page:1 x e",
            "PSETEX page:1 -1 e",
            "DEL page:1",
            "LPUSH page:1 a",
            "SET page:1 f GET",
            "SET page:1 g",
            "GET page:1",
        ] {
            assert_eq!(client.run(words), redis.run(words), "{hello}: {words}");
        }
        client.run("SET page:1 h");
        raw.run("CONFIG RESETSTAT");
        client.run("SET page:1 i");
        assert_eq!(["evalsha", "eval", "zadd", "set"].map(|command| raw.calls(command)), [1, 0, 1, 1], "{hello}");
        // Lua would copy so long a value, and what stands there.
        assert_eq!(client.cmd(&["SET", "page:1", &"x".repeat(100_000)]), Reply::ok());
        assert_eq!(client.run("SET page:1 y gEt").text().len(), 100_000);
        assert_eq!(["zadd", "set"].map(|command| raw.calls(command)), [5, 3], "{hello}");
        raw.run("SCRIPT FLUSH");
        forget_all_indexes(&mut raw);
        assert_eq!(client.run("SET page:1 j"), Reply::ok());
        assert_eq!(client.run("WEIR INVALIDATE page-1"), Reply::Int(1), "{hello}");
        assert_eq!(client.run("GET page:1"), Reply::Nil);
    }
}

/// Neither is the value there without its tags, nor is more stored than there is room for.
#[test]
fn a_set_of_a_key_with_tags_that_the_upstream_refuses_changes_nothing() {
    let (_stack, mut client, mut raw) = stack();
    client.run("SET page:1 old");
    for (refuses, allows) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 3", "CONFIG SET min-replicas-to-write 0"),
    ] {
        raw.run(refuses);
        let expected = raw.run("SET plain x");
        assert!(matches!(expected, Reply::Error(_)), "{expected:?}");
        assert_eq!(client.run("SET page:1 new"), expected);
        assert_eq!(client.run("SET page:2 new"), expected);
        assert_eq!(raw.run("MGET page:1 page:2"), Reply::Array(vec![Reply::bulk("old"), Reply::Nil]));
        raw.run(allows);
    }
    let index = raw.run("KEYS weir:*index:page-1").items()[0].text();
    raw.run(&format!("DEL {index}"));
    raw.run(&format!("SET {index} text"));
    assert!(client.run("SET page:1 new").is_error("WRONGTYPE"));
    assert_eq!(raw.run("GET page:1"), Reply::bulk("old"));
}

/// What a script looks at counts as read by its client, and what it changes as changed by another: so it is no script of theirs.
#[test]
fn a_set_of_a_key_with_tags_is_no_read_of_a_client_that_tracks() {
    let (_stack, mut client, mut raw) = stack();
    for tracking in ["CLIENT TRACKING ON", "CLIENT TRACKING ON BCAST PREFIX page: NOLOOP"] {
        client.run("HELLO 3");
        client.run(tracking);
        for words in ["SET page:1 x", "SET page:1 y NX"] {
            let expected = if words.ends_with("NX") { Reply::Nil } else { Reply::ok() };
            assert_eq!(client.run(words), expected, "{tracking}: {words}");
        }
        raw.run("SET page:1 theirs");
        let told = tracking.contains("BCAST");
        assert_eq!(matches!(client.run("PING"), Reply::Push(_)), told, "{tracking}");
        client.run("RESET");
    }
}

/// A server by itself may have slots nevertheless.
#[test]
fn a_set_of_a_key_with_tags_takes_several_steps_where_slots_matter() {
    let node = Redis::start_with(&["--cluster-enabled", "yes"]);
    let mut raw = node.client();
    assert_eq!(raw.run("CLUSTER ADDSLOTSRANGE 0 16383"), Reply::ok());
    wait_until("the slots are served", || raw.run("CLUSTER INFO").text().contains("cluster_state:ok"));
    let weir = Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\n[[route]]\nkey = \"page:{{id}}\"\nttl = \"1h\"\ntags = [\"page-{{id}}\"]\n",
        node.url()
    ));
    let mut client = weir.client();
    assert_eq!(client.run("SET page:1 v"), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE page-1"), Reply::Int(1));
    assert_eq!(raw.run("GET page:1"), Reply::Nil);
}

/// A load that began before the SET does not take the place of what it stored.
#[test]
fn a_set_of_a_key_with_tags_fences_the_load_that_began_before_it() {
    let (_stack, mut client, mut raw) = stack();
    let (lease, negative) = (Beside::of(b"user:5").name(Kind::Lease), Beside::of(b"user:5").name(Kind::Negative));
    raw.cmd(&[b"MSET", &lease[..], b"somebody", &negative[..], b""]);
    assert_eq!(client.run("SET user:5 mine"), Reply::ok());
    assert_eq!(raw.cmd(&[b"EXISTS", &lease[..], &negative[..]]), Reply::Int(0));
    assert_eq!(client.run("GET user:5"), Reply::bulk("mine"));
}

#[test]
fn what_a_transaction_writes_has_its_tags_when_it_is_done() {
    let (stack, mut client, mut raw) = stack();
    for commands in [
        &["SET user:6 mine"][..],
        &["SET user:6 mine EX 50", "GET user:6"],
        &["PERSIST user:6"],
        &["CLIENT SETNAME other", "SET user:6 mine"],
    ] {
        for tag in ["user-6", "users"] {
            client.run("GET user:6");
            forget_all_indexes(&mut raw);
            assert_eq!(client.run("MULTI"), Reply::ok());
            for command in commands {
                assert_eq!(client.run(command), Reply::Simple("QUEUED".into()));
            }
            assert_eq!(client.run("EXEC").items().len(), commands.len());
            assert!(matches!(client.run("PTTL user:6"), Reply::Int(1..=3_600_000)), "{commands:?}");
            assert_eq!(client.run(&format!("WEIR INVALIDATE {tag}")), Reply::Int(1), "{commands:?}");
            assert!(client.run("GET user:6").text().contains("user 6"), "{commands:?}");
        }
    }
    // What the row told, a transaction prolongs too; and the client goes on as before.
    forget_all_indexes(&mut raw);
    for words in ["MULTI", "EXPIRE user:6 100", "EXEC"] {
        client.run_later(words);
    }
    client.run_later("GET user:6");
    for _ in 0..2 {
        client.recv();
    }
    assert_eq!(client.recv().items(), [Reply::Int(1)]);
    assert!(client.recv().text().contains("user 6"));
    assert_eq!(client.run("WEIR INVALIDATE visits:6"), Reply::Int(1));

    // GETEX may prolong inside MULTI and under WATCH too, and not beyond the route's TTL.
    for (begin, end) in [("MULTI", "EXEC"), ("WATCH other", "UNWATCH")] {
        client.run("GET user:6");
        forget_all_indexes(&mut raw);
        for words in [begin, "GETEX user:6 PERSIST", end] {
            client.run(words);
        }
        assert!(matches!(client.run("PTTL user:6"), Reply::Int(1..=3_600_000)), "{begin}");
        assert_eq!(client.run("WEIR INVALIDATE visits:6"), Reply::Int(1), "{begin}");
    }

    // In every database that it may have met.
    for words in ["MULTI", "SELECT 3", "SET user:7 mine", "EXEC"] {
        client.run(words);
    }
    assert_eq!(client.run("WEIR INVALIDATE user-7"), Reply::Int(1), "the client is in database 3 now");
    // One that is not executed leaves nothing, and says so.
    client.run("SELECT 0");
    client.run("WATCH page:7");
    stack.weir.client().run("SET page:7 other");
    for words in ["MULTI", "SET page:7 mine"] {
        client.run(words);
    }
    assert_eq!(client.run("EXEC"), Reply::Nil);
    assert_eq!(client.run("GET page:7"), Reply::bulk("other"));
}

#[test]
fn tags_that_clients_name_last_as_long_as_the_key_of_a_route_with_tags() {
    let (_stack, mut client, mut raw) = stack();
    assert_eq!(client.run("WEIR SET page:3 v EX 50 TAGS front"), Reply::ok());
    assert_eq!(client.run("WEIR TAG page:3 late"), Reply::Int(1));
    for tag in ["front", "late", "page-3"] {
        client.run("WEIR SET page:3 v EX 50 TAGS front");
        client.run("WEIR TAG page:3 late");
        forget_all_indexes(&mut raw);
        assert_eq!(client.run("EXPIRE page:3 1000"), Reply::Int(1));
        assert_eq!(client.run(&format!("WEIR INVALIDATE {tag}")), Reply::Int(1), "{tag}");
    }
    client.run("SET page:4 v");
    let many = |from: usize| (from..from + 100).map(|number| format!("t{number}")).collect::<Vec<_>>().join(" ");
    assert_eq!(client.run(&format!("WEIR TAG page:4 {}", many(0))), Reply::Int(1));
    assert_eq!(client.run(&format!("WEIR TAG page:4 {}", many(0))), Reply::Int(1), "they are the same");
    assert!(
        client.run(&format!("WEIR TAG page:4 {}", many(50))).is_error("ERR the key would have 150 tags, more than 128")
    );
    client.run("GET user:1");
    for key in raw.run("KEYS *").items() {
        let key = key.text();
        assert!(matches!(raw.run(&format!("PTTL {key}")), Reply::Int(1..)), "{key} stays for ever");
    }
}

fn what_a_refresh_puts_in_a_values_place_has_the_tags_that_clients_named(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let tagged = |client: &mut Client, key: &str| {
        client.run(&format!("EXISTS {key}"));
        assert_eq!(client.run(&format!("WEIR TAG {key} late")), Reply::Int(1), "{key}");
        (0..2).for_each(|_| assert_eq!(client.run(&format!("WEIR REFRESH {key}")), Reply::Int(1), "{key}"));
    };
    for key in ["user:4", "keyed:4", "slides:4"] {
        // Under another name nothing but the note tells.
        tagged(&mut client, key);
        assert_eq!(client.run(&format!("RENAME {key} elsewhere")), Reply::ok());
        assert_eq!(client.run("WEIR INVALIDATE late"), Reply::Int(1), "{key}");
        assert_eq!(client.run("EXISTS elsewhere"), Reply::Int(0), "{key}");

        // What is gone has no tags, and what comes after it begins anew.
        tagged(&mut client, key);
        assert_eq!(client.run(&format!("DEL {key}")), Reply::Int(1));
        assert_eq!(client.run(&format!("WEIR REFRESH {key}")), Reply::Int(1));
        assert_eq!(client.run(&format!("RENAME {key} elsewhere")), Reply::ok());
        assert_eq!(client.run("WEIR INVALIDATE late"), Reply::Int(0), "{key}");
        assert_eq!(client.run("DEL elsewhere"), Reply::Int(1), "{key}");
    }

    // The row's own tags are those of the row that is there, unless a client has named them too.
    let becomes = |visits: usize| stack.database.sql(&format!("UPDATE users SET visits = {visits} WHERE id = 5"));
    for (tag, values) in [("visits:150", 0), ("visits:199", 1), ("late", 1), ("visits:1", 1)] {
        client.run("DEL user:5 elsewhere");
        client.run("GET user:5");
        assert_eq!(client.run("WEIR TAG user:5 late visits:1"), Reply::Int(1));
        for visits in [1, 150, 199] {
            becomes(visits);
            assert_eq!(client.run("WEIR REFRESH user:5"), Reply::Int(1), "{visits}");
        }
        assert_eq!(client.run("COPY user:5 elsewhere"), Reply::Int(1));
        assert_eq!(client.run("DEL user:5"), Reply::Int(1));
        assert_eq!(client.run(&format!("WEIR INVALIDATE {tag}")), Reply::Int(values), "{tag}");
    }
    // So they do not gather: a key has no more than max_tags of them.
    client.run("GET user:5");
    for visits in 0..130 {
        becomes(visits);
        assert_eq!(client.run("WEIR REFRESH user:5"), Reply::Int(1), "{visits}");
    }
    assert_eq!(client.run("WEIR TAG user:5 late"), Reply::Int(1));
}

#[test]
fn a_refresh_prolongs_what_clients_noted() {
    let (_stack, mut client, mut raw) = stack();
    for key in ["user:4", "keyed:4", "slides:4"] {
        client.run(&format!("EXISTS {key}"));
        assert_eq!(client.run(&format!("WEIR TAG {key} late")), Reply::Int(1), "{key}");
        let note = raw.run(&format!("KEYS weir:*tags:{key}")).items()[0].text();
        assert_eq!(raw.run(&format!("PEXPIRE {note} 600000")), Reply::Int(1));
        forget_all_indexes(&mut raw);
        assert_eq!(client.run(&format!("WEIR REFRESH {key}")), Reply::Int(1), "{key}");
        let mut left = |key: &str| raw.run(&format!("PTTL {key}")).int();
        let (note, value) = (left(&note), left(key));
        assert!(note >= value && value > 3_000_000, "{key}: {note} {value}");
        assert_eq!(client.run("WEIR INVALIDATE late"), Reply::Int(1), "{key}");
    }
}

#[test]
fn over_a_cluster_tags_last_as_long_as_their_keys_too() {
    let (cluster, database) = (RedisCluster::start(0), Database::shop(Pair::RedisSqlite));
    let weir = Weir::start(&(servers(Some(&cluster.url()), &database.url()) + &routes(&database)));
    let mut client = weir.client();
    for words in ["EXPIRE user:1 100", "PERSIST user:1", "GETEX user:1 EX 100", "SET user:1 mine"] {
        client.run("GET user:1");
        (0..3).for_each(|node| forget_all_indexes(&mut cluster.client(node)));
        client.run(words);
        assert_eq!(client.run("WEIR INVALIDATE visits:1 users"), Reply::Int(1), "{words}");
    }
    for words in ["MULTI", "SET user:1 mine", "EXEC"] {
        client.run(words);
    }
    assert_eq!(client.run("WEIR INVALIDATE user-1"), Reply::Int(1));
    client.run("GET user:2");
    assert_eq!(client.run("RENAME user:2 other{user:2}"), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE visits:2"), Reply::Int(1));
}

/// T8: the sequence was evicted, and begins anew; no load that was under way may take that for nothing having happened.
#[test]
fn a_sequence_that_was_evicted_begins_above_what_was_noted_of_it() {
    let stack = Stack::with(Pair::RedisSqlite, |database| {
        format!(
            "[[route]]\nkey = \"slow:{{id}}\"\nload = \"SELECT id, name, {} AS held FROM users WHERE id = :id\"\n\
             tags = [\"slow\"]\n",
            database.held_column(500)
        )
    });
    let mut raw = stack.redis.as_ref().expect("there is a Redis").client();
    let mut writer = stack.weir.client();
    for _ in 0..5 {
        writer.run("WEIR INVALIDATE other");
    }
    let mut reader = stack.weir.client();
    reader.run_later("GET slow:1");
    stack.wait_until_loading(1);
    assert_eq!(raw.run("DEL weir:{0}sequence"), Reply::Int(1));
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
    writer.run("WEIR INVALIDATE slow");
    reader.recv();
    assert!(writer.run("GET slow:1").text().contains("new"));
    assert!(raw.run("GET weir:{0}sequence").text().parse::<u64>().expect("a number") > 1_000_000_000_000_000);
}

#[test]
fn whoever_uses_tags_is_warned_of_a_policy_that_may_evict_them() {
    let warning = "maxmemory-policy allkeys-lru may evict what says which keys a tag has";
    let database = Database::shop(Pair::RedisSqlite);
    let config = |redis: &Redis, routes: &str| {
        format!(
            "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\n{routes}",
            redis.url(),
            database.url()
        )
    };
    let tagged = routes(&database);
    let evicting = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    assert!(check(&config(&evicting, &tagged)).stdout.contains(warning));
    assert!(Weir::start(&config(&evicting, &tagged)).log().contains(warning));
    let without = "[[route]]\nkey = \"user:{id}\"\nload = \"SELECT id, name FROM users WHERE id = :id\"\n";
    assert!(!check(&config(&evicting, without)).stdout.contains(warning));
    let plain = Weir::start(&config(&evicting, without));
    assert!(!plain.log().contains(warning));
    assert_eq!(plain.client().run("WEIR SET a 1 TAGS t"), Reply::ok());
    wait_until("it is said once a client names tags", || plain.log().contains(warning));

    let sparing = Redis::start();
    assert!(!check(&config(&sparing, &tagged)).all().contains("maxmemory-policy"));
    let weir = Weir::start(&config(&sparing, &tagged));
    assert!(!weir.log().contains("maxmemory-policy"));
    let mut raw = sparing.client();
    assert_eq!(raw.run("CONFIG SET maxmemory-policy allkeys-lru"), Reply::ok());
    assert!(raw.run("CLIENT KILL TYPE normal SKIPME yes").int() > 0);
    wait_until("the change is told", || weir.log().contains(warning));
    assert_eq!(raw.run("CONFIG SET maxmemory-policy noeviction"), Reply::ok());
    raw.run("CLIENT KILL TYPE normal SKIPME yes");
    wait_until("its end too", || weir.log().contains("spares tags again"));
}
