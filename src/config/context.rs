//! What validation carries through a file: its text, where secrets come from, and the errors so far.
//!
//! A validator reports an error and goes on with a default, so that one run tells all of them. Nothing that was made
//! this way is ever handed out: one error is enough for the whole file to be refused.

use super::diagnostic::Diagnostic;
use super::setting::{At, Setting};
use super::{Origin, secret};
use std::path::Path;

/// The state of one validation.
pub struct Context<'a> {
    /// The file's text.
    pub text: &'a str,
    /// The file's folder: what relative paths are relative to.
    pub folder: &'a Path,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The errors so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl Context<'_> {
    /// Reports an error.
    pub fn complain(&mut self, origin: &Origin, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::at(origin, message, hint));
    }

    /// The setting's value and place; `None` if it is left out or wrong, which is then reported.
    pub fn read<T: Clone>(&mut self, setting: &Option<Setting<T>>) -> Option<At<T>> {
        let setting = setting.as_ref()?;
        match &setting.value {
            Ok(value) => Some(At { origin: setting.origin.clone(), value: value.clone() }),
            Err(problem) => {
                let origin = problem.origin.as_ref().unwrap_or(&setting.origin);
                self.complain(origin, problem.message.clone(), problem.hint.clone());
                None
            }
        }
    }

    /// The setting's value, or the default that stands for a missing and for a wrong one.
    pub fn read_or<T: Clone>(&mut self, setting: &Option<Setting<T>>, default: T) -> At<T> {
        self.read(setting).unwrap_or(At { origin: Origin::default(), value: default })
    }

    /// The setting's value, which must lie between two bounds, both allowed. `show` writes a value as the file would.
    pub fn read_within<T: Clone + PartialOrd>(
        &mut self,
        setting: &Option<Setting<T>>,
        default: T,
        bounds: (T, T),
        show: impl Fn(&T) -> String,
    ) -> T {
        self.read_within_at(setting, default, bounds, show).value
    }

    /// The same, with the place.
    pub fn read_within_at<T: Clone + PartialOrd>(
        &mut self,
        setting: &Option<Setting<T>>,
        default: T,
        (least, most): (T, T),
        show: impl Fn(&T) -> String,
    ) -> At<T> {
        let at = self.read_or(setting, default);
        let (low, high) = (at.value < least, at.value > most);
        if low || high {
            let message = format!("{} is too {}", show(&at.value), if low { "small" } else { "large" });
            self.complain(&at.origin, message, format!("write a value from {} to {}", show(&least), show(&most)));
        }
        at
    }

    /// The setting's text with `env:` and `file:` looked up.
    pub fn read_secret(&mut self, setting: &Option<Setting<String>>) -> Option<At<String>> {
        let At { origin, value } = self.read(setting)?;
        match secret::resolve(&value, self.folder, self.env) {
            Ok(value) => Some(At { origin, value }),
            Err(problem) => {
                self.complain(&origin, problem.message, problem.hint);
                None
            }
        }
    }
}
