//! Sizes: `"64MiB"`, a whole number and one of B, KiB, MiB, GiB.

use super::setting::{FromToml, Problem, Raw};

/// The units, and how many bytes each is.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

/// The size that `text` writes; the error says what is wrong and what to write.
pub fn parse(text: &str) -> Result<Size, Problem> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (Some(factor), Ok(number)) = (factor, number.parse::<u64>()) else {
        return Err(Problem::new(format!("`{text}` is no size"), hint(text)));
    };
    let bytes = number.checked_mul(factor).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.map(Size).ok_or_else(|| Problem::new(format!("`{text}` is too large"), "write at most \"1024GiB\""))
}

/// As the file would write it: the largest unit that leaves no rest.
pub fn show(bytes: usize) -> String {
    let bytes = bytes as u64;
    match UNITS.iter().find(|(_, factor)| bytes.is_multiple_of(*factor) && bytes > 0) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => "0B".into(),
    }
}

/// A guess at what was meant: `64MB`, `64 mib`, `1.5GiB`, `1048576`.
fn hint(text: &str) -> String {
    let units = "write a whole number and one of B, KiB, MiB, GiB, as in \"64MiB\"";
    let trimmed = text.trim();
    let number_end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, word) = trimmed.split_at(number_end);
    let (Ok(number), Some(factor)) = (number.parse::<f64>(), meant_unit(word.trim())) else { return units.into() };
    let bytes = number * factor as f64;
    if bytes.fract() != 0.0 || bytes > u64::MAX as f64 / 2.0 {
        return units.into();
    }
    format!("write {:?}", show(bytes as usize))
}

fn meant_unit(word: &str) -> Option<u64> {
    let word = word.to_ascii_lowercase();
    let name = match word.as_str() {
        "" | "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

impl FromToml for Size {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::String(text) => parse(&text),
            Raw::Integer(number) => Err(Problem::new("a size needs a unit", hint(&number.to_string()))),
            Raw::Float(number) => Err(Problem::new("a size needs a unit", hint(&number.to_string()))),
            other => Err(Problem::wrong_type("a size", &other, hint("x"))),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "string",
            "pattern": "^[0-9]+(B|KiB|MiB|GiB)$",
            "examples": ["16KiB", "64MiB", "1GiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_and_a_unit_is_a_size() {
        for (text, bytes) in [("7B", 7), ("16KiB", 16 << 10), ("64MiB", 64 << 20), ("2GiB", 2 << 30), ("0B", 0)] {
            assert_eq!(parse(text).unwrap(), Size(bytes));
            assert_eq!(show(bytes), text);
        }
    }

    #[test]
    fn what_is_no_size_says_what_to_write() {
        let general = "write a whole number and one of B, KiB, MiB, GiB, as in \"64MiB\"";
        let cases = [
            ("64MB", "write \"64MiB\""),
            ("64 mib", "write \"64MiB\""),
            ("1.5GiB", "write \"1536MiB\""),
            ("1048576", "write \"1MiB\""),
            ("64TiB", general),
            ("", general),
            ("-1B", general),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().hint, expected, "{text}");
        }
        assert_eq!(parse("99999999999999GiB").unwrap_err().message, "`99999999999999GiB` is too large");
    }
}
