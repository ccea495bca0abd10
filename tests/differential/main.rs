//! Weir answers what Redis answers, byte for byte: random sequences of commands run through Weir and on a Redis itself.
//!
//! A *sequence* is what one to three clients write in one to a few turns, a dozen commands or so, on a server that holds the
//! same few keys each time (see `setup`); its bytes are cut into writes anywhere. Replies, pushes and the connection's end
//! must be equal; what differs by design is listed in `by_design`, with the reason, and compared as far as it can be.
//!
//! - `WEIR_SEQUENCES=N` runs so many in all; `WEIR_TEST_SEED=N` replays a run.
//! - `WEIR_DIFFERENCES=N` shows so many differences of each lane before it fails, each with a script that shows it.

#[path = "../harness/mod.rs"]
mod harness;

mod alter;
mod by_design;
mod command;
mod compare;
mod coverage;
mod generate;
mod lane;
mod left_out;
mod reply;
mod run;
mod script;
mod sequence;
mod server;
mod setup;
mod shrink;
mod side;
mod stateful;
mod templates;
mod wire;
mod words;

use coverage::Coverage;
use generate::USES;
use lane::{Lane, Tested};
use server::Server;
use side::{Door, Side};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs lanes side by side; what they covered together, or what they found.
fn run(lanes: &[Tested], sequences: u64) -> Result<Coverage, String> {
    let (seed, failed) = (harness::seed(), AtomicBool::new(false));
    let share = sequences.div_ceil(lanes.len() as u64);
    let differences = number("WEIR_DIFFERENCES", 1) as usize;
    let outcomes: Vec<Result<Coverage, String>> = std::thread::scope(|scope| {
        let run = |(number, tested): (usize, &Tested)| {
            let number = number as u64;
            let lane =
                Lane { tested: *tested, uses: USES, seed, number, sequences: share, failed: &failed, differences };
            scope.spawn(move || lane.run())
        };
        let threads: Vec<_> = lanes.iter().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a lane ends")).collect()
    });
    let mut covered = Coverage::default();
    let mut found = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(coverage) => covered.add(coverage),
            Err(report) => found.push(report),
        }
    }
    if found.is_empty() { Ok(covered) } else { Err(found.join("\n")) }
}

/// 10^5 sequences unless told otherwise.
const SEQUENCES: u64 = 100_000;
/// Fewer than these cannot cover every command.
const ENOUGH: u64 = 50_000;

#[test]
fn weir_answers_what_redis_answers() {
    let sequences = number("WEIR_SEQUENCES", SEQUENCES);
    let lanes = [Tested::Weir { workers: 1, routed: false }, Tested::Weir { workers: 2, routed: true }];
    let coverage = run(&lanes, sequences).unwrap_or_else(|found| panic!("{found}"));
    if sequences >= ENOUGH {
        let missing = coverage.missing(&mut Side::new(Arc::new(Server::start()), Door::Own));
        assert!(missing.is_empty(), "never had a reply that was no error: {missing:?}");
    }
}

#[test]
fn two_redis_do_not_differ() {
    run(&[Tested::Redis], number("WEIR_SEQUENCES", SEQUENCES) / 20).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn one_altered_byte_is_found_and_shown_small() {
    let found = run(&[Tested::Altered], 10_000).err().expect("MULTI comes soon");
    let commands = found.lines().filter(|line| line.starts_with("# ") && !line.starts_with("# Usage")).count();
    // MULTI and a step, which is three commands if what is random among them is to come to the same.
    assert!(found.contains("QUEUE?") && (2..=4).contains(&commands), "{found}");
}
