//! The SQL around a route's statement, and how its rows are read back.
//!
//! **One argument list.** `SELECT row_to_json(q)::text FROM (statement) AS q`, or the columns one by one; PostgreSQL
//! writes the JSON itself, so that it is exact to the last digit and in the column order of the statement.
//!
//! **A batch.** One statement for any number of argument lists:
//! ```sql
//! SELECT w.place, r.* FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(a1, a2, place)
//! LEFT JOIN LATERAL (SELECT …, row_number() OVER () AS n FROM (statement) AS q) AS r ON true ORDER BY w.place, r.n
//! ```
//! with `(w.a1::bigint)` for the statement's first parameter. LEFT: absent rows are known; n: rows of one list keep the
//! order that the statement gave them. The rare statement that PostgreSQL takes alone but not there (an aggregate over
//! nothing but a parameter belongs to the wrong query) runs once for each list, and a warning says so. All names begin
//! with a prefix that neither the statement nor its columns contain.
//!
//! **Columns** are read in the binary form where that is the value itself, else as text:
//!
//! | type | `hash`, `text` | `msgpack` |
//! |---|---|---|
//! | boolean | `t`, `f` | bool |
//! | smallint, integer, bigint, oid | digits | int |
//! | real, double precision | shortest exact | float32, float64 |
//! | text, varchar, char(n) | as it is | str |
//! | bytea | its bytes | bin |
//! | json, jsonb | the document | its maps, arrays, …: see `msgpack` |
//! | real[], double precision[] | PostgreSQL's text | array of float64 |
//! | numeric[] | PostgreSQL's text | array of str |
//! | other arrays, composites | PostgreSQL's text | what their JSON is |
//! | a domain | as its base type | as its base type |
//! | numeric, uuid, dates and times, enums, ranges, all others | PostgreSQL's text | str of PostgreSQL's text |

use super::parameter::Parameter;
use crate::config::{Encoding, Rows};
use crate::database::encode::{self, Cell, Encoder};
use crate::database::msgpack::Numbers;
use crate::database::template::Template;
use crate::database::{DatabaseError, LoadSpec, Loaded};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind, Type};

/// Everything that running the statement needs.
pub(super) struct Plan {
    pub(super) single: String,
    pub(super) batch: String,
    /// PostgreSQL takes the statement alone only: a batch runs it once for each list.
    pub(super) alone: bool,
    /// Never run: prepared, it tells the names of the statement's columns in a batch.
    pub(super) batch_columns: String,
    pub(super) parameters: Vec<Parameter>,
    encoder: Encoder,
    outputs: Vec<Output>,
    /// PostgreSQL has written the whole row; behind it stand the columns that tags are made of.
    whole: bool,
}

/// One column of the statement's answer.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
}

/// Who names the columns of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The statement, as it does alone.
    Own,
    /// We do, by position: PostgreSQL names a column that is only an expression after what stands in it, and there
    /// a parameter is not written as it is alone.
    Given,
}

/// A column as it is asked for, and as it comes back.
struct Output {
    expression: String,
    form: Form,
}

/// The binary form of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Bytea,
    Json(Numbers),
}

impl Plan {
    pub(super) fn new(
        spec: &LoadSpec,
        template: &Template,
        parameters: Vec<Parameter>,
        columns: &[Column],
        naming: Naming,
    ) -> Result<Plan, DatabaseError> {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let encoder = Encoder::new(spec, &names)?;
        let prefix = unused_prefix(&spec.sql, &names);
        let outputs = outputs(spec, &prefix, columns);
        let whole = spec.encoding == Encoding::Json;
        let renamed = match naming {
            Naming::Own => String::new(),
            Naming::Given => format!("({})", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
        };
        let shell = Shell { prefix: &prefix, outputs: &outputs, rows: spec.rows, renamed };
        let single = shell.single(&template.render(placeholder));
        let batch = shell.batch(&parameters, template);
        let batch_columns = shell.batch_columns(&parameters, template);
        Ok(Plan { single, batch, alone: false, batch_columns, parameters, encoder, outputs, whole })
    }

    /// The answer for one argument list.
    pub(super) fn one(&self, rows: &[Row]) -> Result<Loaded, DatabaseError> {
        let rows = rows.iter().map(|row| self.read(row, 0)).collect::<Result<Vec<_>, _>>()?;
        self.encoder.gather(rows)
    }

    /// The answers for `count` argument lists, in their order.
    pub(super) fn many(&self, rows: &[Row], count: usize) -> Result<Vec<Loaded>, DatabaseError> {
        let mut answers: Vec<Vec<Loaded>> = (0..count).map(|_| Vec::new()).collect();
        for row in rows {
            let place = usize::try_from(row.get::<_, i64>(0)).expect("ordinality counts from 1") - 1;
            if row.get::<_, Option<i64>>(1).is_some() {
                answers[place].push(self.read(row, 2)?);
            }
        }
        answers.into_iter().map(|rows| self.encoder.gather(rows)).collect()
    }

    /// The answer where nothing was found.
    pub(super) fn nothing(&self) -> Result<Loaded, DatabaseError> {
        self.encoder.gather(Vec::new())
    }

    /// Whether a part that fits can only name a row, and never be refused by the server.
    pub(super) fn is_checked(&self) -> bool {
        self.parameters.iter().all(Parameter::is_checked)
    }

    fn read(&self, row: &Row, first: usize) -> Result<Loaded, DatabaseError> {
        if self.whole {
            let Raw(text) = row.get(first);
            let tag_cells = self.cells(row, first).skip(1).map(|cell| encode::plain(&cell)).collect();
            return Ok(self.encoder.written(text, tag_cells));
        }
        self.encoder.row(&self.cells(row, first).collect::<Vec<_>>())
    }

    fn cells<'a>(&'a self, row: &'a Row, first: usize) -> impl Iterator<Item = Cell<'a>> {
        self.outputs.iter().enumerate().map(move |(index, output)| {
            row.get::<_, Option<Raw<'_>>>(first + index).map_or(Cell::Null, |raw| output.form.cell(raw.0))
        })
    }
}

/// How a statement's parameter is written where it stands alone.
pub(super) fn placeholder(argument: usize) -> String {
    format!("${}", argument + 1)
}

/// The SQL around a statement.
struct Shell<'a> {
    prefix: &'a str,
    outputs: &'a [Output],
    rows: Rows,
    /// Column names for a batch.
    renamed: String,
}

impl Shell<'_> {
    fn single(&self, statement: &str) -> String {
        let p = self.prefix;
        format!("SELECT {} FROM (\n{statement}) AS {p}q{}", self.expressions(""), self.limit())
    }

    fn batch(&self, parameters: &[Parameter], template: &Template) -> String {
        let p = self.prefix;
        let answers: String = (0..self.outputs.len()).map(|index| format!(", {p}r.{p}o{index}")).collect();
        format!(
            "SELECT {p}w.{p}place, {p}r.{p}n{answers} FROM {} \
             LEFT JOIN LATERAL (SELECT {}, row_number() OVER () AS {p}n FROM (\n{}) AS {p}q{}{}) AS {p}r ON true \
             ORDER BY {p}w.{p}place, {p}r.{p}n",
            self.lists(parameters.len()),
            self.expressions(&format!("{p}o")),
            self.statement(parameters, template),
            self.renamed,
            self.limit(),
        )
    }

    fn batch_columns(&self, parameters: &[Parameter], template: &Template) -> String {
        let p = self.prefix;
        let (lists, statement) = (self.lists(parameters.len()), self.statement(parameters, template));
        format!("SELECT {p}q.* FROM {lists} JOIN LATERAL (\n{statement}) AS {p}q ON true")
    }

    /// The argument lists as rows: `unnest($1::text[], …) WITH ORDINALITY AS w(a0, …, place)`.
    fn lists(&self, count: usize) -> String {
        let p = self.prefix;
        let arrays: Vec<String> = (0..count).map(|argument| format!("{}::text[]", placeholder(argument))).collect();
        let names: String = (0..count).map(|argument| format!("{p}a{argument}, ")).collect();
        format!("unnest({}) WITH ORDINALITY AS {p}w({names}{p}place)", arrays.join(", "))
    }

    /// The statement over those rows.
    fn statement(&self, parameters: &[Parameter], template: &Template) -> String {
        let p = self.prefix;
        template.render(|argument| format!("({p}w.{p}a{argument}::{})", parameters[argument].name))
    }

    fn expressions(&self, name: &str) -> String {
        let named = |(index, output): (usize, &Output)| match name {
            "" => output.expression.clone(),
            _ => format!("{} AS {name}{index}", output.expression),
        };
        self.outputs.iter().enumerate().map(named).collect::<Vec<_>>().join(", ")
    }

    /// Two rows are enough to know that there is more than one.
    fn limit(&self) -> &'static str {
        if self.rows == Rows::One { " LIMIT 2" } else { "" }
    }
}

fn unused_prefix(sql: &str, names: &[String]) -> String {
    let taken = |prefix: &str| {
        sql.to_ascii_lowercase().contains(prefix) || names.iter().any(|name| name.to_ascii_lowercase().contains(prefix))
    };
    let mut prefix = String::from("weir_");
    while taken(&prefix) {
        prefix.push('_');
    }
    prefix
}

fn outputs(spec: &LoadSpec, prefix: &str, columns: &[Column]) -> Vec<Output> {
    // By name and never by position: what a later schema change put in a column's place is not mistaken for it.
    let column = |column: &Column| {
        let name = format!("{prefix}q.{}", quoted(&column.name));
        match spec.encoding {
            Encoding::MsgPack => typed(&name, base(&column.kind)),
            _ => plain(&name, base(&column.kind)),
        }
    };
    if spec.encoding != Encoding::Json {
        return columns.iter().map(column).collect();
    }
    let row = Output { expression: format!("row_to_json({prefix}q)::text"), form: Form::Text };
    let tagged = spec.tag_columns.iter().filter_map(|wanted| columns.iter().find(|column| column.name == *wanted));
    std::iter::once(row).chain(tagged.map(column)).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn base(kind: &Type) -> &Type {
    match kind.kind() {
        Kind::Domain(inner) => base(inner),
        _ => kind,
    }
}

/// A column's text, or its bytes.
fn plain(name: &str, kind: &Type) -> Output {
    let (expression, form) = match *kind {
        Type::BYTEA => (format!("{name}::bytea"), Form::Bytea),
        Type::TEXT => (format!("{name}::text"), Form::Text),
        Type::VARCHAR => (format!("{name}::varchar"), Form::Text),
        // concat() writes what the type's output function says, where a cast to text may not (boolean, inet,
        // char(n)); num_nulls() sees a NULL where IS NULL would also see a composite of NULLs.
        _ => (format!("CASE WHEN num_nulls({name}) = 0 THEN concat({name}) END"), Form::Text),
    };
    Output { expression, form }
}

/// A column as a type of MessagePack.
fn typed(name: &str, kind: &Type) -> Output {
    let cast = |to: &str, form| Output { expression: format!("{name}::{to}"), form };
    match *kind {
        Type::BOOL => cast("bool", Form::Bool),
        Type::INT2 => cast("int2", Form::Int2),
        Type::INT4 => cast("int4", Form::Int4),
        Type::INT8 | Type::OID => cast("int8", Form::Int8),
        Type::FLOAT4 => cast("float4", Form::Float4),
        Type::FLOAT8 => cast("float8", Form::Float8),
        Type::JSON | Type::JSONB => cast("text", Form::Json(Numbers::Any)),
        Type::FLOAT4_ARRAY | Type::FLOAT8_ARRAY => to_json(name, Numbers::Float),
        Type::NUMERIC_ARRAY => to_json(&format!("{name}::text[]"), Numbers::Any),
        _ => match kind.kind() {
            Kind::Array(_) | Kind::Composite(_) => to_json(name, Numbers::Any),
            _ => plain(name, kind),
        },
    }
}

fn to_json(expression: &str, numbers: Numbers) -> Output {
    Output { expression: format!("to_json({expression})::text"), form: Form::Json(numbers) }
}

/// A value's bytes as PostgreSQL sent them.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Form {
    fn cell(self, raw: &[u8]) -> Cell<'_> {
        match self {
            Form::Bool => Cell::Bool(raw != [0]),
            Form::Int2 => Cell::Int(i16::from_be_bytes(fixed(raw)).into()),
            Form::Int4 => Cell::Int(i32::from_be_bytes(fixed(raw)).into()),
            Form::Int8 => Cell::Int(i64::from_be_bytes(fixed(raw))),
            Form::Float4 => Cell::Float32(f32::from_be_bytes(fixed(raw))),
            Form::Float8 => Cell::Float64(f64::from_be_bytes(fixed(raw))),
            Form::Text => Cell::Text(raw),
            Form::Bytea => Cell::Blob(raw),
            Form::Json(numbers) => Cell::Json(raw, numbers),
        }
    }
}

fn fixed<const N: usize>(raw: &[u8]) -> [u8; N] {
    raw.try_into().expect("the output is cast to a type of this width")
}
