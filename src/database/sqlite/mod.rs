//! SQLite: the route's statements on a few read-only connections, each on a thread of its own.
//!
//! **Batches.** SQLite has no LATERAL, so a batch is the route's own statement once per argument list, joined by
//! UNION ALL: one SQL statement for up to [`ARMS`] lists, and larger batches are several of them in one read
//! transaction. Each arm is a plain subquery over bound parameters, so values keep SQLite's own types, and its rows
//! keep the order of the arm's ORDER BY. A batch of one is the statement as it is written.
//!
//! **Types.** Values are what SQLite says each one is (`encode` has the table). A parameter is an INTEGER where
//! the statement says so for certain (`infer` knows when), else TEXT, which SQLite itself converts where it is compared
//! with a column that has a number's affinity. Where there is no such column, write `CAST(:id AS INTEGER)`.
//!
//! It does not know how keys look, and never writes: connections are read-only, and `query_only` besides.
//! Held by tests/database_sqlite.rs.

mod infer;
mod pool;
mod tokens;

use super::encode::{Cell, Encoder};
use super::template::Template;
use super::{Arguments, BoxFuture, DatabaseError, LoadSpec, Loaded, Statement, fits};
use crate::config::Rows;
use parking_lot::RwLock;
use pool::{Pool, failure};
use rusqlite::types::{Value as Bound, ValueRef};
use rusqlite::{Connection, params_from_iter};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Most argument lists of one statement: SQLite refuses more than 500 arms (its SQLITE_MAX_COMPOUND_SELECT). Larger
/// batches are several statements in one read transaction.
const ARMS: usize = 500;
/// Parameters of one statement at most, SQLite's own default.
const MAX_PARAMETERS: usize = 32_766;

/// One database file.
#[derive(Clone)]
pub(super) struct Sqlite {
    pool: Arc<Pool>,
}

impl Sqlite {
    /// Checks that the file is there and is a database.
    pub(super) async fn connect(path: &Path, threads: usize, timeout: Duration) -> Result<Sqlite, DatabaseError> {
        let pool = Arc::new(Pool::start(path, threads, timeout)?);
        pool.run(|connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|error| failure(&error))
        })
        .await?;
        Ok(Sqlite { pool })
    }

    pub(super) async fn prepare(&self, spec: LoadSpec) -> Result<Arc<dyn Statement>, DatabaseError> {
        let template = Template::new(&spec)?;
        let source = Arc::new(Source { spec, template });
        let known = source.clone();
        let plan = self.pool.run(move |connection| Plan::new(connection, &known)).await?;
        let current = Arc::new(RwLock::new(Arc::new(plan)));
        Ok(Arc::new(SqliteStatement { pool: self.pool.clone(), source, current }))
    }
}

/// What a plan is made from.
struct Source {
    spec: LoadSpec,
    template: Template,
}

fn placeholder(argument: usize) -> String {
    format!("?{}", argument + 1)
}

struct SqliteStatement {
    pool: Arc<Pool>,
    source: Arc<Source>,
    current: Arc<RwLock<Arc<Plan>>>,
}

impl Statement for SqliteStatement {
    fn fits(&self, arguments: &[&str]) -> bool {
        let plan = self.current.read();
        arguments.len() == plan.integers.len() && arguments.iter().zip(&plan.integers).all(fits_kind)
    }

    fn load(&self, batch: Vec<Arguments>) -> BoxFuture<'_, Result<Vec<Loaded>, DatabaseError>> {
        let (source, current) = (self.source.clone(), self.current.clone());
        Box::pin(self.pool.run(move |connection| load(connection, &source, &current, &batch)))
    }

    fn is_idle(&self) -> bool {
        self.pool.is_idle()
    }

    fn parameter_types(&self) -> Vec<String> {
        let plan = self.current.read();
        plan.integers.iter().map(|integer| if *integer { "INTEGER" } else { "TEXT" }.to_owned()).collect()
    }
}

fn fits_kind((text, integer): (&&str, &bool)) -> bool {
    !integer || fits::integer(text, i64::MIN, i64::MAX)
}

/// Runs the plan, and once more with a new one if the columns are no longer those that it knows.
fn load(
    connection: &Connection,
    source: &Source,
    current: &RwLock<Arc<Plan>>,
    batch: &[Arguments],
) -> Result<Vec<Loaded>, DatabaseError> {
    let plan = current.read().clone();
    match plan.load(connection, batch) {
        Err(Failed::Changed) => {
            let plan = Arc::new(Plan::new(connection, source)?);
            *current.write() = plan.clone();
            plan.load(connection, batch).map_err(Failed::told)
        }
        other => other.map_err(Failed::told),
    }
}

/// What is known of a statement once it has been compiled.
struct Plan {
    single: String,
    /// The same with a mark per parameter: `parts[0] ? parts[1] ? …`, and the argument of each mark.
    parts: Vec<String>,
    marks: Vec<usize>,
    rows: Rows,
    encoder: Encoder,
    /// For each argument, whether it is bound as INTEGER.
    integers: Vec<bool>,
    /// The columns' names alone, and in a batch: there SQLite may write them otherwise.
    columns: Vec<String>,
    batch_columns: Vec<String>,
}

impl Plan {
    fn new(connection: &Connection, Source { spec, template }: &Source) -> Result<Plan, DatabaseError> {
        let single = template.render(placeholder);
        let statement = connection.prepare(&single).map_err(|error| compile_error(&error, template))?;
        if !statement.readonly() {
            return Err(DatabaseError::Statement("the statement writes: a load only reads".into()));
        }
        if statement.parameter_count() != spec.parameters.len() {
            return Err(DatabaseError::Statement("a parameter without a name of the key pattern: write :name".into()));
        }
        let columns = names(&statement);
        let encoder = Encoder::new(spec, &columns)?;
        let integers = infer::integers(connection, &single, spec.parameters.len());
        let (parts, marks) = split(template);
        let batch_columns = Vec::new();
        let mut plan = Plan { single, parts, marks, rows: spec.rows, encoder, integers, columns, batch_columns };
        let batch = connection.prepare(&plan.union(2)).map_err(|error| {
            DatabaseError::Statement(format!("the statement cannot be a subquery: {}", message(&error)))
        })?;
        plan.batch_columns = names(&batch);
        Ok(plan)
    }

    fn load(&self, connection: &Connection, batch: &[Arguments]) -> Result<Vec<Loaded>, Failed> {
        match batch {
            [] => Ok(Vec::new()),
            [arguments] => Ok(vec![self.load_one(connection, arguments)?]),
            _ => self.load_many(connection, batch),
        }
    }

    fn load_one(&self, connection: &Connection, arguments: &Arguments) -> Result<Loaded, Failed> {
        let mut statement = connection.prepare_cached(&self.single)?;
        let mut rows = statement.query(params_from_iter(self.bound(arguments)))?;
        let mut answers = Vec::new();
        while let Some(row) = rows.next()? {
            same(&self.columns, row.as_ref())?;
            answers.push(self.encode(row, 0)?);
            if self.enough(answers.len()) {
                break;
            }
        }
        Ok(self.encoder.gather(answers)?)
    }

    /// All chunks see one state of the database.
    fn load_many(&self, connection: &Connection, batch: &[Arguments]) -> Result<Vec<Loaded>, Failed> {
        let transaction = connection.unchecked_transaction()?;
        let arms = ARMS.min(MAX_PARAMETERS / self.integers.len().max(1)).max(1);
        let mut answers = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(arms) {
            self.load_chunk(&transaction, chunk, &mut answers)?;
        }
        transaction.commit()?;
        Ok(answers)
    }

    fn load_chunk(&self, connection: &Connection, chunk: &[Arguments], out: &mut Vec<Loaded>) -> Result<(), Failed> {
        let mut statement = connection.prepare_cached(&self.union(chunk.len()))?;
        let mut rows = statement.query(params_from_iter(chunk.iter().flat_map(|arguments| self.bound(arguments))))?;
        let mut found: Vec<Vec<Loaded>> = chunk.iter().map(|_| Vec::new()).collect();
        while let Some(row) = rows.next()? {
            same(&self.batch_columns, row.as_ref())?;
            let arm = row.get::<_, u32>(0)? as usize;
            if !self.enough(found[arm].len()) {
                found[arm].push(self.encode(row, 1)?);
            }
        }
        for rows in found {
            out.push(self.encoder.gather(rows)?);
        }
        Ok(())
    }

    /// Two rows are enough to know that there is more than one.
    fn enough(&self, rows: usize) -> bool {
        self.rows == Rows::One && rows >= 2
    }

    /// Parameters of arm `k` are those of the statement, moved on by `k` argument lists.
    fn union(&self, arms: usize) -> String {
        let mut sql = String::new();
        for arm in 0..arms {
            let joint = if arm == 0 { "" } else { " UNION ALL " };
            sql.push_str(&format!("{joint}SELECT {arm}, weir_rows.* FROM (\n"));
            for (index, part) in self.parts.iter().enumerate() {
                sql.push_str(part);
                if let Some(mark) = self.marks.get(index) {
                    sql.push_str(&placeholder(arm * self.integers.len() + mark));
                }
            }
            sql.push_str(") AS weir_rows");
        }
        sql
    }

    fn bound<'a>(&'a self, arguments: &'a Arguments) -> impl Iterator<Item = Bound> + 'a {
        arguments.iter().zip(&self.integers).map(|(text, integer)| match (integer, text.parse()) {
            (true, Ok(number)) => Bound::Integer(number),
            _ => Bound::Text(text.clone()),
        })
    }

    fn encode(&self, row: &rusqlite::Row<'_>, first: usize) -> Result<Loaded, Failed> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for index in first..first + self.columns.len() {
            cells.push(cell(row.get_ref(index)?));
        }
        Ok(self.encoder.row(&cells)?)
    }
}

fn names(statement: &rusqlite::Statement<'_>) -> Vec<String> {
    statement.column_names().map(str::to_owned).collect()
}

/// Whether a statement that runs still has these columns: SQLite compiles it again by itself after the schema changed.
fn same(columns: &[String], statement: &rusqlite::Statement<'_>) -> Result<(), Failed> {
    let same = statement.column_names().eq(columns.iter().map(String::as_str));
    if same { Ok(()) } else { Err(Failed::Changed) }
}

fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Int(value),
        ValueRef::Real(value) => Cell::Float64(value),
        ValueRef::Text(text) => Cell::Text(text),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
    }
}

/// The statement's text around its parameters.
fn split(template: &Template) -> (Vec<String>, Vec<usize>) {
    // The configuration refuses NUL bytes in SQL, so one can stand for a parameter.
    let mut marks = Vec::new();
    let text = template.render(|argument| {
        marks.push(argument);
        "\0".into()
    });
    (text.split('\0').map(str::to_owned).collect(), marks)
}

/// Why a plan did not run: either side's failure, so that `?` serves both, or that it is out of date.
enum Failed {
    Sqlite(rusqlite::Error),
    Own(DatabaseError),
    /// The statement's columns are other ones than when it was planned.
    Changed,
}

impl Failed {
    fn told(self) -> DatabaseError {
        match self {
            Failed::Sqlite(error) => failure(&error),
            Failed::Own(error) => error,
            Failed::Changed => DatabaseError::Statement("the columns keep changing".into()),
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Failed::Sqlite(error)
    }
}

impl From<DatabaseError> for Failed {
    fn from(error: DatabaseError) -> Self {
        Failed::Own(error)
    }
}

fn compile_error(error: &rusqlite::Error, template: &Template) -> DatabaseError {
    match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => {
            let characters =
                usize::try_from(*offset).ok().and_then(|offset| sql.get(..offset)).map(|head| head.chars().count());
            let place =
                characters.map(|count| format!(" at {}", template.place(count, placeholder))).unwrap_or_default();
            DatabaseError::Statement(format!("{msg}{place}"))
        }
        rusqlite::Error::MultipleStatement => DatabaseError::Statement("more than one statement".into()),
        other => failure(other),
    }
}

fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
