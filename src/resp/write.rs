//! Writes replies and commands. Each function but [`whole_command`] appends one frame, or the head of one, to a buffer that the caller
//! sends with the rest of its wake-up's bytes.

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// What every client speaks until it says HELLO 3.
    #[default]
    Resp2,
    /// With maps, sets, doubles and one nil.
    Resp3,
}

/// A frame takes no more than so around its payload: a byte, 19 digits, and CR LF twice.
pub const AROUND: usize = 24;

/// `+text`. No CR or LF in it.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']));
    line(out, b'+', text.as_bytes());
}

/// `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-text`; the text starts with its prefix (`ERR …`). CR and LF become spaces, so that a client's own bytes in an
/// error can never end the frame.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    out.push(b'-');
    out.extend(text.as_ref().iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// `:number`.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    head(out, b':', number);
}

/// `$length payload`.
pub fn bulk(out: &mut Vec<u8>, payload: impl AsRef<[u8]>) {
    let payload = payload.as_ref();
    let length = payload.len();
    out.reserve(length + AROUND);
    let digit = |place: usize| b'0' + (length / place % 10) as u8;
    match length {
        // Most values of a cache are so short; their heads are stored as they are put together.
        0..10 => out.extend_from_slice(&[b'$', digit(1), b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[b'$', digit(10), digit(1), b'\r', b'\n']),
        100..1000 => out.extend_from_slice(&[b'$', digit(100), digit(10), digit(1), b'\r', b'\n']),
        _ => head(out, b'$', length as i64),
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The same of a payload that stands in parts.
pub fn bulk_of(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(length + AROUND);
    head(out, b'$', length as i64);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// The nil that stands for an absent value.
pub fn nil(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The nil that stands for an absent array (RESP2 has two nils).
pub fn nil_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Head of an array of `length` elements, which follow.
pub fn array(out: &mut Vec<u8>, length: usize) {
    head(out, b'*', length as i64);
}

/// Head of a map of `pairs`, each a key and a value; a flat array in RESP2.
pub fn map(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', 2 * pairs as i64),
        Protocol::Resp3 => head(out, b'%', pairs as i64),
    }
}

/// Head of a set of `length` members; an array in RESP2.
pub fn set(out: &mut Vec<u8>, protocol: Protocol, length: usize) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', length as i64),
        Protocol::Resp3 => head(out, b'~', length as i64),
    }
}

/// A text for people, such as INFO's: verbatim in RESP3, a bulk string in RESP2.
pub fn verbatim(out: &mut Vec<u8>, protocol: Protocol, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => {
            head(out, b'=', text.len() as i64 + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A command as clients send it: an array of bulk strings.
pub fn command<T: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) {
    let arguments = arguments.into_iter();
    array(out, arguments.len());
    for argument in arguments {
        bulk(out, argument);
    }
}

/// One command by itself, in a buffer that need not grow.
pub fn whole_command<T: AsRef<[u8]>>(
    arguments: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator + Clone>,
) -> Vec<u8> {
    let arguments = arguments.into_iter();
    let length: usize = arguments.clone().map(|argument| argument.as_ref().len() + AROUND).sum();
    let mut out = Vec::with_capacity(AROUND + length);
    command(&mut out, arguments);
    out
}

fn head(out: &mut Vec<u8>, kind: u8, number: i64) {
    line(out, kind, itoa::Buffer::new().format(number).as_bytes());
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::bulk;

    #[test]
    fn a_bulk_string_of_every_length_says_its_length() {
        for length in [0, 1, 9, 10, 11, 64, 99, 100, 101, 999, 1000, 1001, 70_000] {
            let (payload, mut out) = (vec![b'v'; length], b"before".to_vec());
            bulk(&mut out, &payload);
            assert_eq!(out, [format!("before${length}\r\n").as_bytes(), &payload, b"\r\n"].concat());
        }
    }
}
