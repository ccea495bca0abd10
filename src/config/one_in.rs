//! How often something is done by chance: once in so many times, as in `1000`; `0` is never.

use super::setting::{FromToml, Problem, Raw};

/// Once in so many times; 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneIn(pub u32);

/// Less often is never.
const MOST: u32 = 1_000_000_000;
const HINT: &str = "write the number of which one is taken, as in 1000; 0 for none";

impl FromToml for OneIn {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::Integer(number) => match u32::try_from(number) {
                Ok(number) if number <= MOST => Ok(OneIn(number)),
                _ => Err(Problem::new(format!("{number} is not from 0 to {MOST}"), HINT)),
            },
            other => Err(Problem::wrong_type("a whole number", &other, HINT)),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "integer", "minimum": 0, "maximum": MOST })
    }
}
