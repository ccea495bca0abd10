//! Whose the bytes are that arrive over a link: the oldest entry's replies, or on a private link its owner's pushes.

use super::super::frames::{Frame, Hearing, is_own_message};
use super::{Entry, Inner, MARKER, Part, Private};
use crate::resp::scan::{Advanced, ProtocolError, ReplyScanner, Strings};
use crate::store::StoreError;

impl Inner {
    /// Hands bytes to the entries that they answer; returns how many were used.
    pub(super) fn deliver(&self, scanner: &mut ReplyScanner, bytes: &[u8]) -> Result<usize, StoreError> {
        let mut used = 0;
        let mut errors = Vec::new();
        while used < bytes.len() {
            if let Some(private) = self.private.as_ref().filter(|private| self.attends(private, scanner)) {
                match self.attend(private, scanner, &bytes[used..])? {
                    0 => break,
                    consumed => used += consumed,
                }
                continue;
            }
            let (answered, missing) = self.entries.borrow().front().map_or((0, 0), Entry::progress);
            errors.clear();
            let advanced = scanner
                .advance_many(&bytes[used..], missing as usize, |reply, at| errors.push((answered + reply as u32, at)))
                .map_err(broken)?;
            if advanced.consumed == 0 {
                match self.push(scanner, &bytes[used..])? {
                    0 => break,
                    skipped => used += skipped,
                }
                continue;
            }
            let replies = &bytes[used..used + advanced.consumed];
            if !errors.is_empty() {
                self.upstream.note_errors(replies);
            }
            self.hand_over(replies, advanced, &errors);
            used += advanced.consumed;
        }
        Ok(used)
    }

    /// A push frame at the top level is nobody's reply: skipped, or looked at if the link is private.
    fn push(&self, scanner: &mut ReplyScanner, bytes: &[u8]) -> Result<usize, StoreError> {
        let is_push = if scanner.is_idle() { bytes[0] == b'>' } else { scanner.is_push() };
        match (is_push, &self.private) {
            (true, Some(private)) => self.attend(private, scanner, bytes),
            (true, None) => Ok(scanner.advance(bytes).map_err(broken)?.consumed),
            (false, _) if self.entries.borrow().is_empty() => {
                Err(StoreError::Protocol("a reply that nobody asked for".into()))
            }
            (false, _) => Ok(0),
        }
    }

    /// Whether the next bytes of a private link must be looked at frame by frame.
    fn attends(&self, private: &Private, scanner: &ReplyScanner) -> bool {
        match scanner.is_idle() {
            true => self.hearing(private).attends(),
            false => !private.frame.borrow().is_empty(),
        }
    }

    fn hearing(&self, private: &Private) -> Hearing {
        Hearing {
            protocol: private.protocol.get(),
            subscriptions: private.subscriptions.get(),
            confirms: self.entries.borrow().front().is_some_and(|entry| entry.confirms),
            monitors: private.monitors.get(),
        }
    }

    /// Gathers one frame, and hands it to whom it belongs once it is whole.
    fn attend(&self, private: &Private, scanner: &mut ReplyScanner, bytes: &[u8]) -> Result<usize, StoreError> {
        let progress = scanner.advance(bytes).map_err(broken)?;
        private.frame.borrow_mut().extend_from_slice(&bytes[..progress.consumed]);
        if progress.complete {
            let frame = private.frame.take();
            self.hand_frame(private, &frame)?;
        }
        Ok(progress.consumed)
    }

    fn hand_frame(&self, private: &Private, frame: &[u8]) -> Result<(), StoreError> {
        let hearing = self.hearing(private);
        let told = hearing.tell(frame);
        if let Frame::Confirmation(subscriptions) = told {
            private.subscriptions.set(subscriptions);
        }
        if told == Frame::OutOfBand || (told != Frame::Reply && !hearing.confirms) {
            if is_own_message(frame) {
                return Ok(());
            }
            // The handle is cloned, for the owner may let go of the link.
            let owner = private.owner.borrow().clone();
            owner.inspect(|owner| owner.push(frame));
            return Ok(());
        }
        let is_error = frame.starts_with(b"-") || frame.starts_with(b"!");
        // A user without the right to PING is told so instead, and so is everybody where it has another name.
        let is_marker = || {
            let refuses_ping = || memchr::memmem::find(&frame.to_ascii_lowercase(), b"'ping'").is_some();
            memchr::memmem::find(frame, MARKER).is_some() || (is_error && refuses_ping())
        };
        let (sink, id, bytes, done) = {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.front_mut() else {
                return Err(StoreError::Protocol("a reply that nobody asked for".into()));
            };
            let (done, shown) = match (entry.to_marker, told) {
                (true, Frame::Reply) if is_marker() => (true, &frame[..0]),
                (true, _) => (false, frame),
                (false, _) => {
                    entry.missing -= 1;
                    (entry.missing == 0 || (entry.confirms && is_error), frame)
                }
            };
            let answered = (entry.sink.clone(), entry.id, shown, done);
            if done {
                entries.pop_front();
            }
            answered
        };
        let errors: &[(u32, usize)] = if is_error { &[(0, 0)] } else { &[] };
        private.erred.set(private.erred.get() || is_error);
        sink.reply(id, Part { bytes, whole: bytes.len(), done, errors, strings: Strings::default() });
        Ok(())
    }

    fn hand_over(&self, bytes: &[u8], advanced: Advanced, errors: &[(u32, usize)]) {
        let (sink, id, done) = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.front_mut().expect("bytes are consumed only for an entry that misses replies");
            entry.missing -= advanced.completed as u32;
            let done = entry.missing == 0;
            let answered = (entry.sink.clone(), entry.id, done);
            if done {
                entries.pop_front();
            }
            answered
        };
        if let (Some(private), false) = (&self.private, errors.is_empty()) {
            private.erred.set(true);
        }
        let Advanced { whole, strings, .. } = advanced;
        sink.reply(id, Part { bytes, whole, done, errors, strings });
    }
}

fn broken(error: ProtocolError) -> StoreError {
    StoreError::Protocol(error.to_string())
}
