//! Keys whose value is one of a few words.

use super::setting::{FromToml, Problem, Raw};
use super::{Encoding, OnModify, ReadFrom, Rows, WhenReplaced};

/// Reads one of `words`, or names them all.
fn read<T: Copy>(raw: Raw, words: &[(&str, T)]) -> Result<T, Problem> {
    let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
    let hint = format!("write one of {}", names.join(", "));
    match raw {
        Raw::String(text) => match words.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => Err(Problem::new(format!("`{text}` is none of the choices"), hint)),
        },
        other => Err(Problem::wrong_type("a string", &other, hint)),
    }
}

fn schema<T>(words: &[(&str, T)]) -> serde_json::Value {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    serde_json::json!({ "type": "string", "enum": names })
}

/// The word that stands for `value`.
fn word<T: PartialEq>(words: &'static [(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).expect("the table holds every variant").0
}

const ROWS: &[(&str, Rows)] = &[("one", Rows::One), ("many", Rows::Many)];
const ENCODING: &[(&str, Encoding)] =
    &[("json", Encoding::Json), ("msgpack", Encoding::MsgPack), ("hash", Encoding::Hash), ("text", Encoding::Text)];
const ON_MODIFY: &[(&str, OnModify)] =
    &[("load", OnModify::Load), ("pass", OnModify::Pass), ("reject", OnModify::Reject)];
const WHEN_REPLACED: &[(&str, WhenReplaced)] = &[("drop", WhenReplaced::Drop), ("keep", WhenReplaced::Keep)];
const READ_FROM: &[(&str, ReadFrom)] = &[("master", ReadFrom::Master), ("replica", ReadFrom::Replica)];

impl Rows {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        word(ROWS, self)
    }
}

impl WhenReplaced {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        word(WHEN_REPLACED, self)
    }
}

impl Encoding {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        word(ENCODING, self)
    }
}

impl OnModify {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        word(ON_MODIFY, self)
    }
}

impl FromToml for Rows {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        read(raw, ROWS)
    }

    fn schema() -> serde_json::Value {
        schema(ROWS)
    }
}

impl FromToml for Encoding {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        read(raw, ENCODING)
    }

    fn schema() -> serde_json::Value {
        schema(ENCODING)
    }
}

impl FromToml for ReadFrom {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        read(raw, READ_FROM)
    }

    fn schema() -> serde_json::Value {
        schema(READ_FROM)
    }
}

impl FromToml for WhenReplaced {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        read(raw, WHEN_REPLACED)
    }

    fn schema() -> serde_json::Value {
        schema(WHEN_REPLACED)
    }
}

impl FromToml for OnModify {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        read(raw, ON_MODIFY)
    }

    fn schema() -> serde_json::Value {
        schema(ON_MODIFY)
    }
}
