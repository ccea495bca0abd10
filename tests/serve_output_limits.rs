//! What clients do not read is bounded, for each and for all (A18, T32): large replies, messages, lines of MONITOR.
//!
//! `WEIR_TEST_HOGS` (20) clients ask for `WEIR_TEST_VALUES` (128) values of 1 MiB each and read nothing; A18 is 100 and 1024.

mod harness;

use harness::*;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn over(redis: &Redis, limits: &str) -> Weir {
    Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"5s\"\n[limits]\n{limits}", redis.url()))
}

fn output_bytes(weir: &Weir) -> usize {
    weir.metric("weir_client_output_bytes", &[]) as usize
}

fn closed(weir: &Weir, reason: &str) -> usize {
    weir.metric("weir_clients_closed_total", &[("reason", reason)]) as usize
}

/// The 99th percentile of small GETs, one after the other.
fn p99(client: &mut Client) -> Duration {
    let mut durations: Vec<Duration> = (0..2_000)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(client.run("GET small"), Reply::bulk("1"));
            begun.elapsed()
        })
        .collect();
    durations.sort();
    durations[durations.len() * 99 / 100]
}

/// A18.
fn those_who_read_nothing_hold_little_and_harm_nobody(start: impl Fn() -> Weir, redis: Option<&Redis>) {
    const ROUNDS: usize = 5;
    let (hogs, values) = (sized("WEIR_TEST_HOGS", 20), sized("WEIR_TEST_VALUES", 128));
    many_descriptors();
    let value = vec![b'v'; MIB];
    let (weir, undisturbed) = (start(), start());
    let [mut honest, mut alone] = [&weir, &undisturbed].map(|weir| {
        let mut client = weir.client();
        assert_eq!(client.cmd(&[&b"SET"[..], b"big", &value]), Reply::ok());
        assert_eq!(client.run("SET small 1"), Reply::ok());
        client
    });
    let before = weir.resident_bytes();
    let gets = raw_command("GET big").repeat(values);
    let mut clients: Vec<Client> = (0..hogs).map(|_| weir.client()).collect();
    clients.iter_mut().for_each(|client| client.send(&gets));
    let mut answered = 0.0;
    wait_until("all of them are no longer read", || {
        let before = std::mem::replace(&mut answered, weir.metric("weir_commands_total", &[("command", "get")]));
        answered == before && output_bytes(&weir) >= hogs * 4096
    });
    // What else the machine does in a round slows down both halves of it.
    let mut rounds: Vec<[f64; 2]> =
        (0..ROUNDS).map(|_| [&mut alone, &mut honest].map(|client| p99(client).as_secs_f64() * 1e6)).collect();
    rounds.sort_by(|one, other| (one[1] / one[0]).total_cmp(&(other[1] / other[0])));
    let [alone, beside] = rounds[ROUNDS / 2];
    let (queued, grown) = (output_bytes(&weir), weir.resident_bytes().saturating_sub(before) as usize);
    println!(
        "{hogs} clients ask for {values} MiB each: {:.2} MiB queued each, memory grown by {:.2} MiB each; \
         p99 of others {alone:.0} µs without, {beside:.0} µs beside them: {:.2} times (median of {ROUNDS} rounds)",
        queued as f64 / (hogs * MIB) as f64,
        grown as f64 / (hogs * MIB) as f64,
        beside / alone
    );
    // 1 MiB, and one value.
    assert!(queued <= hogs * (2 * MIB + 4096), "{queued} bytes are queued");
    assert!(grown <= hogs * 5 * MIB / 2 + 32 * MIB, "grown by {grown} bytes");
    assert_eq!(closed(&weir, "max_output_total"), 0);
    if let Some(redis) = redis {
        let info = redis.client().run("INFO memory").text();
        let held = info.lines().find_map(|line| line.strip_prefix("mem_clients_normal:")).expect("of INFO memory");
        let held: usize = held.trim().parse().expect("a number");
        assert!(held < 32 * MIB, "{held} bytes wait at the upstream instead");
    }
    // Who reads at last has everything.
    let mut reader = clients.pop().expect("there is one");
    drop(clients);
    let reply = [format!("${MIB}\r\n").as_bytes(), &value, b"\r\n"].concat();
    for _ in 0..values {
        assert!(reader.recv_bytes(reply.len()) == reply);
    }
    assert_eq!(reader.run("GET small"), Reply::bulk("1"));
    drop(reader);
    wait_until("nothing is queued any more", || output_bytes(&weir) == 0);
}

#[test]
fn those_who_read_nothing_hold_little_and_harm_nobody_on_redis() {
    let redis = Redis::start();
    those_who_read_nothing_hold_little_and_harm_nobody(|| over(&redis, ""), Some(&redis));
}

#[test]
fn those_who_read_nothing_hold_little_and_harm_nobody_embedded() {
    those_who_read_nothing_hold_little_and_harm_nobody(|| Weir::start(""), None);
}

/// A window that small replies have opened lets many large ones come at once: then the bound for all clients holds.
#[test]
fn beyond_the_bound_for_all_those_that_hold_the_most_are_closed() {
    const HOGS: usize = 4;
    let redis = Redis::start();
    let weir = over(&redis, "max_output_total = \"48MiB\"\n");
    let value = vec![b'v'; MIB / 2];
    let mut honest = weir.client();
    assert_eq!(honest.cmd(&[&b"SET"[..], b"big", &value]), Reply::ok());
    assert_eq!(honest.run("SET small 1"), Reply::ok());
    let mut little = weir.client();
    little.send(&raw_command("GET big").repeat(40));
    let before = weir.resident_bytes();
    let mut hogs: Vec<Client> = (0..HOGS).map(|_| weir.client()).collect();
    for hog in &mut hogs {
        hog.send(&raw_command("GET small").repeat(1_000));
        (0..1_000).for_each(|_| assert_eq!(hog.recv(), Reply::bulk("1")));
        hog.send(&raw_command("GET big").repeat(400));
    }
    wait_until("somebody is closed", || closed(&weir, "max_output_total") > 0);
    wait_until("the others have room", || output_bytes(&weir) <= 48 * MIB);
    for _ in 0..100 {
        assert_eq!(honest.run("GET small"), Reply::bulk("1"));
    }
    let grown = weir.resident_bytes().saturating_sub(before) as usize;
    println!("{} of {HOGS} closed, memory grown by {} MiB", closed(&weir, "max_output_total"), grown / MIB);
    assert!(weir.log().contains("max_output_total is reached"), "{}", weir.log());
    // Who held little was left alone, although it does not read.
    for _ in 0..40 {
        assert!(matches!(little.recv(), Reply::Bulk(bytes) if bytes == value));
    }
    assert_eq!(little.run("GET small"), Reply::bulk("1"));
}

#[test]
fn a_client_whose_values_grow_is_served_whole_if_it_reads() {
    let redis = Redis::start();
    let weir = over(&redis, "");
    let mut client = weir.client();
    let value = vec![b'v'; 300_000];
    assert_eq!(client.cmd(&[&b"SET"[..], b"big", &value]), Reply::ok());
    assert_eq!(client.run("SET small 1"), Reply::ok());
    for round in 0..5 {
        client.send(&[raw_command("GET small").repeat(300), raw_command("GET big").repeat(60)].concat());
        (0..300).for_each(|_| assert_eq!(client.recv(), Reply::bulk("1"), "round {round}"));
        (0..60).for_each(|_| assert!(matches!(client.recv(), Reply::Bulk(bytes) if bytes == value)));
    }
}

#[test]
fn a_reader_that_is_full_is_counted_and_so_is_a_long_pipeline() {
    let redis = Redis::start();
    let weir = over(&redis, "max_pipeline = 10\n");
    let paused = |reason: &str| weir.metric("weir_clients_paused_total", &[("reason", reason)]);
    let mut client = weir.client();
    assert_eq!(client.cmd(&[&b"SET"[..], b"big", &vec![b'v'; MIB]]), Reply::ok());
    assert_eq!((paused("max_output"), paused("max_pipeline")), (0.0, 0.0));
    client.send(&raw_command("GET big").repeat(64));
    wait_until("it is counted that the client reads too little", || paused("max_output") > 0.0);
    let mut hasty = weir.client();
    assert_eq!(hasty.pipeline(&vec![vec!["GET", "none"]; 100]), vec![Reply::Nil; 100]);
    redis.stop();
    hasty.send(&raw_command("GET none").repeat(100));
    wait_until("it is counted that the pipeline is long", || paused("max_pipeline") > 0.0);
    redis.cont();
    (0..100).for_each(|_| assert_eq!(hasty.recv(), Reply::Nil));
}

/// T32.
fn one_that_does_not_read_is_cut(listen: &str, publish: impl Fn(&mut Client, &str) -> Reply) {
    let redis = Redis::start();
    let weir = over(&redis, "max_subscriber_output = \"1MiB\"\nwrite_timeout = \"1h\"\n");
    let (mut slow, mut quick, mut other) = (weir.client(), weir.client(), weir.client());
    for listener in [&mut slow, &mut quick] {
        listener.run_later(listen);
        listener.recv();
    }
    // Through another door, so that the listeners alone are what Weir has to do.
    let mut publisher = redis.client();
    let message = "m".repeat(32 << 10);
    let mut sent = 0;
    while closed(&weir, "max_subscriber_output") == 0 {
        publish(&mut publisher, &message);
        sent += 1;
        assert!(sent < 4_000, "the kernel does not take so much");
        wait_until_heard(&mut quick, &message);
        assert_eq!(other.run("PING"), Reply::Simple("PONG".into()));
    }
    println!("cut after {} MiB", sent * message.len() / MIB);
    while slow.try_recv().is_ok() {}
    assert!(slow.is_closed());
    wait_until("the upstream has let go of it too", || {
        let list = redis.client().run("CLIENT LIST").text();
        list.lines().filter(|line| line.contains("flags=P") || line.contains("flags=O")).count() == 1
    });
    assert_eq!(closed(&weir, "max_subscriber_output"), 1);
    publish(&mut publisher, "last");
    wait_until_heard(&mut quick, "last");
}

/// Among what else there is to hear.
fn wait_until_heard(listener: &mut Client, message: &str) {
    loop {
        let heard = match listener.recv() {
            Reply::Array(items) => items.last().expect("the message").text(),
            line => line.text(),
        };
        if heard.contains(message) {
            return;
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_others_are_not() {
    one_that_does_not_read_is_cut("SUBSCRIBE news", |publisher, message| publisher.cmd(&["PUBLISH", "news", message]));
}

#[test]
fn a_monitor_that_does_not_read_is_cut_and_others_are_not() {
    one_that_does_not_read_is_cut("MONITOR", |publisher, message| publisher.cmd(&["ECHO", message]));
}

#[test]
fn beyond_the_bound_for_half_commands_the_longest_is_closed_and_told_why() {
    let weir = Weir::start("[limits]\nmax_command = \"8MiB\"\nmax_query_total = \"16MiB\"\n");
    let half = |client: &mut Client, mebibytes: usize| {
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", mebibytes * MIB + 5).as_bytes());
        client.send(&vec![b'v'; mebibytes * MIB]);
    };
    let query_bytes = || weir.metric("weir_client_query_bytes", &[]) as usize;
    let (mut longest, mut second, mut third, mut last) = (weir.client(), weir.client(), weir.client(), weir.client());
    for (client, mebibytes, all) in [(&mut longest, 7, 7), (&mut second, 5, 12), (&mut third, 3, 15)] {
        half(client, mebibytes);
        wait_until("it has arrived", || query_bytes() >= all * MIB);
    }
    half(&mut last, 2);
    let told = longest.recv();
    assert!(told.is_error("ERR") && told.error().contains("[limits] max_query_total"), "{told:?}");
    assert!(longest.is_closed());
    for client in [&mut second, &mut third, &mut last] {
        client.send(b"vvvvv\r\n");
        assert_eq!(client.recv(), Reply::ok());
    }
    assert_eq!(closed(&weir, "max_query_total"), 1);
    wait_until("nothing is held any more", || query_bytes() == 0);
}

#[test]
fn one_private_link_too_many_is_refused_with_the_name_of_the_limit() {
    let redis = Redis::start();
    let weir = over(&redis, "max_private_links = 2\n");
    let links = |state: &str| weir.metric("weir_private_links", &[("state", state)]);
    let (mut first, mut second, mut third, mut fourth) = (weir.client(), weir.client(), weir.client(), weir.client());
    first.run_later("BLPOP a 0");
    second.run_later("BLPOP b 0");
    wait_until("both wait", || links("in_use") == 2.0);
    let refused = third.run("BLPOP c 0");
    assert!(refused.is_error("OVERLOADED") && refused.error().contains("[limits] max_private_links"), "{refused:?}");
    assert_eq!(third.run("PING"), Reply::Simple("PONG".into()), "what the server has not begun to remember is no loss");
    assert!(fourth.run("MULTI").is_error("OVERLOADED"));
    assert!(fourth.is_closed(), "its next commands would not be in a transaction");
    assert_eq!(weir.metric("weir_private_links_refused_total", &[]), 2.0);
    assert_eq!(third.run("RPUSH a 1"), Reply::Int(1));
    assert_eq!(first.recv().items().len(), 2);
    wait_until("one is free", || links("idle") == 1.0 && links("in_use") == 1.0);
    assert_eq!(third.pipeline(&[vec!["MULTI"], vec!["PING"], vec!["EXEC"]])[0], Reply::ok());
    // An idle one that fits nobody gives way.
    assert_eq!(first.run("SELECT 1"), Reply::ok());
    assert_eq!(first.run("MULTI"), Reply::ok());
    assert_eq!((links("in_use"), links("idle")), (2.0, 0.0));
    drop((first, second));
    wait_until("both are free", || links("in_use") == 0.0);
}
