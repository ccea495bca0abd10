//! The cache engine in seeded universes: the real engine over a simulated store, database and clock.
//!
//! One universe is one seed: a few keys, two workers of one process and a second process, clients that GET, SET and DEL
//! while rows change, loads that take their time, fail or hang, a store that delays, loses answers and is out of reach for
//! some while others reach it, and values that expire. Afterwards `history` judges every answer by what its client could know, and shares no code with the engine.
//!
//! `WEIR_UNIVERSES` sets how many universes run (default 3,000 of each kind), `WEIR_SEED` the first seed.

mod database;
mod history;
mod store;
mod universe;

use std::time::Duration;
use store::Bug;
use universe::{Kind, LEASE, Report, run};

fn universes() -> impl Iterator<Item = u64> {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first = number("WEIR_SEED", 1);
    first..first + number("WEIR_UNIVERSES", 3_000)
}

/// Runs universes of a kind; panics with the seed and the story of the first that breaks a promise.
fn run_all(kind: Kind) -> Report {
    let mut all = Report::default();
    for seed in universes() {
        let report = run(seed, kind);
        assert!(report.violations.is_empty(), "seed {seed} of {kind:?}:\n{}", report.violations.join("\n"));
        all.add(&report);
    }
    println!("{kind:?}: {all}");
    all
}

#[test]
fn no_read_after_an_acknowledged_change_is_older_than_it() {
    let all = run_all(Kind::Stormy);
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
        ("ends of loads that were told", all.told),
        ("ends of loads that were not heard", all.unheard),
    ];
    for (what, count) in rare {
        assert!(count > 0, "not one of these happened: {what}");
    }
}

#[test]
fn one_absent_key_is_loaded_once_however_many_ask() {
    let all = run_all(Kind::Calm);
    assert!(all.coalesced > 0);
    assert!(all.told > 0, "no process has waited for another's load");
    assert!(all.longest < LEASE, "somebody was not woken: a read took {:?}", all.longest);
}

/// The universe's time is exact: nothing but its seed and the engine decides how long a read takes in it.
#[test]
fn waiters_who_are_not_woken_look_as_the_lease_ends() {
    let all = run_all(Kind::Unheard);
    assert!(all.unheard > 0, "no process has waited for another's load");
    // Each of a read's few steps takes some ms, seldom 40.
    assert!(all.longest >= LEASE && all.longest < LEASE + Duration::from_millis(250), "{:?}", all.longest);
}

/// A universe of this kind is as long as twenty others.
#[test]
fn what_reads_keep_alive_goes_with_its_tags() {
    let mut all = Report::default();
    for seed in universes().step_by(20) {
        let report = run(seed, Kind::Sliding);
        assert!(report.violations.is_empty(), "seed {seed}:\n{}", report.violations.join("\n"));
        all.add(&report);
    }
    println!("{all}");
    assert!(all.renewed > all.tags_invalidated, "values were renewed for long");
}

#[test]
fn without_any_one_of_the_rules_a_violation_is_found() {
    for bug in [Bug::Fence, Bug::Mark, Bug::Seen, Bug::Retry, Bug::Epoch, Bug::Missed, Bug::Lasting] {
        let found = universes().position(|seed| !run(seed, Kind::Without(bug)).violations.is_empty());
        let found = found.unwrap_or_else(|| panic!("the alarm is silent without {bug:?}"));
        println!("without {bug:?}: found in universe {}", found + 1);
    }
}
