//! What was read and changed, when, and what follows from that. Knows nothing of Weir: neither how it works nor what it is.
//!
//! Moments are nanoseconds of one clock that never goes back, and all clients share it. What was acknowledged before a read
//! began, the read must see; what happened at the same time, it may see or not.

use std::time::Duration;

/// Nanoseconds since the crowd was born.
pub type Moment = u64;

/// Every eighth version of a row is that there is none.
pub fn is_absence(version: u64) -> bool {
    version.is_multiple_of(8)
}

/// Every row's version before anything is changed.
pub const FIRST: u64 = 1;

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub client: u16,
    pub weir: u8,
    pub command: &'static str,
    pub key: u32,
    pub start: Moment,
    pub end: Moment,
    /// The version that was answered; `None`: that there is no such row.
    pub seen: Option<u64>,
}

/// A version of what a key stands for.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub key: u32,
    pub version: u64,
    /// When the database was asked for it: before that nobody can have seen it.
    pub begun: Moment,
    /// When an invalidation of the key that began after the commit was acknowledged, and by which Weir.
    pub acknowledged: Option<(Moment, u8)>,
    /// When it was refused instead, by a Weir which remembers it: that one shows nothing older any more.
    pub remembered: Option<(Moment, u8)>,
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<String>,
    /// Of answers that did not show what another Weir had acknowledged, where that is allowed for a time: how long ago the first
    /// change that they did not show was acknowledged when the read began.
    pub delays: Vec<Duration>,
}

/// `near`: how long another Weir than the one that has acknowledged may answer what was there before; `None`: not at all.
pub fn judge(keys: usize, reads: &[Read], changes: &[Change], near: Option<Duration>) -> Verdict {
    let mut known: Vec<Known> = (0..keys).map(|_| Known::default()).collect();
    for change in changes {
        known[change.key as usize].add(change);
    }
    known.iter_mut().for_each(Known::sort);
    let mut verdict = Verdict::default();
    for read in reads {
        known[read.key as usize].judge(read, near, &mut verdict);
    }
    verdict
}

/// The newest version so far, by when it came about.
#[derive(Debug, Default)]
struct Steps(Vec<(Moment, u64)>);

impl Steps {
    /// What comes later may be an older version, for several write one row: it changes nothing then.
    fn sort(&mut self) {
        self.0.sort_unstable();
        let mut newest = FIRST;
        for (_, version) in &mut self.0 {
            newest = newest.max(*version);
            *version = newest;
        }
    }

    /// Before `moment`.
    fn newest(&self, moment: Moment) -> u64 {
        let until = self.0.partition_point(|(at, _)| *at < moment);
        self.0[..until].last().map_or(FIRST, |(_, version)| *version)
    }

    /// When there was first a version newer than this.
    fn newer_than(&self, version: u64) -> Option<Moment> {
        self.0.get(self.0.partition_point(|(_, newest)| *newest <= version)).map(|(at, _)| *at)
    }
}

/// What is known of one key.
#[derive(Debug, Default)]
struct Known {
    begun: Steps,
    acknowledged: Steps,
    /// By the Weir that has acknowledged or remembers.
    by_weir: Vec<Steps>,
}

impl Known {
    fn add(&mut self, change: &Change) {
        self.begun.0.push((change.begun, change.version));
        self.acknowledged.0.extend(change.acknowledged.map(|(at, _)| (at, change.version)));
        for (at, weir) in change.acknowledged.into_iter().chain(change.remembered) {
            let weir = usize::from(weir);
            if self.by_weir.len() <= weir {
                self.by_weir.resize_with(weir + 1, Steps::default);
            }
            self.by_weir[weir].0.push((at, change.version));
        }
    }

    fn sort(&mut self) {
        self.begun.sort();
        self.acknowledged.sort();
        self.by_weir.iter_mut().for_each(Steps::sort);
    }

    fn judge(&self, read: &Read, near: Option<Duration>, verdict: &mut Verdict) {
        let acknowledged = self.acknowledged.newest(read.start);
        let own = self.by_weir.get(usize::from(read.weir)).map_or(FIRST, |own| own.newest(read.start));
        let by_others = match near {
            None => acknowledged,
            Some(near) => self.acknowledged.newest(read.start.saturating_sub(near.as_nanos() as u64)),
        };
        let least = own.max(by_others);
        let most = self.begun.newest(read.end);
        // Whoever sees no row may have seen any version that is none: the newest of them speaks for the answer.
        let seen = read.seen.unwrap_or(most - most % 8);
        if is_absence(seen) != read.seen.is_none() || seen < least || seen > most {
            let Read { client, weir, command, key, start, end, seen } = *read;
            verdict.violations.push(format!(
                "client {client} asked Weir {weir} for key {key} by {command} from {start} to {end} and saw {seen:?}: a version \
                 from {least} to {most} was due, and {acknowledged} had been acknowledged by then"
            ));
        } else if seen < acknowledged {
            let newer = self.acknowledged.newer_than(seen).expect("one was acknowledged");
            verdict.delays.push(Duration::from_nanos(read.start.saturating_sub(newer)));
        }
    }
}

/// The alarm works: histories of a few lines that are right, or wrong.
#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u64, begun: Moment, acknowledged: Option<(Moment, u8)>) -> Change {
        Change { key: 0, version, begun, acknowledged, remembered: None }
    }

    /// Version 2 by Weir 0 at 20, 4 by Weir 1 at 40, 3 by Weir 0 only at 50; 5 was never acknowledged.
    fn changes() -> Vec<Change> {
        vec![
            change(2, 10, Some((20, 0))),
            change(3, 25, Some((50, 0))),
            change(4, 30, Some((40, 1))),
            change(5, 60, None),
        ]
    }

    fn verdict(weir: u8, (start, end): (Moment, Moment), seen: Option<u64>, near: Option<Duration>) -> Verdict {
        judge(1, &[Read { client: 0, weir, command: "GET", key: 0, start, end, seen }], &changes(), near)
    }

    #[test]
    fn a_read_sees_what_was_acknowledged_before_it_began_or_something_newer() {
        for (time, seen, is_right) in [
            ((0, 5), Some(1), true),
            ((0, 5), Some(2), false),
            ((0, 15), Some(2), true),
            // Begun at the very moment of the acknowledgement, it is not after it.
            ((20, 22), Some(1), true),
            ((21, 22), Some(1), false),
            ((21, 22), Some(2), true),
            ((21, 22), Some(3), false),
            ((39, 90), Some(2), true),
            ((41, 45), Some(3), false),
            ((41, 45), Some(4), true),
            // That version 3 was acknowledged later does not make it newer.
            ((51, 55), Some(3), false),
            ((51, 55), Some(4), true),
            ((51, 61), Some(5), true),
            ((99, 100), Some(4), true),
            ((99, 100), Some(6), false),
            ((99, 100), None, false),
        ] {
            let verdict = verdict(0, time, seen, None);
            assert_eq!(verdict.violations.is_empty(), is_right, "{time:?} {seen:?}: {verdict:?}");
            assert!(verdict.delays.is_empty());
        }
    }

    #[test]
    fn near_the_weir_that_has_acknowledged_is_up_to_date_and_others_are_in_time() {
        let near = Some(Duration::from_nanos(15));
        for (weir, start, seen, is_right, delay) in [
            (0, 21, 1, false, None),
            (1, 21, 1, true, Some(1)),
            (1, 35, 1, true, Some(15)),
            (1, 36, 1, false, None),
            (0, 45, 2, true, Some(5)),
            (0, 45, 4, true, None),
            (1, 45, 2, false, None),
            // The first change that it does not show is that of 40.
            (0, 52, 3, true, Some(12)),
            (0, 56, 3, false, None),
        ] {
            let verdict = verdict(weir, (start, 90), Some(seen), near);
            assert_eq!(verdict.violations.is_empty(), is_right, "{weir} {start} {seen}: {verdict:?}");
            let delays: Vec<Duration> = delay.into_iter().map(Duration::from_nanos).collect();
            assert_eq!(verdict.delays, delays, "{weir} {start} {seen}");
        }
    }

    #[test]
    fn who_remembers_what_it_has_refused_shows_nothing_older() {
        let refused = Change { remembered: Some((20, 0)), ..change(2, 10, None) };
        for (weir, start, seen, is_right) in [(0, 20, 1, true), (0, 21, 1, false), (0, 21, 2, true), (1, 90, 1, true)] {
            let reads = [Read { client: 0, weir, command: "GET", key: 0, start, end: 99, seen: Some(seen) }];
            for near in [None, Some(Duration::from_nanos(15))] {
                let verdict = judge(1, &reads, &[refused], near);
                assert_eq!(verdict.violations.is_empty(), is_right, "{weir} {start} {seen}: {verdict:?}");
            }
        }
    }

    #[test]
    fn no_row_is_an_answer_as_old_as_the_newest_version_that_is_none() {
        let changes = [change(7, 1, Some((2, 0))), change(8, 10, Some((20, 0))), change(9, 30, Some((40, 0)))];
        for (start, end, seen, is_right) in [
            (5, 9, None, false),
            (5, 11, None, true),
            (21, 25, None, true),
            (21, 25, Some(7), false),
            (21, 25, Some(8), false),
            (35, 50, None, true),
            (41, 50, None, false),
            (41, 50, Some(9), true),
        ] {
            let reads = [Read { client: 0, weir: 0, command: "GET", key: 0, start, end, seen }];
            let verdict = judge(1, &reads, &changes, None);
            assert_eq!(verdict.violations.is_empty(), is_right, "{start} {end} {seen:?}: {verdict:?}");
        }
    }

    #[test]
    fn keys_have_nothing_to_do_with_each_other() {
        let reads =
            [0, 1].map(|key| Read { client: 0, weir: 0, command: "GET", key, start: 30, end: 35, seen: Some(1) });
        let verdict = judge(2, &reads, &[change(2, 10, Some((20, 0)))], None);
        assert_eq!(verdict.violations.len(), 1, "{verdict:?}");
    }
}
