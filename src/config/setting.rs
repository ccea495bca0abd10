//! One key's value as written: what TOML says, the place where it says so, and what it was to mean.
//!
//! serde stops at the first value of a wrong type. A [`Setting`] therefore accepts every TOML value and keeps the
//! problem beside the place, so that all problems of a file are told at once.

use super::Origin;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;
use std::borrow::Cow;

/// A value of the TOML file, before anybody asks what it means.
#[derive(Clone, Debug)]
pub enum Raw {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// An array, each element with its place.
    Array(Vec<Spanned<Raw>>),
    /// A table or a date; no key wants one.
    Table,
}

impl Raw {
    /// How an error message calls this type.
    pub fn kind(&self) -> &'static str {
        match self {
            Raw::String(_) => "a string",
            Raw::Integer(_) => "an integer",
            Raw::Float(_) => "a float",
            Raw::Boolean(_) => "a boolean",
            Raw::Array(_) => "an array",
            Raw::Table => "a table or a date",
        }
    }
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Lower-case, one fact.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// Where, if it is only a part of the value.
    pub origin: Option<Origin>,
}

impl Problem {
    /// A problem of the whole value.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), origin: None }
    }

    /// `expected` should stand here and `found` does.
    pub fn wrong_type(expected: &str, found: &Raw, hint: impl Into<String>) -> Self {
        Self::new(format!("expected {expected}, found {}", found.kind()), hint)
    }
}

/// A type that a key's value can be read as.
pub trait FromToml: Sized {
    /// The value, or what is wrong with it.
    fn from_toml(raw: Raw) -> Result<Self, Problem>;

    /// How the JSON schema describes it.
    fn schema() -> serde_json::Value;
}

/// A key's value and its place; the value may be a problem.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    /// Where the value stands.
    pub origin: Origin,
    /// What it means.
    pub value: Result<T, Problem>,
}

/// A value with its place; an empty one where it is a default.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// Where the value stands.
    pub origin: Origin,
    /// The value.
    pub value: T,
}

impl<T: FromToml> Setting<T> {
    fn from_spanned(raw: Spanned<Raw>) -> Self {
        Self { origin: Origin(raw.span()), value: T::from_toml(raw.into_inner()) }
    }
}

impl<'de, T: FromToml> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<Raw>::deserialize(deserializer).map(Self::from_spanned)
    }
}

impl<T: FromToml> JsonSchema for Setting<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Setting".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(T::schema()).expect("every key's schema is an object")
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a TOML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    /// TOML's own integers end at `i64::MAX`; the largest stands for everything above, which no key accepts.
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(if value < 0 { i64::MIN } else { i64::MAX }))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Integer(i64::MAX))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Raw, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Raw::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        while entries.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Raw::Table)
    }
}

impl FromToml for String {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::String(text) => Ok(text),
            other => Err(Problem::wrong_type("a string", &other, "put it in quotes")),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string" })
    }
}

impl FromToml for bool {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::Boolean(value) => Ok(value),
            other => Err(Problem::wrong_type("a boolean", &other, "write true or false")),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }
}

/// A factor, with or without a point.
impl FromToml for f64 {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::Float(value) if value.is_finite() => Ok(value),
            Raw::Integer(value) => Ok(value as f64),
            other => Err(Problem::wrong_type("a number", &other, "write it without quotes, as in 1.0")),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "number", "minimum": 0 })
    }
}

/// A whole number of things.
impl FromToml for usize {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::Integer(value) => usize::try_from(value)
                .map_err(|_| Problem::new("a number of things is never negative", "write 0 or more")),
            other => Err(Problem::wrong_type("a whole number", &other, "write it without quotes, as in 16")),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "integer", "minimum": 0 })
    }
}

impl<T: FromToml> FromToml for Vec<At<T>> {
    fn from_toml(raw: Raw) -> Result<Self, Problem> {
        match raw {
            Raw::Array(elements) => elements.into_iter().map(read_element).collect(),
            Raw::String(text) => Err(Problem::new("expected an array, found a string", format!("write [{text:?}]"))),
            other => Err(Problem::wrong_type("an array of strings", &other, "write it in brackets")),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "array", "items": T::schema() })
    }
}

fn read_element<T: FromToml>(element: Spanned<Raw>) -> Result<At<T>, Problem> {
    let Setting { origin, value } = Setting::<T>::from_spanned(element);
    match value {
        Ok(value) => Ok(At { origin, value }),
        Err(problem) => Err(Problem { origin: Some(origin), ..problem }),
    }
}
