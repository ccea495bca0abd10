//! `[database.NAME]`: which database, and where.

use super::context::Context;
use super::durations;
use super::setting::Problem;
use super::{Database, DatabaseUrl, Origin, Secret, raw};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One `[database.NAME]`, validated. `section` is the place of its header.
pub fn database(context: &mut Context<'_>, name: &str, raw: &raw::Database, section: &Origin) -> Option<Database> {
    let bounds = (Duration::from_millis(1), Duration::from_secs(3600));
    let timeout =
        context.read_within(&raw.timeout, Duration::from_secs(2), bounds, |&d| format!("{:?}", durations::show(d)));
    let pool = context.read_within(&raw.pool, 16, (1, 1024), usize::to_string);
    let prepare = context.read_or(&raw.prepare, true).value;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let hint = "write 1 to 64 of letters, digits, `_`, `-` and `.`";
        context.complain(section, format!("`{name}` is no name of a database"), hint);
    }
    if raw.url.is_none() {
        let hint = "write `url = \"postgres://user@host/name\"` or `url = \"sqlite:shop.sqlite\"`";
        context.complain(section, format!("[database.{name}] has no url"), hint);
    }
    let written = context.read_secret(&raw.url)?;
    match parse(&written.value, context.folder) {
        Ok(url) => Some(Database { name: name.into(), url, pool, timeout, prepare, origin: written.origin }),
        Err(problem) => {
            context.complain(&written.origin, problem.message, problem.hint);
            None
        }
    }
}

/// Tells the databases apart. Problems never quote more than the scheme: the rest may hold a password.
pub fn parse(url: &str, folder: &Path) -> Result<DatabaseUrl, Problem> {
    let example = "write \"postgres://user@host/name\" or \"sqlite:shop.sqlite\"";
    let (scheme, rest) = url.split_once(':').ok_or_else(|| Problem::new("this is no URL of a database", example))?;
    match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => Ok(DatabaseUrl::Postgres(Secret(url.to_owned()))),
        "sqlite" => sqlite_path(rest, folder).map(DatabaseUrl::Sqlite),
        "mysql" | "mariadb" => Err(Problem::new(format!("`{scheme}:` is not supported by this version"), example)),
        "postgres" | "postgresql" => Err(Problem::new("`//` is missing after the scheme", example)),
        _ if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            Err(Problem::new(format!("`{scheme}:` is no database"), example))
        }
        _ => Err(Problem::new("this is no URL of a database", example)),
    }
}

fn sqlite_path(path: &str, folder: &Path) -> Result<PathBuf, Problem> {
    match path {
        "" => Err(Problem::new("the path is missing", "write \"sqlite:shop.sqlite\"")),
        ":memory:" => {
            let hint = "write the path of a file: each connection would have an empty database of its own";
            Err(Problem::new("a database in memory has nothing to load", hint))
        }
        _ if path.starts_with("//") => {
            let path = path.trim_start_matches('/');
            let hint = format!("write \"sqlite:{path}\", or \"sqlite:/{path}\" for a path from the root");
            Err(Problem::new("a SQLite path has no `//` before it", hint))
        }
        _ if path.contains('?') => {
            Err(Problem::new("a SQLite path takes no options", "write the path alone, as in \"sqlite:shop.sqlite\""))
        }
        _ => Ok(folder.join(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_paths_are_relative_to_the_files_folder() {
        let path = |url| match parse(url, Path::new("/etc/weir")).unwrap() {
            DatabaseUrl::Sqlite(path) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path("sqlite:shop.sqlite"), Path::new("/etc/weir/shop.sqlite"));
        assert_eq!(path("sqlite:/var/shop.sqlite"), Path::new("/var/shop.sqlite"));
    }

    #[test]
    fn what_is_no_database_is_refused_without_quoting_it() {
        let cases = [
            ("/shop.sqlite", "this is no URL of a database"),
            ("user pass@host:5432", "this is no URL of a database"),
            ("mysql://h/x", "`mysql:` is not supported by this version"),
            ("oracle://h/x", "`oracle:` is no database"),
            ("postgres:shop", "`//` is missing after the scheme"),
            ("sqlite:", "the path is missing"),
            ("sqlite::memory:", "a database in memory has nothing to load"),
            ("sqlite:x?mode=ro", "a SQLite path takes no options"),
            ("sqlite:///var/x", "a SQLite path has no `//` before it"),
        ];
        for (url, message) in cases {
            assert_eq!(parse(url, Path::new("")).unwrap_err().message, message, "{url}");
        }
    }
}
