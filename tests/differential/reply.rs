//! What stands on the wire, frame by frame: read here without the help of `src/`, which is what is being tested.

/// One frame. Its payload is a line or a blob; a container has elements instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reply {
    /// Its first byte; `n` or `N` for what is no blob (`$-1`) and no array (`*-1`).
    pub kind: u8,
    /// Its line, or its blob. Of a container: the count, as written.
    pub text: Vec<u8>,
    /// What is in it; keys and values of a map in turn.
    pub elements: Vec<Reply>,
}

impl Reply {
    /// The frame that these bytes are.
    pub fn of(frame: &[u8]) -> Option<Reply> {
        match parse(frame, 0) {
            Ok(Some((reply, end))) if end == frame.len() => Some(reply),
            _ => None,
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self.kind, b'-' | b'!')
    }

    pub fn is_push(&self) -> bool {
        self.kind == b'>'
    }

    pub fn is_container(&self) -> bool {
        matches!(self.kind, b'*' | b'%' | b'~' | b'>' | b'|')
    }
}

/// These bytes are no RESP.
#[derive(Debug)]
pub struct Garbage;

/// Where the first frame of `bytes` ends; `None` if it is not whole yet.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Garbage> {
    // Most frames are one line, and need no tree.
    if let Some(b'+' | b'-' | b':') = bytes.first() {
        return Ok(line(bytes, 0).map(|(_, end)| end));
    }
    Ok(parse(bytes, 0)?.map(|(_, end)| end))
}

/// The line that begins at `at`, and where the next one does.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let length = memchr::memmem::find(&bytes[at..], b"\r\n")?;
    Some((&bytes[at..at + length], at + length + 2))
}

fn parse(bytes: &[u8], at: usize) -> Result<Option<(Reply, usize)>, Garbage> {
    let Some((line, mut end)) = line(bytes, at) else { return Ok(None) };
    let (&kind, text) = line.split_first().ok_or(Garbage)?;
    let mut reply = Reply { kind, text: text.to_vec(), elements: Vec::new() };
    match kind {
        b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => {}
        b'$' if text == b"-1" => reply.kind = b'n',
        b'*' if text == b"-1" => reply.kind = b'N',
        b'$' | b'=' | b'!' => {
            let (start, length) = (end, count(text)?);
            end = start + length + 2;
            let Some(blob) = bytes.get(start..end) else { return Ok(None) };
            reply.text = blob.strip_suffix(b"\r\n").ok_or(Garbage)?.to_vec();
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let factor = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            for _ in 0..count(text)? * factor {
                let Some((element, next)) = parse(bytes, end)? else { return Ok(None) };
                reply.elements.push(element);
                end = next;
            }
        }
        _ => return Err(Garbage),
    }
    Ok(Some((reply, end)))
}

fn count(text: &[u8]) -> Result<usize, Garbage> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|count| *count < 1 << 30).ok_or(Garbage)
}
