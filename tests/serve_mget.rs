//! MGET keeps its order whatever mixture it meets, asks once for all that is missing, and never nests an error (T45).

mod harness;

use harness::*;

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "product"
key = "product:{{id}}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"

[[route]]
name = "counter"
key = "counter:{{name}}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"

[[route]]
name = "failing"
key = "failing:{{id}}"
load = "SELECT id, {} AS detail FROM products WHERE id = :id /* failing */"
"#,
        database.failing_column()
    )
}

over_all_pairs!(
    forty_misses_of_a_hundred_are_one_statement,
    a_mixture_keeps_its_order,
    a_failed_load_fails_the_whole_command,
);

fn names(ids: impl Iterator<Item = u32>) -> Vec<String> {
    ids.map(|id| format!("product:{id}")).collect()
}

fn mget(client: &mut Client, keys: &[String]) -> Reply {
    let words: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    client.cmd(&words)
}

fn forty_misses_of_a_hundred_are_one_statement(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    // Every fifth and every third of five is present: hits and misses alternate.
    let present = names((1..=100).filter(|id| id % 5 != 0 && id % 5 != 3));
    assert_eq!(present.len(), 60);
    mget(&mut client, &present);
    assert_eq!(stack.database.runs("/* product */").unwrap_or(1), 1);
    let reply = mget(&mut client, &names(1..=100));
    for (item, id) in reply.items().iter().zip(1..) {
        assert_eq!(item.json()["id"], id);
    }
    assert_eq!(reply.items().len(), 100);
    assert_eq!(stack.database.runs("/* product */").unwrap_or(2), 2);
    let metrics = stack.weir.metrics();
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "hit")]), 60.0);
    assert_eq!(metrics.sum("weir_lookups_total", &[("route", "product"), ("outcome", "miss")]), 100.0);
    mget(&mut client, &names(1..=100));
    assert_eq!(stack.database.runs("/* product */").unwrap_or(2), 2, "all are hits now");
}

fn a_mixture_keeps_its_order(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("SET plain text");
    client.run("GET product:2");
    client.run("GET product:998");
    let reply = client.run(
        "MGET counter:a product:1 plain product:2 absent product:998 product:999 product:abc product:1 counter:b counter:none",
    );
    let items = reply.items();
    assert_eq!(items[0], Reply::bulk("10"));
    assert_eq!(items[1].json()["id"], 1);
    assert_eq!(items[2], Reply::bulk("text"));
    assert_eq!(items[3].json()["id"], 2);
    assert_eq!(items[4..8], vec![Reply::Nil; 4]);
    assert_eq!(items[8], items[1], "the same key twice");
    assert_eq!(items[9], Reply::bulk("41"));
    assert_eq!(items[10], Reply::Nil);
}

fn a_failed_load_fails_the_whole_command(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    stack.database.sql("UPDATE products SET detail = 'broken' WHERE id = 3");
    assert!(client.run("MGET product:1 failing:3 product:2").is_error("LOAD "));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "exactly one reply was given");
    assert_eq!(client.run("GET product:1").json()["id"], 1, "others are not spoiled");
}
