//! Many clients at once: idle ones cost little (A17), one too many is told so, a process out of descriptors goes on, and
//! hostile ones without a password neither fill the memory nor slow down the others (A20).
//!
//! `WEIR_TEST_IDLE` (1000) idle clients, `WEIR_TEST_HOSTILE` (300) hostile ones; A17 is 10000, A20 is 1000.

mod harness;

use harness::*;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const KIB: usize = 1 << 10;
const PASSWORD: &str = "correct horse";

fn start(server: &str) -> Weir {
    Weir::start(&format!("[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\n{server}"))
}

fn pong() -> Reply {
    Reply::Simple("PONG".into())
}

/// A17.
#[test]
fn idle_clients_cost_little_and_the_one_over_the_limit_is_told_so() {
    many_descriptors();
    let idle = sized("WEIR_TEST_IDLE", 1_000);
    let weir = start(&format!("max_clients = {idle}\n"));
    let mut first = weir.client();
    assert_eq!(first.run("PING"), pong());
    let before = weir.resident_bytes();
    let mut clients: Vec<Client> = (1..idle)
        .map(|number| {
            Client::try_connect(weir.port()).unwrap_or_else(|error| {
                panic!("client {number}: {error}; raise `ulimit -n` or ask for fewer with WEIR_TEST_IDLE")
            })
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.run("PING"), pong());
    }
    let each = weir.resident_bytes().saturating_sub(before) as usize / (idle - 1);
    println!("{idle} idle clients: {each} bytes each");
    assert!(each <= 10 * KIB, "{each} bytes for each idle client");
    assert_eq!(weir.metric("weir_clients", &[]) as usize, idle);
    let mut one_more = weir.client();
    assert!(one_more.recv().is_error("ERR max number of clients reached"));
    assert!(one_more.is_closed());
    assert_eq!(weir.metric("weir_clients_refused_total", &[("reason", "max_clients")]), 1.0);
    assert_eq!(first.run("PING"), pong());
}

/// The clients of a worker share what scans their commands; a part of one is still its client's alone.
#[test]
fn parts_of_many_clients_commands_do_not_mix() {
    const PART: usize = 7;
    let weir = start("workers = 1\n");
    let mut other = weir.client();
    let mut clients: Vec<(Client, String, Vec<u8>)> = (0..12)
        .map(|number| {
            let value = number.to_string().repeat(number + 1);
            let command = raw_command(&format!("SET key:{number} {value}"));
            (weir.client(), value, command)
        })
        .collect();
    while clients.iter().any(|(_, _, command)| !command.is_empty()) {
        for (client, _, command) in &mut clients {
            let part: Vec<u8> = command.drain(..PART.min(command.len())).collect();
            client.send(&part);
            // What has come is looked at before the next client's.
            assert_eq!(other.run("PING"), pong());
        }
    }
    for (number, (client, value, _)) in clients.iter_mut().enumerate() {
        assert_eq!(client.recv(), Reply::ok());
        assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(value));
    }
}

#[test]
fn a_process_out_of_descriptors_serves_on_and_does_not_spin() {
    const FAILED: usize = 20;
    let weir = start("");
    let mut known = weir.client();
    assert_eq!(known.run("PING"), pong());
    let pid = weir.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--nofile=40:40"]).status().expect("prlimit");
    assert!(limited.success());
    // The kernel takes them all; Weir cannot.
    let waiting: Vec<Client> = (0..60).map(|_| weir.client()).collect();
    let failures = || weir.log().matches("cannot accept a client").count();
    wait_until("Weir runs out of descriptors", || failures() > 0);
    let (begun, used, failed) = (Instant::now(), weir.cpu_time(), failures());
    wait_until("it has tried again and again", || failures() >= failed + FAILED);
    let (elapsed, used) = (begun.elapsed(), weir.cpu_time() - used);
    println!("{FAILED} accepts that failed: {used:?} of processor time in {elapsed:?}");
    assert!(used * 4 < elapsed, "it spins: {used:?} of processor time in {elapsed:?}");
    assert_eq!(known.run("PING"), pong());
    drop(waiting);
    wait_until("others are served again", || weir.client().try_cmd(&["PING"]).is_ok_and(|reply| reply == pong()));
    assert_eq!(known.run("PING"), pong());
    wait_until("it is counted", || {
        weir.metric("weir_clients_refused_total", &[("reason", "accept")]) as usize >= FAILED
    });
}

/// Commands of a client without a password: as much as it may send, and never whole; or more than that.
fn hostile() -> Vec<Vec<u8>> {
    let half = [b"*2\r\n$4\r\nAUTH\r\n$16000\r\n".to_vec(), vec![b'x'; 15_900]].concat();
    let deep = b"*1\r\n".repeat(4_000);
    let texts =
        ["*1048577\r\n", "*2147483647\r\n", "*10\r\n$16385\r\n", "*2\r\n$4\r\nAUTH\r\n$536870912\r\n", "*-9\r\n$1\r\n"];
    let endless = [vec![b'y'; 16_000], b"*".repeat(70_000)];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain(endless).chain([half.clone(), half, deep]).collect()
}

/// GETs in a second by pipelines of 50, as fast as one client can ask.
fn throughput(client: &mut Client) -> f64 {
    const ROUNDS: usize = 400;
    let gets = vec![vec!["GET", "k"]; 50];
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        assert!(client.pipeline(&gets).iter().all(|reply| *reply == Reply::bulk("value")));
    }
    (ROUNDS * gets.len()) as f64 / begun.elapsed().as_secs_f64()
}

/// A20.
#[test]
fn hostile_clients_without_a_password_fill_no_memory_and_leave_others_their_speed() {
    const ROUNDS: usize = 5;
    many_descriptors();
    let count = sized("WEIR_TEST_HOSTILE", 300);
    let weir = start(&format!("password = \"{PASSWORD}\"\n[limits]\nauth_timeout = \"1h\"\n"));
    let mut honest = weir.client();
    assert_eq!(honest.cmd(&["AUTH", PASSWORD]), Reply::ok());
    assert_eq!(honest.run("SET k value"), Reply::ok());
    throughput(&mut honest);
    let before = weir.resident_bytes();
    let kinds = hostile();
    let port = weir.port();
    let attack = |number: usize| {
        let mut client = Client::connect(port);
        // Weir may have hung up before the end of it.
        let _ = client.try_send(&kinds[number % kinds.len()]);
        client
    };
    let mut clients: Vec<Client> = (0..count).map(attack).collect();
    let (over, attacking, mut attacks) = (AtomicBool::new(false), AtomicBool::new(false), count);
    let mut rounds: Vec<[f64; 2]> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                if attacking.load(Relaxed) {
                    clients[attacks % count] = attack(attacks);
                    attacks += 1;
                }
                // Each comes back about once a second.
                std::thread::park_timeout(Duration::from_secs(1) / count as u32);
            }
        });
        // What else the machine does in a round slows down both halves of it.
        let round = |_| {
            [false, true].map(|beside| {
                attacking.store(beside, Relaxed);
                throughput(&mut honest)
            })
        };
        let rounds = (0..ROUNDS).map(round).collect();
        over.store(true, Relaxed);
        rounds
    });
    rounds.sort_by(|one, other| (one[1] / one[0]).total_cmp(&(other[1] / other[0])));
    let [alone, beside] = rounds[ROUNDS / 2];
    let grown = weir.resident_bytes().saturating_sub(before) as usize;
    let held = weir.metric("weir_client_query_bytes", &[]) as usize;
    println!(
        "{count} hostile clients, {attacks} attacks: memory grown by {} KiB each, {} KiB of commands held each; \
         throughput of others {alone:.0}/s without, {beside:.0}/s beside them: {:.2} (median of {ROUNDS} rounds)",
        grown / count / KIB,
        held / count / KIB,
        beside / alone
    );
    // What it may send before AUTH, what one read brings beyond, and what any client costs.
    assert!(held <= count * 80 * KIB, "{held} bytes of commands are held");
    assert!(grown <= count * 90 * KIB + 8 * 1024 * KIB, "grown by {grown} bytes");
    assert!(weir.metric("weir_clients_closed_total", &[("reason", "protocol")]) as usize >= count / 2);
    drop(clients);
    wait_until("they are gone", || weir.metric("weir_clients", &[]) == 1.0);
    assert_eq!(weir.metric("weir_client_query_bytes", &[]), 0.0);
    assert_eq!(honest.run("GET k"), Reply::bulk("value"));
}
