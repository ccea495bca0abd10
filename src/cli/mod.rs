//! The command line: arguments in, exit code out. One file per command.
//!
//! Exit codes: 0 done, 64 wrong usage, 78 bad configuration, 69 a service that is needed cannot be reached, 1 anything
//! else. Results go to standard output, errors and logs to standard error. Held by tests/config_cli.rs.

mod bars;
mod check;
pub mod demo;
mod explain;
mod failure;
mod files;
mod logging;
mod report;
mod run;
mod serve;

use crate::config;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

pub use failure::Failure;

/// A caching proxy for Redis clients: SQL answers what the cache does not hold.
#[derive(Debug, Parser)]
#[command(name = "weir", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy; without a file, a demo with the embedded store and a sample shop
    Serve(ServeArguments),
    /// Validate a configuration file and show what it comes to
    Check(CheckArguments),
    /// Ask a running proxy which route, statement and state answer a key
    Explain(ExplainArguments),
    /// Print the JSON schema of the configuration, for editors
    Schema(SchemaArguments),
}

/// `weir serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines are written; WEIR_LOG sets what is logged (default: info)
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// `weir check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not connect to the upstream, nor to the databases to prepare the statements
    #[arg(long)]
    pub offline: bool,
}

/// `weir schema`.
#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// That of a file of users instead
    #[arg(long)]
    pub users: bool,
}

/// `weir explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The proxy's admin address (default: the configuration file's, else 127.0.0.1:9600)
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// The configuration file that the proxy runs with
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command that the arguments name (the first is the program's own name).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => run(arguments),
        Err(error) => usage(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads a closed standard error, and the exit code still tells.
            let _ = write!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Schema(SchemaArguments { users: false }) => print(&format!("{:#}\n", config::schema())),
        Command::Schema(SchemaArguments { users: true }) => print(&format!("{:#}\n", config::users_schema())),
    }
}

/// `--help` and `--version` are no errors, though clap hands them back as such.
fn usage(error: &clap::Error) -> Result<(), Failure> {
    match error.use_stderr() {
        true => Err(Failure::Usage(error.render().to_string())),
        false => print(&error.render().to_string()),
    }
}

/// Writes to standard output; a reader that has left is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::other(error)),
        _ => Ok(()),
    }
}
