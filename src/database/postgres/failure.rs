//! What a PostgreSQL failure means: which kind it is for the caller, and whether another attempt makes sense.
//!
//! Messages carry the primary message and its SQLSTATE. Details and hints of a load are left out, and so is what a
//! data error (classes 22 and 23) quotes, for those may be parameters or rows.

use crate::database::DatabaseError;
use deadpool_postgres::{PoolError, TimeoutType};
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: DatabaseError,
    pub(super) remedy: Remedy,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A fresh connection: this one broke, or the server shut it.
    Reconnect,
    /// Preparing again: the schema changed below the statement.
    Prepare,
    /// Nothing, but it may be a key part's fault: it is no text of its parameter's type.
    Unfit,
    /// Nothing here.
    None,
}

impl Failure {
    /// The server answered, and this was its answer.
    pub(super) fn from_refusal(refusal: &DbError) -> Failure {
        Failure { error: kind(refusal)(told(refusal)), remedy: remedy(refusal) }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Failure { error, remedy: Remedy::None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Failure::from_refusal(refusal),
            None => Failure { error: DatabaseError::Unavailable(causes(&error)), remedy: Remedy::Reconnect },
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        let message = match error {
            PoolError::Backend(error) => return Failure { remedy: Remedy::None, error: unreachable_server(&error) },
            PoolError::Timeout(TimeoutType::Create) => "connecting took too long",
            PoolError::Timeout(_) => "no connection became free",
            _ => "the pool is closed",
        };
        DatabaseError::Unavailable(message.into()).into()
    }
}

/// A connection that could not be made is never the statement's fault.
fn unreachable_server(error: &Error) -> DatabaseError {
    DatabaseError::Unavailable(match error.as_db_error() {
        Some(refusal) if refusal.message().starts_with("unsupported startup parameter") => {
            format!("{}: behind PgBouncer write prepare = false", told(refusal))
        }
        Some(refusal) => told(refusal),
        None => causes(error),
    })
}

fn kind(refusal: &DbError) -> fn(String) -> DatabaseError {
    match refusal.code().code() {
        "57014" | "55P03" | "25P03" => DatabaseError::Timeout,
        code if ["08", "28", "40", "53", "57"].contains(&&code[..2]) => DatabaseError::Unavailable,
        _ => DatabaseError::Statement,
    }
}

fn remedy(refusal: &DbError) -> Remedy {
    match refusal.code().code() {
        "57P01" | "57P02" | "57P03" | "57P05" => Remedy::Reconnect,
        "0A000" if refusal.message().contains("cached plan") => Remedy::Prepare,
        "26000" | "3F000" => Remedy::Prepare,
        "22P02" | "22007" | "22008" | "22003" | "22023" | "23514" => Remedy::Unfit,
        code if code.starts_with("08") => Remedy::Reconnect,
        code if code.starts_with("42") => Remedy::Prepare,
        _ => Remedy::None,
    }
}

fn told(refusal: &DbError) -> String {
    let code = refusal.code().code();
    let quotes_data = code.starts_with("22") || code.starts_with("23");
    let message = if quotes_data { without_quotes(refusal.message()) } else { refusal.message().to_owned() };
    format!("{message} ({code})")
}

fn without_quotes(message: &str) -> String {
    // Every second part is inside quotes; one that never closes hides everything behind it.
    let parts = message.split('"').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { "\"…\"" } else { part }).collect()
}

/// The error and what it was caused by, in one line.
pub(super) fn causes(error: &Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_data_error_quotes_is_hidden() {
        let message = "invalid input syntax for type integer: \"abc\"";
        assert_eq!(without_quotes(message), "invalid input syntax for type integer: \"…\"");
        assert_eq!(without_quotes("value \"9\"\" is out"), "value \"…\"\"…\"");
    }
}
