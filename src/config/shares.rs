//! Shares: `"10%"`, from 0 % to 100 %.

use super::setting::{FromToml, Problem, Raw};

/// A share of a whole, 1 being all of it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// The share that `text` writes; the error says what is wrong and what to write.
pub fn parse(text: &str) -> Result<Share, Problem> {
    let plain = |number: &&str| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text.strip_suffix('%').filter(plain).and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(percent) if percent <= 100.0 => Ok(Share(percent / 100.0)),
        Some(_) => Err(Problem::new(format!("`{text}` is more than the whole"), "write a share up to \"100%\"")),
        None => Err(Problem::new(format!("`{text}` is no share"), hint(text.trim().parse().ok()))),
    }
}

/// As the file would write it.
pub fn show(share: f64) -> String {
    format!("{}%", (share * 1e6).round() / 1e4)
}

/// A number below 1 was meant as a share of 1, others as percent.
fn hint(number: Option<f64>) -> String {
    match number {
        Some(number) if number > 0.0 && number < 1.0 => format!("write {:?}", show(number)),
        Some(number) if (0.0..=100.0).contains(&number) => format!("write \"{number}%\""),
        _ => "write it in percent, as in \"10%\"".into(),
    }
}

impl FromToml for Share {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::String(text) => parse(&text),
            Raw::Integer(number) => Err(Problem::new("a share needs its %", hint(Some(number as f64)))),
            Raw::Float(number) => Err(Problem::new("a share needs its %", hint(Some(number)))),
            other => Err(Problem::wrong_type("a share", &other, hint(None))),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%$", "examples": ["10%", "2.5%"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent() {
        for (text, share) in [("10%", 0.1), ("0%", 0.0), ("2.5%", 0.025), ("100%", 1.0)] {
            assert_eq!(parse(text).unwrap(), Share(share));
            assert_eq!(show(share), text);
        }
    }

    #[test]
    fn what_is_no_share_says_what_to_write() {
        let cases = [
            ("0.1", "write \"10%\""),
            ("10", "write \"10%\""),
            ("10 %", "write it in percent, as in \"10%\""),
            ("ten", "write it in percent, as in \"10%\""),
            ("101%", "write a share up to \"100%\""),
            ("-1%", "write it in percent, as in \"10%\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().hint, expected, "{text}");
        }
    }
}
