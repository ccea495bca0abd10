//! Slots: opened, written to, and let out in their order.

use super::{Commands, DueRead, Kind, Missed, Slot, State};
use crate::resp::scan::may_be_absent_among;
use crate::server::change::Change;
use crate::server::metrics::{CommandCounts, Path};
use crate::server::output::Output;
use crate::server::timed::Settled;
use crate::store::StoreError;
use crate::store::redis::link::Part;
use std::time::Instant;

/// From this size on a reply streams through, byte by byte as it comes.
const STREAMED: usize = 64 << 10;

impl Slot {
    pub(super) fn new(kind: Kind, commands: Commands, opened: Instant) -> Self {
        let (output, partial) = (Output::default(), Vec::new());
        Slot {
            kind,
            count: commands.len(),
            commands,
            opened,
            done: false,
            output,
            asked: 0,
            came: 0,
            partial,
            streams: false,
            muted: false,
            changes: Vec::new(),
        }
    }
}

impl State {
    pub(super) fn now<T>(&mut self, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.muted {
            return writer(&mut Vec::new());
        }
        match self.slots.back_mut() {
            None => self.output.write(writer),
            Some(Slot { kind: Kind::Plain, done: true, muted: false, output, .. }) => {
                let before = output.len();
                let result = output.write(writer);
                let added = output.len() - before;
                self.held += added;
                result
            }
            Some(&mut Slot { opened, .. }) => {
                let mut slot = Slot { done: true, ..Slot::new(Kind::Plain, Commands::new(), opened) };
                let result = slot.output.write(writer);
                self.held += slot.output.len();
                self.slots.push_back(slot);
                result
            }
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.output.len() + self.held
    }

    pub(super) fn open(&mut self, kind: Kind, commands: Commands, opened: Instant) -> u64 {
        match kind {
            Kind::Plain | Kind::Reads(_) => {}
            Kind::Read(_) => self.reads += 1,
            Kind::Slow(_) => self.slow += 1,
        }
        self.commands += commands.len();
        self.slots.push_back(Slot { muted: self.muted, ..Slot::new(kind, commands, opened) });
        self.first + self.slots.len() as u64 - 1
    }

    /// Ends a slot, and lets out every answer that is now in turn.
    pub(super) fn close(&mut self, index: usize) {
        let next = self.first + self.slots.len() as u64;
        let slot = &mut self.slots[index];
        slot.done = true;
        slot.changes = Vec::new();
        if let Kind::Reads(run) = &mut slot.kind {
            run.gather_into(&mut slot.output);
        }
        self.commands -= slot.count;
        self.asked -= slot.asked;
        self.window.answered(self.first + index as u64, next, slot.came, slot.count);
        match slot.kind {
            Kind::Plain | Kind::Reads(_) => {}
            Kind::Read(_) => self.reads -= 1,
            Kind::Slow(_) => self.slow -= 1,
        }
        while self.slots.front().is_some_and(|slot| slot.done) {
            let slot = self.slots.pop_front().expect("there is a first slot");
            self.first += 1;
            self.held -= slot.output.len();
            self.output.append(slot.output);
        }
        if let Some(Slot { kind: kind @ (Kind::Plain | Kind::Reads(_)), output, .. }) = self.slots.front_mut() {
            let mut begun = std::mem::take(output);
            if let Kind::Reads(run) = kind {
                run.let_out(&mut begun);
            }
            self.held -= begun.len();
            self.output.append(begun);
        }
        self.wake();
    }

    /// What the commands of a slot were to change, the store has perhaps not changed.
    pub(super) fn note_missed(&mut self, index: usize) {
        self.slots[index].changes.iter().for_each(Change::was_missed);
        self.missed_last = self.missed_last.max(self.first + index as u64 + 1);
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Bytes of forwarded commands' replies: whole replies go on to the client if it is their turn.
    pub(super) fn pass_on(&mut self, index: usize, part: &Part<'_>) {
        let slot = &mut self.slots[index];
        if slot.muted {
            return;
        }
        let held_before = slot.output.len();
        let output = if index == 0 { &mut self.output } else { &mut slot.output };
        let (whole, begun) = part.bytes.split_at(part.whole);
        if !whole.is_empty() {
            output.extend(&slot.partial);
            output.extend(whole);
            slot.partial.clear();
            slot.streams = false;
        }
        slot.partial.extend_from_slice(begun);
        if slot.streams || slot.partial.len() > STREAMED {
            output.extend(&slot.partial);
            slot.partial = Vec::new();
            slot.streams = true;
        }
        self.held += slot.output.len() - held_before;
    }

    /// A read's reply is whole: it is a hit and goes on, or a miss and is handed to the session.
    pub(super) fn judge(&mut self, index: usize, counts: &CommandCounts) {
        let slot = &mut self.slots[index];
        let Kind::Read(read) = &mut slot.kind else { return };
        let mut reply = std::mem::take(&mut slot.partial);
        let mut settled = Settled::default();
        if let Some(timed) = read.timed.take() {
            let came = reply.len();
            settled = timed.settle(&reply);
            reply.truncate(settled.own);
            let answers = came - reply.len();
            slot.came = slot.came.saturating_sub(answers);
            self.held -= answers;
        }
        // Also of an MGET that has missed others of its keys.
        if !settled.due.is_empty() {
            let (command, db, keys) = (read.command.clone(), read.way.identity.db, settled.due.clone());
            self.news.get_or_insert_default().due.push(DueRead { command, db, keys });
        }
        if !may_be_absent_among(&reply, read.all_keys) {
            if slot.muted {
                self.held -= reply.len();
            } else {
                slot.output = Output::whole(reply);
            }
            let news = self.news.get_or_insert_default();
            news.drawn.extend(read.drawn.take().into_iter().flat_map(|drawn| drawn.0));
            let stale = |route: &usize| settled.due.iter().any(|due| due.is_stale() && due.route == *route);
            let routes = std::iter::once(&read.route).chain(&read.other_routes);
            news.hits.extend(routes.map(|route| (*route, stale(route), 1)));
            counts.count(slot.commands[0], false);
            counts.observe(Path::Upstream, slot.opened, 1);
            return self.close(index);
        }
        self.held -= reply.len();
        self.miss(index, Ok(reply));
    }

    /// Hands a read to the session, for the engine to answer.
    pub(super) fn miss(&mut self, index: usize, reply: Result<Vec<u8>, StoreError>) {
        let slot = &mut self.slots[index];
        let Kind::Read(read) = &slot.kind else { return };
        let keys = read.keys.clone();
        let Kind::Read(mut read) = std::mem::replace(&mut slot.kind, Kind::Slow(keys)) else { return };
        read.timed = None;
        self.held -= std::mem::take(&mut slot.partial).len();
        self.reads -= 1;
        self.slow += 1;
        self.news.get_or_insert_default().missed.push(Missed {
            place: (self.first + index as u64).into(),
            read: *read,
            reply,
        });
        self.wake();
    }
}
