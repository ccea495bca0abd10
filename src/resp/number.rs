//! Numbers as Redis reads them on the wire: no plus, no leading zero, no space, within 64 bits.

/// A decimal number that is the whole of `text`.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude = 0u64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        // 19 digits cannot pass 64 bits without a sign.
        magnitude = magnitude * 10 + u64::from(byte - b'0');
    }
    match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    }
}

/// The number that starts at `at` and ends in CRLF, and where the next line begins; `None` for whatever is not the
/// plain case (up to nine digits, whole), which the caller then looks at with care.
#[inline]
pub(crate) fn plain_line(buf: &[u8], at: usize) -> Option<(u32, usize)> {
    let line = buf.get(at..)?;
    match line.first_chunk()? {
        [ones, b'\r', b'\n'] => Some((digit(*ones)?, at + 3)),
        [tens, ones, b'\r'] if line.get(3) == Some(&b'\n') && *tens != b'0' => {
            Some((digit(*tens)? * 10 + digit(*ones)?, at + 4))
        }
        _ => longer_line(line).map(|(number, length)| (number, at + length)),
    }
}

fn longer_line(line: &[u8]) -> Option<(u32, usize)> {
    let mut number = digit(*line.first()?)?;
    let mut length = 1;
    loop {
        match line.get(length)? {
            b'\r' if line.get(length + 1) == Some(&b'\n') => return Some((number, length + 2)),
            _ if length == 9 || number == 0 => return None,
            &byte => number = number * 10 + digit(byte)?,
        }
        length += 1;
    }
}

#[inline]
fn digit(byte: u8) -> Option<u32> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(u32::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_redis_wants_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn the_plain_line_agrees_with_the_careful_one() {
        for number in [0u32, 1, 9, 10, 123, 99_999_999, 999_999_999] {
            let line = format!("${number}\r\nx");
            assert_eq!(plain_line(line.as_bytes(), 1), Some((number, line.len() - 1)));
        }
        for line in ["", "1", "1\r", "01\r\n", "1\n", "1\rx", "-1\r\n", "1234567890\r\n", "x\r\n", "\r\n"] {
            assert_eq!(plain_line(line.as_bytes(), 0), None, "{line:?}");
        }
    }
}
