//! The cache engine in seeded universes: the real engine over a simulated store, database and clock.
//!
//! One universe is one seed: a few keys, two or three processes, of which the first has two workers, clients that GET, SET and
//! DEL while rows change, loads that take their time, fail or hang, a store that delays, loses answers, evicts, is killed, and is
//! out of reach for some while others reach it, and values that expire. In most of them each process keeps what it has read (`near`),
//! and hears of changes late, or not for a while. Processes are killed and start again. Afterwards `history` judges every answer by
//! what its client could know, and shares no code with the engine.
//!
//! A seed replays its universe, but for one thing: in which order those are woken who wait for one load, tokio draws by itself. If a
//! seed that has failed passes, run it some times more.
//!
//! `WEIR_UNIVERSES` sets how many stormy universes run (default 5,000; of the other kinds a share), `WEIR_SEED` the first seed.

mod clients;
mod database;
mod history;
mod process;
mod pushes;
mod report;
mod store;
mod universe;

use report::Report;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use store::Bug;
use universe::{Kind, LEASE, route, run};

/// Seconds of a test that is not optimised. `tests/run` optimises it, and asks for twenty times as many.
const STORMY: u64 = 5_000;
/// Of the other kinds there are fewer.
const CALM: u64 = STORMY / 10;
/// Each is as long as twenty others.
const SLIDING: u64 = STORMY / 200;
/// A bug that shows itself more seldom is not found.
const MOST_SILENT: u64 = 100_000;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seeds of so many universes, or of as large a share of what `WEIR_UNIVERSES` asks for.
fn universes(many: u64) -> Range<u64> {
    seeds((variable("WEIR_UNIVERSES", STORMY) * many).div_ceil(STORMY))
}

fn seeds(many: u64) -> Range<u64> {
    let first = variable("WEIR_SEED", 1);
    first..first + many
}

/// Runs universes of a kind on all cores, in the order of their seeds, until one breaks a promise: its seed and its story, and what
/// happened in all that were run.
fn run_until_broken(kind: Kind, seeds: Range<u64>) -> (Report, Option<(u64, Vec<String>)>) {
    let route = route(kind);
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let work = || {
        let (mut all, mut broken) = (Report::default(), None);
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end.load(Relaxed) {
                return (all, broken);
            }
            let mut report = catch_unwind(|| run(seed, kind, &route)).unwrap_or_else(|_| Report::panicked());
            all.add(&report);
            if !report.violations.is_empty() {
                // Those with smaller seeds have begun, and end.
                end.fetch_min(seed, Relaxed);
                broken = Some((seed, std::mem::take(&mut report.violations)));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut all = (Report::default(), None);
        for thread in threads {
            let (report, broken) = thread.join().expect("no universe panics");
            all.0.add(&report);
            all.1 = all.1.into_iter().chain(broken).min_by_key(|(seed, _)| *seed);
        }
        all
    })
}

/// Panics with the seed and the story of the first universe that breaks a promise.
fn run_all(kind: Kind, many: u64) -> Report {
    let (all, broken) = run_until_broken(kind, universes(many));
    if let Some((seed, story)) = broken {
        panic!("seed {seed} of {kind:?}:\n{}", story.join("\n"));
    }
    println!("{kind:?}: {all}");
    all
}

#[test]
fn no_read_after_an_acknowledged_change_is_older_than_it() {
    let all = run_all(Kind::Stormy, STORMY);
    // A green run in which no fault bit would prove nothing.
    let rare = [
        ("refused fills", all.refused_fills),
        ("values refreshed", all.replaced),
        ("leases seized", all.seized),
        ("values renewed", all.renewed),
        ("invalidations by tag", all.tags_invalidated),
        ("lists that others left behind", all.lists_left_behind),
        ("failed loads", all.failed_loads),
        ("hung loads", all.hung_loads),
        ("loads shed", all.shed),
        ("loads not begun while the database fails", all.not_asked),
        ("databases asked again", all.asked_again),
        ("lost answers of the store", all.lost_answers),
        ("steps at a store out of reach", all.unreached),
        ("reads without the store", all.unstored),
        ("changes that the store may have missed", all.failed_changes),
        ("returns of the store with what it held earlier", all.returns),
        ("negative answers", all.negatives),
        ("expired values", all.expired),
        ("coalesced reads", all.coalesced),
        ("steps with several keys", all.together),
        ("ends of loads that were told", all.told),
        ("ends of loads that were not heard", all.unheard),
        ("values evicted", all.evicted),
        ("processes killed", all.killed),
        ("universes of three processes", all.larger),
        ("reads answered from near", all.near_hits),
        ("reads answered from near with what another process has changed", all.near_behind),
        ("values kept near while no pushes arrive", all.kept_unheard),
        ("pushes that arrived", all.pushes_arrived),
        ("pushes that were lost", all.pushes_lost),
    ];
    for (what, count) in rare {
        assert!(count > 0, "not one of these happened: {what}");
    }
}

#[test]
fn one_absent_key_is_loaded_once_however_many_ask() {
    let all = run_all(Kind::Calm, CALM);
    assert!(all.coalesced > 0);
    assert!(all.told > 0, "no process has waited for another's load");
    assert!(all.longest < LEASE, "somebody was not woken: a read took {:?}", all.longest);
}

/// The universe's time is exact: nothing but its seed and the engine decides how long a read takes in it.
#[test]
fn waiters_who_are_not_woken_look_as_the_lease_ends() {
    let all = run_all(Kind::Unheard, CALM);
    assert!(all.unheard > 0, "no process has waited for another's load");
    // Each of a read's few steps takes some ms, seldom 40.
    assert!(all.longest >= LEASE && all.longest < LEASE + Duration::from_millis(250), "{:?}", all.longest);
}

#[test]
fn what_reads_keep_alive_goes_with_its_tags() {
    let all = run_all(Kind::Sliding, SLIDING);
    assert!(all.renewed > all.tags_invalidated, "values were renewed for long");
}

#[test]
fn without_any_one_of_the_rules_a_violation_is_found() {
    for bug in [Bug::Fence, Bug::Mark, Bug::Seen, Bug::Retry, Bug::Epoch, Bug::Missed, Bug::Lasting, Bug::Marker] {
        let (_, broken) = run_until_broken(Kind::Without(bug), seeds(MOST_SILENT));
        let (seed, _) = broken.unwrap_or_else(|| panic!("the alarm is silent without {bug:?}"));
        println!("without {bug:?}: found in universe {seed}");
    }
}
