//! Logs: to standard error, as text or as JSON; `WEIR_LOG` filters them.

use super::bars::AboveBars;
use super::{Failure, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process. Without `WEIR_LOG`: info and above.
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let directives = std::env::var("WEIR_LOG").unwrap_or_else(|_| "info".into());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Failure::Usage(format!("error: WEIR_LOG is no filter: {error}\n")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AboveBars)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::Other(anyhow::anyhow!(error)))
}
