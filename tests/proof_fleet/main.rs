//! Three Weirs over one upstream and one PostgreSQL, readers and writers on all of them (proof A11, A12): who asks after an
//! invalidation was acknowledged sees what was committed before it, or something newer, whatever goes wrong meanwhile. With near
//! caches that is so through the Weir that has acknowledged it; through the others as soon as they were told, and than `near`
//! later never.
//!
//! Every fault meets some of the combinations {by key, by tag, by both} × {near cache off, on} × {Redis, a cluster of three
//! masters}; with `WEIR_PROOF_ALL=1`, all of them. Small by default. In full: `WEIR_PROOF_READS=1000000 WEIR_PROOF_CLIENTS=64
//! WEIR_PROOF_WRITERS=8 WEIR_PROOF_KEYS=10000 WEIR_PROOF_ROUNDS=30 cargo test --test proof_fleet -- --nocapture
//! --test-threads=1`. What is asserted are counts, and that a fault has bitten; delays are printed, but for one thing that is no
//! matter of speed: nothing outlives `near`.

#[path = "../harness/mod.rs"]
mod harness;

mod crowd;
mod faults;
mod fleet;
mod history;
mod readers;
mod scenario;
mod shop;
mod writers;

use faults::Fault;
use harness::seed;
use scenario::{By, Near, Over, Scenario};

type Combination = (By, Near, Over);

const BYS: [By; 3] = [By::Key, By::Tag, By::Both];
const NEARS: [Near; 2] = [Near::Off, Near::On];
const OVERS: [Over; 2] = [Over::Redis, Over::Cluster];

fn all() -> Vec<Combination> {
    let nears = |by| NEARS.into_iter().flat_map(move |near| OVERS.into_iter().map(move |over| (by, near, over)));
    BYS.into_iter().flat_map(nears).collect()
}

/// One fault, with these combinations every day.
#[track_caller]
fn nothing_is_old(fault: Fault, every_day: &[Combination]) {
    let seed = seed();
    let combinations = if std::env::var_os("WEIR_PROOF_ALL").is_some() { all() } else { every_day.to_vec() };
    for (by, near, over) in combinations {
        // There are no pushes to cut.
        if (fault, near) == (Fault::CutPushes, Near::Off) {
            continue;
        }
        let report = Scenario { by, near, over, fault, forgets: None }.run(seed);
        println!("{report}");
        report.assert_right();
    }
}

#[test]
fn nothing_is_old_in_quiet_times() {
    nothing_is_old(Fault::None, &[(By::Both, Near::Off, Over::Redis), (By::Both, Near::On, Over::Cluster)]);
}

#[test]
fn nothing_is_old_though_loads_take_their_time() {
    let every_day =
        [(By::Key, Near::Off, Over::Redis), (By::Tag, Near::Off, Over::Cluster), (By::Tag, Near::On, Over::Redis)];
    nothing_is_old(Fault::SlowLoads, &every_day);
}

#[test]
fn nothing_is_old_though_a_weir_stands_still() {
    nothing_is_old(Fault::StoppedWeir, &[(By::Both, Near::On, Over::Redis)]);
}

#[test]
fn nothing_is_old_though_a_weir_loses_its_upstream() {
    nothing_is_old(Fault::CutUpstream, &[(By::Both, Near::On, Over::Redis), (By::Key, Near::Off, Over::Cluster)]);
}

#[test]
fn nothing_is_old_though_a_weir_loses_its_database() {
    nothing_is_old(Fault::CutDatabase, &[(By::Tag, Near::Off, Over::Redis)]);
}

#[test]
fn nothing_is_old_though_a_weir_is_killed() {
    nothing_is_old(Fault::KilledWeir, &[(By::Both, Near::Off, Over::Cluster)]);
}

#[test]
fn nothing_is_old_though_redis_comes_back_empty() {
    nothing_is_old(Fault::KilledUpstream, &[(By::Both, Near::On, Over::Redis), (By::Key, Near::Off, Over::Cluster)]);
}

#[test]
fn nothing_is_old_though_redis_comes_back_with_what_it_held() {
    nothing_is_old(Fault::OldUpstream, &[(By::Both, Near::On, Over::Redis), (By::Tag, Near::Off, Over::Cluster)]);
}

#[test]
fn nothing_is_old_though_clocks_are_hours_apart() {
    nothing_is_old(Fault::OtherClocks, &[(By::Both, Near::Off, Over::Redis)]);
}

#[test]
fn nothing_is_old_though_pushes_are_lost() {
    nothing_is_old(Fault::CutPushes, &[(By::Both, Near::On, Over::Redis)]);
}

/// The alarm: writers that forget an invalidation now and then, and believe in it.
#[test]
fn writers_who_forget_are_found_out() {
    let (near, over, fault) = (Near::Off, Over::Redis, Fault::None);
    let report = Scenario { by: By::Both, near, over, fault, forgets: Some(20) }.run(seed());
    println!("{report}");
    assert!(!report.verdict.violations.is_empty(), "the alarm is silent: {report}");
}
