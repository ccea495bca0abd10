//! `weir serve`: runs the proxy until it is told to stop.

use super::files::ConfigFile;
use super::run::{self, StartError};
use super::{Failure, ServeArguments, demo, logging, print};
use crate::server::{App, StoreKind};

/// Runs the proxy with the file that the arguments name, or the demo.
pub fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let file = match &arguments.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::demo()?,
    };
    logging::start(arguments.log_format)?;
    let is_demo = arguments.config.is_none();
    let ended = run::run(file.config.clone(), |app| {
        let greeting = if is_demo { demo::greeting(&app.config) } else { greeting(app) };
        // A closed standard output is no reason not to serve.
        let _ = print(&greeting);
    });
    ended.map_err(|error| match error {
        StartError::Config(diagnostics) => file.failure(&diagnostics),
        StartError::Other(error) => Failure::Other(error),
    })
}

/// Where it listens, and over what.
fn greeting(app: &App) -> String {
    let server = &app.config.server;
    let addresses: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    let store = match &app.store {
        StoreKind::Redis(upstream) => format!("Redis at {}", upstream.address()),
        StoreKind::Embedded(_) => "the embedded store".into(),
    };
    format!("weir listens on {} (admin http://{}), over {store}\n", addresses.join(", "), server.admin)
}
