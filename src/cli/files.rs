//! A configuration file as commands meet it: read once, its text kept for errors that are found later.

use super::Failure;
use crate::config::diagnostic::Fault;
use crate::config::{self, Config, Diagnostic};
use std::io::IsTerminal;
use std::path::Path;

/// A validated file, its name and its text.
pub struct ConfigFile {
    /// What it says.
    pub config: Config,
    name: String,
    text: String,
}

impl ConfigFile {
    /// Reads and validates `path`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| Failure::Config(format!("error: cannot read {name}: {error}\n"));
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        match config::parse(&text, path, |variable| std::env::var(variable).ok()) {
            Ok(config) => Ok(Self { config, name, text }),
            Err(diagnostics) => Err(Failure::Config(shown(&diagnostics, &name, &text))),
        }
    }

    /// The demo, as if its text were a file beside its shop.
    pub fn demo() -> Result<Self, Failure> {
        let config = super::demo::prepare()?;
        Ok(Self { config, name: "demo.toml".into(), text: config::demo::TOML.into() })
    }

    /// The failure that errors found later come to: a wrong configuration outweighs an unreachable service.
    pub fn failure(&self, diagnostics: &[Diagnostic]) -> Failure {
        let text = shown(diagnostics, &self.name, &self.text);
        match diagnostics.iter().all(|diagnostic| diagnostic.fault == Fault::Service) {
            true => Failure::Unreachable(text),
            false => Failure::Config(text),
        }
    }
}

/// The rendered errors and their number.
fn shown(diagnostics: &[Diagnostic], name: &str, text: &str) -> String {
    let rendered = config::render_all(diagnostics, name, text, std::io::stderr().is_terminal());
    let count = match diagnostics.len() {
        1 => "1 error".to_owned(),
        several => format!("{several} errors"),
    };
    format!("{rendered}\n\n{count} in {name}\n")
}
