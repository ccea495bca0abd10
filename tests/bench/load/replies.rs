//! What comes back: finds where replies end, and compares each with what was expected.
//!
//! Not Weir's own scanner: what is measured must not become cheaper or dearer for whoever measures it.

use memchr::memchr;

/// What a command is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A value of so many bytes.
    Value(usize),
    /// `+OK`.
    Ok,
    /// Nothing is there.
    Nil,
    /// An array of values, none of them nil.
    Values { count: usize, bytes: usize },
}

/// Goes through the replies to one batch.
#[derive(Default)]
pub struct Replies {
    /// Replies that are over.
    pub done: usize,
    /// Those that were not what was expected, and what the first of them began with.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// Bytes of a payload, its line end included, that are still to come.
    payload: usize,
    /// Elements of an array that are still to come.
    elements: usize,
}

impl Replies {
    /// Takes what it can of `buf` and answers how much; a line that is not whole is left.
    pub fn take(&mut self, buf: &[u8], expected: &[Expected]) -> usize {
        let mut at = 0;
        while let Some(&expected) = expected.get(self.done) {
            if self.payload > 0 {
                let step = self.payload.min(buf.len() - at);
                (self.payload, at) = (self.payload - step, at + step);
                if self.payload > 0 {
                    break;
                }
                self.end();
                continue;
            }
            let Some(length) = memchr(b'\n', &buf[at..]) else { break };
            let line = &buf[at..at + length];
            at += length + 1;
            self.head(line.strip_suffix(b"\r").unwrap_or(line), expected);
        }
        at
    }

    fn head(&mut self, line: &[u8], expected: Expected) {
        let (kind, text) = line.split_first().unwrap_or((&b' ', b""));
        let length = number(text);
        let right = match (kind, expected) {
            (b'$', Expected::Value(bytes)) | (b'$', Expected::Values { bytes, .. }) => length == Some(bytes),
            (b'$', Expected::Nil) => length.is_none(),
            (b'*', Expected::Values { count, .. }) => length == Some(count) && self.elements == 0,
            (b'+', Expected::Ok) => text == b"OK",
            _ => false,
        };
        if !right {
            self.wrong += 1;
            self.first_wrong.get_or_insert_with(|| String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned());
        }
        match (kind, length) {
            (b'$', Some(length)) => self.payload = length + 2,
            (b'*', Some(count)) if count > 0 => self.elements = count,
            _ => self.end(),
        }
    }

    /// A value is over, and with it perhaps the array that it belongs to.
    fn end(&mut self) {
        self.elements = self.elements.saturating_sub(1);
        if self.elements == 0 {
            self.done += 1;
        }
    }
}

/// `None` for what is no length: nil is -1.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0')))
}
