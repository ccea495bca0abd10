//! Secrets live outside of the file: `"env:NAME"` or `"file:PATH"` instead of the text itself.

use super::setting::Problem;
use std::path::Path;

/// The text that `written` stands for. A file's last line end is not part of it.
pub fn resolve(written: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    if let Some(name) = written.strip_prefix("env:") {
        from_environment(name, env)
    } else if let Some(path) = written.strip_prefix("file:") {
        from_file(&folder.join(path))
    } else {
        Ok(written.to_owned())
    }
}

fn from_environment(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    match env(name) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Problem::new(
            format!("the environment variable {name} is empty"),
            format!("set {name} before starting weir"),
        )),
        None => Err(Problem::new(
            format!("the environment variable {name} is not set"),
            format!("set {name} before starting weir"),
        )),
    }
}

fn from_file(path: &Path) -> Result<String, Problem> {
    let shown = path.display();
    let hint = "write the path of a readable file, relative to this one";
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => {
            Err(Problem::new(format!("{shown} is empty"), "write the secret into its first line"))
        }
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(Problem::new(format!("cannot read {shown}: {}", describe(&error)), hint)),
    }
}

/// The error without the operating system's number.
pub fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
