//! What happened in universes, and how often.

use std::fmt;
use std::time::Duration;

/// What happened; sums over universes.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<String>,
    pub reads: u64,
    pub loads: u64,
    pub coalesced: u64,
    /// Steps that took several keys.
    pub together: u64,
    pub refused_fills: u64,
    pub replaced: u64,
    pub seized: u64,
    pub renewed: u64,
    pub lists_left_behind: u64,
    pub tags_invalidated: u64,
    pub failed_loads: u64,
    pub hung_loads: u64,
    pub shed: u64,
    pub not_asked: u64,
    pub asked_again: u64,
    pub lost_answers: u64,
    pub unreached: u64,
    pub unstored: u64,
    pub failed_changes: u64,
    pub returns: u64,
    pub negatives: u64,
    pub expired: u64,
    pub told: u64,
    pub unheard: u64,
    pub evicted: u64,
    pub killed: u64,
    /// Universes of more than two processes.
    pub larger: u64,
    pub near_hits: u64,
    pub near_behind: u64,
    pub kept_unheard: u64,
    pub pushes_arrived: u64,
    pub pushes_lost: u64,
    /// The longest that a read took.
    pub longest: Duration,
}

impl Report {
    /// Of a universe that did not end well; what went wrong is printed already.
    pub fn panicked() -> Self {
        Report { violations: vec!["it panicked".into()], ..Report::default() }
    }

    pub fn add(&mut self, other: &Report) {
        self.reads += other.reads;
        self.loads += other.loads;
        self.coalesced += other.coalesced;
        self.together += other.together;
        self.refused_fills += other.refused_fills;
        self.replaced += other.replaced;
        self.seized += other.seized;
        self.renewed += other.renewed;
        self.lists_left_behind += other.lists_left_behind;
        self.tags_invalidated += other.tags_invalidated;
        self.failed_loads += other.failed_loads;
        self.hung_loads += other.hung_loads;
        self.shed += other.shed;
        self.not_asked += other.not_asked;
        self.asked_again += other.asked_again;
        self.lost_answers += other.lost_answers;
        self.unreached += other.unreached;
        self.unstored += other.unstored;
        self.failed_changes += other.failed_changes;
        self.returns += other.returns;
        self.negatives += other.negatives;
        self.expired += other.expired;
        self.told += other.told;
        self.unheard += other.unheard;
        self.evicted += other.evicted;
        self.killed += other.killed;
        self.larger += other.larger;
        self.near_hits += other.near_hits;
        self.near_behind += other.near_behind;
        self.kept_unheard += other.kept_unheard;
        self.pushes_arrived += other.pushes_arrived;
        self.pushes_lost += other.pushes_lost;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.reads, "reads"),
            (self.loads, "loads"),
            (self.coalesced, "coalesced"),
            (self.together, "steps with several keys"),
            (self.refused_fills, "refused fills"),
            (self.replaced, "values refreshed"),
            (self.seized, "leases seized"),
            (self.renewed, "renewed"),
            (self.tags_invalidated, "invalidations by tag"),
            (self.lists_left_behind, "lists left behind"),
            (self.failed_loads, "failed loads"),
            (self.hung_loads, "hung loads"),
            (self.shed, "shed"),
            (self.not_asked, "not begun as the database fails"),
            (self.asked_again, "times that it is asked again"),
            (self.lost_answers, "lost answers"),
            (self.unreached, "steps at a store out of reach"),
            (self.failed_changes, "changes that it may have missed"),
            (self.returns, "returns of it"),
            (self.unstored, "reads without it"),
            (self.negatives, "negative answers"),
            (self.expired, "expired"),
            (self.evicted, "evicted"),
            (self.told, "ends told"),
            (self.unheard, "ends not heard"),
            (self.larger, "universes of three processes"),
            (self.killed, "processes killed"),
            (self.near_hits, "near hits"),
            (self.near_behind, "of them behind other processes"),
            (self.kept_unheard, "kept unheard"),
            (self.pushes_arrived, "pushes"),
            (self.pushes_lost, "pushes lost"),
        ];
        for (count, what) in counts {
            write!(f, "{count} {what}, ")?;
        }
        write!(f, "longest read {:?}", self.longest)
    }
}
