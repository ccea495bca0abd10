//! Between a private link and its client: what a node says of other nodes is not the client's to know.
//!
//! A transaction, a subscription or a wait cannot be taken elsewhere by Weir. Where the node sends it elsewhere, the client
//! is told that it failed, in Weir's words, and may begin again.

use super::redirect::Redirect;
use super::shared::Shared;
use crate::resp::write;
use crate::store::StoreError;
use crate::store::redis::link::{Part, Sink};
use std::rc::Rc;
use std::sync::Arc;

/// Hands everything on, and redirects as errors of the upstream.
pub struct Hide {
    to: Rc<dyn Sink>,
    shared: Arc<Shared>,
}

const MOVED: &str = "the slot is on its way to another node of the cluster; try again";

impl Hide {
    /// In front of `to`.
    pub fn new(to: Rc<dyn Sink>, shared: Arc<Shared>) -> Self {
        Hide { to, shared }
    }
}

impl Sink for Hide {
    fn reply(&self, id: u64, part: Part<'_>) {
        if !part.errors.iter().any(|&(_, at)| Redirect::is_one(&part.bytes[at..])) {
            return self.to.reply(id, part);
        }
        self.shared.want_newer(None);
        let (mut bytes, mut errors, mut used) = (Vec::new(), Vec::new(), 0);
        for &(reply, at) in part.errors {
            bytes.extend_from_slice(&part.bytes[used..at]);
            errors.push((reply, bytes.len()));
            used = at;
            if let Some(text) = in_own_words(&part.bytes[at..]) {
                write::error(&mut bytes, text);
                used = part.bytes[at..]
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .map_or(part.bytes.len(), |end| at + end + 1);
            }
        }
        bytes.extend_from_slice(&part.bytes[used..]);
        // Errors are whole, so what is not yet whole is the same as before.
        let whole = bytes.len() - (part.bytes.len() - part.whole);
        let (done, strings) = (part.done, part.strings);
        self.to.reply(id, Part { bytes: &bytes, whole, done, errors: &errors, strings });
    }

    fn failed(&self, id: u64, missing: u32, error: &StoreError) {
        self.shared.want_newer(None);
        self.to.failed(id, missing, error);
    }

    fn push(&self, frame: &[u8]) {
        self.to.push(frame);
    }

    fn is_full(&self) -> bool {
        self.to.is_full()
    }

    fn connected(&self) {
        self.to.connected();
    }

    fn lost(&self) {
        self.shared.want_newer(None);
        self.to.lost();
    }
}

/// `None`: it is another error.
fn in_own_words(reply: &[u8]) -> Option<String> {
    if !Redirect::is_one(reply) {
        return None;
    }
    let line = &reply[1..memchr::memchr(b'\r', reply).unwrap_or(reply.len())];
    let says_where = line.starts_with(b"MOVED") || line.starts_with(b"ASK");
    let why = if says_where { MOVED.to_owned() } else { String::from_utf8_lossy(line).into_owned() };
    Some(StoreError::Refused(why).reply())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReadFrom;
    use crate::resp::scan::Strings;
    use std::cell::RefCell;

    /// Bytes, how many of them are whole, and the errors.
    type HeardPart = (Vec<u8>, usize, Vec<(u32, usize)>);

    #[derive(Default)]
    struct Heard(RefCell<Vec<HeardPart>>);

    impl Sink for Heard {
        fn reply(&self, _: u64, part: Part<'_>) {
            self.0.borrow_mut().push((part.bytes.to_vec(), part.whole, part.errors.to_vec()));
        }
        fn failed(&self, _: u64, _: u32, _: &StoreError) {}
    }

    #[test]
    fn redirects_become_errors_of_the_upstream_and_nothing_else_changes() {
        let heard = Rc::new(Heard::default());
        let hide = Hide::new(heard.clone(), Arc::new(Shared::new(Vec::new(), ReadFrom::Master)));
        let bytes = b"+OK\r\n-MOVED 1 a:1\r\n-ERR x\r\n:1\r\n$5\r\nab";
        let (errors, strings) = (&[(1, 5), (2, 19)], Strings::default());
        hide.reply(0, Part { bytes, whole: 31, done: false, errors, strings });
        let moved = format!("-UPSTREAM refused: {MOVED}\r\n");
        let expected = format!("+OK\r\n{moved}-ERR x\r\n:1\r\n$5\r\nab");
        let errors = vec![(1, 5), (2, 5 + moved.len())];
        assert_eq!(*heard.0.borrow(), [(expected.clone().into_bytes(), expected.len() - 6, errors)]);
    }
}
