//! Durations: `"250ms" "5s" "10m" "1h" "7d"`, a whole number and one unit.

use super::setting::{FromToml, Problem, Raw};
use std::time::Duration;

/// The units, and how many milliseconds each is.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// No key's meaning reaches further; keeps sums of durations far from overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The duration that `text` writes; the error says what is wrong and what to write.
pub fn parse(text: &str) -> Result<Duration, Problem> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (Some(factor), Ok(number)) = (factor, number.parse::<u64>()) else {
        return Err(Problem::new(format!("`{text}` is no duration"), hint(text)));
    };
    let duration = number.checked_mul(factor).map(Duration::from_millis).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| Problem::new(format!("`{text}` is too long"), "write at most \"3650d\""))
}

/// As the file would write it: the largest unit that leaves no rest.
pub fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)) && millis > 0);
    match unit {
        Some((name, factor)) => format!("{}{name}", millis / u128::from(*factor)),
        None => "0s".into(),
    }
}

/// For people: at most two decimals of the largest unit that is not too large, as in `4.5m`.
pub fn show_rounded(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    let (name, factor) = UNITS.iter().find(|(_, factor)| *factor as f64 <= millis).unwrap_or(&("ms", 1));
    format!("{}{name}", (millis / *factor as f64 * 100.0).round() / 100.0)
}

/// A guess at what was meant: `5 minutes`, `1.5h`, `300`.
fn hint(text: &str) -> String {
    let units = "write a whole number and one of ms, s, m, h, d, as in \"5m\"";
    let trimmed = text.trim();
    let number_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, word) = trimmed.split_at(number_end);
    if word.is_empty() && number.parse::<u64>().is_ok() {
        return format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds");
    }
    let (Ok(number), Some(factor)) = (number.parse::<f64>(), meant_unit(word.trim())) else { return units.into() };
    let millis = number * factor as f64;
    if millis.fract() != 0.0 || millis > LONGEST.as_millis() as f64 {
        return units.into();
    }
    format!("write {:?}", show(Duration::from_millis(millis as u64)))
}

fn meant_unit(word: &str) -> Option<u64> {
    let word = word.to_ascii_lowercase();
    let singular = word.strip_suffix('s').filter(|rest| rest.len() > 1).unwrap_or(&word);
    let name = match singular {
        "ms" | "msec" | "milli" | "millisecond" => "ms",
        "s" | "sec" | "second" => "s",
        "m" | "min" | "minute" => "m",
        "h" | "hr" | "hour" => "h",
        "d" | "day" => "d",
        "" => "s",
        _ => return None,
    };
    UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

impl FromToml for Duration {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::String(text) => parse(&text),
            Raw::Integer(number) => Err(Problem::new("a duration needs a unit", hint(&number.to_string()))),
            Raw::Float(number) => Err(Problem::new("a duration needs a unit", hint(&number.to_string()))),
            other => Err(Problem::wrong_type("a duration", &other, hint(""))),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "examples": ["250ms", "5s", "10m", "1h", "7d"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_and_a_unit_is_a_duration() {
        let cases =
            [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis));
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
        assert_eq!(show(Duration::from_millis(90_000)), "90s");
        assert_eq!(show_rounded(Duration::from_secs(270)), "4.5m");
        assert_eq!(show_rounded(Duration::from_micros(500)), "0.5ms");
    }

    #[test]
    fn what_is_no_duration_says_what_to_write() {
        let general = "write a whole number and one of ms, s, m, h, d, as in \"5m\"";
        let cases = [
            ("5 minutes", "write \"5m\""),
            ("1.5h", "write \"90m\""),
            ("300", "write \"300s\" for seconds, \"300ms\" for milliseconds"),
            ("10 SECS", "write \"10s\""),
            ("2weeks", general),
            ("", general),
            ("-5s", general),
            ("1h30m", general),
            ("0.0001s", general),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().hint, expected, "{text}");
        }
        assert_eq!(parse("3651d").unwrap_err().message, "`3651d` is too long");
        assert_eq!(parse("99999999999999999d").unwrap_err().message, "`99999999999999999d` is too long");
    }
}
