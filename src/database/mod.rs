//! Where the truth lives: SQL databases, each statement prepared once at start and run for a batch of keys.
//!
//! The engine meets a database as prepared [`Statement`]s only, so that a test can put one of its own there.
//! This floor turns rows into [`Value`]s; it knows nothing of keys, TTLs, leases or stores.
//!
//! `postgres` and `sqlite` each know how one kind of database runs a statement for a batch and stops it when nobody
//! waits any more; their pages say what they promise and which tests hold them to it. `template` binds named
//! parameters, `fits` says which texts are values of a type, `encode` and `msgpack` write what the cells of a row are.

mod encode;
mod fits;
mod msgpack;
mod postgres;
mod sqlite;
mod template;

use crate::config::{self, DatabaseUrl, Encoding, Rows};
use crate::value::Value;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// One `[database.NAME]`: connections on demand. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    name: Arc<str>,
    kind: Kind,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database {}", self.name)
    }
}

#[derive(Clone)]
enum Kind {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Database {
    /// Connects once, to know that the database is there and lets us in; later connections are opened when needed.
    ///
    /// Errors: [`DatabaseError::Unavailable`] or [`DatabaseError::Timeout`], without the URL's secrets.
    pub async fn connect(config: &config::Database) -> Result<Database, DatabaseError> {
        let kind = match &config.url {
            DatabaseUrl::Sqlite(path) => {
                Kind::Sqlite(sqlite::Sqlite::connect(path, config.pool, config.timeout).await?)
            }
            DatabaseUrl::Postgres(url) => Kind::Postgres(postgres::Postgres::connect(config, &url.0).await?),
        };
        Ok(Database { name: config.name.as_str().into(), kind })
    }

    /// Prepares a route's statement on the live database, so that what is wrong with it is found at start.
    ///
    /// Errors: [`DatabaseError::Statement`] with the database's own message and where in the SQL it points;
    /// [`DatabaseError::Encoding`] where the columns cannot be written as [`LoadSpec::encoding`] asks, or one of
    /// [`LoadSpec::tag_columns`] is none of them.
    pub async fn prepare(&self, spec: LoadSpec) -> Result<Arc<dyn Statement>, DatabaseError> {
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.prepare(spec).await,
            Kind::Postgres(postgres) => postgres.prepare(spec).await,
        }
    }

    /// NAME of `[database.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a route wants of a database: its statement and how its rows become a value.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// SQL with named parameters `:name`.
    pub sql: String,
    /// The names that [`Statement::load`]'s arguments bind to, in the order of those arguments.
    pub parameters: Vec<String>,
    /// Whether the statement answers one row or many.
    pub rows: Rows,
    /// How a row is written.
    pub encoding: Encoding,
    /// Columns whose texts the engine wants beside the value: it makes tags of them.
    pub tag_columns: Vec<String>,
}

/// The arguments of one load: the text of each key part, in the order of [`LoadSpec::parameters`].
pub type Arguments = Vec<String>;

/// What one load of a batch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The value; `None` is "no such row" (only with [`Rows::One`]).
    pub value: Option<Value>,
    /// Of each row that the value is made of.
    pub tag_cells: Vec<TagCells>,
}

/// The texts of [`LoadSpec::tag_columns`] in one row, in their order; `None` is NULL.
pub type TagCells = Vec<Option<Bytes>>;

impl From<Option<Value>> for Loaded {
    fn from(value: Option<Value>) -> Self {
        Loaded { value, tag_cells: Vec::new() }
    }
}

/// A boxed future, so that statements of different databases stand behind one `dyn Statement`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A route's statement, prepared. Cheap to call from every thread.
pub trait Statement: Send + Sync {
    /// Whether every argument fits its parameter's type. One that does not cannot name a row: no query is needed.
    fn fits(&self, arguments: &[&str]) -> bool;

    /// Runs the statement once for all of `batch` and answers in its order, one [`Loaded`] for each.
    ///
    /// Waits for a free connection; the caller puts its own time limit around it, and dropping the future
    /// cancels the query. Every argument list of the batch has passed [`Statement::fits`].
    fn load(&self, batch: Vec<Arguments>) -> BoxFuture<'_, Result<Vec<Loaded>, DatabaseError>>;

    /// Whether the database could run one more statement and most of its connections would yet be free: then what nobody
    /// waits for may be asked of it.
    fn is_idle(&self) -> bool;

    /// The types of the parameters, in the order of [`LoadSpec::parameters`], as the database names them
    /// (`bigint`, `text` …).
    fn parameter_types(&self) -> Vec<String>;
}

/// Why a database did not answer. Messages are for the operator's log, never for clients.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection could be had, or it broke. A retry may help.
    #[error("database unreachable: {0}")]
    Unavailable(String),
    /// The database's own time limit was reached. A retry may help.
    #[error("database timed out: {0}")]
    Timeout(String),
    /// The database refused the statement: the configuration or the schema must change.
    #[error("statement failed: {0}")]
    Statement(String),
    /// The rows cannot be written as the route's `value` asks. The configuration must change.
    #[error("rows do not fit the route's value: {0}")]
    Encoding(String),
}

impl DatabaseError {
    /// Whether the same statement may succeed later without anybody's change.
    pub fn is_transient(&self) -> bool {
        matches!(self, DatabaseError::Unavailable(_) | DatabaseError::Timeout(_))
    }
}
