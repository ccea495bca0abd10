//! `weir serve`: runs the proxy until it is told to stop.

use super::files::ConfigFile;
use super::{Failure, ServeArguments, demo, logging, print};
use crate::server::{self, App, StartError, StoreKind};

/// Runs the proxy with the file that the arguments name, or the demo.
pub fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    logging::start(arguments.log_format)?;
    match &arguments.config {
        Some(path) => {
            let file = ConfigFile::read(path)?;
            let started = server::run(file.config.clone(), |app| announce(app, ""));
            started.map_err(|error| match error {
                StartError::Config(diagnostics) => file.failure(&diagnostics),
                StartError::Other(error) => Failure::Other(error),
            })
        }
        None => server::run(demo::prepare()?, |app| announce(app, demo::HINT)).map_err(|error| match error {
            StartError::Config(diagnostics) => {
                Failure::Other(anyhow::anyhow!("the demo does not start: {diagnostics:?}"))
            }
            StartError::Other(error) => Failure::Other(error),
        }),
    }
}

/// Says where it listens, once it does.
fn announce(app: &App, hint: &str) {
    let server = &app.config.server;
    let addresses: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    let store = match &app.store {
        StoreKind::Redis(upstream) => format!("Redis at {}", upstream.address()),
        StoreKind::Embedded(_) => "the embedded store".into(),
    };
    let listening = format!("weir listens on {} (admin http://{}), over {store}\n", addresses.join(", "), server.admin);
    // A closed standard output is no reason not to serve.
    let _ = print(&format!("{listening}{hint}"));
}
