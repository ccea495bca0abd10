//! `weir serve`: runs the proxy until it is told to stop.

use super::files::ConfigFile;
use super::{Failure, ServeArguments, demo, logging};
use crate::config::Config;

/// Runs the proxy with the file that the arguments name, or the demo.
pub fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let config = match &arguments.config {
        Some(path) => ConfigFile::read(path)?.config,
        None => demo::prepare()?,
    };
    logging::start(arguments.log_format)?;
    run_server(config)
}

/// The hook for the server floor.
fn run_server(_config: Config) -> Result<(), Failure> {
    Err(Failure::Other(anyhow::anyhow!("the server is not part of this build")))
}
