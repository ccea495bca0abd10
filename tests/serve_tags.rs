//! Tags: WEIR INVALIDATE drops what has the tag, and nothing that was loaded before it is ever seen afterwards (G1, T7–T9, T43).

mod harness;

use harness::*;

over_all_pairs!(
    an_invalidation_by_tag_drops_every_key_that_has_it_and_no_other,
    a_load_that_an_invalidation_by_tag_overtook_is_not_stored,
    of_keys_that_are_loaded_together_those_with_the_tag_are_not_stored,
    a_row_that_moved_is_dropped_by_either_tag,
    what_was_not_there_is_found_once_its_tag_is_invalidated,
    clients_tag_their_own_keys,
);

/// Products by visits' worth of a category: users have one in `visits`.
fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "user"
key = "user:{{id}}"
load = "SELECT id, name, visits FROM users WHERE id = :id"
tags = ["users", "user-{{id}}", "visits:{{visits}}"]
ttl = "1h"
negative_ttl = "1h"
[[route]]
name = "by_visits"
key = "users:{{visits}}"
rows = "many"
load = "SELECT id, name FROM users WHERE visits = :visits ORDER BY id"
tags = ["user-{{id}}"]
ttl = "1h"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, visits, {} AS held FROM users WHERE id = :id /* slow */"
tags = ["slow", "visits:{{visits}}"]
ttl = "1h"
negative_ttl = "1h"
"#,
        database.held_column(500)
    )
}

/// The texts of an array; a nil has none.
fn texts(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(|item| if *item == Reply::Nil { String::new() } else { item.text() }).collect()
}

fn name(reply: &Reply) -> String {
    let json: serde_json::Value = serde_json::from_str(&reply.text()).expect("a row");
    json["name"].as_str().expect("it has a name").to_owned()
}

fn an_invalidation_by_tag_drops_every_key_that_has_it_and_no_other(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("MGET user:1 user:2 user:3 users:4");
    let before = stack.weir.metric("weir_loads_total", &[]);
    stack.database.sql("UPDATE users SET name = 'new'");

    assert_eq!(client.run("WEIR INVALIDATE visits:1 visits:3 nobody"), Reply::Int(2));
    let names =
        |client: &mut Client| client.run("MGET user:1 user:2 user:3").items().iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&mut client), ["new", "user 2", "new"]);
    assert_eq!(client.run("WEIR INVALIDATE users"), Reply::Int(3));
    assert_eq!(names(&mut client), ["new", "new", "new"]);
    assert!(client.run("GET users:4").text().contains("user 4"), "it has no such tag");
    assert_eq!(client.run("WEIR INVALIDATE user-4"), Reply::Int(1));
    assert!(client.run("GET users:4").text().contains("new"));
    assert_eq!(stack.weir.metric("weir_loads_total", &[]) - before, 2.0 + 3.0 + 1.0);
    assert_eq!(stack.weir.metric("weir_invalidations_total", &[("source", "tag")]), 6.0);
    assert_eq!(client.run("WEIR INVALIDATE users"), Reply::Int(3), "what was loaded again has its tags again");
}

fn a_load_that_an_invalidation_by_tag_overtook_is_not_stored(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let gate = stack.database.shut_gate();
    let mut reader = stack.weir.client();
    reader.run_later("GET slow:7");
    stack.wait_until_loading(1);
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 7");
    let mut writer = stack.weir.client();
    // Its tag is known to nobody yet but the load.
    assert_eq!(writer.run("WEIR INVALIDATE visits:7"), Reply::Int(0));
    // Who comes now waits for the load, and must not get its row.
    let mut later = stack.weir.client();
    later.run_later("GET slow:7");
    drop(gate);
    assert_eq!(name(&reader.recv()), "user 7");
    assert_eq!(name(&later.recv()), "new");
    assert_eq!(name(&writer.run("GET slow:7")), "new");
    let refused = [("route", "slow"), ("reason", "tag_invalidated")];
    assert_eq!(stack.weir.metric("weir_fills_refused_total", &refused), 1.0);
}

fn of_keys_that_are_loaded_together_those_with_the_tag_are_not_stored(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut writer = stack.weir.client();
    // One is there already.
    writer.run("GET slow:4");
    let gate = stack.database.shut_gate();
    let mut reader = stack.weir.client();
    reader.run_later("MGET slow:4 slow:5 slow:6 slow:7 slow:900");
    stack.wait_until_loading(1);
    stack.database.sql("UPDATE users SET name = 'new' WHERE id IN (4, 5, 6)");
    assert_eq!(writer.run("WEIR INVALIDATE visits:6"), Reply::Int(0));
    drop(gate);
    assert_eq!(name(&reader.recv().items()[2]), "user 6");
    assert_eq!(name(&writer.run("GET slow:6")), "new");
    let [cached, stored] = [5, 7].map(|id| writer.run(&format!("GET slow:{id}")));
    assert_eq!((name(&cached), name(&stored)), ("user 5".into(), "user 7".into()));
    let refused = [("route", "slow"), ("reason", "tag_invalidated")];
    // An absence has the tag too, by its pattern.
    assert_eq!(stack.weir.metric("weir_fills_refused_total", &refused), 2.0);
    assert_eq!(writer.run("WEIR INVALIDATE slow"), Reply::Int(4));
}

fn a_row_that_moved_is_dropped_by_either_tag(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("GET user:5");
    stack.database.sql("UPDATE users SET visits = 500, name = 'moved' WHERE id = 5");
    assert_eq!(client.run("WEIR INVALIDATE visits:5"), Reply::Int(1));
    assert_eq!(name(&client.run("GET user:5")), "moved");
    stack.database.sql("UPDATE users SET name = 'again' WHERE id = 5");
    assert_eq!(client.run("WEIR INVALIDATE visits:500"), Reply::Int(1));
    assert_eq!(name(&client.run("GET user:5")), "again");
}

fn what_was_not_there_is_found_once_its_tag_is_invalidated(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for id in [900, 901] {
        assert_eq!(client.run(&format!("GET user:{id}")), Reply::Nil);
    }
    assert_eq!(client.run("GET users:999").text(), "[]");
    stack.database.sql("INSERT INTO users VALUES (900, 'late', NULL, 999), (901, 'later', NULL, 998)");
    assert_eq!(client.run("WEIR INVALIDATE unrelated"), Reply::Int(0));
    assert_eq!(client.run("GET user:900"), Reply::Nil);
    assert_eq!(client.run("WEIR INVALIDATE visits:999"), Reply::Int(0), "nothing had a value");
    assert_eq!(name(&client.run("GET user:900")), "late");
    assert_eq!(client.run("WEIR INVALIDATE user-900"), Reply::Int(2), "the user, and the list without users");
    assert!(client.run("GET users:999").text().contains("late"));
}

fn clients_tag_their_own_keys(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert_eq!(client.run("WEIR SET page:1 one EX 100 TAGS pages front"), Reply::ok());
    assert_eq!(client.run("WEIR SET page:2 two PX 100000 TAGS pages"), Reply::ok());
    assert_eq!(client.run("WEIR SET page:3 three TAGS pages"), Reply::ok());
    assert_eq!(client.run("SET page:4 four EX 100"), Reply::ok());
    assert!(matches!(client.run("PTTL page:2"), Reply::Int(1..=100_000)));
    assert!(matches!(client.run("PTTL page:3"), Reply::Int(1..=300_000)), "the ttl of [defaults]");
    assert_eq!(client.run("WEIR TAG page:4 pages late"), Reply::Int(1));
    assert_eq!(client.run("WEIR TAG page:5 pages"), Reply::Int(0));
    assert_eq!(client.run("WEIR INVALIDATE front late"), Reply::Int(2));
    assert_eq!(texts(&client.run("MGET page:1 page:2 page:3 page:4")), ["", "two", "three", ""]);
    assert_eq!(client.run("WEIR INVALIDATE pages"), Reply::Int(2));
    assert_eq!(client.run("EXISTS page:1 page:2 page:3 page:4"), Reply::Int(0));

    // A routed key is fenced, capped, and has its route's own tags besides.
    client.run("GET user:3");
    assert_eq!(client.run("WEIR SET user:3 mine EX 999999 TAGS mine"), Reply::ok());
    assert!(matches!(client.run("PTTL user:3"), Reply::Int(1..=3_600_000)));
    assert_eq!(client.run("WEIR INVALIDATE users"), Reply::Int(1));
    assert_eq!(client.run("SET user:3 mine"), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE user-3"), Reply::Int(1));
    assert_eq!(client.run("SET user:3 mine"), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE visits:3"), Reply::Int(1), "the index still knows what was loaded before");

    // Answers in order, and each sees what the client sent before.
    client.run_later("WEIR SET a 1 TAGS t");
    client.run_later("GET a");
    client.run_later("WEIR INVALIDATE t");
    client.run_later("GET a");
    let replies: Vec<Reply> = (0..4).map(|_| client.recv()).collect();
    assert_eq!(replies, [Reply::ok(), Reply::bulk("1"), Reply::Int(1), Reply::Nil]);

    assert_eq!(client.run("SET forever 1"), Reply::ok());
    assert!(client.run("WEIR TAG forever t").is_error("ERR the key has no TTL; give it one with EXPIRE"));
    for words in ["WEIR SET a 1 EX 5", "WEIR SET a 1 TAGS", "WEIR SET a 1 EX TAGS t", "WEIR SET a 1 NX TAGS t"] {
        let reply = client.run(words);
        assert!(reply.is_error("ERR syntax error; write WEIR SET") || reply.is_error("ERR wrong number"), "{words}");
    }
    assert!(client.run("WEIR SET a 1 EX 0 TAGS t").is_error("ERR invalid expire time"));
    assert!(client.run("WEIR SET a 1 EX x TAGS t").is_error("ERR value is not an integer"));
    let many: Vec<String> = (0..129).map(|number| format!("t{number}")).collect();
    assert!(client.run(&format!("WEIR SET a 1 TAGS {}", many.join(" "))).is_error("ERR more than 128 tags"));
}

#[test]
fn a_value_with_too_many_tags_is_served_and_not_stored() {
    let stack = Stack::start(
        Pair::RedisSqlite,
        r#"
[[route]]
name = "list"
key = "list:{least}"
rows = "many"
load = "SELECT id FROM users WHERE id >= :least"
tags = ["user-{id}"]
[limits]
max_tags = 10
"#,
    );
    let mut client = stack.weir.client();
    for _ in 0..2 {
        assert!(client.run("GET list:5").text().contains("20"));
        client.run("GET list:11");
    }
    stack.assert_loads("list", 3);
    let refused = [("route", "list"), ("reason", "too_many_tags")];
    assert_eq!(stack.weir.metric("weir_fills_refused_total", &refused), 2.0);
}

/// T7: 10,000 keys that live for 60 ms each, over a few seconds of the index's life.
#[test]
fn an_index_at_redis_holds_little_more_than_what_lives_and_nothing_stays_for_ever() {
    let redis = Redis::start();
    let stack = Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n", redis.url()));
    let (mut client, mut raw) = (stack.client(), redis.client());
    for number in 0..2_000 {
        assert_eq!(client.run(&format!("WEIR SET key:{number} v PX 1 TAGS t")), Reply::ok());
    }
    let keys = texts(&raw.run("KEYS weir:*"));
    assert!(keys.iter().any(|key| key.contains("index:t")), "{keys:?}");
    assert_eq!(client.run("WEIR INVALIDATE t"), Reply::Int(0));
    let keys = texts(&raw.run("KEYS *"));
    assert!(!keys.is_empty());
    for key in keys {
        assert!(matches!(raw.run(&format!("PTTL {key}")), Reply::Int(1..)), "{key} stays for ever");
    }
}

/// T8: a proxy that dies between the steps of an invalidation leaves a list behind, which the next one works off.
#[test]
fn what_a_dead_proxy_has_set_aside_is_worked_off_by_the_next_invalidation() {
    let stack = Stack::with(Pair::RedisSqlite, routes);
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.as_ref().expect("there is a Redis").client());
    client.run("GET user:6");
    let index = texts(&raw.run("KEYS weir:*index:visits:6")).remove(0);
    let list = index.replace("index:", "list:00000000000000ab:");
    let lists = index.replace("index:", "lists:");
    assert_eq!(raw.run(&format!("RENAME {index} {list}")), Reply::ok());
    assert_eq!(raw.run(&format!("SADD {lists} 00000000000000ab")), Reply::Int(1));
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 6");
    assert_eq!(client.run("WEIR INVALIDATE visits:6"), Reply::Int(1));
    assert_eq!(name(&client.run("GET user:6")), "new");
    assert_eq!(raw.run(&format!("EXISTS {list} {lists}")), Reply::Int(0));
}

/// Many pages, and an invalidation through one proxy of what another has loaded.
#[test]
fn an_invalidation_reaches_what_other_proxies_have_loaded_however_much_it_is() {
    let redis = Redis::start();
    let upstream = format!("[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n", redis.url());
    let (one, other) = (Weir::start(&upstream), Weir::start(&upstream));
    let mut writer = one.client();
    for number in 0..2_500 {
        writer.run_later(&format!("WEIR SET key:{number} v EX 1000 TAGS all part:{}", number % 5));
    }
    for _ in 0..2_500 {
        assert_eq!(writer.recv(), Reply::ok());
    }
    let mut client = other.client();
    assert_eq!(client.run("WEIR INVALIDATE part:3"), Reply::Int(500));
    assert_eq!(client.run("EXISTS key:3"), Reply::Int(0));
    assert_eq!(client.run("WEIR INVALIDATE all"), Reply::Int(2_000));
    assert_eq!(client.run("WEIR INVALIDATE all"), Reply::Int(0));
    assert_eq!(redis.client().run("EXISTS key:0 key:1 key:2"), Reply::Int(0));
}
