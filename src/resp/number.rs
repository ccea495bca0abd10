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

/// All digits at once, where eight bytes can be read; they are counted by the first byte that is none.
fn longer_line(line: &[u8]) -> Option<(u32, usize)> {
    let Some((first, [ninth, tenth, ..])) = line.split_first_chunk() else { return shorter_line(line) };
    let digits = u64::from_le_bytes(*first) ^ ASCII_ZEROS;
    let count = (others(digits).trailing_zeros() / 8) as usize;
    if count == 8 {
        // Such are the milliseconds of a day.
        let is_plain = *ninth == b'\r' && *tenth == b'\n' && first[0] != b'0';
        return if is_plain { Some((eight_digits(digits), 10)) } else { shorter_line(line) };
    }
    let ends = line[count] == b'\r' && line[count + 1] == b'\n';
    let is_plain = ends && count > 0 && (first[0] != b'0' || count == 1);
    is_plain.then(|| (eight_digits(digits << (64 - 8 * count)), count + 2))
}

const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The high bit of each byte that is above 9.
#[inline]
fn others(bytes: u64) -> u64 {
    (((bytes & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | bytes) & 0x8080_8080_8080_8080
}

/// The number of eight digits, the first in the lowest byte, each from 0 to 9. Pairs are joined, then pairs of pairs: see
/// Lemire, "Number Parsing at a Gigabyte per Second", 2021.
#[inline]
fn eight_digits(digits: u64) -> u32 {
    const EVERY_FOURTH: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & EVERY_FOURTH).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & EVERY_FOURTH).wrapping_mul(1 + (10_000 << 32));
    (high.wrapping_add(low) >> 32) as u32
}

fn shorter_line(line: &[u8]) -> Option<(u32, usize)> {
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
        let powers = (0..10).map(|digits| 10u32.pow(digits));
        for number in powers.flat_map(|power| [power - 1, power, power / 7 * 9]).chain([123, 12_345_678, 987_654_321]) {
            for behind in ["", "x", "$123456789012345678"] {
                let line = format!("${number}\r\n{behind}");
                let end = line.len() - behind.len();
                let expected = (number <= 999_999_999).then_some((number, end));
                assert_eq!(plain_line(line.as_bytes(), 1), expected, "{line:?}");
            }
        }
        for at in 0..=7 {
            for byte in 0..=255u8 {
                let mut line = *b"1234567\r\n12345";
                line[at] = byte;
                let end = line.windows(2).position(|pair| pair == b"\r\n");
                let careful =
                    end.and_then(|end| Some((parse(&line[..end]).filter(|number| *number >= 0)? as u32, end + 2)));
                assert_eq!(plain_line(&line, 0), careful, "{:?}", line.escape_ascii().to_string());
            }
        }
        for line in
            ["", "1", "1\r", "01\r\n", "01234567\r\n", "1\n", "1\rx", "-1\r\n", "1234567890\r\n", "x\r\n", "\r\n"]
        {
            assert_eq!(plain_line(line.as_bytes(), 0), None, "{line:?}");
        }
    }
}
