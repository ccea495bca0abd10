//! One run: what is invalidated and how, what is kept where, over which upstream, and what goes wrong meanwhile.

use crate::crowd::{Counts, Crowd, History};
use crate::faults::Fault;
use crate::fleet::{Fleet, NEAR};
use crate::harness::{Spread, many_descriptors, size};
use crate::history::{Read, Verdict, judge};
use crate::shop::{KINDS, Shop};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Key,
    Tag,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    Off,
    On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Redis,
    /// Of three masters.
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub by: By,
    pub near: Near,
    pub over: Over,
    pub fault: Fault,
    /// Writers forget one invalidation in so many, and believe that it was acknowledged.
    pub forgets: Option<u64>,
}

/// What came of it.
pub struct Report {
    scenario: Scenario,
    history: History,
    counts: Counts,
    pub verdict: Verdict,
    rounds: usize,
    hits: (u64, &'static str),
    pub near_hits: u64,
    refusals: Vec<(&'static str, u64)>,
    seen_without_store: u64,
    dropped_by_events: u64,
}

const REASONS: [&str; 6] = ["invalidated", "tag_invalidated", "lease_expired", "occupied", "upstream", "negative_full"];

impl Scenario {
    pub fn run(self, seed: u64) -> Report {
        many_descriptors();
        let shop = Shop::new(size("WEIR_PROOF_KEYS", 50));
        let mut fleet = Fleet::start(&self, &shop);
        let crowd = Crowd::new(&self, &shop, &fleet);
        let (reads, rounds) = (size("WEIR_PROOF_READS", 4_000), size("WEIR_PROOF_ROUNDS", 3));
        let rounds = crowd.work(&mut fleet, reads, rounds as usize, seed);
        let (history, counts) = crowd.into_history();
        let near = match self.near {
            Near::Off => None,
            Near::On => Some(NEAR),
        };
        let refusals = REASONS.map(|reason| (reason, fleet.count("weir_fills_refused_total", &[("reason", reason)])));
        Report {
            scenario: self,
            verdict: judge(shop.rows() * KINDS.len(), &history.reads, &history.changes, near),
            rounds,
            hits: self.fault.hits(&fleet, &counts),
            near_hits: fleet.count("weir_lookups_total", &[("outcome", "near_hit")]),
            refusals: refusals.into_iter().filter(|(_, count)| *count > 0).collect(),
            dropped_by_events: fleet.count("weir_invalidations_total", &[("source", "event")]),
            seen_without_store: fleet.count("weir_loads_total", &[("trigger", "unstored"), ("result", "row")]),
            history,
            counts,
        }
    }
}

impl Report {
    /// Nothing was wrong, and this was worth its while.
    #[track_caller]
    pub fn assert_right(&self) {
        let stories = self.history.wrong.iter().chain(&self.verdict.violations);
        let stories: Vec<&str> = stories.take(20).map(String::as_str).collect();
        assert!(stories.is_empty(), "{self}\n{}", stories.join("\n"));
        assert!(
            self.counts.acknowledged.load(SeqCst) > 0 && self.hits.0 > 0,
            "no fault has hit: nothing was shown\n{self}"
        );
        assert!(self.scenario.near == Near::Off || self.near_hits > 0, "nothing was kept: nothing was shown\n{self}");
        assert!(self.scenario.near == Near::On || self.verdict.delays.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { by, near, over, fault, .. } = self.scenario;
        let count = |counter: &AtomicU64| counter.load(SeqCst);
        let (hits, what) = self.hits;
        let time = |read: &Read| Duration::from_nanos(read.end - read.start);
        let times: Vec<Duration> = self.history.reads.iter().map(time).collect();
        write!(
            f,
            "{fault:?}, by {by:?}, near {near:?}, {over:?}: {} reads, {} violations, {} other wrong answers; invalidations: \
             {} acknowledged, {} refused and remembered, {} failed, {} told, of which came {} deletions; {} rounds of faults, hits: {hits} {what}; {} commands \
             refused, {} connections cut, {} rows without the store, fills refused: {:?}; reads: {}",
            self.history.reads.len(),
            self.verdict.violations.len(),
            self.history.wrong.len(),
            count(&self.counts.acknowledged),
            count(&self.counts.remembered),
            count(&self.counts.failed),
            count(&self.counts.told),
            self.dropped_by_events,
            self.rounds,
            count(&self.counts.refused),
            count(&self.counts.cut),
            self.seen_without_store,
            self.refusals,
            Spread::of(&times),
        )?;
        match near {
            Near::Off => Ok(()),
            Near::On => write!(
                f,
                "; {} near hits, of which before another Weir's push was there {}",
                self.near_hits,
                Spread::of(&self.verdict.delays)
            ),
        }
    }
}
