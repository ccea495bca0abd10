//! Clients that change rows in the database and then invalidate, in every way in which that is acknowledged, through whichever
//! Weir. What was acknowledged counts; and for the Weir that has refused it because it does not reach its upstream, that too.
//!
//! A SET of the new row counts as well, but only where one client alone writes the row: of two that change and then SET, the
//! slower one would leave its older row behind, whoever keeps it. And if such a writer does not know whether its SET was done, it
//! may be done yet: that writer leaves that row alone from then on.

use crate::crowd::{Crowd, History, Line, count};
use crate::fleet::WEIRS;
use crate::harness::{Reply, Session};
use crate::history::{Change, is_absence};
use crate::readers::{Question, ask};
use crate::scenario::{By, Over};
use crate::shop::{KINDS, Kind, Version};
use std::collections::HashSet;

pub struct Writer<'a> {
    crowd: &'a Crowd<'a>,
    client: u16,
    number: usize,
    writers: usize,
    random: fastrand::Rng,
    /// To each Weir.
    lines: Vec<Line<'a>>,
    session: Session,
    left_alone: HashSet<usize>,
    changes: u64,
}

/// How a change is made known.
#[derive(Clone, Copy, Debug)]
enum Way {
    Del,
    Unlink,
    /// These three are of one key.
    Expire,
    Script,
    Transaction,
    Flush,
    /// These two are of the row's JSON.
    Set,
    SetWithTags,
    Categories,
    RowTag,
    /// Nobody acknowledges these.
    Channel,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// That Weir has told so, and sees to it.
    Remembered,
    Unknown,
}

impl Way {
    /// Where the way is one of a single key: whether it is this one, of a `kind` that was picked.
    fn is_about(self, concerned: Kind, kind: Kind) -> bool {
        match self {
            Way::Expire | Way::Script | Way::Transaction => concerned == kind,
            Way::Set | Way::SetWithTags => concerned == Kind::Row,
            Way::Del | Way::Unlink | Way::Flush | Way::Categories | Way::RowTag | Way::Channel => true,
        }
    }
}

const BY_KEY: [Way; 6] = [Way::Del, Way::Del, Way::Unlink, Way::Expire, Way::Script, Way::Transaction];
const BY_TAG: [Way; 4] = [Way::Categories, Way::Categories, Way::Categories, Way::RowTag];
const OWN: [Way; 3] = [Way::Set, Way::SetWithTags, Way::Set];

impl<'a> Writer<'a> {
    /// The `number`th of so many.
    pub fn new(crowd: &'a Crowd<'a>, client: u16, number: usize, writers: usize, random: fastrand::Rng) -> Writer<'a> {
        let lines = (0..WEIRS).map(|weir| Line::new(crowd, weir, number % 2 == 1)).collect();
        let session = crowd.shop.session();
        Writer { crowd, client, number, writers, random, lines, session, left_alone: HashSet::new(), changes: 0 }
    }

    pub fn write(mut self, history: &mut History) {
        while !self.crowd.ends() {
            let Some(row) = self.pick() else { continue };
            self.change(row, history);
            // Nine reads for each change, so that something is kept between two.
            self.crowd.wait_for_reads(9 * self.writers as u64);
        }
    }

    /// Odd rows have one writer each, even ones have all.
    fn pick(&mut self) -> Option<usize> {
        let row = self.crowd.shop.pick(&mut self.random);
        let row = if row.is_multiple_of(2) { row } else { row - row % (2 * self.writers) + 2 * self.number + 1 };
        (row < self.crowd.shop.rows() && !self.left_alone.contains(&row)).then_some(row)
    }

    fn change(&mut self, row: usize, history: &mut History) {
        let begun = self.crowd.now();
        let version = self.crowd.shop.change(row, &mut self.session, &mut self.random);
        let (way, weir) = (self.way(version), self.random.usize(..WEIRS));
        self.changes += 1;
        let forgets = self.crowd.scenario.forgets.is_some_and(|every| self.changes.is_multiple_of(every));
        // Either of its keys, where the way is one of a single key.
        let kind = self.random.choice(KINDS).expect("there are two");
        let answer = if forgets { Answer::Done } else { self.make_known(version, way, kind, weir, history) };
        let at = Some((self.crowd.now(), weir as u8));
        for concerned in KINDS {
            let is_meant = forgets || way.is_about(concerned, kind);
            if is_meant && answer == Answer::Done {
                self.crowd.shop.acknowledged(version, concerned);
            }
            let acknowledged = at.filter(|_| is_meant && answer == Answer::Done);
            let remembered = at.filter(|_| is_meant && answer == Answer::Remembered);
            let (key, version) = (concerned.number(row), version.number);
            history.changes.push(Change { key, version, begun, acknowledged, remembered });
        }
        let counts = &self.crowd.counts;
        match (way, answer) {
            (Way::Channel, _) => count(&counts.told),
            (_, Answer::Done) => count(&counts.acknowledged),
            (_, Answer::Remembered) => count(&counts.remembered),
            (_, Answer::Unknown) => count(&counts.failed),
        }
        if answer == Answer::Done && self.random.bool() {
            self.look_at(row, history);
        }
    }

    /// Who was acknowledged looks at once, and mostly elsewhere.
    fn look_at(&mut self, row: usize, history: &mut History) {
        let line = &mut self.lines[self.random.usize(..WEIRS)];
        ask(self.crowd, line, self.client, &[Question::get(row), Question::hgetall(row)], history);
    }

    fn way(&mut self, version: Version) -> Way {
        let scenario = self.crowd.scenario;
        let is_own = !version.row.is_multiple_of(2);
        let mut ways = Vec::new();
        if scenario.by != By::Tag {
            ways.extend(BY_KEY);
            // What is not there cannot be set.
            if is_own && !is_absence(version.number) {
                ways.extend(OWN);
            }
            if scenario.over == Over::Redis && self.random.u8(..) == 0 {
                return Way::Flush;
            }
        }
        if scenario.by != By::Key {
            // What a client SETs has the tags that its key tells, and of those that the row would tell only what it names.
            ways.extend(BY_TAG.into_iter().filter(|way| !is_own || matches!(way, Way::RowTag)));
        }
        ways.push(Way::Channel);
        self.random.choice(ways).expect("there are some")
    }

    fn make_known(&mut self, version: Version, way: Way, kind: Kind, weir: usize, history: &mut History) -> Answer {
        let commands = self.commands(version, way, kind);
        let Some(replies) = self.lines[weir].ask(&commands, history) else {
            self.doubt(version, way);
            return Answer::Unknown;
        };
        let mut is_done = true;
        for (command, reply) in commands.iter().zip(&replies) {
            let fits = match (way, reply) {
                (Way::Set | Way::SetWithTags | Way::Flush, reply) => *reply == Reply::ok(),
                (Way::Transaction, reply) => match command[0].as_str() {
                    "MULTI" => *reply == Reply::ok(),
                    "EXEC" => matches!(reply, Reply::Array(items) if matches!(items[..], [Reply::Int(0 | 1)])),
                    _ => *reply == Reply::Simple("QUEUED".into()),
                },
                (_, reply) => matches!(reply, Reply::Int(_)),
            };
            // Without the MULTI, the DEL runs by itself.
            let is_bare = matches!(way, Way::Transaction) && matches!(reply, Reply::Int(_));
            if !fits && !is_bare {
                self.lines[weir].note_failure(command, reply, history);
            }
            is_done &= fits;
        }
        if !is_done {
            self.doubt(version, way);
        }
        match way {
            Way::Channel => Answer::Unknown,
            _ if is_done => Answer::Done,
            // Whether it was asked to forget all that was to be changed is not certain.
            Way::Transaction => Answer::Unknown,
            _ if replies[0].is_error("UPSTREAM ") && !self.crowd.scenario.fault.ends_weirs() => Answer::Remembered,
            _ => Answer::Unknown,
        }
    }

    fn commands(&mut self, version: Version, way: Way, kind: Kind) -> Vec<Vec<String>> {
        let row = version.row;
        let (key, keys, tag) = (kind.key(row), KINDS.map(|kind| kind.key(row)), format!("row-{row}"));
        let one = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let json = format!(r#"{{"id":{row},"version":{},"category":{}}}"#, version.number, version.category);
        let command = match way {
            Way::Del => one(&["DEL", &keys[0], &keys[1]]),
            Way::Unlink => one(&["UNLINK", &keys[0], &keys[1]]),
            Way::Expire => one(&["EXPIRE", &key, "0"]),
            Way::Script => one(&["EVAL", "return redis.call('DEL', KEYS[1])", "1", &key]),
            Way::Transaction => return vec![one(&["MULTI"]), one(&["DEL", &key]), one(&["EXEC"])],
            Way::Flush => one(&["FLUSHDB"]),
            Way::Set => one(&["SET", &keys[0], &json]),
            Way::SetWithTags => {
                let category = format!("category:{}", version.category);
                one(&["WEIR", "SET", &keys[0], &json, "EX", "5", "TAGS", &category, &tag])
            }
            Way::Categories => {
                let categories = self.crowd.shop.categories_before(version);
                let tags = categories.into_iter().map(|category| format!("category:{category}"));
                one(&["WEIR", "INVALIDATE"]).into_iter().chain(tags).collect()
            }
            Way::RowTag => one(&["WEIR", "INVALIDATE", &tag]),
            Way::Channel => {
                let text = match self.crowd.scenario.by {
                    By::Tag => format!(r#"{{"tags": ["{tag}"]}}"#),
                    By::Key | By::Both => format!(r#"{{"keys": ["{}", "{}"]}}"#, keys[0], keys[1]),
                };
                one(&["PUBLISH", "changes", &text])
            }
        };
        vec![command]
    }

    fn doubt(&mut self, version: Version, way: Way) {
        if matches!(way, Way::Set | Way::SetWithTags) {
            self.left_alone.insert(version.row);
        }
    }
}
