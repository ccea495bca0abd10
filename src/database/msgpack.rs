//! Cells and JSON documents as MessagePack.
//!
//! A JSON document becomes maps, arrays, strings, booleans and nil of the same shape. Its numbers: what fits 64
//! bits is an int; others are a float64 where that says exactly the digits written, and else a str with those
//! digits, so that nothing is ever rounded silently. Documents nest at most 128 deep.

use super::DatabaseError;
use super::encode::{Cell, utf8};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

const MAX_DEPTH: usize = 128;

/// What the numbers of a JSON document stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Whatever they fit.
    Any,
    /// Each is a float64, as are the strings NaN, Infinity and -Infinity: an array of floating-point numbers.
    Float,
}

pub(super) fn array_header(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("fewer than 2^32 rows fit memory");
    rmp::encode::write_array_len(out, length).expect("a Vec takes every write");
}

pub(super) fn map_header(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("fewer than 2^32 fields fit memory");
    rmp::encode::write_map_len(out, length).expect("a Vec takes every write");
}

pub(super) fn cell(out: &mut Vec<u8>, cell: &Cell<'_>) -> Result<(), DatabaseError> {
    match *cell {
        Cell::Null => rmp::encode::write_nil(out).expect("a Vec takes every write"),
        Cell::Bool(value) => rmp::encode::write_bool(out, value).expect("a Vec takes every write"),
        Cell::Int(value) => {
            rmp::encode::write_sint(out, value).expect("a Vec takes every write");
        }
        Cell::Float32(value) => rmp::encode::write_f32(out, value).expect("a Vec takes every write"),
        Cell::Float64(value) => float(out, value),
        Cell::Text(text) => string(out, utf8(text)?),
        Cell::Blob(bytes) => rmp::encode::write_bin(out, bytes).expect("a Vec takes every write"),
        Cell::Json(text, numbers) => document(out, utf8(text)?, numbers)?,
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) {
    rmp::encode::write_str(out, text).expect("a Vec takes every write");
}

fn float(out: &mut Vec<u8>, value: f64) {
    rmp::encode::write_f64(out, value).expect("a Vec takes every write");
}

fn document(out: &mut Vec<u8>, text: &str, numbers: Numbers) -> Result<(), DatabaseError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(not_json)?;
    node(out, raw.get(), numbers, MAX_DEPTH)
}

/// Decodes one level and leaves the text below as it is, because a number's digits must survive the parser.
fn node(out: &mut Vec<u8>, text: &str, numbers: Numbers, depth: usize) -> Result<(), DatabaseError> {
    if depth == 0 {
        return Err(DatabaseError::Encoding(format!("a JSON document nests deeper than {MAX_DEPTH}")));
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields = serde_json::Deserializer::from_str(text).deserialize_map(Fields).map_err(not_json)?;
            map_header(out, fields.len());
            fields.iter().try_for_each(|(name, value)| {
                string(out, name);
                node(out, value.get(), numbers, depth - 1)
            })
        }
        Some(b'[') => {
            let items = serde_json::Deserializer::from_str(text).deserialize_seq(Items).map_err(not_json)?;
            array_header(out, items.len());
            items.iter().try_for_each(|item| node(out, item.get(), numbers, depth - 1))
        }
        Some(b'"') => {
            scalar_string(out, &serde_json::from_str::<String>(text).map_err(not_json)?, numbers);
            Ok(())
        }
        Some(b't' | b'f') => cell(out, &Cell::Bool(text == "true")),
        Some(b'n') => cell(out, &Cell::Null),
        _ => {
            number(out, text, numbers);
            Ok(())
        }
    }
}

fn scalar_string(out: &mut Vec<u8>, text: &str, numbers: Numbers) {
    match (numbers, text) {
        (Numbers::Float, "NaN") => float(out, f64::NAN),
        (Numbers::Float, "Infinity") => float(out, f64::INFINITY),
        (Numbers::Float, "-Infinity") => float(out, f64::NEG_INFINITY),
        _ => string(out, text),
    }
}

fn number(out: &mut Vec<u8>, text: &str, numbers: Numbers) {
    if numbers == Numbers::Float {
        return float(out, text.parse().expect("a JSON number reads as a float"));
    }
    if let Ok(value) = text.parse::<i64>() {
        rmp::encode::write_sint(out, value).expect("a Vec takes every write");
    } else if let Ok(value) = text.parse::<u64>() {
        rmp::encode::write_uint(out, value).expect("a Vec takes every write");
    } else {
        match text.parse::<f64>() {
            Ok(value) if digits(&format!("{value:e}")) == digits(text) => float(out, value),
            _ => string(out, text),
        }
    }
}

/// A number's significant digits and its power of ten: equal exactly if two texts write the same number.
fn digits(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let negative = mantissa.starts_with('-');
    let (whole, fraction) =
        mantissa.trim_start_matches('-').split_once('.').unwrap_or((&mantissa[usize::from(negative)..], ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0').trim_end_matches('0');
    let trailing = all.len() - all.trim_end_matches('0').len();
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    let power = if significant.is_empty() { 0 } else { exponent - fraction.len() as i64 + trailing as i64 };
    (negative, significant.to_owned(), power)
}

fn not_json(error: serde_json::Error) -> DatabaseError {
    // The parser's message may quote the document: only its kind is told.
    DatabaseError::Encoding(format!("a JSON column cannot be decoded ({:?} error)", error.classify()))
}

/// An object's fields in their order, duplicates included, values undecoded.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

/// An array's items, undecoded.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str, numbers: Numbers) -> Vec<u8> {
        let mut out = Vec::new();
        document(&mut out, text, numbers).unwrap();
        out
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn documents_keep_their_shape_and_order() {
        let expected = written(|out| {
            map_header(out, 2);
            string(out, "b");
            array_header(out, 3);
            cell(out, &Cell::Int(-1)).unwrap();
            cell(out, &Cell::Bool(true)).unwrap();
            cell(out, &Cell::Null).unwrap();
            string(out, "a");
            string(out, "é\n");
        });
        assert_eq!(packed(r#"{"b": [-1, true, null], "a": "é\n"}"#, Numbers::Any), expected);
    }

    #[test]
    fn numbers_are_never_rounded() {
        assert_eq!(
            packed("18446744073709551615", Numbers::Any),
            written(|out| {
                rmp::encode::write_uint(out, u64::MAX).unwrap();
            })
        );
        assert_eq!(packed("19.990", Numbers::Any), written(|out| float(out, 19.99)));
        assert_eq!(packed("1.5e3", Numbers::Any), written(|out| float(out, 1500.0)));
        for exact in ["0.1234567890123456789012345", "1e400", "18446744073709551617"] {
            assert_eq!(packed(exact, Numbers::Any), written(|out| string(out, exact)), "{exact}");
        }
    }

    #[test]
    fn float_arrays_stay_floats() {
        let expected = written(|out| {
            array_header(out, 2);
            float(out, 1.0);
            float(out, f64::INFINITY);
        });
        assert_eq!(packed(r#"[1,"Infinity"]"#, Numbers::Float), expected);
    }

    #[test]
    fn a_document_too_deep_is_an_error_and_no_overflow() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(document(&mut Vec::new(), &deep, Numbers::Any).is_err());
    }
}
