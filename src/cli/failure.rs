//! Why a command failed, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

/// A command's failure, with the text for standard error.
#[derive(Debug)]
pub enum Failure {
    /// The arguments make no sense: 64.
    Usage(String),
    /// The configuration is wrong; the text is its rendered errors: 78.
    Config(String),
    /// A database, an upstream or a proxy cannot be reached; the text is complete: 69.
    Unreachable(String),
    /// Anything else: 1.
    Other(anyhow::Error),
}

impl Failure {
    /// A failure with no exit code of its own.
    pub fn other(error: impl Into<anyhow::Error>) -> Self {
        Failure::Other(error.into())
    }

    /// The numbers are those of sysexits.h.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => 64,
            Failure::Config(_) => 78,
            Failure::Unreachable(_) => 69,
            Failure::Other(_) => 1,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Config(text) | Failure::Unreachable(text) => f.write_str(text),
            Failure::Other(error) => writeln!(f, "error: {error:#}"),
        }
    }
}
