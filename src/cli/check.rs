//! `weir check`: validates a file, prepares its statements on the live databases, and shows what it comes to.

use super::files::ConfigFile;
use super::{CheckArguments, Failure, print, report};
use crate::cache::prepare::prepare;
use crate::config::{Config, Diagnostic};

/// Prints the report, or fails with every error of the file.
pub fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let file = ConfigFile::read(&arguments.file)?;
    let errors = if arguments.offline { Vec::new() } else { prepare_statements(&file.config)? };
    match errors.is_empty() {
        true => print(&report::report(&file.config)),
        false => Err(file.failure(&errors)),
    }
}

/// Prepares every statement on its database, as `serve` does.
fn prepare_statements(config: &Config) -> Result<Vec<Diagnostic>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let prepared = runtime.map_err(Failure::other)?.block_on(prepare(config));
    Ok(prepared.err().unwrap_or_default())
}
