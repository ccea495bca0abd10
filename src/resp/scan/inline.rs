//! The telnet style: one line, its arguments parted by spaces, with Redis's rules for quotes.
//!
//! `"…"` knows `\xHH`, `\n` and its like; `'…'` knows only `\'`; a closing quote must be followed by a space or the
//! end; a zero byte ends the line, as it ends every C string. `tests/resp_redis/wire.rs` compares with a Redis server.

use crate::resp::args::Span;
use crate::resp::error::ProtocolError;

/// Appends the arguments of `line` to `out`, and where each lies in it to `spans`.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`].
pub(super) fn split(line: &[u8], out: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let line = &line[..line.iter().position(|&byte| byte == 0).unwrap_or(line.len())];
    let mut rest = skip_spaces(line);
    while !rest.is_empty() {
        let start = out.len() as u32;
        rest = skip_spaces(argument(rest, out)?);
        spans.push(Span { start, end: out.len() as u32 });
    }
    Ok(())
}

/// One argument, which may have quoted parts; answers what follows it.
fn argument<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', quoted @ ..] => return closed(double(quoted, out)?),
            [b'\'', quoted @ ..] => return closed(single(quoted, out)?),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn closed(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        out.push(byte);
        rest = tail;
    }
}

fn single<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [b'\'', tail @ ..] => return Ok(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        out.push(byte);
        rest = tail;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn skip_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|&&byte| is_space(byte)).count();
    &line[spaces..]
}

/// C's isspace: Rust's has no vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
