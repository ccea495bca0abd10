//! What the upstream's link delivers, or fails to.

use super::{Kind, Replies, Slot};
use crate::cache::error::upstream_error;
use crate::resp::write;
use crate::server::metrics::{CommandCounts, Path};
use crate::store::StoreError;
use crate::store::redis::link::{Part, Sink};

impl Replies {
    fn count_plain(&self, slot: &mut Slot) {
        self.counts.observe(Path::Pass, slot.opened, slot.commands.len());
        slot.commands.drain(..).for_each(|command| self.counts.count(command, false));
    }
}

impl Sink for Replies {
    fn reply(&self, slot: u64, part: Part<'_>) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        let slot = &mut state.slots[index];
        if matches!(slot.kind, Kind::Reads(_)) {
            return state.judge_run(index, &part, &self.counts);
        }
        slot.came += if slot.muted { 0 } else { part.bytes.len() };
        for &(error, _) in part.errors {
            // Behind a read's own reply stand others that no client has asked for.
            if let Some(command) = slot.commands.get_mut(error as usize) {
                self.counts.count(std::mem::replace(command, CommandCounts::COUNTED), true);
            }
        }
        if !matches!(slot.kind, Kind::Plain) {
            slot.partial.extend_from_slice(part.bytes);
            state.held += part.bytes.len();
            return if part.done {
                state.judge(index, &self.counts)
            };
        }
        if part.done {
            self.count_plain(slot);
        }
        state.pass_on(index, &part);
        if part.done { state.close(index) } else { state.wake() }
    }

    fn push(&self, frame: &[u8]) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        state.pushed = state.pushed.min(state.output.len()) + frame.len();
        state.output.extend(frame);
        if state.pushed > state.most_pushed {
            state.closed = Some("max_subscriber_output");
        }
        state.wake();
    }

    /// What was pushed does not count, for it has a limit of its own.
    fn is_full(&self) -> bool {
        let state = self.state.borrow();
        state.queued() > state.most + state.pushed.min(state.output.len())
    }

    fn redirected(&self, slot: u64) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        if let Kind::Read(read) = &mut state.slots[index].kind {
            read.timed.iter_mut().for_each(|timed| timed.keep_nothing());
        }
    }

    fn connected(&self) {
        self.wake();
    }

    fn lost(&self) {
        let mut state = self.state.borrow_mut();
        state.lost = true;
        state.wake();
    }

    fn failed(&self, slot: u64, missing: u32, error: &StoreError) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        let index = (slot - state.first) as usize;
        let slot = &mut state.slots[index];
        if slot.streams {
            // The client has the beginning of a reply that will have no end.
            state.closed = Some("cut_reply");
            return state.wake();
        }
        if state.as_user && error.denies_user() {
            // A server hangs up on those whose user has gone; they connect again with what they know by then.
            state.closed = Some("upstream_auth");
            return state.wake();
        }
        if matches!(state.slots[index].kind, Kind::Reads(_)) {
            return state.fail_run(index, error, &self.counts);
        }
        let slot = &mut state.slots[index];
        let timed = if let Kind::Read(read) = &slot.kind { read.timed.as_ref() } else { None };
        if timed.is_some_and(|timed| missing as usize <= timed.questions()) {
            // The client's own reply is whole.
            return state.judge(index, &self.counts);
        }
        let missing = if matches!(slot.kind, Kind::Read(_)) { 1 } else { missing };
        if matches!(&slot.kind, Kind::Read(read) if read.may_do_without(error)) {
            return state.miss(index, Err(error.clone()));
        }
        if error.is_outage() {
            state.note_missed(index);
        }
        let slot = &mut state.slots[index];
        let first_missing = slot.commands.len() - missing as usize;
        slot.commands.drain(first_missing..).for_each(|command| self.counts.count(command, true));
        slot.commands.drain(..).for_each(|command| self.counts.count(command, false));
        let held_before = slot.output.len() + if matches!(slot.kind, Kind::Read(_)) { slot.partial.len() } else { 0 };
        let mut text = String::new();
        upstream_error(&mut text, error).expect("a string takes every text");
        for _ in 0..if slot.muted { 0 } else { missing } {
            slot.output.write(|out| write::error(out, &text));
        }
        let held = slot.output.len();
        state.held = state.held + held - held_before;
        state.close(index);
    }
}
