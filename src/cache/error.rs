//! Why a key could not be made present, and what the client is told of it.

use super::gate::{Reason, Refusal};
use crate::database::DatabaseError;
use crate::store::StoreError;
use std::fmt;
use std::sync::Arc;

/// Shared by everybody who waited for the same load.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// Name of the route.
    pub route: Arc<str>,
    /// What went wrong.
    pub kind: Kind,
}

/// Whose side the fault is on.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The database failed; the operator's log has its words. `-LOAD`.
    Database(DatabaseError),
    /// The load reached `load_timeout` and was cancelled. `-LOAD`.
    TimedOut,
    /// The load's task panicked: a fault of Weir's own. `-LOAD`.
    Panicked,
    /// Nobody's load came to an end in time. `-LOAD`.
    WaitedTooLong,
    /// The load was not begun: shed, `-OVERLOADED`, or because the database has failed of late, `-LOAD`.
    NotBegun(Refusal),
    /// There is a row, and what was to be stored of it is not. `-LOAD`.
    NotStored,
    /// The store could not be asked. `-UPSTREAM`.
    Store(StoreError),
}

impl Kind {
    /// Whether this is the database's own fault, and not one of the statement or the load: then others fail as well.
    pub fn is_of_the_database(&self) -> bool {
        match self {
            Kind::Database(error) => error.is_transient(),
            Kind::TimedOut => true,
            Kind::Panicked | Kind::WaitedTooLong | Kind::NotStored | Kind::NotBegun(_) | Kind::Store(_) => false,
        }
    }
}

/// The client's view: a prefix of its own, the route, and never SQL, parameters or the database's words.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        match &self.kind {
            Kind::Database(DatabaseError::Unavailable(_)) => {
                write!(f, "LOAD route '{route}': the database is unreachable")
            }
            Kind::Database(DatabaseError::Timeout(_)) => write!(f, "LOAD route '{route}': the database timed out"),
            Kind::Database(DatabaseError::Statement(_)) => {
                write!(f, "LOAD route '{route}': the database refused the statement")
            }
            Kind::Database(DatabaseError::Encoding(_)) => {
                write!(f, "LOAD route '{route}': the row does not fit the route's value")
            }
            Kind::TimedOut => write!(f, "LOAD route '{route}': the load reached its time limit"),
            Kind::Panicked => write!(f, "LOAD route '{route}': the load failed inside the proxy"),
            Kind::WaitedTooLong => write!(f, "LOAD route '{route}': waited too long for another load of this key"),
            Kind::NotBegun(Refusal { database, reason }) => match reason {
                Reason::Full(most) => write!(
                    f,
                    "OVERLOADED route '{route}': {most} loads wait for database '{database}' already; try again later, or \
                     raise [database.{database}] pool or [limits] max_waiting_loads"
                ),
                Reason::Late(waited, pool) => write!(
                    f,
                    "OVERLOADED route '{route}': none of the {pool} connections of database '{database}' was free within \
                     {waited:?}, half of load_timeout; try again later, or raise [database.{database}] pool"
                ),
                Reason::Busy => write!(f, "OVERLOADED route '{route}': no connection of database '{database}' is free"),
                Reason::Down => {
                    write!(
                        f,
                        "LOAD route '{route}': database '{database}' has failed of late and is not asked for a moment"
                    )
                }
            },
            Kind::NotStored => {
                write!(
                    f,
                    "LOAD route '{route}': the row was loaded and could not be stored: it is too large, has too many tags, or changed again and again"
                )
            }
            Kind::Store(error) => upstream_error(f, error),
        }
    }
}

/// The client's view of a store's failure.
pub fn upstream_error(f: &mut impl fmt::Write, error: &StoreError) -> fmt::Result {
    f.write_str(&error.reply())
}
