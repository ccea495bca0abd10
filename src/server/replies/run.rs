//! A run of routed reads in its slot: what of it is answered, and what waits for the engine.

use super::{DueRead, Kind, Missed, Place, Read, State};
use crate::cache::error::upstream_error;
use crate::resp::scan::Strings;
use crate::resp::write;
use crate::server::keys::KeyHashes;
use crate::server::metrics::{CommandCounts, Path};
use crate::server::output::Output;
use crate::server::reads::{Judged, Reads};
use crate::server::routed::parse;
use crate::server::unstored::may_do_without;
use crate::store::redis::link::Part;
use crate::store::{StoreError, StoreKey};
use bytes::Bytes;
use std::collections::VecDeque;

/// See the module's page.
pub struct Run {
    reads: Reads,
    /// The answers from the first read on that was missed, in order; what was found before it is in the slot's output.
    parts: VecDeque<Answer>,
    /// How many of them are open.
    open: usize,
}

enum Answer {
    /// To any number of reads.
    Ready(Output),
    /// The engine works on the read of this number.
    Open(usize),
}

impl Run {
    pub fn new(reads: Reads) -> Self {
        Run { reads, parts: VecDeque::new(), open: 0 }
    }

    /// Whether a read of one of these keys is open: one that the engine works on, or any.
    pub fn meets(&self, keys: &KeyHashes, any: bool) -> bool {
        let open = self.parts.iter().any(|part| match part {
            Answer::Ready(_) => false,
            Answer::Open(number) => keys.has(self.reads.get(*number).key),
        });
        open || (any && self.reads.unjudged().iter().any(|read| keys.has(read.key)))
    }

    fn is_over(&self) -> bool {
        self.open == 0 && self.reads.unjudged().is_empty()
    }

    /// Bytes of answers behind the first read that was missed.
    fn held(&self) -> usize {
        self.parts.iter().map(|part| if let Answer::Ready(output) = part { output.len() } else { 0 }).sum()
    }

    /// Appends the answers that are next.
    pub fn let_out(&mut self, output: &mut Output) {
        while let Some(Answer::Ready(_)) = self.parts.front() {
            if let Some(Answer::Ready(ready)) = self.parts.pop_front() {
                output.append(ready);
            }
        }
    }

    /// Appends all of them: none is open any more.
    pub fn gather_into(&mut self, output: &mut Output) {
        debug_assert_eq!(self.open, 0);
        self.let_out(output);
    }

    /// Where the next answer goes: to `first` as long as nothing was missed.
    fn next<'a>(&'a mut self, first: &'a mut Output) -> &'a mut Output {
        if self.parts.is_empty() {
            return first;
        }
        if !matches!(self.parts.back(), Some(Answer::Ready(_))) {
            self.parts.push_back(Answer::Ready(Output::default()));
        }
        match self.parts.back_mut() {
            Some(Answer::Ready(output)) => output,
            _ => unreachable!("it was just put there"),
        }
    }

    /// The read of this number is the engine's to answer.
    fn miss(&mut self, slot: u64, number: usize, reply: Result<Vec<u8>, StoreError>) -> Missed {
        self.parts.push_back(Answer::Open(number));
        self.open += 1;
        let read = self.reads.get(number);
        let read = Read {
            command: self.reads.command(number).to_vec(),
            keys: KeyHashes::one(read.key),
            route: read.route,
            other_routes: Box::default(),
            all_keys: 1,
            way: self.reads.way.clone(),
            seen: false,
            opts_in: false,
            timed: None,
            drawn: None,
            patience: None,
        };
        Missed { place: Place { slot, read: number }, read, reply }
    }
}

impl State {
    /// More of the replies to a run of reads.
    pub(super) fn judge_run(&mut self, index: usize, part: &Part<'_>, counts: &CommandCounts) {
        let number = self.first + index as u64;
        let slot = &mut self.slots[index];
        if part.whole == 0 {
            // A large reply comes in many parts: it is looked at once.
            slot.partial.extend_from_slice(part.bytes);
            self.held += part.bytes.len();
            return;
        }
        let Kind::Reads(run) = &mut slot.kind else { return };
        let held_before = slot.output.len() + slot.partial.len() + run.held();
        let mut gathered = std::mem::take(&mut slot.partial);
        let whole = gathered.len() + part.whole;
        let replies = match gathered.is_empty() {
            true => &part.bytes[..whole],
            false => {
                gathered.extend_from_slice(part.bytes);
                &gathered[..whole]
            }
        };
        // The link has not seen what had come before.
        let mut strings = if gathered.is_empty() { part.strings } else { Strings::default() };
        let (mut at, mut found) = (0, 0);
        loop {
            let Strings { count, end } = run.reads.judge_found(replies, at, std::mem::take(&mut strings));
            if count > 0 {
                let last = run.reads.last_judged();
                counts.count_all(last.command, false, count);
                note_hits(&mut self.news.get_or_insert_default().hits, last.route, false, count);
                if !slot.muted {
                    let first = if index == 0 { &mut self.output } else { &mut slot.output };
                    run.next(first).extend(&replies[at..end]);
                    slot.came += end - at;
                }
                (at, found) = (end, found + count);
                self.reads -= count;
            }
            let Some(judged) = run.reads.judge(replies, at) else { break };
            at = judged.end;
            self.reads -= 1;
            let reply = &replies[judged.reply.clone()];
            let stale = judged.due.is_some_and(|due| due.is_stale());
            if judged.due.is_some() {
                self.news.get_or_insert_default().due.push(due_read(&run.reads, &judged));
            }
            if judged.is_miss {
                self.slow += 1;
                self.news.get_or_insert_default().missed.push(run.miss(number, judged.number, Ok(reply.to_vec())));
                continue;
            }
            found += 1;
            let read = run.reads.get(judged.number);
            counts.count(read.command, matches!(reply.first(), Some(b'-' | b'!')));
            note_hits(&mut self.news.get_or_insert_default().hits, read.route, stale, 1);
            if read.drawn {
                self.news.get_or_insert_default().drawn.push((read.route, key_of(&run.reads, judged.number)));
            }
            if !slot.muted {
                slot.came += reply.len();
                let first = if index == 0 { &mut self.output } else { &mut slot.output };
                run.next(first).extend(reply);
            }
        }
        slot.partial = match gathered.is_empty() {
            true => part.bytes[at..].to_vec(),
            false => {
                gathered.drain(..at);
                gathered
            }
        };
        if found > 0 {
            counts.observe(Path::Upstream, slot.opened, found);
        }
        self.held = self.held + slot.output.len() + slot.partial.len() + run.held() - held_before;
        match run.is_over() {
            true => self.close(index),
            false => self.wake(),
        }
    }

    /// The engine has answered one read of a run.
    pub(super) fn finish_read(&mut self, index: usize, read: usize, answer: Output, counts: &CommandCounts) {
        let slot = &mut self.slots[index];
        let Kind::Reads(run) = &mut slot.kind else { return };
        let waiting = run.parts.iter_mut().find(|part| matches!(part, Answer::Open(number) if *number == read));
        let Some(waiting) = waiting else { return };
        counts.count(run.reads.get(read).command, answer.begins_with(b"-"));
        counts.observe(Path::Load, slot.opened, 1);
        let answer = if slot.muted { Output::default() } else { answer };
        slot.came += answer.len();
        self.held += answer.len();
        *waiting = Answer::Ready(answer);
        run.open -= 1;
        self.slow -= 1;
        if index == 0 {
            let before = self.output.len();
            run.let_out(&mut self.output);
            self.held -= self.output.len() - before;
        }
        match run.is_over() {
            true => self.close(index),
            false => self.wake(),
        }
    }

    /// A run of reads gets no more replies.
    pub(super) fn fail_run(&mut self, index: usize, error: &StoreError, counts: &CommandCounts) {
        let number = self.first + index as u64;
        let slot = &mut self.slots[index];
        let Kind::Reads(run) = &mut slot.kind else { return };
        let held_before = slot.output.len() + slot.partial.len() + run.held();
        let first = if index == 0 { &mut self.output } else { &mut slot.output };
        let partial = std::mem::take(&mut slot.partial);
        let mut text = String::new();
        upstream_error(&mut text, error).expect("a string takes every text");
        let is_answerable = may_do_without(&run.reads.way, error);
        // The client's own reply may be whole, and the question behind it not answered.
        if let Some(judged) = run.reads.judge_unasked(&partial) {
            self.reads -= 1;
            let reply = &partial[judged.reply.clone()];
            if judged.is_miss {
                self.slow += 1;
                self.news.get_or_insert_default().missed.push(run.miss(number, judged.number, Ok(reply.to_vec())));
            } else {
                let read = run.reads.get(judged.number);
                counts.count(read.command, reply.starts_with(b"-"));
                note_hits(&mut self.news.get_or_insert_default().hits, read.route, false, 1);
                if !slot.muted {
                    run.next(first).extend(reply);
                }
            }
        }
        while let Some(read) = run.reads.give_up() {
            self.reads -= 1;
            if is_answerable {
                self.slow += 1;
                self.news.get_or_insert_default().missed.push(run.miss(number, read, Err(error.clone())));
                continue;
            }
            counts.count(run.reads.get(read).command, true);
            if !slot.muted {
                run.next(first).write(|out| write::error(out, &text));
            }
        }
        self.held = self.held + slot.output.len() + run.held() - held_before;
        let is_over = run.is_over();
        if error.is_outage() && !is_answerable {
            self.note_missed(index);
        }
        match is_over {
            true => self.close(index),
            false => self.wake(),
        }
    }
}

/// Counts more hits of a route; those that follow each other are mostly of one.
fn note_hits(hits: &mut Vec<(usize, bool, u64)>, route: usize, stale: bool, more: usize) {
    match hits.last_mut() {
        Some((last, was_stale, count)) if *last == route && *was_stale == stale => *count += more as u64,
        _ => hits.push((route, stale, more as u64)),
    }
}

fn due_read(reads: &Reads, judged: &Judged) -> DueRead {
    let (command, db) = (reads.command(judged.number).to_vec(), reads.way.identity.db);
    DueRead { command, db, keys: judged.due.into_iter().collect() }
}

fn key_of(reads: &Reads, number: usize) -> StoreKey {
    let args = parse(reads.command(number));
    StoreKey { db: reads.way.identity.db, name: Bytes::copy_from_slice(&args.as_args()[1]) }
}
