//! Key parts as bound parameters: always as text, which PostgreSQL itself reads as the parameter's type.

use crate::database::fits;
use bytes::BytesMut;
use std::error::Error;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

/// One bound parameter.
#[derive(Debug)]
pub(super) enum Bound {
    /// A key part, in PostgreSQL's text format for whichever type the parameter has.
    One(String),
    /// That part of every key of a batch, as `text[]`.
    Many(Vec<String>),
}

impl Bound {
    /// What to declare it as where the statement is not prepared beforehand; unknown: the server infers it.
    pub(super) fn declared(&self) -> Type {
        match self {
            Bound::One(_) => Type::UNKNOWN,
            Bound::Many(_) => Type::TEXT_ARRAY,
        }
    }
}

impl ToSql for Bound {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Bound::One(text) => text.to_sql(&Type::TEXT, out),
            Bound::Many(texts) => texts.to_sql(&Type::TEXT_ARRAY, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self {
            Bound::One(_) => Format::Text,
            Bound::Many(_) => Format::Binary,
        }
    }

    to_sql_checked!();
}

/// A parameter as the prepared statement has it.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) kind: Type,
    /// As SQL writes the type, to cast to it.
    pub(super) name: String,
}

impl Parameter {
    /// Whether `text` is one of the type's values. Of a type that is not checked everything passes, and the server
    /// decides.
    pub(super) fn fits(&self, text: &str) -> bool {
        !text.contains('\0') && check(&self.kind).is_none_or(|fits| fits(text))
    }

    /// Whether every text that fits is certainly one that the server takes.
    pub(super) fn is_checked(&self) -> bool {
        !matches!(self.kind.kind(), Kind::Domain(_)) && check(&self.kind).is_some()
    }
}

type Check<'a> = Box<dyn Fn(&str) -> bool + 'a>;

fn check(kind: &Type) -> Option<Check<'_>> {
    match kind.kind() {
        Kind::Domain(base) => return check(base),
        Kind::Enum(labels) => return Some(Box::new(|text| labels.iter().any(|label| label == text))),
        _ => {}
    }
    Some(match *kind {
        Type::INT2 => Box::new(|text| fits::integer(text, i16::MIN.into(), i16::MAX.into())),
        Type::INT4 => Box::new(|text| fits::integer(text, i32::MIN.into(), i32::MAX.into())),
        Type::INT8 => Box::new(|text| fits::integer(text, i64::MIN, i64::MAX)),
        Type::OID => Box::new(|text| fits::integer(text, 0, u32::MAX.into())),
        Type::NUMERIC => Box::new(fits::decimal),
        Type::FLOAT4 => Box::new(fits::float32),
        Type::FLOAT8 => Box::new(fits::float),
        Type::BOOL => Box::new(fits::boolean),
        Type::UUID => Box::new(fits::uuid),
        Type::DATE => Box::new(fits::date),
        Type::TIME => Box::new(fits::time),
        Type::TIMESTAMP => Box::new(fits::timestamp),
        Type::TIMESTAMPTZ => Box::new(fits::timestamp_with_zone),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Box::new(|_| true),
        _ if kind.name() == "citext" => Box::new(|_| true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(kind: Type) -> Parameter {
        Parameter { name: kind.name().to_owned(), kind }
    }

    #[test]
    fn only_texts_of_the_type_fit() {
        assert!(parameter(Type::INT2).fits("32767") && !parameter(Type::INT2).fits("32768"));
        assert!(parameter(Type::INT4).fits("32768") && !parameter(Type::INT4).fits("1;drop table x"));
        assert!(parameter(Type::TEXT).fits("'; DROP TABLE x; --") && !parameter(Type::TEXT).fits("a\0b"));
        let mood = Type::new("mood".into(), 1, Kind::Enum(vec!["sad".into()]), "public".into());
        assert!(parameter(mood.clone()).fits("sad") && !parameter(mood.clone()).fits("glad"));
        let domain = Type::new("d".into(), 2, Kind::Domain(mood), "public".into());
        assert!(!parameter(domain.clone()).fits("glad") && !parameter(domain).is_checked());
        assert!(parameter(Type::INET).fits("anything") && !parameter(Type::INET).is_checked());
    }
}
