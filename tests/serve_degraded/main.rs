//! A database that is dead, hangs, or is slower than what is asked of it (proof A7, T17, T49, T50): what is known is served, what
//! is not is refused clearly and at once, and never do more loads ask it than it has connections.
//!
//! A7 is small by default. In full: `WEIR_PROOF_DOWN_MS=60000 WEIR_PROOF_SLOW_MS=60000 WEIR_PROOF_CLIENTS=200
//! WEIR_PROOF_KEYS=10000`; T49: see [`cold`]. Times are printed and never asserted.

#[path = "../harness/mod.rs"]
mod harness;

mod cold;
mod crowd;
mod limits;

use crowd::{Come, Crowd, Phase};
use harness::*;
use std::time::{Duration, Instant};

const POOL: usize = 4;

/// `known` is stale at once and lives on; `row` is made for any number; both take as long as `pace` says, and `held` as long as
/// the gate is shut.
const ROUTES: &str = r#"
[[route]]
name = "known"
key = "known:{id}"
value = "text"
load = "SELECT 'known ' || name || pg_sleep(seconds)::text FROM users, pace WHERE id = :id /* load */"
ttl = "50ms"
jitter = "0%"
grace = "1h"

[[route]]
name = "row"
key = "row:{id}"
value = "text"
load = "SELECT 'row ' || CAST(:id AS bigint) || pg_sleep(seconds)::text FROM pace /* load */"

[[route]]
name = "held"
key = "held:{id}"
value = "text"
load = "SELECT 'held ' || CAST(:id AS bigint) FROM pace WHERE through_gate() > 0 /* load */"

[[route]]
name = "hurried"
key = "hurried:{id}"
value = "text"
load = "SELECT 'hurried ' || CAST(:id AS bigint) /* load */"
load_timeout = "600ms"
"#;

fn shop() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(&format!("{} CREATE TABLE pace AS SELECT 0::float8 AS seconds", shop_sql()));
    // It commits asynchronously, and some tests kill it.
    postgres.sql("CHECKPOINT");
    postgres
}

/// With a pool of so many connections, loads of so many milliseconds at most, and these `[limits]`.
fn start(redis: &Redis, postgres: &Postgres, pool: usize, timeout: u64, limits: &str) -> Weir {
    start_over(&redis.url(), postgres, pool, timeout, limits)
}

fn start_over(upstream: &str, postgres: &Postgres, pool: usize, timeout: u64, limits: &str) -> Weir {
    Weir::start(&format!(
        "[upstream]\nurl = \"{upstream}\"\ntimeout = \"2s\"\n[database.main]\nurl = \"{}\"\npool = {pool}\n\
         timeout = \"{timeout}ms\"\n{ROUTES}[limits]\n{limits}",
        postgres.url(),
    ))
}

fn is_up(weir: &Weir) -> bool {
    weir.metric("weir_database_up", &[("database", "main")]) == 1.0
}

fn loads(weir: &Weir) -> f64 {
    weir.metric("weir_loads_total", &[])
}

fn shed(weir: &Weir, reason: &str) -> usize {
    weir.metric("weir_loads_shed_total", &[("database", "main"), ("reason", reason)]) as usize
}

fn times(weir: &Weir, words: &str) -> usize {
    weir.log().matches(words).count()
}

fn know(weir: &Weir) {
    let mut client = weir.client();
    (1..=20).for_each(|id| assert_eq!(client.run(&format!("GET known:{id}")), known(id)));
}

fn known(id: u64) -> Reply {
    Reply::bulk(format!("known user {id}"))
}

/// Asks for what is not known until nothing is asked of the database any more.
fn ask_until_it_is_down(weir: &Weir) {
    let mut client = weir.client();
    let mut id = 1_000;
    wait_until("the breaker opens", || {
        id += 1;
        let reply = client.run(&format!("GET row:{id}"));
        assert!(reply.is_error("LOAD route 'row': "), "{reply:?}");
        !is_up(weir)
    });
}

/// While the database is known to be down: how a hundred reads of each kind are answered, and how often it is asked.
fn known_is_served_and_unknown_refused(weir: &Weir) {
    let mut client = weir.client();
    let (begun, asked, refused) = (Instant::now(), loads(weir), shed(weir, "down"));
    let mut not_asked = 0;
    for round in 0..100 {
        assert_eq!(client.run(&format!("GET known:{}", round % 20 + 1)), known(round % 20 + 1));
        let reply = client.run(&format!("GET row:{}", 2_000 + round));
        assert!(reply.is_error("LOAD route 'row': "), "{reply:?}");
        not_asked += usize::from(reply.error().contains("database 'main' has failed of late"));
    }
    let several = client.run("MGET row:1 known:1");
    assert!(several.is_error("LOAD route 'row': "), "{several:?}");
    let (asked, refused) = (loads(weir) - asked, shed(weir, "down") - refused);
    // One probe at a time, after at least three quarters of the first pause each.
    let most = 1 + begun.elapsed().as_millis() / 187;
    println!("{asked} loads, at most {most}; {refused} refused in {:?}", begun.elapsed());
    assert!(asked <= most as f64, "{asked} loads in {:?}", begun.elapsed());
    assert!(not_asked > 0 && refused >= not_asked, "{not_asked} and {refused}");
    assert!(!is_up(weir));
    assert!(client.run("INFO weir").text().contains("weir_databases_down:1\r\n"));
    assert!(weir.admin_get("/").1.contains("database main: down\n"));
    assert_eq!(weir.admin_get("/readyz").0, 200, "who is known is served");
}

/// No key is left alone for longer than the database.
fn is_found_again(weir: &Weir) {
    let mut client = weir.client();
    wait_until("a key is loaded that could not be", || client.run("GET row:2000") == Reply::bulk("row 2000"));
    assert!(is_up(weir));
    for id in 1_001..1_004 {
        assert_eq!(client.run(&format!("GET row:{id}")), Reply::bulk(format!("row {id}")));
    }
    assert_eq!(times(weir, "the database fails and is not asked"), 1, "{}", weir.log());
    assert_eq!(times(weir, "the database answers again"), 1, "{}", weir.log());
}

#[test]
fn a_dead_database_is_left_alone_and_found_again_by_one_probe() {
    let (redis, mut postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, POOL, 2_000, "");
    know(&weir);
    assert!(is_up(&weir));
    postgres.kill9();
    ask_until_it_is_down(&weir);
    known_is_served_and_unknown_refused(&weir);
    postgres.start_again();
    is_found_again(&weir);
}

/// T50: connections stand, and nothing comes.
#[test]
fn a_stopped_database_is_waited_for_by_few_and_then_left_alone() {
    let (redis, postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, POOL, 2_000, "");
    know(&weir);
    postgres.stop();
    // More than there are turns: those that wait are shed, or told in the moment in which it opens.
    let mut clients: Vec<Client> = (0..3 * POOL).map(|_| weir.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.run_later(&format!("GET row:{}", 1_001 + number));
    }
    for client in &mut clients {
        let reply = client.recv();
        assert!(reply.is_error("LOAD route 'row': ") || reply.is_error("OVERLOADED route 'row': "), "{reply:?}");
    }
    ask_until_it_is_down(&weir);
    known_is_served_and_unknown_refused(&weir);
    postgres.cont();
    is_found_again(&weir);
}

/// A client's read of neither hangs, and says which it missed.
#[test]
fn with_neither_redis_nor_database_every_read_is_told_so() {
    let (mut redis, mut postgres) = (Redis::start(), shop());
    let weir = start(&redis, &postgres, POOL, 2_000, "");
    know(&weir);
    redis.kill9();
    wait_until("Weir knows that Redis is down", || weir.metric("weir_upstream_up", &[]) == 0.0);
    let mut client = weir.client();
    assert_eq!(client.run("GET known:1"), known(1), "the database has it");
    postgres.kill9();
    let begun = Instant::now();
    for id in 1..=100 {
        for words in [format!("GET known:{}", id % 20 + 1), format!("GET row:{id}"), "MGET row:1 known:1".into()] {
            let reply = client.run(&words);
            assert!(reply.is_error("LOAD route '"), "{words}: {reply:?}");
        }
        assert!(client.run("GET unrouted").is_error("UPSTREAM "));
        assert!(client.run("SET known:1 mine").is_error("UPSTREAM "));
    }
    println!("500 commands were refused in {:?}", begun.elapsed());
    assert!(!is_up(&weir));
    postgres.start_again();
    wait_until("the database answers", || client.run("GET known:1") == known(1));
    redis.start_again();
    wait_until("Redis answers", || client.run("SET unrouted x") == Reply::ok());
    assert_eq!(client.run("GET row:5"), Reply::bulk("row 5"));
}

/// A7.
#[test]
fn a_database_killed_and_then_slow_is_degradation_and_no_outage() {
    many_descriptors();
    let (clients, keys) = (size("WEIR_PROOF_CLIENTS", 20), size("WEIR_PROOF_KEYS", 200));
    let [down, slow] = ["WEIR_PROOF_DOWN_MS", "WEIR_PROOF_SLOW_MS"].map(|name| size(name, 1_500));
    let (redis, mut postgres) = (Redis::start(), shop());
    postgres.sql(&format!("INSERT INTO users SELECT id, 'user ' || id, NULL, 0 FROM generate_series(21, {keys}) id"));
    postgres.sql("CHECKPOINT");
    let weir = start(&redis, &postgres, POOL, 2_000, "");
    let crowd = Crowd::new(weir.port(), clients, keys, seed());
    crowd.know_all();
    let (mut most, mut probes) = (0, 0.0);
    crowd.work(|| {
        crowd.wait_for_answers(500);
        postgres.kill9();
        wait_until("the breaker opens", || !is_up(&weir));
        crowd.set_phase(Phase::Down);
        let asked = loads(&weir);
        lasts(down);
        crowd.wait_for(&[Come::Known, Come::Refused]);
        crowd.set_phase(Phase::Other);
        probes = loads(&weir) - asked;
        postgres.start_again();
        postgres.sql("UPDATE pace SET seconds = 0.5");
        wait_until("the database is found again", || is_up(&weir));
        crowd.set_phase(Phase::Slow);
        let end = Instant::now() + Duration::from_millis(slow);
        while Instant::now() < end {
            most = most.max(postgres.running("/* load */"));
        }
        crowd.wait_for(&[Come::Known, Come::Loaded, Come::Overloaded]);
        crowd.set_phase(Phase::Other);
        postgres.sql("UPDATE pace SET seconds = 0");
        crowd.wait_for_answers(500);
    });
    let figures = crowd.figures();
    println!("A7: {clients} clients, {keys} known keys, pool {POOL}, down {down} ms, slow {slow} ms: {figures}");
    println!("A7: {probes} loads while it was down; at most {most} statements at once while it was slow");
    println!("A7: told at the breaker's opening: {}", figures.told_at(opened(&weir)));
    figures.assert_right();
    assert!(most > 0 && most <= POOL as i64, "{most} statements at once");
    wait_until("all is well", || is_up(&weir));
}

/// The fault itself lasts for a time: nothing is waited for.
fn lasts(milliseconds: u64) {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// When the breaker opened first, by Weir's own log: the time of the day, in UTC.
fn opened(weir: &Weir) -> Duration {
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("the database fails and is not asked")).expect("it has opened");
    let time = line.split('T').nth(1).and_then(|rest| rest.split('Z').next()).expect("a time");
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().expect("a number")).collect();
    Duration::from_secs_f64(parts[0] * 3_600.0 + parts[1] * 60.0 + parts[2])
}
