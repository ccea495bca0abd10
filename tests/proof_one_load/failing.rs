//! Proof A9: a herd waits for one load, and the load comes to nothing. Nobody is left waiting, and what tries again is counted.
//!
//! What the protocol gives: those who wait in the loader's own process share its error, and its key is left alone for a moment
//! (T17). Those who wait in other processes look again as soon as the lease is given back; one of them takes it and is the new
//! leader, and all the others wait for that one. So of a load that always fails there is *one attempt for each proxy* that has
//! waiters, three here, however many they are; of one that fails once, one new leader.
//!
//! - *The database refuses it*: the above.
//! - *It exceeds `load_timeout`*: the same; the statement is cancelled.
//! - *Its first client hangs up*: nothing happens, for the load is nobody's but its own.
//! - *Its database connection ends*: the loader asks once more over another connection, and the herd does not notice. If that one
//!   ends too, it is a failure like the first.
//!
//! "The loader panics" has no cause outside of Weir: no SQL and no row makes a statement's task panic. If one did, the runtime would
//! catch it, and it would take the same way as a refusal (`Kind::Panicked`, told "the load failed inside the proxy"). What a process
//! test can do is to kill the whole proxy, which tells nobody anything: see `a_killed_loader_costs_one_more_query`.

use crate::fleet::{Fleet, Over};
use crate::harness::*;
use crate::{LONG, clients, over_both, query};
use std::time::{Duration, Instant};

over_both!(
    one_attempt_for_each_proxy_fails,
    after_one_failure_one_new_leader_loads,
    after_a_load_over_its_time_one_new_leader_loads,
    a_first_client_that_hangs_up_takes_nothing_with_it,
    a_lost_database_connection_is_replaced_by_the_loader,
    a_database_connection_that_is_lost_twice_costs_one_new_leader,
);

/// A fleet whose first Weir loads `item:1` and stands in the gate with it, while all clients wait.
struct Herd {
    over: Over,
    fleet: Fleet,
    gate: Option<Gate>,
    first: Client,
    others: Vec<Client>,
}

/// What its clients were told, without the first one.
struct Told {
    rows: usize,
    errors: Vec<String>,
    last: Duration,
}

impl Herd {
    fn gather(over: Over, load_timeout: Duration) -> Herd {
        many_descriptors();
        let fleet = Fleet::start(over, query(), load_timeout);
        let (mut first, mut others) = (fleet.weirs[0].client(), fleet.connect(clients()));
        let gate = fleet.shut_gate();
        first.run_later("GET item:1");
        wait_until("it loads", || fleet.loading() == 1);
        others.iter_mut().for_each(|client| client.run_later("GET item:1"));
        wait_until("all wait", || fleet.waiting() == others.len() as u64);
        Herd { over, fleet, gate: Some(gate), first, others }
    }

    /// Of them, those who wait at the loader's own Weir.
    fn beside_the_first(&self) -> usize {
        self.others.len().div_ceil(self.fleet.weirs.len())
    }

    /// Reads everybody's answer: nobody is left waiting.
    fn told(&mut self) -> Told {
        let begun = Instant::now();
        let mut told = Told { rows: 0, errors: Vec::new(), last: Duration::ZERO };
        for client in &mut self.others {
            match client.recv() {
                reply if reply == Reply::bulk("row 1") => told.rows += 1,
                reply => told.errors.push(reply.error().to_owned()),
            }
        }
        told.last = begun.elapsed();
        told
    }

    fn report(&self, what: &str, told: &Told) {
        println!(
            "A9: {:?}, {} clients over 3 proxies, {what}: {} attempts, {} of them ended well; {} told the row, {} an error, the \
             last after {:?}",
            self.over,
            self.others.len() + 1,
            self.fleet.attempts(),
            self.fleet.queries(),
            told.rows,
            told.errors.len(),
            told.last,
        );
    }
}

#[track_caller]
fn assert_all_begin(errors: &[String], with: &str) {
    let other = errors.iter().find(|error| !error.starts_with(with));
    assert_eq!(other, None, "not {with}");
}

const REFUSED: &str = "LOAD route 'item': the database refused the statement";

fn one_attempt_for_each_proxy_fails(over: Over) {
    let mut herd = Herd::gather(over, LONG);
    herd.fleet.let_fail_up_to(u64::MAX / 2);
    herd.gate = None;
    let told = herd.told();
    herd.report("every load is refused", &told);
    assert!(herd.first.recv().is_error(REFUSED));
    assert_eq!(told.rows, 0);
    assert_all_begin(&told.errors, REFUSED);
    assert_eq!((herd.fleet.attempts(), herd.fleet.loads("error")), (3, 3), "one for each proxy");
}

fn after_one_failure_one_new_leader_loads(over: Over) {
    let mut herd = Herd::gather(over, LONG);
    herd.fleet.let_fail_up_to(1);
    herd.gate = None;
    let told = herd.told();
    herd.report("the first load is refused", &told);
    assert!(herd.first.recv().is_error(REFUSED));
    assert_all_begin(&told.errors, REFUSED);
    assert_eq!(told.errors.len(), herd.beside_the_first(), "who waited at the loader's own proxy");
    assert_eq!((herd.fleet.attempts(), herd.fleet.queries()), (2, 1));
}

/// The herd must have gathered before that time is over, else this shows nothing and says so.
fn after_a_load_over_its_time_one_new_leader_loads(over: Over) {
    const TOLD: &str = "LOAD route 'item': the load reached its time limit";
    let mut herd = Herd::gather(over, Duration::from_millis(size("WEIR_PROOF_LOAD_TIMEOUT_MS", 8_000)));
    wait_until("it is cancelled", || herd.fleet.loads("timeout") == 1);
    herd.gate = None;
    let told = herd.told();
    herd.report("the first load exceeds load_timeout", &told);
    assert!(herd.first.recv().is_error(TOLD));
    assert_all_begin(&told.errors, TOLD);
    assert_eq!(told.errors.len(), herd.beside_the_first(), "who waited at the loader's own proxy");
    assert_eq!((herd.fleet.attempts(), herd.fleet.queries()), (2, 1));
}

fn a_first_client_that_hangs_up_takes_nothing_with_it(over: Over) {
    let mut herd = Herd::gather(over, LONG);
    let (clients, weir) = (herd.beside_the_first() as f64, &herd.fleet.weirs[0]);
    std::mem::replace(&mut herd.first, herd.fleet.weirs[1].client()).abort();
    wait_until("it is gone", || weir.metric("weir_clients", &[]) == clients);
    herd.gate = None;
    let told = herd.told();
    herd.report("the first client hangs up", &told);
    assert_all_told_the_row(&herd, &told);
    assert_eq!((herd.fleet.attempts(), herd.fleet.queries()), (1, 1));
}

fn a_lost_database_connection_is_replaced_by_the_loader(over: Over) {
    let mut herd = Herd::gather(over, LONG);
    herd.fleet.cut_the_loader_off();
    wait_until("it asks again", || herd.fleet.attempts() == 2 && herd.fleet.loading() == 1);
    herd.gate = None;
    let told = herd.told();
    herd.report("the loader's database connection is ended", &told);
    assert_eq!(herd.first.recv(), Reply::bulk("row 1"));
    assert_all_told_the_row(&herd, &told);
    assert_eq!((herd.fleet.attempts(), herd.fleet.queries()), (2, 1));
    assert_eq!((herd.fleet.loads("row"), herd.fleet.loads("error")), (1, 0), "it is one load still");
}

fn a_database_connection_that_is_lost_twice_costs_one_new_leader(over: Over) {
    const TOLD: &str = "LOAD route 'item': the database is unreachable";
    let mut herd = Herd::gather(over, LONG);
    for attempt in 2..=3 {
        herd.fleet.cut_the_loader_off();
        wait_until("somebody asks again", || herd.fleet.attempts() == attempt && herd.fleet.loading() == 1);
    }
    herd.gate = None;
    let told = herd.told();
    herd.report("two database connections of the loader are ended", &told);
    assert!(herd.first.recv().is_error(TOLD));
    assert_all_begin(&told.errors, TOLD);
    assert_eq!(told.errors.len(), herd.beside_the_first(), "who waited at the loader's own proxy");
    assert_eq!((herd.fleet.attempts(), herd.fleet.queries()), (3, 1));
    assert_eq!((herd.fleet.loads("row"), herd.fleet.loads("error")), (1, 1));
}

#[track_caller]
fn assert_all_told_the_row(herd: &Herd, told: &Told) {
    assert_eq!((told.rows, &told.errors), (herd.others.len(), &Vec::new()));
}
