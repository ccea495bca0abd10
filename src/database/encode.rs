//! From one row's cells to the bytes that a store keeps, for every encoding and whichever the database.
//!
//! | cell | `json` | `hash`, `text` | `msgpack` |
//! |---|---|---|---|
//! | NULL | `null` | no field; the text column: not found | nil |
//! | boolean | `true` | the database's text | bool |
//! | integer | its digits | its digits | int |
//! | floating point | shortest digits that read back as it | the same | float32 or float64 |
//! | text | string | as it is | str |
//! | bytes | `"\\x…"` in hexadecimal | as they are | bin |
//! | JSON document | as it is | as it is | maps, arrays and so on, see `msgpack` |
//!
//! A hash cannot be empty in Redis: a row whose columns are all NULL is "not found" as a hash, and so is a NULL
//! as `text`.

use super::{DatabaseError, LoadSpec, Loaded, TagCells, msgpack};
use crate::config::{Encoding, Rows};
use crate::value::Value;
use bytes::Bytes;

/// One column of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float32(f32),
    Float64(f64),
    /// Text in whatever the database has; valid UTF-8 is only asked for where the encoding needs it.
    Text(&'a [u8]),
    Blob(&'a [u8]),
    /// A JSON document, and what its numbers are in MessagePack.
    Json(&'a [u8], msgpack::Numbers),
}

/// How the rows of one statement are written.
pub(super) struct Encoder {
    encoding: Encoding,
    rows: Rows,
    columns: Vec<Bytes>,
    /// Which columns tags are made of.
    tag_columns: Vec<usize>,
}

impl Encoder {
    /// Refuses columns that the encoding cannot keep apart, or more than it can hold, and tags of columns that are none.
    pub(super) fn new(spec: &LoadSpec, columns: &[String]) -> Result<Encoder, DatabaseError> {
        let (encoding, rows) = (spec.encoding, spec.rows);
        let refuse = |message: String| Err(DatabaseError::Encoding(message));
        if columns.is_empty() {
            return refuse("the statement answers no columns: write a SELECT".into());
        }
        if matches!(encoding, Encoding::Text | Encoding::Hash) && rows == Rows::Many {
            return refuse("rows = \"many\" needs value = \"json\" or \"msgpack\"".into());
        }
        if encoding == Encoding::Text && columns.len() != 1 {
            return refuse(format!("value = \"text\" needs exactly one column, the statement has {}", columns.len()));
        }
        if let Some(name) = duplicate(columns) {
            return refuse(format!("two columns are named \"{name}\": name one of them with AS"));
        }
        let tag_columns = spec.tag_columns.iter().map(|wanted| {
            let unknown = || {
                let known = columns.join(", ");
                let message = format!("a tag is made of {{{wanted}}}, which is neither a part of the key nor a column");
                DatabaseError::Encoding(format!("{message}; the columns are {known}"))
            };
            columns.iter().position(|name| name == wanted).ok_or_else(unknown)
        });
        let tag_columns = tag_columns.collect::<Result<_, _>>()?;
        let columns = columns.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect();
        Ok(Encoder { encoding, rows, columns, tag_columns })
    }

    /// Writes one row; `None` where the row is as good as absent.
    pub(super) fn row(&self, cells: &[Cell<'_>]) -> Result<Loaded, DatabaseError> {
        let value = match self.encoding {
            Encoding::Json => Some(Value::String(self.json(cells)?.into())),
            Encoding::MsgPack => Some(Value::String(self.msgpack(cells)?.into())),
            Encoding::Hash => self.hash(cells),
            Encoding::Text => cells.first().and_then(plain).map(Value::String),
        };
        let tag_cells = self.tag_columns.iter().map(|&column| plain(&cells[column])).collect();
        Ok(Loaded { value, tag_cells: vec![tag_cells] })
    }

    /// A row that the database has written itself.
    pub(super) fn written(&self, text: &[u8], tag_cells: TagCells) -> Loaded {
        Loaded { value: Some(Value::String(Bytes::copy_from_slice(text))), tag_cells: vec![tag_cells] }
    }

    /// Makes one answer of all rows of one argument list.
    pub(super) fn gather(&self, mut rows: Vec<Loaded>) -> Result<Loaded, DatabaseError> {
        match self.rows {
            Rows::One if rows.len() > 1 => Err(DatabaseError::Encoding(
                "the statement answers more than one row: write rows = \"many\", or a condition on a unique column"
                    .into(),
            )),
            Rows::One => Ok(rows.pop().unwrap_or_default()),
            Rows::Many => {
                let value = Some(Value::String(self.array(&rows)));
                Ok(Loaded { value, tag_cells: rows.into_iter().flat_map(|row| row.tag_cells).collect() })
            }
        }
    }

    fn array(&self, rows: &[Loaded]) -> Bytes {
        let rows: Vec<&Bytes> = rows
            .iter()
            .filter_map(|row| match &row.value {
                Some(Value::String(bytes)) => Some(bytes),
                _ => None,
            })
            .collect();
        let mut out = Vec::with_capacity(rows.iter().map(|row| row.len() + 1).sum::<usize>() + 5);
        if self.encoding == Encoding::MsgPack {
            msgpack::array_header(&mut out, rows.len());
            rows.iter().for_each(|row| out.extend_from_slice(row));
            return out.into();
        }
        out.push(b'[');
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(row);
        }
        out.push(b']');
        out.into()
    }

    fn json(&self, cells: &[Cell<'_>]) -> Result<Vec<u8>, DatabaseError> {
        let mut out = vec![b'{'];
        for (index, (name, cell)) in self.columns.iter().zip(cells).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json_string(&mut out, name)?;
            out.push(b':');
            json_cell(&mut out, cell)?;
        }
        out.push(b'}');
        Ok(out)
    }

    fn msgpack(&self, cells: &[Cell<'_>]) -> Result<Vec<u8>, DatabaseError> {
        let mut out = Vec::new();
        msgpack::map_header(&mut out, self.columns.len());
        for (name, cell) in self.columns.iter().zip(cells) {
            msgpack::cell(&mut out, &Cell::Text(name))?;
            msgpack::cell(&mut out, cell)?;
        }
        Ok(out)
    }

    fn hash(&self, cells: &[Cell<'_>]) -> Option<Value> {
        let fields: Vec<_> =
            self.columns.iter().zip(cells).filter_map(|(name, cell)| Some((name.clone(), plain(cell)?))).collect();
        (!fields.is_empty()).then_some(Value::Hash(fields))
    }
}

fn duplicate(columns: &[String]) -> Option<&String> {
    columns.iter().enumerate().find(|(index, name)| columns[..*index].contains(name)).map(|(_, name)| name)
}

/// A cell's own text, or its bytes.
pub(super) fn plain(cell: &Cell<'_>) -> Option<Bytes> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Bool(value) => Bytes::from_static(if *value { b"t" } else { b"f" }),
        Cell::Int(value) => Bytes::from(itoa::Buffer::new().format(*value).to_owned()),
        Cell::Float32(value) => Bytes::from(float_text(f64::from(*value), || serde_json::to_string(value))),
        Cell::Float64(value) => Bytes::from(float_text(*value, || serde_json::to_string(value))),
        Cell::Text(bytes) | Cell::Blob(bytes) | Cell::Json(bytes, _) => Bytes::copy_from_slice(bytes),
    })
}

fn json_cell(out: &mut Vec<u8>, cell: &Cell<'_>) -> Result<(), DatabaseError> {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Cell::Float32(value) if !value.is_finite() => json_string(out, non_finite(f64::from(*value)).as_bytes())?,
        Cell::Float64(value) if !value.is_finite() => json_string(out, non_finite(*value).as_bytes())?,
        Cell::Int(_) | Cell::Float32(_) | Cell::Float64(_) => {
            out.extend_from_slice(&plain(cell).expect("numbers have a text"));
        }
        Cell::Text(text) => json_string(out, text)?,
        Cell::Blob(bytes) => {
            out.extend_from_slice(b"\"\\\\x");
            bytes.iter().for_each(|byte| out.extend_from_slice(format!("{byte:02x}").as_bytes()));
            out.push(b'"');
        }
        Cell::Json(text, _) => out.extend_from_slice(text),
    }
    Ok(())
}

fn json_string(out: &mut Vec<u8>, text: &[u8]) -> Result<(), DatabaseError> {
    let text = utf8(text)?;
    serde_json::to_writer(out, text).map_err(|error| DatabaseError::Encoding(error.to_string()))
}

/// JSON and MessagePack strings are UTF-8; replacing characters would silently change a value.
pub(super) fn utf8(text: &[u8]) -> Result<&str, DatabaseError> {
    let message = "a text column holds bytes that are not UTF-8: select it as a blob, or use value = \"text\"";
    std::str::from_utf8(text).map_err(|_| DatabaseError::Encoding(message.into()))
}

fn float_text(value: f64, finite: impl Fn() -> serde_json::Result<String>) -> String {
    if value.is_finite() { finite().expect("a finite number is JSON") } else { non_finite(value).into() }
}

/// JSON has no such numbers; PostgreSQL writes them as these strings, and so do we everywhere.
fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(encoding: Encoding, rows: Rows, columns: &[&str]) -> Result<Encoder, DatabaseError> {
        tagging(encoding, rows, columns, &[])
    }

    fn tagging(
        encoding: Encoding,
        rows: Rows,
        columns: &[&str],
        tag_columns: &[&str],
    ) -> Result<Encoder, DatabaseError> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (sql, parameters) = Default::default();
        Encoder::new(&LoadSpec { sql, parameters, rows, encoding, tag_columns: owned(tag_columns) }, &owned(columns))
    }

    fn string(loaded: Loaded) -> String {
        match loaded.value {
            Some(Value::String(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("no string: {other:?}"),
        }
    }

    #[test]
    fn every_cell_is_exact_in_json() {
        let encoder = encoder(Encoding::Json, Rows::One, &["i", "f", "t", "b", "n", "inf"]).unwrap();
        let cells = [
            Cell::Int(i64::MIN),
            Cell::Float64(0.1 + 0.2),
            Cell::Text("é\"\n".as_bytes()),
            Cell::Blob(&[0, 255]),
            Cell::Null,
            Cell::Float64(f64::NEG_INFINITY),
        ];
        let expected = r#"{"i":-9223372036854775808,"f":0.30000000000000004,"t":"é\"\n","b":"\\x00ff","n":null,"inf":"-Infinity"}"#;
        assert_eq!(string(encoder.row(&cells).unwrap()), expected);
    }

    #[test]
    fn a_null_has_no_field_and_a_row_of_nulls_is_absent() {
        let encoder = encoder(Encoding::Hash, Rows::One, &["a", "b"]).unwrap();
        let row = encoder.row(&[Cell::Null, Cell::Int(7)]).unwrap();
        assert_eq!(row.value, Some(Value::Hash(vec![("b".into(), "7".into())])));
        assert_eq!(encoder.row(&[Cell::Null, Cell::Null]).unwrap().value, None);
    }

    #[test]
    fn no_rows_are_absent_or_an_empty_array() {
        let one = encoder(Encoding::Json, Rows::One, &["a"]).unwrap();
        assert_eq!(one.gather(vec![]).unwrap(), Loaded::default());
        let many = encoder(Encoding::Json, Rows::Many, &["a"]).unwrap();
        assert_eq!(string(many.gather(vec![]).unwrap()), "[]");
        let packed = encoder(Encoding::MsgPack, Rows::Many, &["a"]).unwrap();
        assert_eq!(packed.gather(vec![]).unwrap().value, Some(Value::String(vec![0x90].into())));
    }

    #[test]
    fn a_second_row_is_an_error_where_one_is_asked_for() {
        let one = encoder(Encoding::Text, Rows::One, &["a"]).unwrap();
        let row = one.row(&[Cell::Int(1)]).unwrap();
        assert!(matches!(one.gather(vec![row.clone(), row]), Err(DatabaseError::Encoding(_))));
    }

    #[test]
    fn shapes_that_cannot_be_written_are_refused_at_start() {
        assert!(encoder(Encoding::Text, Rows::One, &["a", "b"]).is_err());
        assert!(encoder(Encoding::Hash, Rows::Many, &["a"]).is_err());
        assert!(encoder(Encoding::Json, Rows::One, &["a", "a"]).is_err());
        assert!(encoder(Encoding::Json, Rows::One, &[]).is_err());
    }

    #[test]
    fn the_texts_of_tag_columns_stand_beside_the_value_row_by_row() {
        let encoder =
            tagging(Encoding::MsgPack, Rows::Many, &["id", "category", "shop"], &["shop", "category"]).unwrap();
        let rows = [[Cell::Int(1), Cell::Int(5), Cell::Text(b"a")], [Cell::Int(2), Cell::Null, Cell::Text(b"b")]];
        let rows = rows.iter().map(|cells| encoder.row(cells).unwrap()).collect();
        let expected: [TagCells; 2] = [vec![Some("a".into()), Some("5".into())], vec![Some("b".into()), None]];
        assert_eq!(encoder.gather(rows).unwrap().tag_cells, expected);
        let unknown =
            tagging(Encoding::Json, Rows::One, &["id"], &["category"]).err().expect("there is no such column");
        assert!(unknown.to_string().contains("{category}"), "{unknown}");
    }

    #[test]
    fn text_that_is_not_utf8_is_never_changed_silently() {
        let json = encoder(Encoding::Json, Rows::One, &["a"]).unwrap();
        assert!(json.row(&[Cell::Text(b"\xff")]).is_err());
        let text = encoder(Encoding::Text, Rows::One, &["a"]).unwrap();
        assert_eq!(text.row(&[Cell::Text(b"\xff")]).unwrap().value, Some(Value::String(Bytes::from_static(b"\xff"))));
    }
}
