//! Routed reads that come together travel as one run, and are judged one by one: every client sees what it would have seen had it
//! sent them one after the other (G3), whatever becomes of some of them.

mod harness;

use harness::*;
use std::io::Write;

const UPSTREAM_TIMEOUT: &str = "timeout = \"20s\"\n";

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "product"
key = "product:{{id}}"
value = "text"
load = "SELECT name FROM products WHERE id = :id /* product */"
ttl = "1h"
grace = "1h"
negative_ttl = "1h"

[[route]]
name = "plain"
key = "plain:{{id}}"
value = "text"
load = "SELECT name FROM products WHERE id = :id /* plain */"
ttl = "1h"

[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT name, {} AS held FROM products WHERE id = :id /* slow */"
ttl = "1h"
"#,
        database.held_column(300)
    )
}

over_all_pairs!(
    each_read_of_a_run_is_answered_as_it_would_be_alone,
    a_miss_holds_back_what_stands_behind_it_and_nothing_else,
    a_change_waits_for_the_reads_before_it,
    a_muted_read_says_nothing,
    large_values_of_a_run_come_whole,
);

fn words(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| raw_command(line)).collect()
}

fn each_read_of_a_run_is_answered_as_it_would_be_alone(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    client.run("HSET plain:99999 field value");
    let mut reads = Vec::new();
    for _ in 0..200 {
        let id = random.u32(1..60);
        reads.push(match random.u8(0..8) {
            0 => format!("GET plain:{id}"),
            1 => format!("STRLEN product:{id}"),
            2 => "GET plain:99999".into(),
            3 => format!("GETRANGE product:{id} 0 3"),
            4 => format!("EXISTS product:{id}"),
            5 => format!("HGET plain:99999 {}", if random.bool() { "field" } else { "none" }),
            _ => format!("GET product:{id}"),
        });
    }
    // Most of them miss the first time, in whatever order their loads end; and none the second.
    for round in 0..3 {
        let mut bytes: Vec<u8> = reads.iter().flat_map(|read| raw_command(read)).collect();
        if round == 2 {
            let mut writer = client.writer();
            let pieces: Vec<Vec<u8>> = bytes.chunks(13).map(<[u8]>::to_vec).collect();
            bytes.clear();
            std::thread::spawn(move || pieces.iter().for_each(|piece| writer.write_all(piece).expect("it is open")));
        }
        client.send(&bytes);
        let together: Vec<Reply> = reads.iter().map(|_| client.recv()).collect();
        for (read, reply) in reads.iter().zip(together) {
            assert_eq!(reply, client.run(read), "{read}, round {round}, seed {seed}");
        }
    }
    // HSET has looked for the row of its key.
    let expected = 6.0 * reads.len() as f64 + 1.0;
    let lookups = |route, outcome| stack.weir.metric("weir_lookups_total", &[("route", route), ("outcome", outcome)]);
    let all: f64 = ["product", "plain"]
        .iter()
        .flat_map(|route| {
            ["hit", "miss", "negative_hit", "stale_hit", "bypass", "unstored", "error"]
                .map(|outcome| lookups(route, outcome))
        })
        .sum();
    assert_eq!(all, expected, "each read is counted once, seed {seed}");
    let counted: f64 = ["get", "strlen", "getrange", "exists", "hget"]
        .iter()
        .flat_map(|command| ["ok", "error"].map(|result| (command, result)))
        .map(|(command, result)| stack.weir.metric("weir_commands_total", &[("command", command), ("result", result)]))
        .sum();
    assert_eq!(counted, 6.0 * reads.len() as f64, "seed {seed}");
}

fn a_miss_holds_back_what_stands_behind_it_and_nothing_else(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let (mut client, mut other) = (stack.weir.client(), stack.weir.client());
    for id in 1..=4 {
        other.run(&format!("GET product:{id}"));
    }
    let gate = stack.database.shut_gate();
    client.send(&words(&[
        "GET product:1",
        "GET product:2",
        "GET slow:1",
        "GET product:3",
        "GET slow:2",
        "GET product:4",
    ]));
    assert_eq!(client.recv(), Reply::bulk("product 1"));
    assert_eq!(client.recv(), Reply::bulk("product 2"));
    if gate.is_some() {
        stack.wait_until_loading(1);
        assert!(!client.has_reply(), "a later reply has overtaken an earlier one");
        assert_eq!(other.run("GET product:3"), Reply::bulk("product 3"));
    }
    drop(gate);
    assert_eq!(client.recv().json()["name"], "product 1");
    assert_eq!(client.recv(), Reply::bulk("product 3"));
    assert_eq!(client.recv().json()["name"], "product 2");
    assert_eq!(client.recv(), Reply::bulk("product 4"));
}

fn a_change_waits_for_the_reads_before_it(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let mut bytes = Vec::new();
    for id in 1..=20 {
        for line in [
            format!("GET product:{id}"),
            format!("GET plain:{id}"),
            format!("SET product:{id} mine"),
            format!("GET product:{id}"),
            format!("DEL plain:{id}"),
            format!("GET plain:{id}"),
        ] {
            bytes.extend(raw_command(&line));
        }
    }
    client.send(&bytes);
    for id in 1..=20 {
        let row = Reply::bulk(format!("product {id}"));
        let expected = [row.clone(), row.clone(), Reply::ok(), Reply::bulk("mine"), Reply::Int(1), row];
        for (number, expected) in expected.into_iter().enumerate() {
            assert_eq!(client.recv(), expected, "id {id}, command {number}");
        }
    }
}

fn large_values_of_a_run_come_whole(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let large = |id: usize| vec![b'a' + id as u8; 1_000_000 + 77 * id];
    for id in 0..4 {
        assert_eq!(client.cmd(&[&b"SET"[..], format!("product:{id}").as_bytes(), &large(id)]), Reply::ok());
    }
    let fields: Vec<Vec<u8>> = (0..40_000).map(|number| format!("field{number}").into_bytes()).collect();
    client.run("DEL plain:99999");
    for some in fields.chunks(2_000) {
        let words: Vec<&[u8]> =
            [&b"HSET"[..], b"plain:99999"].into_iter().chain(some.iter().map(Vec::as_slice)).collect();
        assert_eq!(client.cmd(&words), Reply::Int(1_000));
    }
    let reads =
        ["GET product:0", "GET product:1", "HGETALL plain:99999", "GET product:2", "STRLEN product:3", "GET product:3"];
    for _ in 0..3 {
        client.send(&words(&reads));
        assert_eq!([client.recv(), client.recv()], [Reply::bulk(large(0)), Reply::bulk(large(1))]);
        assert_eq!(client.recv().pairs().len(), fields.len() / 2);
        assert_eq!([client.recv(), client.recv()], [Reply::bulk(large(2)), Reply::Int(large(3).len() as i64)]);
        assert_eq!(client.recv(), Reply::bulk(large(3)));
    }
}

fn a_muted_read_says_nothing(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    client.run("GET product:1");
    for _ in 0..3 {
        client.send(&words(&[
            "GET product:1",
            "CLIENT REPLY SKIP",
            "GET product:1",
            "GET product:2",
            "CLIENT REPLY OFF",
            "GET product:1",
            "GET product:3",
            "CLIENT REPLY ON",
            "GET product:3",
        ]));
        assert_eq!(client.recv(), Reply::bulk("product 1"));
        assert_eq!(client.recv(), Reply::bulk("product 2"));
        assert_eq!(client.recv(), Reply::ok());
        assert_eq!(client.recv(), Reply::bulk("product 3"));
    }
}

#[test]
fn a_run_whose_link_breaks_is_answered_in_its_order() {
    for fault in [Fault::CutMidway, Fault::OneByte, Fault::Delay] {
        let (redis, database) = (Redis::start(), Sqlite::shop());
        let proxy = FaultProxy::start(redis.port());
        let routes = routes(&Database::shop(Pair::EmbeddedSqlite));
        let weir = Weir::start(&format!(
            "[upstream]\nurl = \"redis://127.0.0.1:{}/0\"\n{UPSTREAM_TIMEOUT}[database.main]\nurl = \"{}\"\n{routes}",
            proxy.port(),
            database.url()
        ));
        let mut client = weir.client();
        let reads: Vec<String> = (0..64).map(|number| format!("GET product:{}", number % 20 + 1)).collect();
        reads.iter().take(10).for_each(|read| drop(client.run(read)));
        proxy.set(fault);
        client.send(&reads.iter().flat_map(|read| raw_command(read)).collect::<Vec<u8>>());
        for number in 0..64 {
            // What the broken link did not answer, the database does.
            assert_eq!(client.recv(), Reply::bulk(format!("product {}", number % 20 + 1)), "{fault:?} {number}");
        }
        assert!(proxy.hits() > 0, "{fault:?} has not hit");
        proxy.set(Fault::None);
        wait_until("it is asked again", || client.run("GET product:1") == Reply::bulk("product 1"));
    }
}
