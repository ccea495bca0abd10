//! What is bounded, reached: value sizes, memory under many waiters, clients, commands before and after AUTH (G8, T40).

mod harness;

use harness::*;
use std::io::Write;

const MIB: u64 = 1024 * 1024;

over_all_pairs!(a_value_over_max_value_is_served_and_not_stored);

fn a_value_over_max_value_is_served_and_not_stored(pair: Pair) {
    let stack = Stack::start(
        pair,
        r#"
[[route]]
name = "detail"
key = "detail:{id}"
value = "text"
load = "SELECT detail FROM products WHERE id = :id /* detail */"
max_value = "1KiB"
"#,
    );
    let (fits, too_big) = ("y".repeat(1024), "x".repeat(1025));
    stack.database.sql(&format!("UPDATE products SET detail = '{fits}' WHERE id = 1"));
    stack.database.sql(&format!("UPDATE products SET detail = '{too_big}' WHERE id = 2"));
    let mut client = stack.weir.client();
    for _ in 0..2 {
        assert_eq!(client.run("GET detail:1"), Reply::bulk(&fits));
    }
    stack.assert_loads("detail", 1);
    for _ in 0..2 {
        assert_eq!(client.run("GET detail:2"), Reply::bulk(&too_big));
    }
    stack.assert_loads("detail", 3);
    assert_eq!(stack.weir.metric("weir_fills_total", &[("route", "detail"), ("result", "too_big")]), 2.0);
    if let Some(raw) = stack.raw("EXISTS detail:2") {
        assert_eq!(raw, Reply::Int(0));
    }
}

/// T40: waiters share one buffer. None of them reads, so all that Weir holds for them is held at once.
fn a_thousand_waiters_share_one_row(pair: Pair) {
    const WAITERS: usize = 1_000;
    const ROW: usize = 10 * 1024 * 1024;
    many_descriptors();
    let stack = Stack::with(pair, |database| {
        format!(
            "[[route]]\nname = \"big\"\nkey = \"big:{{id}}\"\nvalue = \"text\"\nmax_value = \"64MiB\"\n\
             load = \"SELECT repeat('x', {ROW}) FROM products WHERE id = :id AND {} > 0 /* big */\"\n",
            database.held_column(0)
        )
    });
    let gate = stack.database.shut_gate();
    let mut clients: Vec<Client> = (0..WAITERS).map(|_| stack.weir.client()).collect();
    for client in &mut clients {
        client.run_later("GET big:1");
    }
    wait_until("all wait for the one load", || {
        stack.weir.metric("weir_coalesced_total", &[("route", "big")]) as usize == WAITERS - 1
    });
    let before = stack.weir.resident_bytes();
    drop(gate);
    let head = format!("${ROW}\r\n");
    for client in &mut clients {
        assert_eq!(client.recv_bytes(head.len()), head.as_bytes());
    }
    let grown = stack.weir.resident_bytes().saturating_sub(before);
    let allowed = 2 * ROW as u64 + WAITERS as u64 * 64 * 1024;
    assert!(grown < allowed, "grown by {} MiB, allowed are {} MiB", grown / MIB, allowed / MIB);
    let whole = clients.pop().expect("a thousand").recv_bytes(ROW + 2);
    assert!(whole.ends_with(b"xx\r\n"));
    stack.assert_loads("big", 1);
}

#[test]
fn a_thousand_waiters_share_one_row_embedded() {
    a_thousand_waiters_share_one_row(Pair::EmbeddedPostgres);
}

#[test]
fn a_thousand_waiters_share_one_row_on_redis() {
    a_thousand_waiters_share_one_row(Pair::RedisPostgres);
}

#[test]
fn one_client_too_many_is_told_so() {
    let weir =
        Weir::start("[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nmax_clients = 3\n");
    let mut clients: Vec<Client> = (0..3).map(|_| weir.client()).collect();
    for client in &mut clients {
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    }
    let mut fourth = weir.client();
    assert!(fourth.recv().is_error("ERR max number of clients reached"));
    assert!(fourth.is_closed());
    drop(clients.pop());
    wait_until("there is room again", || {
        weir.client().try_cmd(&["PING"]).is_ok_and(|reply| reply == Reply::Simple("PONG".into()))
    });
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_for_ever() {
    let weir = Weir::start("[limits]\nmax_output = \"1MiB\"\n");
    let mut hog = weir.client();
    let value = vec![b'v'; 256 * 1024];
    assert_eq!(hog.cmd(&[&b"SET"[..], b"k", &value]), Reply::ok());
    let before = weir.resident_bytes();
    // 4,000 times 256 KiB are a gigabyte of replies that nobody takes.
    let gets: Vec<u8> = (0..4_000).flat_map(|_| raw_command("GET k")).collect();
    let mut writer = hog.writer();
    let sender = std::thread::spawn(move || writer.write_all(&gets));
    for _ in 0..100 {
        assert_eq!(weir.client().run("PING"), Reply::Simple("PONG".into()));
    }
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "grown by {} MiB for one client that reads nothing", grown / MIB);
    for _ in 0..4_000 {
        assert!(matches!(hog.recv(), Reply::Bulk(bytes) if bytes.len() == value.len()));
    }
    sender.join().expect("no panic").expect("all was taken at last");
}

#[test]
fn a_line_over_max_inline_is_refused_and_the_client_closed() {
    let weir = Weir::start("[limits]\nmax_inline = \"1KiB\"\n");
    let mut client = weir.client();
    client.send(format!("ECHO {}\r\n", "x".repeat(1000)).as_bytes());
    assert_eq!(client.recv(), Reply::bulk("x".repeat(1000)));
    client.send(&vec![b'x'; 1100]);
    assert!(client.recv().is_error("ERR Protocol error: too big inline request"));
    assert!(client.is_closed());
    assert_eq!(weir.metric("weir_clients_closed_total", &[("reason", "protocol")]), 1.0);
}

#[test]
fn before_auth_a_command_over_its_own_limit_is_refused_and_the_client_closed() {
    let password = "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\npassword = \"p\"\n";
    let weir = Weir::start(&format!("{password}[limits]\nmax_command_before_auth = \"1KiB\"\n"));
    let (mut stranger, mut known) = (weir.client(), weir.client());
    stranger.send(b"*2\r\n$4\r\nAUTH\r\n$2000\r\n");
    assert!(stranger.recv().is_error("ERR Protocol error: "));
    assert!(stranger.is_closed());
    assert_eq!(known.cmd(&["AUTH", "p"]), Reply::ok());
    assert_eq!(known.cmd(&["SET", "k", &"v".repeat(2000)]), Reply::ok());
    assert_eq!(weir.metric("weir_clients_closed_total", &[("reason", "protocol")]), 1.0);
}

over_all_pairs!(more_absent_rows_than_max_negative_are_not_remembered);

fn more_absent_rows_than_max_negative_are_not_remembered(pair: Pair) {
    let stack = Stack::start(
        pair,
        r#"
[[route]]
name = "name"
key = "name:{id}"
value = "text"
load = "SELECT name FROM products WHERE id = :id /* name */"
[limits]
max_negative = 3
"#,
    );
    let mut client = stack.weir.client();
    for _ in 0..2 {
        for id in 1001..=1005 {
            assert_eq!(client.run(&format!("GET name:{id}")), Reply::Nil);
        }
    }
    stack.assert_loads("name", 5 + 2);
    let refused = [("route", "name"), ("reason", "negative_full")];
    assert_eq!(stack.weir.metric("weir_fills_refused_total", &refused), 4.0);
}

/// G8: for each key of `[limits]` the metric that tells when it is reached, and the test that reaches it.
#[test]
fn no_limit_is_forgotten() {
    const LIMITS: &str = include_str!("serve_limits.rs");
    const OUTPUT: &str = include_str!("serve_output_limits.rs");
    const NEAR: &str = include_str!("serve_near/room.rs");
    const SLOWLORIS: &str = include_str!("serve_slowloris.rs");
    const TAGS: &str = include_str!("serve_tags.rs");
    const MISSED: &str = include_str!("serve_missed.rs");
    const ASIDE: &str = include_str!("serve_cache_aside.rs");
    const GATE: &str = concat!(include_str!("serve_degraded/main.rs"), include_str!("serve_degraded/limits.rs"));
    const CLOSED: &str = "weir_clients_closed_total";
    const PAUSED: &str = "weir_clients_paused_total";
    let table = [
        ("max_command", CLOSED, LIMITS, "a_command_over_the_limits_is_refused_and_the_client_closed"),
        ("max_arguments", CLOSED, LIMITS, "a_command_over_the_limits_is_refused_and_the_client_closed"),
        ("max_inline", CLOSED, LIMITS, "a_line_over_max_inline_is_refused_and_the_client_closed"),
        (
            "max_command_before_auth",
            CLOSED,
            LIMITS,
            "before_auth_a_command_over_its_own_limit_is_refused_and_the_client_closed",
        ),
        ("max_output", PAUSED, OUTPUT, "a_reader_that_is_full_is_counted_and_so_is_a_long_pipeline"),
        ("max_output_total", CLOSED, OUTPUT, "beyond_the_bound_for_all_those_that_hold_the_most_are_closed"),
        ("max_query_total", CLOSED, OUTPUT, "beyond_the_bound_for_half_commands_the_longest_is_closed_and_told_why"),
        ("max_subscriber_output", CLOSED, OUTPUT, "one_that_does_not_read_is_cut"),
        (
            "max_private_links",
            "weir_private_links_refused_total",
            OUTPUT,
            "one_private_link_too_many_is_refused_with_the_name_of_the_limit",
        ),
        ("max_pipeline", PAUSED, OUTPUT, "a_reader_that_is_full_is_counted_and_so_is_a_long_pipeline"),
        ("max_negative", "weir_fills_refused_total", LIMITS, "more_absent_rows_than_max_negative_are_not_remembered"),
        ("max_tags", "weir_fills_refused_total", TAGS, "a_value_with_too_many_tags_is_served_and_not_stored"),
        ("max_near", "weir_near_bytes", NEAR, "no_more_than_max_near_is_kept_and_what_is_asked_for_again_stays"),
        ("max_fill_waiters", "weir_fill_waiters_refused_total", ASIDE, "more_than_max_fill_waiters_do_not_wait"),
        (
            "max_missed_invalidations",
            "weir_missed_invalidations_overflows_total",
            MISSED,
            "more_than_max_missed_invalidations_drop_their_route",
        ),
        ("max_waiting_loads", "weir_loads_shed_total", GATE, "more_loads_than_the_line_holds_are_shed_at_once"),
        ("auth_timeout", CLOSED, SLOWLORIS, "before_auth_neither_silence_nor_drips_nor_refused_commands_gain_time"),
        ("command_timeout", CLOSED, SLOWLORIS, "a_command_that_does_not_end_ends_the_connection_and_an_idle_one_stays"),
        ("idle_timeout", CLOSED, SLOWLORIS, "an_idle_client_is_closed_where_that_is_asked_for"),
        (
            "write_timeout",
            CLOSED,
            SLOWLORIS,
            "a_reader_that_takes_nothing_is_closed_and_one_that_takes_a_little_is_not",
        ),
    ];
    let schema: serde_json::Value = serde_json::from_str(&run_weir(&["schema"]).stdout).expect("a JSON schema");
    let keys = schema["properties"]["limits"]["properties"].as_object().expect("the keys of [limits]");
    let mut known: Vec<&str> = table.iter().map(|(key, ..)| *key).collect();
    known.sort();
    let mut keys: Vec<&str> = keys.keys().map(String::as_str).collect();
    keys.sort();
    assert_eq!(keys, known, "each key of [limits] has a metric, and a test that reaches it");
    let manual = include_str!("../config/weir.toml");
    for (key, metric, file, test) in table {
        assert!(manual.contains(&format!("\n# {key} = ")), "the manual does not explain {key}");
        let (_, body) = file.split_once(&format!("fn {test}(")).unwrap_or_else(|| panic!("there is no test {test}"));
        let body = body.split("\n}\n").next().expect("the test's body");
        assert!(body.contains(key), "{test} does not set {key}");
        assert!(file.contains(metric), "nothing beside {test} looks at {metric}");
    }
}

#[test]
fn a_command_over_the_limits_is_refused_and_the_client_closed() {
    let weir = Weir::start("[limits]\nmax_command = \"1MiB\"\nmax_arguments = 100\n");
    let mut fits = weir.client();
    assert_eq!(fits.cmd(&[&b"SET"[..], b"k", &vec![b'v'; 1000 * 1000]]), Reply::ok());
    let too_long = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 2 * MIB);
    let hostile = [
        too_long.as_str(),
        "*101\r\n",
        "*2147483647\r\n",
        "*1\r\n$9223372036854775807\r\n",
        "*1\r\n$-5\r\n",
        "*1\r\n:1\r\n",
    ];
    for bytes in hostile {
        let mut client = weir.client();
        client.send(bytes.as_bytes());
        assert!(client.recv().is_error("ERR Protocol error"), "{bytes:?}");
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert_eq!(weir.metric("weir_clients_closed_total", &[("reason", "protocol")]), hostile.len() as f64);
    assert_eq!(fits.run("PING"), Reply::Simple("PONG".into()));
}
