//! Integers as Redis reads them: the one canonical decimal form, and nothing else.

/// The number, if `text` is exactly how it would be printed: no sign but `-`, no leading zeros, no spaces.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude = 0u64;
    for digit in digits {
        magnitude = magnitude * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_canonical_integers_only() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN, -9_000_000_000_000_000_000] {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1a",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "1.0",
            "--1",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
