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
    assert_eq!(fits.run("PING"), Reply::Simple("PONG".into()));
}
