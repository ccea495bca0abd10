//! T49: FLUSHALL, while many clients read. The database is asked by no more statements at once than `pool`; who finds the line
//! full, or stands in it for too long, is told so; no load times out; and soon nearly all reads are hits again.
//!
//! Small by default. In full: `WEIR_PROOF_COLD_KEYS=100000 WEIR_PROOF_COLD_RATE=20000 WEIR_PROOF_COLD_LOAD_MS=2 cargo test --test
//! serve_degraded cold -- --nocapture --test-threads=1`. That needs a release build and some minutes: to
//! recover, most of the keys must be loaded again by a pool of four. Clients pick keys by Zipf 0.99; recovered is when of as many reads as
//! there are keys 95 % were hits.

use crate::harness::*;
use crate::{POOL, is_up, loads, shed, shop, start_over};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 40;
/// Of one client's pipeline.
const BATCH: u64 = 8;
/// Of the hits among reads, when all is well again.
const RECOVERED: f64 = 0.95;

/// What clients were told.
#[derive(Default)]
struct Told {
    rows: u64,
    overloaded: u64,
}

/// Reads pipelines of keys, so many reads a second, until `ends`.
fn read(port: u16, keys: u64, rate: u64, seed: u64, ends: &AtomicBool) -> Told {
    let (mut client, mut random, mut told) = (Client::connect(port), fastrand::Rng::with_seed(seed), Told::default());
    let (zipf, begun) = (Zipf::new(keys), Instant::now());
    while !ends.load(SeqCst) {
        let picked: Vec<usize> = (0..BATCH).map(|_| zipf.pick(&mut random)).collect();
        let commands: Vec<_> = picked.iter().map(|key| vec!["GET".to_owned(), format!("row:{key}")]).collect();
        for (key, reply) in picked.iter().zip(client.pipeline(&commands)) {
            if reply == Reply::bulk(format!("row {key}")) {
                told.rows += 1;
            } else {
                assert!(reply.is_error("OVERLOADED route 'row': "), "row:{key}: {reply:?}");
                told.overloaded += 1;
            }
        }
        let due = Duration::from_secs_f64((told.rows + told.overloaded) as f64 / rate as f64);
        lasts(due.saturating_sub(begun.elapsed()));
    }
    told
}

/// Reads of the route so far: hits, and all.
fn lookups(weir: &Weir) -> (f64, f64) {
    let metrics = weir.metrics();
    let sum = |labels: &[(&str, &str)]| metrics.sum("weir_lookups_total", labels);
    (sum(&[("route", "row"), ("outcome", "hit")]), sum(&[("route", "row")]))
}

/// Waits until of the last `keys` reads or more enough were hits; calls `meanwhile` all the time.
fn until_recovered(weir: &Weir, keys: u64, mut meanwhile: impl FnMut()) -> f64 {
    let end = Instant::now() + PATIENCE * 5;
    let mut before = lookups(weir);
    loop {
        assert!(Instant::now() < end, "the reads are no hits again");
        meanwhile();
        let now = lookups(weir);
        if now.1 - before.1 >= keys as f64 {
            let ratio = (now.0 - before.0) / (now.1 - before.1);
            if ratio >= RECOVERED {
                return ratio;
            }
            before = now;
        }
    }
}

#[test]
fn after_flushall_the_database_is_asked_by_no_more_than_the_pool() {
    let redis = Redis::start();
    after_flushall("Redis", &redis.url());
}

#[test]
fn after_flushall_of_a_cluster_too() {
    let cluster = RedisCluster::start(0);
    after_flushall("a cluster", &cluster.url());
}

fn after_flushall(over: &str, upstream: &str) {
    let (keys, rate) = (size("WEIR_PROOF_COLD_KEYS", 300), size("WEIR_PROOF_COLD_RATE", 2_000));
    let (load_ms, seed) = (size("WEIR_PROOF_COLD_LOAD_MS", 20), seed());
    let postgres = shop();
    let weir = start_over(upstream, &postgres, POOL, 20_000, "max_waiting_loads = 8\n");
    let port = weir.port();
    let words: Vec<String> = (0..keys).map(|key| format!("row:{key}")).collect();
    for batch in words.chunks(1_000) {
        let command: Vec<&str> = ["MGET"].into_iter().chain(batch.iter().map(String::as_str)).collect();
        assert_eq!(weir.client().cmd(&command).items().len(), batch.len());
    }
    postgres.sql(&format!("UPDATE pace SET seconds = {}", load_ms as f64 / 1_000.0));
    let (mut most, mut told, mut taken, mut ratio, ends) =
        (0, Told::default(), Duration::ZERO, 0.0, AtomicBool::new(false));
    let before = loads(&weir);
    std::thread::scope(|threads| {
        let ends = &ends;
        let crowd: Vec<_> = (0..CLIENTS)
            .map(|number| threads.spawn(move || read(port, keys, rate / CLIENTS, seed ^ number, ends)))
            .collect();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_recovered(&weir, keys, || ());
            let begun = Instant::now();
            assert_eq!(weir.client().run("FLUSHALL"), Reply::ok());
            ratio = until_recovered(&weir, keys, || most = most.max(postgres.running("/* load */")));
            taken = begun.elapsed();
        }));
        // Whatever has happened, else the scope would wait for ever.
        ends.store(true, SeqCst);
        for one in crowd.into_iter().map(|client| client.join().expect("no assertion fails")) {
            (told.rows, told.overloaded) = (told.rows + one.rows, told.overloaded + one.overloaded);
        }
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    println!(
        "T49: FLUSHALL of {over} under {CLIENTS} clients, {keys} keys, {} reads/s wanted, loads of {load_ms} ms: at most {most} \
         statements at once of {POOL}; {} reads answered, {} told -OVERLOADED ({} full, {} late); {} loads; {:.1} % hits again \
         after {taken:?}",
        rate,
        told.rows,
        told.overloaded,
        shed(&weir, "full"),
        shed(&weir, "late"),
        loads(&weir) - before,
        ratio * 100.0,
    );
    assert!(most > 1 && most <= POOL as i64, "{most} statements at once");
    assert!(
        told.overloaded > 0 && shed(&weir, "full") + shed(&weir, "late") > 0,
        "nothing was shed: nothing was shown"
    );
    assert_eq!(weir.metric("weir_loads_total", &[("result", "timeout")]), 0.0, "a storm of time-outs");
    assert!(is_up(&weir), "a busy database is not a dead one");
    let standing =
        || ["weir_loads_waiting", "weir_loads_in_flight"].map(|name| weir.metric(name, &[("database", "main")]));
    assert_eq!(standing(), [0.0, 0.0]);
}
