//! Whether a database is asked at all. One that fails again and again is left alone for a while, and then asked by one load.
//!
//! 1. *Closed*: every load may ask. [`IN_A_ROW`] that the database itself has failed, with none that it answered between them,
//!    open it. (Envoy's outlier detection ejects a host after five in a row too: `consecutive_5xx`.) Where the pool is smaller,
//!    so many as it has connections do: they all have failed at once then, but a single one never decides.
//! 2. *Open*: nobody asks. After [`FIRST`], which doubles up to [`LONGEST`] (Hystrix's `sleepWindow`) each time that it did
//!    not help, whoever comes next asks as the *probe*, alone. Each pause is shortened by up to a quarter at random, so that the
//!    proxies of a fleet do not ask together.
//! 3. The probe's answer closes it, its failure opens it again. A probe that comes to neither leaves its place to the next, and
//!    one that takes longer than [`LONGEST`] is joined by another: a route may give its loads minutes.
//!
//! What was begun before it opened tells nothing any more, however it ends: of the loads that a dead database has in its
//! hands, the last fail long after the first.
//!
//! Keys have pauses of their own (`backoff`); those that a database's failures have made end when it opens, and while it is open
//! none begins: a key can be loaded as soon as its database can be asked.
//!
//! A statement that always times out looks like a database that hangs, where nothing else is asked meanwhile. It keeps no
//! time and draws no chance of its own: both are given.

use std::time::Duration;
use tokio::time::Instant;

/// Failures that open it.
pub const IN_A_ROW: u32 = 5;
/// First pause.
pub const FIRST: Duration = Duration::from_millis(250);
/// Longest pause. Opened again within this of having closed, it goes on where it left off.
pub const LONGEST: Duration = Duration::from_secs(5);

/// One database's.
pub struct Breaker {
    state: State,
    /// Counts openings and closings: what was begun in another era tells nothing.
    era: u64,
    opens_after: u32,
    pause: Duration,
    closed: Option<Instant>,
}

enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// Since when.
    Probing(Instant),
}

/// A load that may ask the database, and owes its end to [`Breaker::ended`] or [`Breaker::abandoned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    era: u64,
    is_probe: bool,
}

impl Entered {
    /// Whether it asks alone, to see whether the database is back.
    pub fn is_probe(self) -> bool {
        self.is_probe
    }
}

/// What a load has shown of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has answered, if only that it refuses the statement.
    Answered,
    /// It has failed.
    Failed,
    /// Nothing: the load failed on our side.
    Nothing,
}

/// What the end of a load has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was closed, and is open, for so long at first.
    Opened(Duration),
    /// It was open, and is closed.
    Closed,
}

impl Breaker {
    /// Closed, for a database with so many connections.
    pub fn new(pool: usize) -> Self {
        let opens_after = u32::try_from(pool).unwrap_or(IN_A_ROW).clamp(2, IN_A_ROW);
        Breaker { state: State::Closed { failures: 0 }, era: 0, opens_after, pause: Duration::ZERO, closed: None }
    }

    /// Whether no load may begin now.
    pub fn refuses(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::Probing(since) => now < since + LONGEST,
        }
    }

    /// Whether it is not closed.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Lets a load begin, or not.
    pub fn enter(&mut self, now: Instant) -> Option<Entered> {
        if self.refuses(now) {
            return None;
        }
        let is_probe = self.is_open();
        if is_probe {
            self.state = State::Probing(now);
        }
        Some(Entered { era: self.era, is_probe })
    }

    /// A load has ended. `random` is uniform in `[0, 1)`.
    pub fn ended(&mut self, entered: Entered, verdict: Verdict, now: Instant, random: f64) -> Option<Change> {
        if entered.era != self.era {
            return None;
        }
        match (&mut self.state, verdict) {
            // Closed -> closed.
            (State::Closed { failures }, Verdict::Answered) => *failures = 0,
            (State::Closed { failures }, Verdict::Failed) if *failures + 1 < self.opens_after => *failures += 1,
            // Closed -> open.
            (State::Closed { .. }, Verdict::Failed) => {
                let is_relapse = self.closed.is_some_and(|closed| now < closed + LONGEST);
                self.pause = if is_relapse { self.longer() } else { FIRST };
                self.era += 1;
                self.open(now, random);
                return Some(Change::Opened(self.pause));
            }
            // Probing, or open again by the failure of another probe -> closed.
            (State::Probing(_) | State::Open { .. }, Verdict::Answered) => {
                self.state = State::Closed { failures: 0 };
                self.era += 1;
                self.closed = Some(now);
                return Some(Change::Closed);
            }
            // Probing -> open, for longer.
            (State::Probing(_), Verdict::Failed) => {
                self.pause = self.longer();
                self.open(now, random);
            }
            // Open -> open: another probe has told already.
            (State::Open { .. }, Verdict::Failed) => {}
            (_, Verdict::Nothing) => self.abandoned(entered),
        }
        None
    }

    /// A load that was begun will not be heard of. Probing -> open, and the next load is the probe.
    pub fn abandoned(&mut self, entered: Entered) {
        if let State::Probing(since) = self.state
            && entered == (Entered { era: self.era, is_probe: true })
        {
            self.state = State::Open { until: since };
        }
    }

    fn open(&mut self, now: Instant, random: f64) {
        self.state = State::Open { until: now + self.pause.mul_f64(1.0 - random / 4.0) };
    }

    fn longer(&self) -> Duration {
        (self.pause * 2).clamp(FIRST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Answered, Failed, Nothing};
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    /// A breaker, and the time.
    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new(pool: usize) -> Bench {
            Bench { breaker: Breaker::new(pool), now: Instant::now() }
        }

        fn load(&mut self, verdict: Verdict) -> Option<Change> {
            let entered = self.breaker.enter(self.now).expect("it lets a load begin");
            self.breaker.ended(entered, verdict, self.now, 0.0)
        }

        fn open(&mut self) {
            while self.load(Failed).is_none() {}
        }

        /// Passes the pause, and asserts that it is so long.
        fn rest(&mut self, pause: Duration) {
            assert!(self.breaker.refuses(self.now + pause - MOMENT), "it is less than {pause:?}");
            self.now += pause;
            assert!(!self.breaker.refuses(self.now), "it is more than {pause:?}");
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        for (pool, expected) in [(1, 2), (2, 2), (4, 4), (5, 5), (16, 5), (1024, 5)] {
            let mut bench = Bench::new(pool);
            for _ in 0..3 {
                (1..expected).for_each(|_| assert_eq!(bench.load(Failed), None));
                assert_eq!(bench.load(Answered), None);
            }
            (1..expected).for_each(|_| assert_eq!(bench.load(Failed), None));
            assert_eq!(bench.load(Nothing), None, "our own fault is not the database's");
            assert_eq!(bench.load(Failed), Some(Change::Opened(FIRST)));
            assert!(bench.breaker.is_open() && bench.breaker.refuses(bench.now));
            assert_eq!(bench.breaker.enter(bench.now), None);
        }
    }

    #[test]
    fn one_probe_at_a_time_after_pauses_that_double() {
        let mut bench = Bench::new(16);
        bench.open();
        for pause in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            bench.rest(Duration::from_millis(pause));
            let probe = bench.breaker.enter(bench.now).expect("the pause is over");
            assert_eq!(bench.breaker.enter(bench.now + LONGEST - MOMENT), None, "one probe is enough");
            assert_eq!(bench.breaker.ended(probe, Failed, bench.now, 0.0), None);
        }
        bench.rest(LONGEST);
        assert_eq!(bench.load(Answered), Some(Change::Closed));
        assert!(!bench.breaker.is_open());
        (0..3).for_each(|_| assert!(bench.breaker.enter(bench.now).is_some()));
    }

    #[test]
    fn a_relapse_goes_on_with_the_pauses_and_a_new_fault_begins_again() {
        let mut bench = Bench::new(16);
        bench.open();
        bench.rest(FIRST);
        assert_eq!(bench.load(Answered), Some(Change::Closed));
        bench.open();
        bench.rest(FIRST * 2);
        assert_eq!(bench.load(Answered), Some(Change::Closed));
        bench.now += LONGEST;
        bench.open();
        bench.rest(FIRST);
    }

    #[test]
    fn pauses_are_shortened_by_chance() {
        for (random, pause) in [(0.0, 249), (0.5, 218), (0.999, 187)] {
            let mut bench = Bench::new(2);
            bench.load(Failed);
            let last = bench.breaker.enter(bench.now).expect("it is closed");
            bench.breaker.ended(last, Failed, bench.now, random);
            assert!(bench.breaker.refuses(bench.now + Duration::from_millis(pause)));
            assert!(!bench.breaker.refuses(bench.now + Duration::from_millis(pause + 1)));
        }
    }

    #[test]
    fn what_was_begun_before_it_opened_or_closed_tells_nothing() {
        let mut bench = Bench::new(16);
        let early: Vec<Entered> = (0..12).map(|_| bench.breaker.enter(bench.now).expect("it is closed")).collect();
        bench.open();
        assert_eq!(bench.breaker.ended(early[0], Answered, bench.now, 0.0), None);
        assert_eq!(bench.breaker.ended(early[1], Failed, bench.now, 0.0), None);
        bench.rest(FIRST);
        let probe = bench.breaker.enter(bench.now).expect("the pause is over");
        bench.breaker.abandoned(early[2]);
        assert!(bench.breaker.refuses(bench.now), "the probe goes on");
        assert_eq!(bench.breaker.ended(probe, Answered, bench.now, 0.0), Some(Change::Closed));
        for late in &early[3..] {
            assert_eq!(bench.breaker.ended(*late, Failed, bench.now, 0.0), None);
        }
        assert!(!bench.breaker.is_open());
    }

    #[test]
    fn a_probe_that_takes_long_is_joined_by_another_and_the_first_answer_counts() {
        for late in [Answered, Failed] {
            let mut bench = Bench::new(16);
            bench.open();
            bench.rest(FIRST);
            let first = bench.breaker.enter(bench.now).expect("the pause is over");
            bench.rest(LONGEST);
            let second = bench.breaker.enter(bench.now).expect("the first takes long");
            assert_eq!(bench.breaker.ended(first, Failed, bench.now, 0.0), None);
            assert!(bench.breaker.refuses(bench.now), "it is left alone again");
            assert_eq!(bench.breaker.ended(second, late, bench.now, 0.0), (late == Answered).then_some(Change::Closed));
            assert_eq!(bench.breaker.is_open(), late == Failed);
        }
    }

    #[test]
    fn a_probe_that_came_to_nothing_leaves_its_place_to_the_next() {
        let mut bench = Bench::new(16);
        bench.open();
        bench.rest(FIRST);
        let probe = bench.breaker.enter(bench.now).expect("the pause is over");
        bench.breaker.abandoned(probe);
        assert_eq!(bench.load(Nothing), None);
        assert_eq!(bench.load(Answered), Some(Change::Closed));
    }
}
