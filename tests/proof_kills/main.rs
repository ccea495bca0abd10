//! Redis is killed, or stopped, while a crowd of clients works through Weir (proof A4 and A6): no answer is wrong, routed keys go
//! on being answered, everything else is told quickly, and all is well again once Redis is back.
//!
//! Small by default. In full: `WEIR_PROOF_KILLS=20 WEIR_PROOF_DOWN_MS=1000..10000 WEIR_PROOF_STOP_MS=30000
//! WEIR_PROOF_CLIENTS=200 WEIR_PROOF_KEYS=100000`. Times are printed and never asserted; what is asserted are counts.

#[path = "../harness/mod.rs"]
mod harness;

mod crowd;
mod figures;
mod shop;
mod sockets;

use crowd::Crowd;
use figures::Phase;
use harness::*;
use shop::Shop;
use sockets::CountingDoor;
use std::ops::Range;
use std::time::{Duration, Instant};

/// `WEIR_PROOF_DOWN_MS`, in milliseconds: `1000..10000`.
fn down() -> Range<u64> {
    let Ok(text) = std::env::var("WEIR_PROOF_DOWN_MS") else { return 200..900 };
    let (from, to) = text.split_once("..").expect("WEIR_PROOF_DOWN_MS is FROM..TO");
    from.parse().expect("milliseconds")..to.parse().expect("milliseconds")
}

const WORKERS: u64 = 2;
const TIMEOUT: Duration = Duration::from_millis(250);

fn start(redis: &Redis, shop: &Shop) -> Weir {
    Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = {WORKERS}\n\
         [upstream]\nurl = \"{}\"\ntimeout = \"{}ms\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n{}",
        redis.url(),
        TIMEOUT.as_millis(),
        shop.url(),
        shop::ROUTES
    ))
}

/// A4.
#[test]
fn a_killed_redis_makes_nothing_wrong_and_is_found_again() {
    many_descriptors();
    let mut random = fastrand::Rng::with_seed(seed());
    let (kills, down) = (size("WEIR_PROOF_KILLS", 2), down());
    let shop = Shop::new(size("WEIR_PROOF_KEYS", 2_000));
    let mut redis = Redis::start();
    let weir = start(&redis, &shop);
    let crowd = Crowd::new(&shop, weir.port(), size("WEIR_PROOF_CLIENTS", 20), random.u64(..));
    let (mut returns, mut attempts, mut bursts, mut standing) = (Vec::new(), 0, 0, 0);
    crowd.work(|| {
        for kill in 0..kills {
            crowd.wait_for_answers(500);
            redis.kill9();
            let killed = Instant::now();
            wait_until("Weir knows", || weir.metric("weir_upstream_up", &[]) == 0.0);
            crowd.set_phase(Phase::Down);
            let door = CountingDoor::open(redis.port());
            lasts(Duration::from_millis(random.u64(down.clone())));
            let knocks = door.close();
            crowd.set_phase(Phase::Other);
            // One more listens for other Weirs' loads.
            let links = u64::from(crowd.identities()) * WORKERS + 1;
            let most = sockets::most_attempts(links, killed.elapsed());
            assert!(
                knocks.len() as u64 <= most,
                "kill {kill}: {} connects by {links} links, at most {most}",
                knocks.len()
            );
            attempts += knocks.len();
            bursts = bursts.max(sockets::largest_burst(&knocks, Duration::from_millis(10)));
            redis.start_again();
            let back = Instant::now();
            returns.push(crowd.first_success_since(back));
            wait_until("the upstream is up", || weir.metric("weir_upstream_up", &[]) == 1.0);
            crowd.wait_for_answers(200);
            standing = standing.max(sockets::connections(&redis));
        }
    });
    let figures = crowd.figures();
    println!("A4: {kills} kills, down {down:?} ms; {figures}");
    println!("A4: first success after Redis' return: {}", Spread::of(&returns));
    println!(
        "A4: {attempts} connects while it was down, at most {bursts} within 10 ms; at most {standing} connections made \
         by the time all was well again; weir_upstream_reconnects_total {}",
        weir.metric("weir_upstream_reconnects_total", &[])
    );
    figures.assert_right();
    assert!(figures.refused > 0 && figures.without_store > 0 && attempts > 0, "no fault has hit: nothing was shown");
    assert!(weir.metric("weir_loads_total", &[("trigger", "unstored"), ("result", "row")]) > 0.0);
    assert!(weir.metric("weir_upstream_reconnects_total", &[]) >= kills as f64);
}

/// A6.
#[test]
fn a_stopped_redis_fails_commands_by_the_timeout_and_costs_no_memory() {
    many_descriptors();
    let shop = Shop::new(size("WEIR_PROOF_KEYS", 2_000));
    let redis = Redis::start();
    let weir = start(&redis, &shop);
    let crowd = Crowd::new(&shop, weir.port(), size("WEIR_PROOF_CLIENTS", 20), seed());
    let (mut before, mut most) = (0, 0);
    crowd.work(|| {
        crowd.wait_for_answers(2_000);
        before = weir.resident_bytes();
        redis.stop();
        crowd.set_phase(Phase::Stopped);
        let end = Instant::now() + Duration::from_millis(size("WEIR_PROOF_STOP_MS", 2_000));
        while Instant::now() < end {
            lasts(Duration::from_millis(50));
            most = most.max(weir.resident_bytes());
        }
        crowd.set_phase(Phase::Other);
        redis.cont();
        let back = Instant::now();
        println!("A6: first success after SIGCONT: {:?}", crowd.first_success_since(back));
        crowd.wait_for_answers(2_000);
        most = most.max(weir.resident_bytes());
    });
    let figures = crowd.figures();
    println!("A6: timeout {TIMEOUT:?}; {figures}");
    println!("A6: resident memory {} KiB before, {} KiB at most", before >> 10, most >> 10);
    figures.assert_right();
    assert!(figures.refused > 0 && figures.without_store > 0, "no fault has hit: nothing was shown");
    assert!(most.saturating_sub(before) <= 32 << 20, "memory grew from {before} to {most} bytes");
}
