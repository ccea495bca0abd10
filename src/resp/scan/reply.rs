//! Where an upstream's reply ends. A reply need not be in memory as a whole: its bytes are passed on as they come.

use memchr::memchr_iter;

use super::found;
use crate::resp::error::ProtocolError;
use crate::resp::number;

/// No header line is longer; of a simple string or an error that is, pieces are passed on, as of a payload.
const MAX_LINE: usize = 64 * 1024;

/// How far [`ReplyScanner::advance_many`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Bytes used.
    pub consumed: usize,
    /// Replies that ended.
    pub completed: usize,
    /// Of the bytes used, those up to the end of the last reply that ended; the others belong to one that did not.
    pub whole: usize,
    /// What it began with.
    pub strings: Strings,
}

/// What most reads are answered: whole strings that are not empty, from the first reply of some bytes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// How many there are.
    pub count: usize,
    /// Where the last one ends.
    pub end: usize,
}

/// How far [`ReplyScanner::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that belong to the reply and may be forwarded at once.
    pub consumed: usize,
    /// True if the reply ends with them.
    pub complete: bool,
}

/// Scans the replies of one upstream link; one per link, for it remembers how far it has come in the present reply.
///
/// All types of RESP2 and RESP3 but the streamed ones (`$?`, `*?`), which no server sends. An attribute belongs to
/// the reply that follows it. So does a push inside a reply, where it should not stand, but where Redis 7.0 sends one to
/// a client that its own ZMPOP notifies: taken for an element, it would shift every later reply to the wrong request.
#[derive(Debug)]
pub struct ReplyScanner {
    max_depth: usize,
    /// For each open aggregate, the elements still to come (never 0).
    open: Vec<u64>,
    /// Bytes still to come of the open payload, its CRLF included.
    payload: u64,
    /// In the middle of a simple string or an error that is longer than a line should be.
    text: bool,
    /// The line at hand has no end before this.
    searched: usize,
    push: bool,
}

/// What a header line begins.
enum Head {
    /// A whole value.
    Scalar,
    /// A payload of this many bytes, its CRLF included.
    Payload(u64),
    /// This many elements, more than none.
    Aggregate(u64),
}

impl ReplyScanner {
    /// A scanner before its first reply. Aggregates nest at most `max_depth` deep.
    pub fn new(max_depth: usize) -> Self {
        ReplyScanner { max_depth, open: Vec::new(), payload: 0, text: false, searched: 0, push: false }
    }

    /// True from the head of a top-level push (`>`) until the head of the frame after it: such a frame is nobody's
    /// reply.
    pub fn is_push(&self) -> bool {
        self.push
    }

    /// True between replies.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.payload == 0 && !self.text
    }

    /// Consumes as much of `buf` as it can, up to the end of one reply: payloads in pieces, other lines when they are
    /// whole. The next call begins at the first byte not consumed.
    ///
    /// # Errors
    /// The bytes at `buf[0]` are no reply. An error further on is told by the call that begins there, so that
    /// everything before it can still be delivered.
    pub fn advance(&mut self, buf: &[u8]) -> Result<Progress, ProtocolError> {
        let mut consumed = 0;
        loop {
            match self.step(&buf[consumed..]) {
                Ok(Some(step)) => {
                    consumed += step;
                    if self.is_idle() {
                        return Ok(Progress { consumed, complete: true });
                    }
                    if consumed == buf.len() {
                        return Ok(Progress { consumed, complete: false });
                    }
                }
                Err(error) if consumed == 0 => return Err(error),
                Ok(None) | Err(_) => return Ok(Progress { consumed, complete: false }),
            }
        }
    }

    /// Consumes up to `replies` replies, the last one perhaps in part, and answers how far it came. It stops before a top-level push, which the caller then takes with [`ReplyScanner::advance`];
    /// inside a push it does nothing. Replies that are errors are told to `on_error` as they begin, counted from 0, with the
    /// place in `buf` where they begin.
    ///
    /// # Errors
    /// As for [`ReplyScanner::advance`].
    pub fn advance_many(
        &mut self,
        buf: &[u8],
        replies: usize,
        mut on_error: impl FnMut(usize, usize),
    ) -> Result<Advanced, ProtocolError> {
        let strings = self.take_strings(buf, replies);
        let Strings { count: mut completed, end: mut consumed } = strings;
        let mut whole = consumed;
        while completed < replies && consumed < buf.len() {
            let rest = &buf[consumed..];
            if self.is_idle()
                && let Some(length) = plain_value(rest)
            {
                (self.searched, self.push) = (0, false);
                consumed += length;
                completed += 1;
                whole = consumed;
                continue;
            }
            if (self.is_idle() && rest[0] == b'>') || (!self.is_idle() && self.push) {
                break;
            }
            let begins_error = self.is_idle() && matches!(rest[0], b'-' | b'!');
            match self.advance(rest) {
                Ok(Progress { consumed: more, complete }) => {
                    if begins_error && more > 0 {
                        on_error(completed, consumed);
                    }
                    consumed += more;
                    if !complete {
                        break;
                    }
                    completed += 1;
                    whole = consumed;
                }
                Err(error) if consumed == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Advanced { consumed, completed, whole, strings })
    }

    /// Consumes the first of these replies, as long as they are found strings.
    #[inline]
    fn take_strings(&mut self, buf: &[u8], most: usize) -> Strings {
        let mut strings = Strings::default();
        while strings.count < most
            && self.is_idle()
            && let Some(length) = found(&buf[strings.end..])
        {
            strings = Strings { count: strings.count + 1, end: strings.end + length };
            (self.searched, self.push) = (0, false);
        }
        strings
    }

    /// One piece of payload, or one line; `None` if there is too little.
    fn step(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        if self.payload > 0 {
            return self.take_payload(buf);
        }
        if self.text {
            return Ok(self.take_text(buf));
        }
        if let Some(length) = plain_value(buf) {
            self.begin(buf[0]);
            self.close_value();
            return Ok(Some(length));
        }
        let Some(&kind) = buf.first() else { return Ok(None) };
        if matches!(kind, b'+' | b'-') && buf.len() > MAX_LINE && line_end(&buf[..MAX_LINE], 0).is_none() {
            self.begin(kind);
            self.text = true;
            return Ok(self.take_text(buf));
        }
        let (head, length) = match self.head(kind, buf)? {
            Some(found) => found,
            None => return Ok(None),
        };
        self.begin(kind);
        match head {
            Head::Scalar => self.close_value(),
            Head::Payload(bytes) => self.payload = bytes,
            Head::Aggregate(elements) => self.open.push(elements),
        }
        Ok(Some(length))
    }

    /// A head of this kind is whole.
    #[inline]
    fn begin(&mut self, kind: u8) {
        self.searched = 0;
        if self.open.is_empty() {
            self.push = kind == b'>';
        }
    }

    /// What there is of a text that ends with the next CRLF.
    fn take_text(&mut self, buf: &[u8]) -> Option<usize> {
        let taken = match line_end(buf, 0) {
            Some(end) => {
                self.text = false;
                self.close_value();
                end + 2
            }
            // A CR may be the end's.
            None => buf.strip_suffix(b"\r").unwrap_or(buf).len(),
        };
        (taken > 0).then_some(taken)
    }

    fn take_payload(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let text = (self.payload.saturating_sub(2)).min(buf.len() as u64) as usize;
        self.payload -= text as u64;
        let mut taken = text;
        for (&byte, expected) in buf[text..].iter().zip(&b"\r\n"[2 - self.payload.min(2) as usize..]) {
            if byte != *expected {
                // What is before it may go; the next call then begins here.
                return if taken > 0 { Ok(Some(taken)) } else { Err(ProtocolError::ExpectedCrlf) };
            }
            taken += 1;
            self.payload -= 1;
        }
        if self.payload == 0 {
            self.close_value();
        }
        Ok((taken > 0).then_some(taken))
    }

    /// A value has ended, and with it perhaps the aggregates that it was the last element of.
    fn close_value(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
    }

    /// The head at `buf[0]` and its length, once its line is whole.
    fn head(&mut self, kind: u8, buf: &[u8]) -> Result<Option<(Head, usize)>, ProtocolError> {
        if !matches!(
            kind,
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' | b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|'
        ) {
            return Err(ProtocolError::UnexpectedType(kind));
        }
        let Some((mut head, length)) = self.whole_head(kind, buf)? else { return Ok(None) };
        if kind == b'>' && !self.open.is_empty() {
            // The value that follows it stands with it in the place of one.
            head = match head {
                Head::Aggregate(elements) => Head::Aggregate(elements.saturating_add(1)),
                _ => Head::Aggregate(1),
            };
        }
        if matches!(head, Head::Aggregate(_)) && self.open.len() >= self.max_depth {
            return Err(ProtocolError::TooDeep);
        }
        Ok(Some((head, length)))
    }

    fn whole_head(&mut self, kind: u8, buf: &[u8]) -> Result<Option<(Head, usize)>, ProtocolError> {
        if matches!(kind, b'$' | b'*' | b'%' | b'~')
            && let Some((length, next)) = number::plain_line(buf, 1)
        {
            let head = sized(kind, length.into()).ok_or(ProtocolError::InvalidReplyLength)?;
            return Ok(Some((head, next)));
        }
        let Some(end) = self.line(buf)? else { return Ok(None) };
        Ok(Some((head(kind, &buf[1..end])?, end + 2)))
    }

    /// Where the CRLF of the line at `buf[0]` is. A CR or LF alone is a byte like others.
    fn line(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched;
        let end = line_end(buf, from);
        self.searched = end.unwrap_or(buf.len());
        if end.unwrap_or_else(|| buf.strip_suffix(b"\r").unwrap_or(buf).len()) > MAX_LINE {
            return Err(ProtocolError::ReplyLineTooLong);
        }
        Ok(end)
    }
}

/// Where the first CRLF is whose LF is at `from` or later.
pub(super) fn line_end(buf: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', &buf[from..])
        .map(|offset| from + offset)
        .find(|&lf| lf > 0 && buf[lf - 1] == b'\r')
        .map(|lf| lf - 1)
}

/// The length of the value at `buf[0]`, if it is whole and of the kinds that most are.
#[inline]
pub(super) fn plain_value(buf: &[u8]) -> Option<usize> {
    match buf {
        [b'$', b'0'..=b'9', ..] => {
            let (length, start) = number::plain_line(buf, 1)?;
            let end = start + length as usize;
            (buf.get(end..end + 2)? == b"\r\n").then_some(end + 2)
        }
        [b':', ..] => number::plain_line(buf, 1).map(|(_, next)| next),
        [b'+', b'O', b'K', b'\r', b'\n', ..] => Some(5),
        [b'$', b'-', b'1', b'\r', b'\n', ..] => Some(5),
        [b'_', b'\r', b'\n', ..] => Some(3),
        _ => None,
    }
}

/// What the line `text` of type `kind` begins.
fn head(kind: u8, text: &[u8]) -> Result<Head, ProtocolError> {
    let scalar = |well_formed: bool| match well_formed {
        true => Ok(Head::Scalar),
        false => Err(ProtocolError::MalformedLine(kind)),
    };
    match kind {
        b'+' | b'-' => Ok(Head::Scalar),
        b':' => scalar(is_integer(text)),
        b'_' => scalar(text.is_empty()),
        b'#' => scalar(matches!(text, b"t" | b"f")),
        b',' => scalar(is_double(text)),
        b'(' => scalar(is_big_number(text)),
        b'$' | b'*' if text == b"-1" => Ok(Head::Scalar),
        _ => {
            let length = number::parse(text).and_then(|length| u64::try_from(length).ok());
            length.and_then(|length| sized(kind, length)).ok_or(ProtocolError::InvalidReplyLength)
        }
    }
}

fn sized(kind: u8, length: u64) -> Option<Head> {
    Some(match kind {
        b'=' if length < 4 => return None,
        b'$' | b'!' | b'=' => Head::Payload(length + 2),
        // An attribute's pairs and the value that they belong to stand together in the place of one value.
        b'|' => Head::Aggregate(length.checked_mul(2)?.checked_add(1)?),
        _ if length == 0 => Head::Scalar,
        b'%' => Head::Aggregate(length.checked_mul(2)?),
        _ => Head::Aggregate(length),
    })
}

fn is_integer(text: &[u8]) -> bool {
    number::parse(text.strip_prefix(b"+").unwrap_or(text)).is_some()
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_double(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}
