//! Where a client's next command ends, and which bytes are its arguments.

use memchr::memchr;

use super::inline;
use crate::resp::args::{Args, Span};
use crate::resp::error::ProtocolError;
use crate::resp::number;
use std::ops::Range;

/// Before AUTH a command has at most this many arguments, as in Redis.
const UNAUTHENTICATED_ARGUMENTS: i64 = 10;
/// Before AUTH an argument has at most this many bytes, as in Redis.
const UNAUTHENTICATED_LENGTH: i64 = 16 * 1024;
/// A scanner that has seen a huge command does not keep more room than this for the small ones.
const KEPT: usize = 1024;

/// What a client may send. The defaults are Redis's own, but for a cap on the number of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Bytes of one command, everything included; at most 4 GiB - 1.
    pub max_command: usize,
    /// Arguments of one command, its name included; at most 2^31 - 1, as in Redis.
    pub max_arguments: usize,
    /// Bytes of an inline command, and of any header line.
    pub max_inline: usize,
    /// False until the client has shown its password: it then gets Redis's small limits on top (10 arguments of
    /// 16 KiB), so that strangers cannot make the proxy hold memory.
    pub authenticated: bool,
}

impl Default for ScanLimits {
    fn default() -> Self {
        ScanLimits {
            max_command: 512 * 1024 * 1024,
            max_arguments: 1024 * 1024,
            max_inline: 64 * 1024,
            authenticated: true,
        }
    }
}

/// What [`CommandScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The first `len` bytes are one whole command.
    Complete {
        /// Its bytes, which may be forwarded as they are if it is not inline.
        len: usize,
        /// True for the telnet style, which only [`CommandScanner::args`] knows the arguments of.
        inline: bool,
    },
    /// More bytes are needed.
    Incomplete {
        /// The command has at least so many bytes, as far as they tell. A client's claim, within the limits.
        needed: usize,
    },
}

/// Where the scanner stands in its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first byte.
    Start,
    /// Before an argument's `$length` line.
    Length,
    /// Inside a payload which starts here and ends there.
    Payload(Span),
    /// After the last byte; the next scan starts anew.
    Done,
}

/// Scans one client's commands. It remembers how far it has come in the present command; between two it may change clients.
#[derive(Debug)]
pub struct CommandScanner {
    limits: ScanLimits,
    stage: Stage,
    /// Everything before it is understood.
    at: usize,
    /// The line at `at` has no end before this: what makes many small reads of a long line linear.
    searched: usize,
    /// Arguments still to come.
    left: usize,
    spans: Vec<Span>,
    /// The arguments of an inline command, unquoted; empty for others.
    unquoted: Vec<u8>,
    inline: bool,
}

impl CommandScanner {
    /// A scanner before its first command.
    pub fn new(limits: ScanLimits) -> Self {
        let mut scanner = CommandScanner {
            limits,
            stage: Stage::Start,
            at: 0,
            searched: 0,
            left: 0,
            spans: Vec::new(),
            unquoted: Vec::new(),
            inline: false,
        };
        scanner.set_limits(limits);
        scanner
    }

    /// Other limits from here on (AUTH, RESET).
    pub fn set_limits(&mut self, limits: ScanLimits) {
        self.limits = ScanLimits {
            max_command: limits.max_command.min(u32::MAX as usize),
            max_arguments: limits.max_arguments.min(i32::MAX as usize),
            ..limits
        };
    }

    /// What it was told last.
    pub fn limits(&self) -> &ScanLimits {
        &self.limits
    }

    /// Whether it has just completed a command: the next one may be another client's.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether it has looked at nothing of the next command yet. One whose first line is not whole it has looked at.
    pub fn is_between(&self) -> bool {
        self.stage == Stage::Done || (self.stage == Stage::Start && self.searched == 0)
    }

    /// Looks for the end of the command that begins at `buf[0]`.
    ///
    /// After [`Scanned::Incomplete`] the caller keeps the bytes and calls again with the same ones and more; only the
    /// new ones are then looked at. After [`Scanned::Complete`] the next call is about the next command.
    ///
    /// # Errors
    /// The bytes are no command, or pass a limit. The scanner is of no use afterwards.
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        if self.stage == Stage::Done {
            self.restart();
        }
        if self.stage == Stage::Start {
            if let Some(len) = self.plain(buf) {
                return Ok(self.complete(len));
            }
            match buf.first() {
                None => return Ok(Scanned::Incomplete { needed: 1 }),
                Some(b'*') => {}
                Some(_) => return self.scan_inline(buf),
            }
            if !self.count(buf)? {
                return Ok(self.more(buf));
            }
        }
        self.arguments(buf)
    }

    /// The length of the command at `buf[0]`, if it is whole and as most are: up to nine arguments of up to 99 bytes, which a
    /// client may send before AUTH too. `None`, and nothing has changed: it is looked at with care.
    #[inline]
    fn plain(&mut self, buf: &[u8]) -> Option<usize> {
        let [b'*', count @ b'1'..=b'9', b'\r', b'\n', ..] = buf else { return None };
        let count = usize::from(count - b'0');
        let end = self.plain_arguments(buf, count);
        if end.is_none() || count > self.limits.max_arguments || end > Some(self.limits.max_command) {
            self.spans.clear();
            return None;
        }
        end
    }

    #[inline]
    fn plain_arguments(&mut self, buf: &[u8], count: usize) -> Option<usize> {
        let mut at = 4;
        for _ in 0..count {
            let argument = plain_argument(buf, at)?;
            at = argument.end + 2;
            self.spans.push(Span { start: argument.start as u32, end: argument.end as u32 });
        }
        Some(at)
    }

    /// The arguments of the command that [`CommandScanner::scan`] has just completed; `buf` as given to it.
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> Args<'a> {
        Args::new(if self.inline { &self.unquoted } else { buf }, &self.spans)
    }

    fn restart(&mut self) {
        self.stage = Stage::Start;
        (self.at, self.searched, self.left) = (0, 0, 0);
        self.spans.clear();
        if self.spans.capacity() > KEPT {
            self.spans.shrink_to(KEPT);
        }
        if self.inline {
            self.inline = false;
            self.unquoted.clear();
            self.unquoted.shrink_to(KEPT);
        }
    }

    fn complete(&mut self, len: usize) -> Scanned {
        self.stage = Stage::Done;
        Scanned::Complete { len, inline: self.inline }
    }

    fn more(&self, buf: &[u8]) -> Scanned {
        Scanned::Incomplete { needed: buf.len() + 1 }
    }

    /// Reads the `*count` line; false if it is not whole.
    fn count(&mut self, buf: &[u8]) -> Result<bool, ProtocolError> {
        let (count, next) = match number::plain_line(buf, 1) {
            Some((count, next)) => (i64::from(count), next),
            None => match self.line(buf, ProtocolError::CountLineTooBig)? {
                None => return Ok(false),
                Some(end) => (number_line(buf, 0, end).ok_or(ProtocolError::InvalidCount)?, end + 2),
            },
        };
        if count > self.limits.max_arguments as i64 {
            return Err(ProtocolError::InvalidCount);
        }
        if count > UNAUTHENTICATED_ARGUMENTS && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        self.left = count.max(0) as usize;
        self.enter(next, Stage::Length);
        Ok(true)
    }

    fn arguments(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        loop {
            if let Stage::Payload(span) = self.stage {
                let end = span.end as usize;
                match buf.get(end..end + 2) {
                    None => return Ok(Scanned::Incomplete { needed: end + 2 }),
                    Some(b"\r\n") => {}
                    Some(_) => return Err(ProtocolError::ExpectedCrlf),
                }
                self.spans.push(span);
                self.left -= 1;
                self.enter(end + 2, Stage::Length);
            }
            self.whole_arguments(buf);
            if self.left == 0 {
                return Ok(self.complete(self.at));
            }
            if !self.length(buf)? {
                return Ok(self.more(buf));
            }
        }
    }

    /// Takes the arguments that are whole and plain, which is nearly all of them; the first that is not is left to
    /// [`CommandScanner::length`], which knows what is wrong with it.
    fn whole_arguments(&mut self, buf: &[u8]) {
        let longest = if self.limits.authenticated { u32::MAX } else { UNAUTHENTICATED_LENGTH as u32 };
        let (mut at, mut left) = (self.at, self.left);
        let mut last = LengthLine::default();
        while left > 0 && buf.get(at) == Some(&b'$') {
            let length = match last.repeated(&buf[at..]) {
                Some(length) => length,
                None => {
                    let Some((length, start)) = number::plain_line(buf, at + 1) else { break };
                    last = LengthLine::new(&buf[at..start], length);
                    length
                }
            };
            let start = at + last.bytes;
            let end = start + length as usize;
            let Some([b'\r', b'\n', ..]) = buf.get(end..) else { break };
            if length > longest || end + 2 > self.limits.max_command {
                break;
            }
            self.spans.push(Span { start: start as u32, end: end as u32 });
            at = end + 2;
            left -= 1;
        }
        self.left = left;
        if at > self.at {
            self.enter(at, Stage::Length);
        }
    }

    /// Reads an argument's `$length` line; false if it is not whole.
    fn length(&mut self, buf: &[u8]) -> Result<bool, ProtocolError> {
        let plain = match buf.get(self.at) {
            Some(b'$') => number::plain_line(buf, self.at + 1),
            _ => None,
        };
        let (length, start) = match plain {
            Some((length, next)) => (i64::from(length), next),
            None => match self.line(buf, ProtocolError::LengthLineTooBig)? {
                None => return Ok(false),
                Some(_) if buf[self.at] != b'$' => return Err(ProtocolError::ExpectedBulk(buf[self.at])),
                Some(end) => (number_line(buf, self.at, end).ok_or(ProtocolError::InvalidLength)?, end + 2),
            },
        };
        if length < 0 || length > self.limits.max_command as i64 {
            return Err(ProtocolError::InvalidLength);
        }
        if length > UNAUTHENTICATED_LENGTH && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedLength);
        }
        let end = start + length as usize;
        if end + 2 > self.limits.max_command {
            return Err(ProtocolError::CommandTooBig);
        }
        self.enter(start, Stage::Payload(Span { start: start as u32, end: end as u32 }));
        Ok(true)
    }

    #[inline]
    fn enter(&mut self, at: usize, stage: Stage) {
        self.at = at;
        self.searched = at;
        self.stage = stage;
    }

    /// Where the line at `at` has its CR, once the byte after it is there too.
    fn line(&mut self, buf: &[u8], too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let found = memchr(b'\r', &buf[self.searched..]).map(|offset| self.searched + offset);
        let end = found.unwrap_or(buf.len());
        self.searched = end;
        if end - self.at > self.limits.max_inline {
            return Err(too_big);
        }
        Ok(found.filter(|&end| end + 1 < buf.len()))
    }

    fn scan_inline(&mut self, buf: &[u8]) -> Result<Scanned, ProtocolError> {
        let found = memchr(b'\n', &buf[self.searched..]).map(|offset| self.searched + offset);
        let end = found.unwrap_or(buf.len());
        self.searched = end;
        if end > self.limits.max_inline {
            return Err(ProtocolError::InlineTooBig);
        }
        if found.is_none() {
            return Ok(self.more(buf));
        }
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        self.inline = true;
        inline::split(line, &mut self.unquoted, &mut self.spans)?;
        Ok(self.complete(end + 1))
    }
}

/// An argument's `$length` line. The next argument is often as long: its line is then known by one comparison.
#[derive(Default)]
struct LengthLine {
    /// So many bytes it has.
    bytes: usize,
    word: u64,
    /// Which of eight bytes it has; 0: more than that, or there is none.
    mask: u64,
    length: u32,
}

impl LengthLine {
    fn new(line: &[u8], length: u32) -> Self {
        let mut word = [0; 8];
        let Some(own) = word.get_mut(..line.len()) else {
            return LengthLine { bytes: line.len(), ..LengthLine::default() };
        };
        own.copy_from_slice(line);
        LengthLine {
            bytes: line.len(),
            word: u64::from_le_bytes(word),
            mask: u64::MAX >> (64 - 8 * line.len()),
            length,
        }
    }

    /// Its length, if the same line stands here again.
    #[inline]
    fn repeated(&self, buf: &[u8]) -> Option<u32> {
        let first: &[u8; 8] = buf.first_chunk()?;
        (self.mask != 0 && u64::from_le_bytes(*first) & self.mask == self.word).then_some(self.length)
    }
}

/// Where the argument lies whose `$length` line begins at `at`, if it is whole and has up to 99 bytes.
#[inline]
pub(super) fn plain_argument(buf: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, start) = match buf.get(at..)?.first_chunk()? {
        [b'$', ones @ b'0'..=b'9', b'\r', b'\n', _] => (usize::from(ones - b'0'), at + 4),
        [b'$', tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n'] => {
            (usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), at + 5)
        }
        _ => return None,
    };
    let end = start + length;
    (buf.get(end..end + 2)? == b"\r\n").then_some(start..end)
}

/// The number between the type byte at `start` and the CR at `end`.
fn number_line(buf: &[u8], start: usize, end: usize) -> Option<i64> {
    if buf[end + 1] != b'\n' {
        return None;
    }
    number::parse(&buf[start + 1..end])
}
