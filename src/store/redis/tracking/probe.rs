//! Whether changes are still heard of, and how soon: once a second Weir changes a small key of its own over the very
//! connection that it listens on, and waits until it is told of that change.
//!
//! The key lives for ten seconds, so that it ends with the process. Where a master does not let it be written (no memory, no
//! right), the answer alone shows that the connection carries what comes before it, and no delay is measured.

use super::super::side_key;
use crate::resp::write;
use std::time::Duration;
use tokio::time::Instant;

/// How often.
pub const PERIOD: Duration = Duration::from_secs(1);
/// How long the key lives, in ms: longer than two probes may be apart.
const LIFE: &[u8] = b"10000";

/// See the module's page.
pub struct Probe {
    key: Vec<u8>,
    patience: Duration,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// The next is due then.
    Idle { next: Instant },
    /// It was sent then; which of answer and push are here.
    Sent { at: Instant, answered: bool, heard: bool },
}

impl Probe {
    /// Of a server that owns `slot`, due at once. Each push may take as long as `patience`.
    pub fn new(slot: u16, patience: Duration) -> Self {
        let key = side_key::probe(slot, fastrand::u64(..));
        Probe { key, patience, state: State::Idle { next: Instant::now() } }
    }

    /// The key that changes.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// When there is something to do: a probe to be sent, or to be given up.
    pub fn due(&self) -> Instant {
        match self.state {
            State::Idle { next } => next,
            State::Sent { at, .. } => at + self.patience,
        }
    }

    /// It is due: the command to send, or `None` if the last one was in vain.
    pub fn send(&mut self, now: Instant) -> Option<Vec<u8>> {
        let State::Idle { .. } = self.state else { return None };
        self.state = State::Sent { at: now, answered: false, heard: false };
        Some(write::whole_command([&b"SET"[..], &self.key, b"", b"PX", LIFE]))
    }

    /// The answer to it is here.
    pub fn answered(&mut self, is_error: bool) {
        if let State::Sent { at, heard, .. } = self.state {
            self.state = State::Sent { at, answered: true, heard: heard || is_error };
            self.rest();
        }
    }

    /// Its push is here; how long that took, if it was waited for.
    pub fn heard(&mut self, now: Instant) -> Option<Duration> {
        // The key's end is told too.
        let State::Sent { at, answered, heard: false } = self.state else { return None };
        self.state = State::Sent { at, answered, heard: true };
        self.rest();
        Some(now - at)
    }

    fn rest(&mut self) {
        if let State::Sent { at, answered: true, heard: true } = self.state {
            self.state = State::Idle { next: at + PERIOD };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(250);

    fn sent() -> (Probe, Instant) {
        let (mut probe, now) = (Probe::new(7, PATIENCE), Instant::now());
        assert!(probe.due() <= now);
        assert!(probe.send(now).is_some_and(|command| command.starts_with(b"*5\r\n$3\r\nSET\r\n")));
        (probe, now)
    }

    #[test]
    fn it_is_over_when_answer_and_push_are_here_in_whichever_order() {
        for push_first in [true, false] {
            let (mut probe, now) = sent();
            let later = now + Duration::from_millis(3);
            let mut delay = None;
            for push in [push_first, !push_first] {
                assert_eq!(probe.due(), now + PATIENCE);
                match push {
                    true => delay = probe.heard(later),
                    false => probe.answered(false),
                }
            }
            assert_eq!((delay, probe.due()), (Some(Duration::from_millis(3)), now + PERIOD));
            assert_eq!(probe.heard(later), None, "nobody waits for it");
            assert!(probe.send(probe.due()).is_some());
        }
    }

    #[test]
    fn without_its_push_it_was_in_vain_though_it_was_answered() {
        let (mut probe, now) = sent();
        probe.answered(false);
        assert_eq!(probe.due(), now + PATIENCE);
        assert!(probe.send(probe.due()).is_none());
    }

    #[test]
    fn a_server_that_does_not_let_it_write_is_there_all_the_same() {
        let (mut probe, now) = sent();
        probe.answered(true);
        assert_eq!(probe.due(), now + PERIOD);
    }
}
