//! T42: a hot key is refreshed about once for each of its lives, by one reader of many, and nobody waits for it.
//!
//! Readers come at a steady rate. By early refresh alone one of them finds that the key is due some load times before its end
//! (`load time * ln(rate * load time)`, about), and the others never notice; but chance decides, so that this is *as good as never
//! a miss* where many reads come within one load time, and a machine that stands still for a moment may make one. With grace it
//! is *never*: what is past its TTL is served too, while one refreshes it.

use crate::harness::*;
use crate::{loads, lookups};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Hundreds of loads: how early a refresh is grows with what a load takes on this machine, and with a short TTL that is no small
/// part of it. With 50 ms where 5 were meant, 1.2 loads for each TTL are reached at 2 s.
fn ttl() -> Duration {
    Duration::from_millis(size("WEIR_PROOF_TTL_MS", 2_000))
}

const READERS: u64 = 4;
const TICK: Duration = Duration::from_millis(10);

/// Each load finds the next number.
fn start(redis: &Redis, postgres: &Postgres, load_ms: u64, rest: &str) -> Weir {
    postgres.sql("CREATE SEQUENCE IF NOT EXISTS versions");
    Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n\
         [[route]]\nname = \"hot\"\nkey = \"hot:{{id}}\"\nvalue = \"text\"\njitter = \"0%\"\nearly_refresh = 1.0\n\
         load = \"SELECT nextval('versions')::text || pg_sleep({})::text || left(:id::text, 0) /* hot */\"\n{rest}\n",
        redis.url(),
        postgres.url(),
        load_ms as f64 / 1_000.0
    ))
}

/// Reads `hot:1` until `ends`, so often a second, and sees it go on and never back. Answers how often it has read.
fn read(port: u16, rate: u64, ends: &AtomicBool) -> u64 {
    let (mut client, mut reads, mut newest, begun) = (Client::connect(port), 0, 0, Instant::now());
    let batch = vec![vec!["GET", "hot:1"]; (rate * TICK.as_millis() as u64 / 1_000).max(1) as usize];
    let mut ticks = 0;
    while !ends.load(SeqCst) {
        for reply in client.pipeline(&batch) {
            let version: u64 = reply.text().parse().expect("a number");
            assert!(version >= newest, "{version} after {newest}");
            newest = version;
        }
        reads += batch.len() as u64;
        ticks += 1;
        lasts((TICK * ticks).saturating_sub(begun.elapsed()));
    }
    reads
}

/// While `work` runs, readers read at `rate` altogether. Answers how often.
fn while_read(weir: &Weir, rate: u64, work: impl FnOnce()) -> u64 {
    let ends = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let readers: Vec<_> =
            (0..READERS).map(|_| threads.spawn(|| read(weir.port(), rate / READERS, &ends))).collect();
        // Also when it panics; else the scope would wait for ever.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        ends.store(true, SeqCst);
        let reads = readers.into_iter().map(|reader| reader.join().expect("no assertion fails")).sum();
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        reads
    })
}

/// Over so many TTLs: how often it was missed, after the first read.
fn refreshed_once_for_each_life(what: &str, rest: &str) -> u64 {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let weir = start(&redis, &postgres, 5, &format!("ttl = \"{}ms\"\n{rest}", ttl().as_millis()));
    let (ttls, rate) = (size("WEIR_PROOF_TTLS", 3), size("WEIR_PROOF_RATE", 2_000));
    weir.client().run("GET hot:1");
    let begun = Instant::now();
    let reads = while_read(&weir, rate, || lasts(ttl() * ttls as u32));
    let taken = begun.elapsed();
    let lives = taken.as_secs_f64() / ttl().as_secs_f64();
    let (refreshes, missed) = (loads(&weir, "hot", "refresh"), lookups(&weir, "hot", "miss") - 1);
    let queries = postgres.runs("/* hot */") as u64 - 1;
    println!(
        "T42: {what}: {:.0} reads/s of one key over {lives:.1} TTLs: {queries} queries, {:.2} for each TTL ({refreshes} refreshes); \
         {missed} of {reads} reads blocked, {} stale",
        reads as f64 / taken.as_secs_f64(),
        queries as f64 / lives,
        lookups(&weir, "hot", "stale_hit"),
    );
    assert!(refreshes > 0, "nobody has refreshed it");
    // The last life may be refreshed, and is not over.
    assert!(queries as f64 <= 1.2 * lives + 1.0, "{queries} queries over {lives:.1} TTLs");
    missed
}

#[test]
fn with_grace_nobody_waits_for_a_hot_key() {
    assert_eq!(refreshed_once_for_each_life("early refresh and grace", "grace = \"1h\""), 0);
}

#[test]
fn by_early_refresh_alone_next_to_nobody_does() {
    let missed = refreshed_once_for_each_life("early refresh alone", "");
    // A reader who is held up for long may find it gone, and others with it; that is no rule.
    let reads = size("WEIR_PROOF_RATE", 2_000) * size("WEIR_PROOF_TTLS", 3) * ttl().as_millis() as u64 / 1_000;
    assert!(missed * 20 <= reads, "{missed} of about {reads} reads waited");
}

/// Caffeine #175: the value must not stand still where a load takes longer than it is fresh.
#[test]
fn a_load_that_takes_longer_than_a_life_still_brings_new_values() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let weir = start(&redis, &postgres, 250, "ttl = \"100ms\"\ngrace = \"1h\"");
    weir.client().run("GET hot:1");
    let (wanted, mut most) = (size("WEIR_PROOF_TTLS", 6), 0);
    let begun = Instant::now();
    let reads = while_read(&weir, size("WEIR_PROOF_RATE", 2_000), || {
        wait_until("it has gone on", || {
            most = most.max(postgres.running("/* hot */"));
            loads(&weir, "hot", "refresh") >= wanted
        });
    });
    let taken = begun.elapsed();
    println!(
        "T42: a load of 250 ms, a TTL of 100 ms: {wanted} new values in {taken:?}, {reads} reads, at most {most} load at once, {} blocked",
        lookups(&weir, "hot", "miss") - 1
    );
    assert_eq!((most, lookups(&weir, "hot", "miss")), (1, 1));
}
