//! Runs of routed reads.
//!
//! Reads of one routed key each that follow each other travel upstream as one slice, and wait as one slot. Behind each stands
//! the question that its route needs ([`super::timed`]), unless that was answered a moment ago ([`super::lives`]). As their
//! replies come they are judged in turn: a hit goes on to the client, a miss is handed to the engine, and what stands behind it
//! in the run waits for its answer.

use super::lives::Moment;
use super::timed::{Asked, Due, Life, Shows};
use super::worker::Worker;
use crate::resp::scan::{Strings, found, may_be_absent, value_end};
use crate::resp::write;
use crate::store::Way;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

/// The reads of one client that are not sent yet.
#[derive(Default)]
pub struct Gathering {
    /// Whole commands: the reads, and behind each its question.
    bytes: Vec<u8>,
    reads: Vec<OneRead>,
    /// What is asked behind some of them, in order.
    asked: Vec<Asked>,
}

/// Room for the reads of a run, which those of another have left.
pub type Room = (Rc<Vec<u8>>, Vec<OneRead>);

/// Room for more bytes, or for more reads, is not kept.
const MOST_ROOM: (usize, usize) = (16 << 10, 256);

/// What a read of one routed key is.
pub struct Routed {
    /// The hash of its key.
    pub key: u64,
    /// Index of its route.
    pub route: usize,
    /// Index of its command, for the counters.
    pub command: u16,
    /// Its key is to be checked, if it is a hit.
    pub drawn: bool,
    /// `None`: it shows less than all.
    pub shows: Option<Shows>,
}

/// A read of one routed key that was written.
pub struct OneRead {
    /// Where it stands among the bytes of its run.
    at: Range<u32>,
    /// As [`Routed`] says.
    pub key: u64,
    /// As [`Routed`] says.
    pub route: usize,
    /// As [`Routed`] says.
    pub command: u16,
    /// As [`Routed`] says.
    pub drawn: bool,
    shows: Option<Shows>,
    /// Something is asked behind it.
    is_asked: bool,
}

impl Gathering {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Room for so many more.
    pub fn reserve(&mut self, reads: usize) {
        self.reads.reserve(reads);
    }

    /// One more, whose command stands there among the bytes that are [`Self::copy`]ed next. Nothing is asked behind it.
    #[inline]
    pub fn push(&mut self, place: Range<usize>, read: Routed) {
        let Routed { key, route, command, drawn, shows } = read;
        let begin = self.bytes.len();
        let at = (begin + place.start) as u32..(begin + place.end) as u32;
        self.reads.push(OneRead { at, key, route, command, drawn, shows, is_asked: false });
    }

    /// The commands, as they are, that were pushed since the last ones.
    pub fn copy(&mut self, commands: &[u8]) {
        self.bytes.extend_from_slice(commands);
    }

    /// This is asked behind the last one, which reads `name`. All are copied.
    pub fn ask(&mut self, name: &[u8], asked: Asked) {
        let Some(last) = self.reads.last_mut() else { return };
        debug_assert_eq!(last.at.end as usize, self.bytes.len());
        last.is_asked = true;
        write::command(&mut self.bytes, [b"PTTL", name]);
        self.asked.push(asked);
    }

    /// All of them, about to be sent on this way.
    pub fn take(&mut self, way: &Way, sent: Instant, worker: &Rc<Worker>) -> Reads {
        let asked = std::mem::take(&mut self.asked);
        let (mut bytes, mut reads) = worker.take_room();
        std::mem::swap(Rc::make_mut(&mut bytes), &mut self.bytes);
        std::mem::swap(&mut reads, &mut self.reads);
        let (way, worker, moment) = (way.clone(), worker.clone(), worker.app.lives.moment(sent));
        Reads { bytes, reads, judged: 0, asked, answered: 0, way, sent, moment, worker }
    }
}

/// Reads that were sent together.
pub struct Reads {
    bytes: Rc<Vec<u8>>,
    reads: Vec<OneRead>,
    /// How many of them are judged.
    judged: usize,
    /// What is asked behind some of them, in order.
    asked: Vec<Asked>,
    /// How many of these are answered, or will not be.
    answered: usize,
    /// Where they run.
    pub way: Way,
    /// Before they were sent.
    sent: Instant,
    /// The same as it is remembered what they hear.
    moment: Moment,
    worker: Rc<Worker>,
}

/// What the replies to one read say.
pub struct Judged {
    /// Which of its run it is.
    pub number: usize,
    /// Where its own reply stands.
    pub reply: Range<usize>,
    /// Where the replies to the next one begin.
    pub end: usize,
    /// It could be an absent key's.
    pub is_miss: bool,
    /// What is to be done about its value.
    pub due: Option<Due>,
}

impl Reads {
    /// The bytes to send.
    pub fn bytes(&self) -> Rc<Vec<u8>> {
        self.bytes.clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// How many replies they get.
    pub fn replies(&self) -> u32 {
        (self.reads.len() + self.asked.len()) as u32
    }

    /// The read of this number.
    pub fn get(&self, number: usize) -> &OneRead {
        &self.reads[number]
    }

    /// The command of the read of this number.
    pub fn command(&self, number: usize) -> &[u8] {
        let Range { start, end } = self.reads[number].at;
        &self.bytes[start as usize..end as usize]
    }

    /// The one that was judged last. There must be one.
    pub fn last_judged(&self) -> &OneRead {
        &self.reads[self.judged - 1]
    }

    /// Those that are not judged yet.
    pub fn unjudged(&self) -> &[OneRead] {
        &self.reads[self.judged..]
    }

    /// Judges the next reads by their replies, which begin at `at`, as long as they are found and nothing is to be done about them,
    /// and they are alike: of one route, by one command. That they begin with `strings` is known from scanning them. Answers how many
    /// were judged, and where the next one's begin.
    pub fn judge_found(&mut self, replies: &[u8], at: usize, strings: Strings) -> Strings {
        let unjudged = &self.reads[self.judged..];
        let is_alike = |read: &&OneRead| {
            let like = (unjudged[0].route, unjudged[0].command);
            !read.is_asked && !read.drawn && (read.route, read.command) == like
        };
        let mut judged = Strings { count: 0, end: at };
        if unjudged.iter().take(strings.count).take_while(is_alike).count() == strings.count {
            judged = Strings { count: strings.count, end: at + strings.end };
        }
        for _ in unjudged[judged.count..].iter().take_while(is_alike) {
            let Some(length) = found(&replies[judged.end..]) else { break };
            judged = Strings { count: judged.count + 1, end: judged.end + length };
        }
        self.judged += judged.count;
        judged
    }

    /// Judges the next read by its replies, which begin at `at`. `None`: they are not all there, or there is none.
    pub fn judge(&mut self, replies: &[u8], at: usize) -> Option<Judged> {
        let read = self.reads.get(self.judged)?;
        let own = value_end(replies, at)?;
        let reply = &replies[at..own];
        let (mut end, mut due) = (own, None);
        if read.is_asked {
            let life;
            (life, end) = Life::next(replies, own)?;
            let asked = &mut self.asked[self.answered];
            self.answered += 1;
            if let Some(left) = life.left() {
                self.worker.app.lives.hear(read.key, self.way.identity.db, left, self.moment);
            }
            due = asked.settle(life, self.sent, || read.shows?.value(reply));
        }
        self.judged += 1;
        Some(Judged { number: self.judged - 1, reply: at..own, end, is_miss: may_be_absent(reply), due })
    }

    /// Judges the next read by its own reply alone: what was asked behind it is not answered.
    pub fn judge_unasked(&mut self, replies: &[u8]) -> Option<Judged> {
        self.ask_no_more()?;
        self.judge(replies, 0)
    }

    /// The next read gets no reply; answers its number.
    pub fn give_up(&mut self) -> Option<usize> {
        self.ask_no_more()?;
        self.judged += 1;
        Some(self.judged - 1)
    }

    /// What is asked behind the next read will not be answered: nothing of it is kept. `None`: there is none.
    fn ask_no_more(&mut self) -> Option<()> {
        let read = self.reads.get_mut(self.judged)?;
        if std::mem::take(&mut read.is_asked) {
            self.asked[self.answered].marker = None;
            self.answered += 1;
        }
        Some(())
    }
}

impl Drop for Reads {
    /// Leaves its room to others, unless that is large, or the link has not let go of it.
    fn drop(&mut self) {
        let Some(bytes) = Rc::get_mut(&mut self.bytes) else { return };
        if bytes.capacity() > MOST_ROOM.0 || self.reads.capacity() > MOST_ROOM.1 {
            return;
        }
        bytes.clear();
        let mut reads = std::mem::take(&mut self.reads);
        reads.clear();
        self.worker.give_room_back((self.bytes.clone(), reads));
    }
}
