//! Three Weirs with near caches before one Redis, readers and writers on all of them (proof A11, A12 for near caches): who asks
//! the Weir that has acknowledged a change never sees what was there before; who asks another sees it for no longer than the
//! push takes, and than `near`.
//!
//! Small by default. In full: `WEIR_PROOF_READS=1000000 WEIR_PROOF_CLIENTS=64 WEIR_PROOF_WRITERS=8 WEIR_PROOF_KEYS=10000`. The
//! delays are printed and not asserted, but for one thing that is no matter of speed: nothing outlives `near`.

#[path = "../harness/mod.rs"]
mod harness;

mod crowd;
mod shop;

use crowd::{Crowd, Figures};
use harness::*;
use shop::Shop;
use std::time::{Duration, Instant};

const WEIRS: usize = 3;

fn start(redis: &Redis, shop: &Shop, near: &str) -> Vec<Weir> {
    let start = |_| {
        Weir::start(&format!(
            "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = 2\n\
             [upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n\
             [[route]]\nname = \"row\"\nkey = \"row:{{id}}\"\nvalue = \"text\"\nnear = \"{near}\"\n\
             load = \"SELECT 'row ' || id || ' version ' || version FROM rows WHERE id = :id\"\n",
            redis.url(),
            shop.url()
        ))
    };
    let weirs: Vec<Weir> = (0..WEIRS).map(start).collect();
    if near != "0s" {
        wait_until("all near caches are open", || weirs.iter().all(|weir| weir.metric("weir_near_open", &[]) == 1.0));
    }
    weirs
}

fn near_hits(weirs: &[Weir]) -> f64 {
    weirs.iter().map(|weir| weir.metric("weir_lookups_total", &[("outcome", "near_hit")])).sum()
}

fn report(name: &str, figures: &Figures, weirs: &[Weir]) {
    println!("{name}: {figures}; {} near hits", near_hits(weirs));
    for (number, weir) in weirs.iter().enumerate() {
        if !weir.metrics().has("weir_near_push_delay_seconds") {
            continue;
        }
        let sum = weir.metric("weir_near_push_delay_seconds_sum", &[]);
        let count = weir.metric("weir_near_push_delay_seconds_count", &[]);
        println!("{name}: Weir {number} measured {count} pushes, {:.3} ms on average", 1e3 * sum / count);
    }
}

#[test]
fn through_the_weir_that_acknowledges_nothing_is_old() {
    many_descriptors();
    let (redis, shop) = (Redis::start(), Shop::new(size("WEIR_PROOF_KEYS", 50)));
    let weirs = start(&redis, &shop, "5s");
    let crowd = Crowd::new(&shop, &weirs, Duration::from_secs(5), seed());
    let figures = crowd.work(size("WEIR_PROOF_READS", 15_000), || {});
    report("near", &figures, &weirs);
    figures.assert_right();
    assert!(near_hits(&weirs) > 0.0, "nothing was kept: nothing was shown");
}

/// Without near caches there is no delay at all, through whichever Weir.
#[test]
fn without_near_caches_nothing_is_old_through_any_weir() {
    many_descriptors();
    let (redis, shop) = (Redis::start(), Shop::new(size("WEIR_PROOF_KEYS", 50)));
    let weirs = start(&redis, &shop, "0s");
    let crowd = Crowd::new(&shop, &weirs, Duration::from_secs(5), seed());
    let figures = crowd.work(size("WEIR_PROOF_READS", 15_000), || {});
    report("far", &figures, &weirs);
    figures.assert_right();
    assert_eq!(figures.delays.len(), 0, "{figures}");
}

/// While connections of the pushes are cut, and one of the Weirs is stopped now and then.
#[test]
fn with_cut_pushes_and_a_stopped_weir_nothing_is_old_either() {
    many_descriptors();
    let (redis, shop) = (Redis::start(), Shop::new(size("WEIR_PROOF_KEYS", 50)));
    let weirs = start(&redis, &shop, "5s");
    let crowd = Crowd::new(&shop, &weirs, Duration::from_secs(5), seed());
    let (mut cuts, mut stops) = (0, 0);
    let figures = crowd.work(size("WEIR_PROOF_READS", 15_000), || {
        cuts += cut_pushes(&redis);
        weirs[stops % WEIRS].signal("STOP");
        lasts(Duration::from_millis(50));
        weirs[stops % WEIRS].signal("CONT");
        stops += 1;
        lasts(Duration::from_millis(150));
    });
    report("faults", &figures, &weirs);
    println!("faults: {cuts} connections cut, {stops} stops");
    figures.assert_right();
    let lost: f64 = weirs.iter().map(|weir| weir.metric("weir_near_flushes_total", &[("reason", "lost")])).sum();
    assert!(cuts > 0 && stops > 0 && lost > 0.0, "no fault has hit: nothing was shown");
    assert!(near_hits(&weirs) > 0.0, "nothing was kept: nothing was shown");
}

/// The fault itself lasts for a time: nothing is waited for.
fn lasts(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Cuts every connection that changes are told over; answers how many those were.
fn cut_pushes(redis: &Redis) -> usize {
    let mut direct = redis.client();
    let list = direct.run("CLIENT LIST").text();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned)).expect("a field of CLIENT LIST")
    };
    let tracks = list.lines().filter(|line| field(line, "flags=").contains('B')).map(|line| field(line, "id="));
    tracks.filter(|id| direct.cmd(&["CLIENT", "KILL", "ID", id]) == Reply::Int(1)).count()
}
