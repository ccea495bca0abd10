//! WEIR STATS tells the numbers of /metrics.

mod harness;

use harness::*;

over_all_pairs!(figures_are_those_of_the_metrics);

const ROUTES: &str = r#"
[[route]]
name = "user"
key = "user:{id}"
load = "SELECT id, name FROM users WHERE id = :id"
tags = ["users"]
[[route]]
name = "small"
key = "small:{id}"
max_value = "4B"
load = "SELECT id, name FROM users WHERE id = :id"
[[route]]
name = "report"
key = "report:{id}"
"#;

/// The figure of this name in a map, or in a flat array.
fn figure<'a>(stats: &'a Reply, name: &str) -> &'a Reply {
    let found = match stats {
        Reply::Map(pairs) => pairs.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value),
        other => other.items().chunks(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1]),
    };
    found.unwrap_or_else(|| panic!("{name} is not told: {stats:?}"))
}

fn figures_are_those_of_the_metrics(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    let mut client = stack.weir.client();
    for words in ["GET user:1", "GET user:1", "GET user:1", "GET user:900", "GET user:900", "GET small:1"] {
        client.run(words);
    }
    assert_eq!(client.run("WEIR INVALIDATE users"), Reply::Int(1));
    assert_eq!(client.run("DEL user:1"), Reply::Int(0));

    let all = client.run("WEIR STATS");
    for (name, told) in [
        ("version", Reply::bulk(env!("CARGO_PKG_VERSION"))),
        ("store", Reply::bulk(if pair.has_redis() { "redis" } else { "embedded" })),
        ("upstream_up", Reply::Int(1)),
        ("clients", Reply::Int(1)),
        ("near_entries", Reply::Int(0)),
        ("invalidations_by_command", Reply::Int(1)),
        ("invalidations_by_tag", Reply::Int(1)),
        ("invalidations_by_event", Reply::Int(0)),
    ] {
        assert_eq!(*figure(&all, name), told, "{name}");
    }
    assert!(matches!(figure(&all, "uptime_in_seconds"), Reply::Int(0..)));
    let user = figure(figure(&all, "routes"), "user").clone();
    for (name, told) in [
        ("hit_ratio", Reply::bulk("0.6000")),
        ("near_hits", Reply::Int(0)),
        ("hits", Reply::Int(2)),
        ("negative_hits", Reply::Int(1)),
        ("misses", Reply::Int(2)),
        ("loads", Reply::Int(2)),
        ("loads_failed", Reply::Int(0)),
        ("fills", Reply::Int(2)),
        ("checks_stale", Reply::Int(0)),
    ] {
        assert_eq!(*figure(&user, name), told, "{name}");
    }
    assert_eq!(*figure(figure(figure(&all, "routes"), "small"), "fills_too_big"), Reply::Int(1));
    assert_eq!(*figure(figure(figure(&all, "routes"), "report"), "hit_ratio"), Reply::Nil);
    let metrics = stack.weir.metrics();
    for (name, series, labels) in [
        ("hits", "weir_lookups_total", [("route", "user"), ("outcome", "hit")]),
        ("misses", "weir_lookups_total", [("route", "user"), ("outcome", "miss")]),
        ("fills", "weir_fills_total", [("route", "user"), ("result", "stored")]),
    ] {
        assert_eq!(*figure(&user, name), Reply::Int(metrics.sum(series, &labels) as i64), "{name}");
    }

    assert_eq!(client.run("WEIR STATS user"), user);
    assert!(client.run("WEIR STATS nobody").is_error("ERR there is no such route; WEIR ROUTES lists all"));
    assert!(client.run("WEIR STATS user user").is_error("ERR wrong number of arguments for 'weir|stats' command"));

    // As maps, and in order with what is sent around it.
    client.run("HELLO 3");
    client.run_later("SET a 1");
    client.run_later("WEIR STATS user");
    client.run_later("GET a");
    let replies: Vec<Reply> = (0..3).map(|_| client.recv()).collect();
    assert_eq!([&replies[0], &replies[2]], [&Reply::ok(), &Reply::bulk("1")]);
    assert!(matches!(replies[1], Reply::Map(_)), "{replies:?}");
    assert_eq!(*figure(&replies[1], "hits"), Reply::Int(2));
}
