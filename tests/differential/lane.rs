//! A lane: a Redis, what is tested beside it, and the sequences that run through both.

use super::coverage::Coverage;
use super::generate::{self, Use};
use super::harness::{Sqlite, Weir};
use super::run::{Difference, Pair};
use super::sequence::Sequence;
use super::server::Server;
use super::side::{Door, Side};
use super::{alter::Altering, left_out, script, shrink};
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What stands in front of the tested side's Redis.
#[derive(Clone, Copy, Debug)]
pub enum Tested {
    /// Nothing.
    Redis,
    /// A proxy that changes what it passes on, see [`Altering`].
    Altered,
    /// Weir with so many workers; `routed`: with a route, of keys that no sequence has.
    Weir { workers: usize, routed: bool },
}

/// The servers of a lane. What stands in front ends before what stands behind.
struct Stack {
    pair: Pair,
    _weir: Option<Weir>,
    _altering: Option<Altering>,
    _sqlite: Option<Sqlite>,
}

/// Without routes Weir passes everything on at once; with one it looks at keys.
fn route(sqlite: &Sqlite) -> String {
    format!(
        "[database.main]\nurl = \"{}\"\n[[route]]\nkey = \"routed:{{id}}\"\nload = \"SELECT name FROM products WHERE id = :id\"\n\
         value = \"text\"\ndatabase = \"main\"\n",
        sqlite.url()
    )
}

impl Stack {
    fn start(tested: Tested) -> Stack {
        let (reference, behind) = (Arc::new(Server::start()), Arc::new(Server::start()));
        let (mut weir, mut altering, mut sqlite) = (None, None, None);
        let door = match tested {
            Tested::Redis => Door::Own,
            Tested::Altered => Door::Port(altering.insert(Altering::start(behind.port())).port()),
            Tested::Weir { workers, routed } => {
                let routes = if routed { route(sqlite.insert(Sqlite::shop())) } else { String::new() };
                let config = format!(
                    "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = {workers}\n\
                     [upstream]\nurl = \"redis://127.0.0.1:{}/0\"\ntimeout = \"20s\"\n{routes}",
                    behind.port()
                );
                Door::Port(weir.insert(Weir::start(&config)).port())
            }
        };
        let pair = Pair::new(Side::new(reference, Door::Own), Side::new(behind, door));
        Stack { pair, _weir: weir, _altering: altering, _sqlite: sqlite }
    }
}

/// How many sequences before the one that failed may have to do with it.
const MEMORY: usize = 32;
/// What a sequence that is being shrunk is given; a wrong guess costs no more than a longer script.
const SHRINK_PATIENCE: Duration = Duration::from_secs(2);

/// A lane's work.
pub struct Lane<'a> {
    pub tested: Tested,
    pub uses: &'a [Use],
    /// Of the whole run; each lane and each sequence has its own from it.
    pub seed: u64,
    pub number: u64,
    pub sequences: u64,
    /// Set once any lane has failed.
    pub failed: &'a AtomicBool,
    /// So many differences, of other commands each, are shown before the lane fails.
    pub differences: usize,
}

impl Lane<'_> {
    /// What succeeded, and what was missing of it; or the smallest scripts that show differences.
    pub fn run(&self) -> Result<Coverage, String> {
        let mut stack = Stack::start(self.tested);
        let mut coverage = Coverage::default();
        let mut last = VecDeque::new();
        // By the names of their commands: one of each kind is enough.
        let mut reports = BTreeMap::new();
        for index in 0..self.sequences {
            if self.failed.load(Ordering::Relaxed) && reports.is_empty() {
                break;
            }
            let sequence = self.sequence(index);
            coverage.note(&sequence);
            last.push_back(sequence);
            if last.len() > MEMORY {
                last.pop_front();
            }
            let outcome = stack.pair.run(&last[last.len() - 1]);
            if let Err(difference) = outcome {
                self.failed.store(true, Ordering::Relaxed);
                let (names, report) = self.report(index, &mut stack, last.drain(..).collect(), difference);
                reports.entry(names).or_insert(report);
                if reports.len() >= self.differences {
                    break;
                }
                stack = Stack::start(self.tested);
            }
        }
        coverage.count(&mut stack.pair.reference);
        if reports.is_empty() { Ok(coverage) } else { Err(reports.into_values().collect::<Vec<_>>().join("\n")) }
    }

    fn sequence(&self, index: u64) -> Sequence {
        let seed = self.seed ^ (self.number << 56) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sequence = generate::sequence(&mut Rng::with_seed(seed), self.uses);
        match self.tested {
            Tested::Weir { .. } => left_out::without(sequence),
            Tested::Redis | Tested::Altered => sequence,
        }
    }

    fn report(&self, index: u64, stack: &mut Stack, last: Vec<Sequence>, difference: Difference) -> (String, String) {
        let head = format!("{:?}, lane {}, sequence {index}, WEIR_TEST_SEED={}", self.tested, self.number, self.seed);
        let shown = |difference: &Difference| format!("{head}\n{}", script::difference(difference));
        eprintln!("found: {}shrinking", shown(&difference));
        stack.pair.patience = SHRINK_PATIENCE;
        let alone = last.last().cloned().into_iter().collect::<Vec<_>>();
        let mut in_place = |sequences: &[Sequence]| {
            stack.pair.hang_up();
            sequences.iter().find_map(|sequence| stack.pair.run(sequence).err())
        };
        let (sequences, difference) = match in_place(&alone) {
            Some(difference) => shrink::shrink(alone, difference, in_place),
            // It takes what went before: each attempt has servers of its own.
            None => shrink::shrink(last, difference, |sequences| {
                let mut stack = Stack::start(self.tested);
                stack.pair.patience = SHRINK_PATIENCE;
                sequences.iter().find_map(|sequence| stack.pair.run(sequence).err())
            }),
        };
        // The script may be long: what it shows stands at the end, where a log that was cut still has it.
        (script::names(&sequences), script::script(&sequences) + &shown(&difference))
    }
}
