//! `[upstream]`: the URL of a Redis, `redis://[user[:password]@]host[:port][/database]`.

use super::context::Context;
use super::durations;
use super::setting::Problem;
use super::{Origin, Secret, Upstream, raw};
use std::time::Duration;

/// `[upstream]`, validated. `section` is the place of its header.
pub fn upstream(context: &mut Context<'_>, raw: &raw::Upstream, section: &Origin) -> Option<Upstream> {
    let bounds = (Duration::from_millis(1), Duration::from_secs(60));
    let timeout =
        context.read_within(&raw.timeout, Duration::from_millis(250), bounds, |&d| format!("{:?}", durations::show(d)));
    if raw.url.is_none() {
        let hint = "write `url = \"redis://127.0.0.1:6379/0\"`, or leave [upstream] out for the embedded store";
        context.complain(section, "[upstream] has no url", hint);
    }
    let url = context.read_secret(&raw.url)?;
    match parse(&url.value) {
        Ok(upstream) => Some(Upstream { timeout, ..upstream }),
        Err(problem) => {
            context.complain(&url.origin, problem.message, problem.hint);
            None
        }
    }
}

/// The URL's parts, without timeout. Problems never quote more than the scheme: the rest may hold a password.
pub fn parse(url: &str) -> Result<Upstream, Problem> {
    let example = "write \"redis://127.0.0.1:6379/0\"";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| Problem::new("this is no URL", example))?;
    match scheme {
        "redis" => {}
        "rediss" | "redis+unix" | "redis-cluster" | "redis-sentinel" | "unix" | "valkey" | "valkeys" => {
            return Err(Problem::new(format!("`{scheme}://` is not supported by this version"), example));
        }
        _ => return Err(Problem::new(format!("`{scheme}://` is no Redis"), example)),
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (userinfo, place) = match authority.rsplit_once('@') {
        Some((userinfo, place)) => (Some(userinfo), place),
        None => (None, authority),
    };
    let (user, password) = userinfo.map_or(Ok((None, None)), credentials)?;
    let (host, port) = host_and_port(place)?;
    let timeout = Duration::ZERO;
    Ok(Upstream { host, port, db: database_number(path)?, user, password: password.map(Secret), timeout })
}

fn database_number(path: &str) -> Result<u32, Problem> {
    match path {
        "" => Ok(0),
        digits => digits.parse().map_err(|_| {
            Problem::new("what follows the last `/` is no database number", "write \"/0\", or nothing for database 0")
        }),
    }
}

/// User and password, percent-decoded; an empty one is none.
fn credentials(userinfo: &str) -> Result<(Option<String>, Option<String>), Problem> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decode = |text: &str| -> Result<Option<String>, Problem> {
        let hint = "write a literal `%` as `%25`";
        let decoded =
            percent_decode(text).ok_or_else(|| Problem::new("the URL's user or password holds a stray `%`", hint))?;
        Ok((!decoded.is_empty()).then_some(decoded))
    };
    Ok((decode(user)?, decode(password)?))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let code = piece.get(..2).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn host_and_port(place: &str) -> Result<(String, u16), Problem> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
        None => place.split_once(':').map_or((place, Some("")), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "?#,".contains(c)) {
        return Err(Problem::new("the URL has no host", "write \"redis://host:6379/0\""));
    }
    let port = match port {
        Some("") => Some(6379),
        Some(digits) => digits.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    let port = port.ok_or_else(|| Problem::new("the URL's port is no port", "write one from 1 to 65535"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_url_counts() {
        let full = parse("redis://ap%40p:s%3Ae:c@[::1]:7000/3").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.db), ("::1", 7000, 3));
        assert_eq!((full.user.as_deref(), full.password), (Some("ap@p"), Some(Secret("s:e:c".into()))));
        let short = parse("redis://cache").unwrap();
        assert_eq!((short.host.as_str(), short.port, short.db), ("cache", 6379, 0));
        assert_eq!((short.user, short.password), (None, None));
        let password_only = parse("redis://:secret@cache/").unwrap();
        assert_eq!((password_only.user, password_only.password), (None, Some(Secret("secret".into()))));
    }

    #[test]
    fn what_is_no_url_of_a_redis_is_refused_without_quoting_it() {
        let cases = [
            ("127.0.0.1:6379", "this is no URL"),
            ("http://h", "`http://` is no Redis"),
            ("rediss://h", "`rediss://` is not supported by this version"),
            ("redis-cluster://a,b", "`redis-cluster://` is not supported by this version"),
            ("redis://", "the URL has no host"),
            ("redis://a,b", "the URL has no host"),
            ("redis://h:x", "the URL's port is no port"),
            ("redis://h:0", "the URL's port is no port"),
            ("redis://[::1]6379", "the URL's port is no port"),
            ("redis://h/one", "what follows the last `/` is no database number"),
            ("redis://a:%zz@h", "the URL's user or password holds a stray `%`"),
        ];
        for (url, message) in cases {
            assert_eq!(parse(url).unwrap_err().message, message, "{url}");
        }
    }
}
