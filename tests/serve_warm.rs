//! Warming: the keys that `warm` names are loaded before anybody asks for them, at start and by WEIR WARM.

mod harness;

use harness::*;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
warm = "SELECT id FROM products WHERE id <= 150 ORDER BY id"

[[route]]
name = "named"
key = "named:{id}:{name}"
value = "hash"
load = "SELECT price FROM products WHERE id = :id AND name = :name /* named */"
warm = "SELECT name, id FROM products WHERE id IN (1, 2) UNION ALL SELECT 'nobody', 999 UNION ALL SELECT 'a:b', 3"

[[route]]
name = "cold"
key = "cold:{id}"
load = "SELECT id FROM products WHERE id = :id /* cold */"
"#;

over_all_pairs!(
    what_is_named_is_loaded_before_anybody_asks,
    what_is_there_is_passed_over,
    readiness_waits_where_that_is_asked_for,
    a_warming_that_fails_stops_nothing,
);

const READY: &str =
    "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nready_after_warm = true\n";

fn progress(weir: &Weir, route: &str, field: &str) -> serde_json::Value {
    let (status, body) = weir.admin_get("/api/warm");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<serde_json::Value>(&body).expect("JSON")[route][field].clone()
}

fn wait_until_warm(weir: &Weir, route: &str) {
    wait_until(&format!("{route} is warm"), || progress(weir, route, "state") == "done");
}

fn what_is_named_is_loaded_before_anybody_asks(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    wait_until_warm(&stack.weir, "product");
    wait_until_warm(&stack.weir, "named");
    let metrics = stack.weir.metrics();
    let loads =
        |route, result| metrics.sum("weir_loads_total", &[("route", route), ("trigger", "warm"), ("result", result)]);
    assert_eq!((loads("product", "row"), loads("named", "row"), loads("named", "empty")), (150.0, 2.0, 1.0));
    assert_eq!(progress(&stack.weir, "named", "keys"), 3, "a:b is no part of such a key");
    assert_eq!(progress(&stack.weir, "named", "absent"), 1);
    assert_eq!(progress(&stack.weir, "product", "done"), 150);
    // 150 keys are two statements of a hundred keys at most.
    assert_eq!(stack.database.runs("/* product */").unwrap_or(2), 2);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:7").json()["name"], "product 7");
    assert_eq!(client.run("HGET named:1:product%201 price"), Reply::Nil);
    assert_eq!(client.cmd(&["HGET", "named:1:product 1", "price"]), Reply::bulk("101"));
    let metrics = stack.weir.metrics();
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "hit")]), 1.0);
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "miss")]), 0.0);
    assert_eq!(metrics.sum("weir_loads_total", &[("route", "cold")]), 0.0);
}

fn what_is_there_is_passed_over(pair: Pair) {
    let stack = Stack::start(pair, ROUTES);
    wait_until_warm(&stack.weir, "product");
    wait_until_warm(&stack.weir, "named");
    let mut client = stack.weir.client();
    assert_eq!(client.run("SET product:1 mine"), Reply::ok());
    assert_eq!(client.run("DEL product:2 product:3"), Reply::Int(2));
    assert_eq!(client.run("WEIR WARM product"), Reply::Int(2));
    assert_eq!(progress(&stack.weir, "product", "present"), 148);
    assert_eq!(client.run("GET product:1"), Reply::bulk("mine"));
    assert_eq!(stack.weir.metric("weir_loads_total", &[("route", "product"), ("trigger", "warm")]), 152.0);
    assert!(client.run("WEIR WARM cold").is_error("ERR there is no route of that name with a `warm`"));
    assert!(client.run("WEIR WARM").is_error("ERR wrong number of arguments"));
}

fn readiness_waits_where_that_is_asked_for(pair: Pair) {
    let stack = Stack::start(pair, &format!("{READY}{ROUTES}"));
    // It was started until it was ready.
    assert_eq!(progress(&stack.weir, "product", "state"), "done");
    assert_eq!(progress(&stack.weir, "named", "state"), "done");
    assert_eq!(stack.weir.client().run("WEIR WARM product"), Reply::Int(0));
    assert_eq!(stack.weir.admin_get("/readyz").0, 200, "once is enough");
}

/// It says so in the log, and nobody waits for it.
fn a_warming_that_fails_stops_nothing(pair: Pair) {
    let stack = Stack::with(pair, |database| {
        let failing = database.failing_column();
        database.sql("UPDATE products SET detail = 'broken' WHERE id = 3");
        format!(
            "{READY}[[route]]\nname = \"broken\"\nkey = \"broken:{{id}}\"\nload = \"SELECT id FROM products WHERE id = :id\"\n\
             warm = \"SELECT id, {failing} AS detail FROM products\"\n\
             [[route]]\nname = \"failing\"\nkey = \"failing:{{id}}\"\nload = \"SELECT id, {failing} AS detail FROM products WHERE id = :id\"\n\
             warm = \"SELECT id FROM products WHERE id IN (3, 4)\"\n"
        )
    });
    assert_eq!(progress(&stack.weir, "broken", "state"), "failed");
    assert_eq!(progress(&stack.weir, "failing", "state"), "done");
    assert_eq!(progress(&stack.weir, "failing", "failed"), 2, "one statement has failed for both");
    assert!(stack.weir.log().contains("nothing is warmed"));
    let mut client = stack.weir.client();
    assert!(client.run("WEIR WARM broken").is_error("LOAD the statement of `warm` failed"));
    assert_eq!(client.run("GET broken:3").json()["id"], 3);
}

#[test]
fn check_tells_what_is_wrong_with_a_warm() {
    let sqlite = Sqlite::shop();
    let file = |warm: &str| {
        format!(
            "[database.main]\nurl = \"{}\"\n[[route]]\nkey = \"product:{{id}}\"\nload = \"SELECT name FROM products WHERE id = :id\"\nwarm = \"{warm}\"\n",
            sqlite.url()
        )
    };
    assert_eq!(check(&file("SELECT id FROM products")).code, Some(0));
    for (warm, told) in [
        ("SELECT name FROM products", "its columns must be named like the key's parts: id; name them with AS"),
        ("SELECT id FROM product", "no such table: product"),
        ("SELECT id FROM products WHERE id = :id", "`:id` has no value here: no key is asked for yet"),
    ] {
        let finished = check(&file(warm));
        assert_eq!(finished.code, Some(78), "{warm}");
        assert!(finished.stderr.contains(told), "{warm}: {}", finished.stderr);
    }
}
