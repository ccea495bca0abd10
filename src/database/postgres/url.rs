//! A PostgreSQL URL as libpq reads it, including what tokio-postgres does not know: `sslmode=verify-ca`,
//! `verify-full`, `allow`, and `sslrootcert`. Messages never quote the URL, for it may hold a password.

use crate::database::DatabaseError;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Where to connect, and how far to trust who answers.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) verify: Verify,
    /// `sslrootcert`; `None`: what the operating system trusts.
    pub(super) roots: Option<PathBuf>,
}

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// Encrypted, by whomever: `prefer`, `require`.
    Nothing,
    /// Signed by a known authority: `verify-ca`, and `require` with `sslrootcert`.
    Chain,
    /// And for this host: `verify-full`.
    Full,
}

/// Takes our own keys out of the query and leaves the rest to tokio-postgres.
pub(super) fn parse(url: &str) -> Result<Target, DatabaseError> {
    // tokio-postgres takes a password to end at the first `@`, whatever stands in it.
    let after_password = url.find('@').unwrap_or(0);
    let query_at = url[after_password..].find('?').map_or(url.len(), |at| after_password + at);
    let (base, query) = (&url[..query_at], url[query_at..].trim_start_matches('?'));
    let mut mode = None;
    let mut roots = None;
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| invalid("the part after `?` is not key=value"))?;
        match key {
            "sslmode" => mode = Some(value),
            "sslrootcert" => roots = Some(decoded(value)?),
            _ => rest.push(pair),
        }
    }
    let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    let mut config: Config = plain.parse().map_err(|error| unparsable(&error))?;
    let roots = roots.filter(|path| path != "system").map(PathBuf::from);
    let (ssl_mode, verify) = security(mode.unwrap_or("prefer"), roots.is_some())?;
    let local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    // As libpq: a socket of this machine has no TLS, whatever sslmode says.
    config.ssl_mode(if local { SslMode::Disable } else { ssl_mode });
    Ok(Target { config, verify, roots })
}

fn security(mode: &str, has_roots: bool) -> Result<(SslMode, Verify), DatabaseError> {
    Ok(match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" if has_roots => (SslMode::Require, Verify::Chain),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Chain),
        "verify-full" => (SslMode::Require, Verify::Full),
        _ => return Err(invalid("unknown sslmode: write disable, prefer, require, verify-ca or verify-full")),
    })
}

fn decoded(value: &str) -> Result<String, DatabaseError> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid("sslrootcert is not UTF-8"))
}

fn unparsable(error: &tokio_postgres::Error) -> DatabaseError {
    // The cause of an unknown option is its name, which may be a part of a password with an unescaped `?`.
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match cause.strip_prefix("invalid value for option ") {
        Some(option) => invalid(&format!("invalid value for {option}")),
        None => invalid("write postgres://user:password@host:port/name, with special characters as %XX"),
    }
}

fn invalid(message: &str) -> DatabaseError {
    DatabaseError::Unavailable(format!("the url cannot be read: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_options_mean_what_libpq_means() {
        for (query, mode, verify, roots) in [
            ("", SslMode::Prefer, Verify::Nothing, None),
            ("?sslmode=disable", SslMode::Disable, Verify::Nothing, None),
            ("?sslmode=require", SslMode::Require, Verify::Nothing, None),
            ("?sslmode=require&sslrootcert=/a%20b", SslMode::Require, Verify::Chain, Some("/a b")),
            ("?application_name=x&sslmode=verify-ca&sslrootcert=/c", SslMode::Require, Verify::Chain, Some("/c")),
            ("?sslmode=verify-full&sslrootcert=system", SslMode::Require, Verify::Full, None),
        ] {
            let target = parse(&format!("postgres://u:p@h:1/d{query}")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((target.config.get_ssl_mode(), target.verify), (mode, verify), "{query}");
            assert_eq!(target.roots, roots.map(PathBuf::from), "{query}");
        }
        assert_eq!(
            parse("postgres://u@%2Frun/d?sslmode=require").ok().map(|t| t.config.get_ssl_mode()),
            Some(SslMode::Disable)
        );
    }

    #[test]
    fn messages_never_quote_the_url() {
        for url in [
            "postgres://u@h?secret@h/d",
            "postgres://u:x@secret?secret=secret@h/d",
            "postgres://u:secret@h:secret/d",
            "postgres://u:secret@h/d?sslmode=secret",
            "postgres://u:sec%FFret@h/d?connect_timeout=secret",
            "nonsense secret",
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} was read")).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
