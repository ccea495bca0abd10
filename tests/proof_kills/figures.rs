//! What a crowd was answered, and how long that took.

use crate::harness::Spread;
use std::fmt;
use std::time::Duration;

/// What is known of Redis while a command is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing, or that it is well.
    Other = 0,
    /// It is dead, and Weir knows.
    Down = 1,
    /// It is stopped.
    Stopped = 2,
}

/// Sums over all clients.
#[derive(Debug, Default)]
pub struct Figures {
    pub answered: u64,
    /// Told -UPSTREAM.
    pub refused: u64,
    /// Of those who have a link of their own: connections that ended with it.
    pub ended: u64,
    /// Invalidations that were acknowledged.
    pub invalidations: u64,
    /// Routed reads that were answered while Redis was known to be dead, or stopped.
    pub without_store: u64,
    /// Routed reads that were not answered at all.
    pub unanswered: Vec<String>,
    pub wrong: Vec<String>,
    /// How long commands took that began and ended while Redis was known to be dead, or stopped.
    pub routed: Vec<Duration>,
    pub others: Vec<Duration>,
}

/// More stories than this help nobody.
const MOST_STORIES: usize = 20;

impl Figures {
    pub fn add(&mut self, other: Figures) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.ended += other.ended;
        self.invalidations += other.invalidations;
        self.without_store += other.without_store;
        self.unanswered.extend(other.unanswered);
        self.wrong.extend(other.wrong);
        self.routed.extend(other.routed);
        self.others.extend(other.others);
    }

    /// Nothing was wrong, and no routed read was left unanswered.
    #[track_caller]
    pub fn assert_right(&self) {
        let told = |stories: &[String]| stories.iter().take(MOST_STORIES).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "{} wrong answers:\n{}", self.wrong.len(), told(&self.wrong));
        assert!(
            self.unanswered.is_empty(),
            "{} routed reads without an answer:\n{}",
            self.unanswered.len(),
            told(&self.unanswered)
        );
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered ({} wrong), {} told -UPSTREAM, {} connections ended with their own link, {} invalidations \
             acknowledged, {} routed reads answered without Redis ({} not answered); while it was away: routed reads {}; \
             other commands {}",
            self.answered,
            self.wrong.len(),
            self.refused,
            self.ended,
            self.invalidations,
            self.without_store,
            self.unanswered.len(),
            Spread::of(&self.routed),
            Spread::of(&self.others)
        )
    }
}
