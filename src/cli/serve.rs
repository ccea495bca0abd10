//! `weir serve`: runs the proxy until it is told to stop.

use super::files::ConfigFile;
use super::{Failure, ServeArguments, logging};

/// Runs the proxy with the file that the arguments name, or the demo.
pub fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let file = match &arguments.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::demo()?,
    };
    logging::start(arguments.log_format)?;
    run_server(&file)
}

/// The hook for the server floor.
fn run_server(_file: &ConfigFile) -> Result<(), Failure> {
    Err(Failure::Other(anyhow::anyhow!("the server is not part of this build")))
}
