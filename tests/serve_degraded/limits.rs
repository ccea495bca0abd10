//! The line before a database is bounded, in number and in time, and who is shed is told what to raise.

use crate::harness::*;
use crate::{POOL, shed, shop, start};

/// The gate holds what runs, so that every number is exact.
#[test]
fn more_loads_than_the_line_holds_are_shed_at_once() {
    const LINE: usize = 8;
    const CLIENTS: usize = 40;
    let (redis, postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, POOL, 60_000, "max_waiting_loads = 8\n");
    let gate = postgres.shut_gate();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| weir.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.run_later(&format!("GET held:{number}"));
    }
    let (waiting, refused) = (|| weir.metric("weir_loads_waiting", &[("database", "main")]), CLIENTS - POOL - LINE);
    wait_until("the rest is shed", || {
        postgres.in_gate() == POOL as i64 && waiting() == LINE as f64 && shed(&weir, "full") == refused
    });
    // Who asks for a key that is being loaded, or waits to be, is no load more.
    assert_eq!(weir.metric("weir_loads_in_flight", &[("database", "main")]), POOL as f64);
    // An MGET is one load, and is shed as a whole.
    assert!(weir.client().run("MGET held:100 held:101 held:102").is_error("OVERLOADED route 'held': "));
    assert_eq!(shed(&weir, "full"), refused + 1);
    drop(gate);
    let replies: Vec<Reply> = clients.iter_mut().map(Client::recv).collect();
    let loaded = |number: usize| Reply::bulk(format!("held {number}"));
    let told: Vec<&Reply> =
        replies.iter().enumerate().filter(|(at, reply)| **reply != loaded(*at)).map(|(_, r)| r).collect();
    assert_eq!(told.len(), refused, "{told:?}");
    for reply in told {
        let text = reply.error();
        assert!(text.starts_with("OVERLOADED route 'held': 8 loads wait for database 'main' already"), "{text}");
        assert!(text.contains("[limits] max_waiting_loads") && text.contains("[database.main] pool"), "{text}");
    }
    // None of their keys is left alone for it, and no lease was kept.
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.run(&format!("GET held:{number}")), loaded(number));
    }
    assert_eq!(weir.metric("weir_database_up", &[("database", "main")]), 1.0);
    let lines = weir.log().matches("loads are shed").count();
    assert_eq!(lines, 1, "one line tells of all of them");
}

/// What could only be cancelled unfinished is not begun.
#[test]
fn who_has_waited_for_half_of_load_timeout_is_shed() {
    let (redis, postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, 1, 60_000, "");
    let gate = postgres.shut_gate();
    let (mut first, mut second) = (weir.client(), weir.client());
    first.run_later("GET held:1");
    wait_until("it runs", || postgres.in_gate() == 1);
    let told = second.run("GET hurried:2");
    let expected = "OVERLOADED route 'hurried': none of the 1 connections of database 'main' was free within 300ms";
    assert!(told.is_error(expected), "{told:?}");
    assert_eq!((shed(&weir, "late"), shed(&weir, "full")), (1, 0));
    drop(gate);
    assert_eq!(first.recv(), Reply::bulk("held 1"));
    wait_until("it is served", || second.run("GET hurried:2") == Reply::bulk("hurried 2"));
}

/// A reader who has a value, though a stale one, lets those go first who have none.
#[test]
fn a_refresh_is_not_begun_while_loads_wait() {
    let (redis, postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, 1, 60_000, "");
    let (mut reader, mut client) = (weir.client(), weir.client());
    let known = Reply::bulk("known user 7");
    assert_eq!(reader.run("GET known:7"), known);
    let gate = postgres.shut_gate();
    client.run_later("GET held:1");
    wait_until("it runs", || postgres.in_gate() == 1);
    let refreshes = || weir.metric("weir_loads_total", &[("route", "known"), ("trigger", "refresh")]);
    let before = refreshes();
    wait_until("it is stale, and not refreshed", || {
        assert_eq!(reader.run("GET known:7"), known);
        shed(&weir, "busy") > 0
    });
    assert_eq!(refreshes(), before);
    drop(gate);
    assert_eq!(client.recv(), Reply::bulk("held 1"));
    wait_until("it is refreshed", || {
        assert_eq!(reader.run("GET known:7"), known);
        refreshes() > before
    });
}
