//! Whether a key part is the text of a value of some type, written the one way that such a value is written.
//!
//! Stricter than the databases: `+1`, ` 1` and `01` read as 1 there, but then several keys would name one row, and
//! an invalidation of one would leave the others stale.

/// Decimal digits of an integer in `[least, most]`, without `+`, spaces or leading zeros.
pub(super) fn integer(text: &str, least: i64, most: i64) -> bool {
    text.parse::<i64>().is_ok_and(|value| {
        let mut buffer = itoa::Buffer::new();
        buffer.format(value) == text && (least..=most).contains(&value)
    })
}

/// `-12.50`: no exponent, no leading zeros, at most 1,000 digits.
pub(super) fn decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 1000 && plain(whole) && plain(fraction) && (whole == "0" || !whole.starts_with('0'))
}

/// A finite decimal number that a 64-bit float can come near.
pub(super) fn float(text: &str) -> bool {
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'e' | b'E' | b'+'));
    plain
        && !text.starts_with('+')
        && text.parse::<f64>().is_ok_and(|value| value.is_finite() && !vanished(text, value))
}

/// The same for 32 bits.
pub(super) fn float32(text: &str) -> bool {
    float(text) && text.parse::<f32>().is_ok_and(|value| value.is_finite() && !vanished(text, f64::from(value)))
}

/// Too small to be told from zero, which PostgreSQL calls out of range.
fn vanished(text: &str, value: f64) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// The words that PostgreSQL prints and those that applications write.
pub(super) fn boolean(text: &str) -> bool {
    matches!(text, "true" | "false" | "t" | "f")
}

/// 8-4-4-4-12 hexadecimal digits.
pub(super) fn uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// `YYYY-MM-DD`, a day of the calendar.
pub(super) fn date(text: &str) -> bool {
    let Some((year, month, day)) = three(text, '-', [4, 2, 2]) else { return false };
    year >= 1 && (1..=12).contains(&month) && day >= 1 && day <= days(year, month)
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `HH:MM:SS` with up to six digits of a second's fraction.
pub(super) fn time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let exact = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    exact && three(whole, ':', [2, 2, 2]).is_some_and(|(hour, minute, second)| hour < 24 && minute < 60 && second < 60)
}

/// A date and a time, apart by a space or `T`.
pub(super) fn timestamp(text: &str) -> bool {
    text.split_once([' ', 'T']).is_some_and(|(day, clock)| date(day) && time(clock))
}

/// The same with `Z` or an offset `±HH`, `±HH:MM`.
pub(super) fn timestamp_with_zone(text: &str) -> bool {
    if let Some(instant) = text.strip_suffix('Z') {
        return timestamp(instant);
    }
    let Some(sign) = text.rfind(['+', '-']).filter(|sign| *sign > 10) else { return false };
    timestamp(&text[..sign]) && offset(&text[sign + 1..])
}

fn offset(text: &str) -> bool {
    let (hours, minutes) = text.split_once(':').unwrap_or((text, "00"));
    matches!((number(hours, 2), number(minutes, 2)), (Some(hours), Some(minutes)) if hours < 15 && minutes < 60)
}

fn three(text: &str, separator: char, widths: [usize; 3]) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(separator);
    let parsed =
        (number(parts.next()?, widths[0])?, number(parts.next()?, widths[1])?, number(parts.next()?, widths[2])?);
    parts.next().is_none().then_some(parsed)
}

fn number(text: &str, width: usize) -> Option<u32> {
    (text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(check: impl Fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert!(check(text), "{text} fits"));
        bad.iter().for_each(|text| assert!(!check(text), "{text:?} does not fit"));
    }

    #[test]
    fn integers_are_in_range_and_written_one_way() {
        let small = |text: &str| integer(text, i64::from(i16::MIN), i64::from(i16::MAX));
        holds(
            small,
            &["0", "-32768", "32767"],
            &["32768", "-32769", "+1", "01", "-0", " 1", "1 ", "", "-", "1.0", "abc", "1;drop table"],
        );
        let big = |text: &str| integer(text, i64::MIN, i64::MAX);
        holds(big, &["9223372036854775807", "-9223372036854775808"], &["9223372036854775808"]);
    }

    #[test]
    fn other_numbers_are_finite() {
        holds(decimal, &["0", "-0.50", "12345678901234567890.1"], &["1e5", "NaN", ".5", "5.", "00.1", "1.2.3", "--1"]);
        holds(float, &["1", "-1.5e-300", "0e9"], &["NaN", "inf", "1e400", "1e-400", "", "+1", "1_0"]);
        holds(float32, &["1e38"], &["1e39", "1e-60"]);
    }

    #[test]
    fn dates_and_times_exist() {
        holds(
            date,
            &["2024-02-29", "2000-02-29", "0001-01-01"],
            &["2023-02-29", "1900-02-29", "2024-13-01", "2024-1-1", "24-01-01", "today", "0000-01-01"],
        );
        holds(
            time,
            &["00:00:00", "23:59:59.999999"],
            &["24:00:00", "1:00:00", "00:00:60", "00:00:00.", "00:00:00.1234567"],
        );
        holds(
            timestamp,
            &["2024-01-31 12:00:00", "2024-01-31T12:00:00.5"],
            &["2024-01-31", "now", "2024-01-31  12:00:00"],
        );
        let zoned = ["2024-01-31T12:00:00Z", "2024-01-31 12:00:00+02", "2024-01-31 12:00:00.25-03:30"];
        holds(timestamp_with_zone, &zoned, &["2024-01-31 12:00:00", "2024-01-31 12:00:00+25", "2024-01-31"]);
    }

    #[test]
    fn uuids_have_hyphens() {
        let good = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        holds(
            uuid,
            &[good, &good.to_uppercase()],
            &["a0eebc999c0b4ef8bb6d6bb9bd380a11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", ""],
        );
    }
}
