//! Runs of routed reads.
//!
//! Reads of one routed key each that follow each other travel upstream as one slice, every one with the question behind it
//! that its route needs ([`super::timed`]), and wait as one slot. As their replies come they are judged one by one: a hit
//! goes on to the client, a miss is handed to the engine, and what stands behind it in the run waits for its answer.

use super::timed::{Asked, Due, Life, Shows};
use crate::resp::scan::{may_be_absent, value_end};
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
    /// How many replies they get.
    replies: u32,
    /// How many bytes and reads there were the last time: those that come next are mostly alike.
    last: (usize, usize),
}

/// No more room than this, for so many reads, is made ahead.
const ROOM: (usize, usize) = (8 << 10, 64);

/// A read of one routed key.
pub struct OneRead {
    /// Where it stands among the bytes of its run.
    at: Range<u32>,
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
    /// What is asked behind it.
    pub asked: Option<Asked>,
}

impl OneRead {
    /// Of the key with this hash, by the command of this index. Nothing is asked behind it.
    pub fn new(key: u64, route: usize, command: u16) -> Self {
        OneRead { at: 0..0, key, route, command, drawn: false, shows: None, asked: None }
    }
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

    /// One more: `command` as it is, which reads `name`.
    pub fn push(&mut self, command: &[u8], name: &[u8], read: OneRead) {
        self.push_command(command, read, |bytes| write::bulk(bytes, name));
    }

    /// One more, whose only argument is its key: that is written as its client has written it.
    #[inline]
    pub fn push_get(&mut self, command: &[u8], argument: Range<usize>, read: OneRead) {
        self.push_command(command, read, |bytes| bytes.extend_from_slice(&command[argument]));
    }

    #[inline]
    fn push_command(&mut self, command: &[u8], mut read: OneRead, write_name: impl FnOnce(&mut Vec<u8>)) {
        if self.reads.is_empty() {
            let (bytes, reads) = self.last;
            self.bytes.reserve(bytes.min(ROOM.0));
            self.reads.reserve(reads.min(ROOM.1));
        }
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(command);
        read.at = begin..self.bytes.len() as u32;
        self.replies += 1;
        if read.asked.is_some() {
            self.bytes.extend_from_slice(b"*2\r\n$4\r\nPTTL\r\n");
            write_name(&mut self.bytes);
            self.replies += 1;
        }
        self.reads.push(read);
    }

    /// All of them, about to be sent on this way, and how many replies they get.
    pub fn take(&mut self, way: &Way, sent: Instant) -> (Reads, u32) {
        self.last = (self.bytes.len(), self.reads.len());
        let replies = std::mem::take(&mut self.replies);
        let (bytes, reads) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.reads));
        (Reads { bytes: Rc::new(bytes), reads, judged: 0, way: way.clone(), sent }, replies)
    }
}

/// Reads that were sent together.
pub struct Reads {
    bytes: Rc<Vec<u8>>,
    reads: Vec<OneRead>,
    /// How many of them are judged.
    judged: usize,
    /// Where they run.
    pub way: Way,
    /// Before they were sent.
    sent: Instant,
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

    /// The read of this number.
    pub fn get(&self, number: usize) -> &OneRead {
        &self.reads[number]
    }

    /// The command of the read of this number.
    pub fn command(&self, number: usize) -> &[u8] {
        let Range { start, end } = self.reads[number].at;
        &self.bytes[start as usize..end as usize]
    }

    /// Those that are not judged yet.
    pub fn unjudged(&self) -> &[OneRead] {
        &self.reads[self.judged..]
    }

    /// Judges the next read by its replies, which begin at `at`. `None`: they are not all there, or there is none.
    pub fn judge(&mut self, replies: &[u8], at: usize) -> Option<Judged> {
        let read = self.reads.get_mut(self.judged)?;
        let own = value_end(replies, at)?;
        let reply = &replies[at..own];
        let (mut end, mut due) = (own, None);
        if let Some(asked) = &mut read.asked {
            let life;
            (life, end) = Life::next(replies, own)?;
            due = asked.settle(life, self.sent, || read.shows?.value(reply));
        }
        self.judged += 1;
        Some(Judged { number: self.judged - 1, reply: at..own, end, is_miss: may_be_absent(reply), due })
    }

    /// Judges the next read by its own reply alone: what was asked behind it is not answered.
    pub fn judge_unasked(&mut self, replies: &[u8]) -> Option<Judged> {
        self.reads.get_mut(self.judged)?.asked = None;
        self.judge(replies, 0)
    }

    /// The next read gets no reply; answers its number.
    pub fn give_up(&mut self) -> Option<usize> {
        self.reads.get_mut(self.judged)?.asked = None;
        self.judged += 1;
        Some(self.judged - 1)
    }
}
