//! However many clients of however many proxies ask for one cold key, one query runs (proof A8); if the proxy that loads is killed
//! meanwhile, one more; and if the load fails, one new leader tries in each of the other proxies, and nobody is left waiting (proof
//! A9, see [`failing`]). Over Redis and over a cluster of three masters.
//!
//! Small by default. In full: `WEIR_PROOF_CLIENTS=10000 WEIR_PROOF_ROUNDS=5 cargo test --test proof_one_load -- --nocapture
//! --test-threads=1`. The query takes `WEIR_PROOF_QUERY_MS` (500). Times are printed and never asserted; what is asserted are
//! counts.

#[path = "../harness/mod.rs"]
mod harness;

mod failing;
mod fleet;

use fleet::{Fleet, Over};
use harness::*;
use std::time::{Duration, Instant};

/// Connections, spread over three proxies.
fn clients() -> usize {
    size("WEIR_PROOF_CLIENTS", 600) as usize
}

fn query() -> Duration {
    Duration::from_millis(size("WEIR_PROOF_QUERY_MS", 500))
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// How much longer than `load_timeout` a lease stands.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Runs each function as a test over both kinds of upstream.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod over_redis {
            $(#[test] fn $name() { super::$name(crate::fleet::Over::Redis) })*
        }
        mod over_a_cluster {
            $(#[test] fn $name() { super::$name(crate::fleet::Over::Cluster) })*
        }
    };
}
pub(crate) use over_both;

over_both!(one_query_answers_everybody, a_killed_loader_costs_one_more_query);

fn one_query_answers_everybody(over: Over) {
    many_descriptors();
    let fleet = Fleet::start(over, query(), LONG);
    let mut clients = fleet.connect(clients());
    for round in 1..=size("WEIR_PROOF_ROUNDS", 1) {
        let (calls, queries, key) = (fleet.calls(), fleet.queries(), format!("item:{round}"));
        // Whatever the machine does meanwhile, nobody comes after the load has ended.
        let (gate, waiting) = (fleet.shut_gate(), fleet.waiting());
        let begun = Instant::now();
        clients.iter_mut().for_each(|client| client.run_later(&format!("GET {key}")));
        wait_until("all but one wait", || fleet.waiting() == waiting + clients.len() as u64 - 1);
        drop(gate);
        let asked = begun.elapsed();
        let mut answers = Vec::with_capacity(clients.len());
        for client in &mut clients {
            assert_eq!(client.recv(), Reply::bulk(format!("row {round}")));
            answers.push(begun.elapsed());
        }
        let (calls, queries) = (fleet.calls() - calls, fleet.queries() - queries);
        println!(
            "A8: {over:?}, {} clients over 3 proxies, a query of {:?}: {queries} query; all waited after {asked:?}, first \
             answered after {:?}, last after {:?}; {calls} script calls upstream, {:.2} per client",
            clients.len(),
            query(),
            answers[0],
            answers[answers.len() - 1],
            calls as f64 / clients.len() as f64,
        );
        assert_eq!(queries, 1, "queries of one round");
        assert!(calls <= 2 * clients.len() as u64 + 1, "{calls} calls");
    }
    println!("A8: {over:?}, {} of all reads waited for another proxy", fleet.waited_elsewhere());
}

fn a_killed_loader_costs_one_more_query(over: Over) {
    many_descriptors();
    let mut fleet = Fleet::start(over, query(), LONG);
    let mut first = fleet.connect(1);
    let mut clients = fleet.connect_besides_the_first(clients());
    let gate = fleet.shut_gate();
    first[0].run_later("GET item:1");
    wait_until("it loads", || fleet.loading() == 1);
    clients.iter_mut().for_each(|client| client.run_later("GET item:1"));
    wait_until("all wait", || fleet.waited_elsewhere() == clients.len() as u64);
    fleet.kill_the_first();
    let killed = Instant::now();
    drop(gate);
    for client in &mut clients {
        assert_eq!(client.recv(), Reply::bulk("row 1"));
    }
    let queries = fleet.queries();
    println!(
        "A8: {over:?}, {} clients wait for a proxy that is killed, whose lease ends {:?} after it began: all answered {:?} \
         after the kill; {queries} queries",
        clients.len(),
        LONG + LEASE_MARGIN,
        killed.elapsed()
    );
    assert!((1..=2).contains(&queries), "{queries} queries");
}
