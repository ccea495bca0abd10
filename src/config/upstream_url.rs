//! The URL of the Redis behind Weir.
//!
//! ```text
//! redis://[user[:password]@]host[:6379][/database]              rediss://…           the same over TLS
//! redis+unix://[user[:password]@]/path[?db=database]
//! redis-sentinel://[user[:password]@]host[:26379],…/name[/db]   rediss-sentinel://…
//! redis-cluster://[user[:password]@]host[:6379],…               rediss-cluster://…
//! ```
//!
//! User, password, path and name may be percent-encoded. Problems never quote more than the scheme: the rest may hold a
//! password.

use super::setting::Problem;
use super::{Address, Place, Secret, Sentinels};

/// A URL that is right.
pub const EXAMPLE: &str = "write \"redis://127.0.0.1:6379/0\"";

/// The parts of a URL.
#[derive(Debug)]
pub struct Parsed {
    /// Where; sentinels without their credentials, which stand beside the URL.
    pub place: Place,
    /// Whether the scheme asks for TLS.
    pub tls: bool,
    /// Database number.
    pub db: u32,
    /// User.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

/// Reads place and database number from what stands between credentials and path, and from the path.
type ReadPlace = fn(&str, &str) -> Result<(Place, u32), Problem>;

/// The URL's parts, or what is wrong with it.
pub fn parse(url: &str) -> Result<Parsed, Problem> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| Problem::new("this is no URL", EXAMPLE))?;
    let read: ReadPlace = match scheme {
        "redis" | "rediss" => server,
        "redis+unix" => unix,
        "redis-sentinel" | "rediss-sentinel" => sentinels,
        "redis-cluster" | "rediss-cluster" => cluster,
        _ => return Err(unknown(scheme)),
    };
    // What stands behind a path may hold an `@`, and so may a password.
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (userinfo, hosts) = match authority.rsplit_once('@') {
        Some((userinfo, hosts)) => (Some(userinfo), hosts),
        None => (None, authority),
    };
    let (user, password) = userinfo.map_or(Ok((None, None)), credentials)?;
    let (place, db) = read(hosts, path)?;
    Ok(Parsed { place, tls: scheme.starts_with("rediss"), db, user, password: password.map(Secret) })
}

fn unknown(scheme: &str) -> Problem {
    let instead = match scheme {
        "unix" => "write \"redis+unix:///path\"",
        "valkey" => "write \"redis://\" in its place",
        "valkeys" => "write \"rediss://\" in its place",
        "redis-sentinels" => "write \"rediss-sentinel://\" in its place",
        "redis+tls" | "redis+ssl" => "write \"rediss://\" in its place",
        _ => EXAMPLE,
    };
    let plain = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let message = if plain { format!("`{scheme}://` is no Redis") } else { "this is no URL".to_owned() };
    Problem::new(message, instead)
}

fn server(hosts: &str, path: &str) -> Result<(Place, u32), Problem> {
    Ok((Place::Tcp(address(hosts, 6379)?), database_number(path)?))
}

fn unix(hosts: &str, path: &str) -> Result<(Place, u32), Problem> {
    let example = "write \"redis+unix:///run/redis.sock?db=0\"";
    if !hosts.is_empty() {
        return Err(Problem::new("a unix socket has no host", example));
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if path.len() < 2 {
        return Err(Problem::new("the URL has no path", example));
    }
    let db = match query.map(|query| query.strip_prefix("db=").and_then(|digits| digits.parse().ok())) {
        None => 0,
        Some(Some(number)) => number,
        Some(None) => return Err(Problem::new("what follows the `?` is not db=NUMBER", example)),
    };
    let path = percent_decode(path).ok_or_else(|| stray_percent("path"))?;
    Ok((Place::Unix(path.into()), db))
}

fn sentinels(hosts: &str, path: &str) -> Result<(Place, u32), Problem> {
    let addresses = addresses(hosts, 26379)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let (name, db) = path.split_at(path.find('/').unwrap_or(path.len()));
    let name = percent_decode(name).ok_or_else(|| stray_percent("name"))?;
    if name.is_empty() {
        let hint = "write \"redis-sentinel://host1,host2,host3/mymaster\"";
        return Err(Problem::new("the URL does not name the master", hint));
    }
    Ok((Place::Sentinel(Sentinels { addresses, name, user: None, password: None }), database_number(db)?))
}

fn cluster(hosts: &str, path: &str) -> Result<(Place, u32), Problem> {
    let seeds = addresses(hosts, 6379)?;
    match database_number(path)? {
        0 => Ok((Place::Cluster(seeds), 0)),
        _ => Err(Problem::new("a Redis Cluster has database 0 only", "leave the number out")),
    }
}

/// `path` is empty, or begins with a slash.
fn database_number(path: &str) -> Result<u32, Problem> {
    match path.strip_prefix('/').unwrap_or(path) {
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
        let decoded = percent_decode(text).ok_or_else(|| stray_percent("user or password"))?;
        Ok((!decoded.is_empty()).then_some(decoded))
    };
    Ok((decode(user)?, decode(password)?))
}

fn stray_percent(part: &str) -> Problem {
    Problem::new(format!("the URL's {part} holds a stray `%`"), "write a literal `%` as `%25`")
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

/// Several, separated by commas.
fn addresses(hosts: &str, port: u16) -> Result<Vec<Address>, Problem> {
    hosts.split(',').map(|host| address(host, port)).collect()
}

fn address(place: &str, default_port: u16) -> Result<Address, Problem> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
        None => place.split_once(':').map_or((place, Some("")), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "?#,".contains(c)) {
        return Err(Problem::new("the URL has no host", "write \"redis://host:6379/0\""));
    }
    let port = match port {
        Some("") => Some(default_port),
        Some(digits) => digits.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    let port = port.ok_or_else(|| Problem::new("the URL's port is no port", "write one from 1 to 65535"))?;
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    fn sentinels(addresses: &[Address], name: &str) -> Place {
        Place::Sentinel(Sentinels { addresses: addresses.to_vec(), name: name.into(), user: None, password: None })
    }

    #[test]
    fn every_part_of_the_url_counts() {
        let full = parse("redis://ap%40p:s%3Ae:c@[::1]:7000/3").unwrap();
        assert_eq!((full.place, full.db, full.tls), (Place::Tcp(at("::1", 7000)), 3, false));
        assert_eq!((full.user.as_deref(), full.password), (Some("ap@p"), Some(Secret("s:e:c".into()))));
        let short = parse("redis://cache").unwrap();
        assert_eq!((short.place, short.db), (Place::Tcp(at("cache", 6379)), 0));
        assert_eq!((short.user, short.password), (None, None));
        let password_only = parse("redis://:secret@cache/").unwrap();
        assert_eq!((password_only.user, password_only.password), (None, Some(Secret("secret".into()))));
    }

    #[test]
    fn every_scheme_has_its_places() {
        let tls = parse("rediss://cache:7000/1").unwrap();
        assert_eq!((tls.place, tls.db, tls.tls), (Place::Tcp(at("cache", 7000)), 1, true));
        let unix = parse("redis+unix://app:p%2Fw@/run/my%20redis/redis.sock?db=4").unwrap();
        assert_eq!((unix.place, unix.db, unix.tls), (Place::Unix("/run/my redis/redis.sock".into()), 4, false));
        assert_eq!((unix.user.as_deref(), unix.password), (Some("app"), Some(Secret("p/w".into()))));
        let path_with_at = parse("redis+unix:///run/a@b.sock").unwrap();
        assert_eq!((path_with_at.place, path_with_at.db), (Place::Unix("/run/a@b.sock".into()), 0));
        let sentinel = parse("redis-sentinel://:pw@s1,s2:7001,[::2]/my%2Fmaster/5").unwrap();
        let three = [at("s1", 26379), at("s2", 7001), at("::2", 26379)];
        assert_eq!((sentinel.place, sentinel.db, sentinel.tls), (sentinels(&three, "my/master"), 5, false));
        assert_eq!(sentinel.password, Some(Secret("pw".into())));
        let sentinel = parse("rediss-sentinel://s1/mymaster").unwrap();
        assert_eq!((sentinel.place, sentinel.db, sentinel.tls), (sentinels(&[at("s1", 26379)], "mymaster"), 0, true));
        let cluster = parse("rediss-cluster://app:pw@a,b:7001/0").unwrap();
        assert_eq!((cluster.place, cluster.tls), (Place::Cluster(vec![at("a", 6379), at("b", 7001)]), true));
        assert_eq!(cluster.user.as_deref(), Some("app"));
        assert!(!parse("redis-cluster://a").unwrap().tls);
    }

    #[test]
    fn what_is_no_url_of_a_redis_is_refused_without_quoting_it() {
        let cases = [
            ("127.0.0.1:6379", "this is no URL"),
            ("app:secret@h://x", "this is no URL"),
            ("http://h", "`http://` is no Redis"),
            ("unix:///run/redis.sock", "`unix://` is no Redis"),
            ("redis://", "the URL has no host"),
            ("redis://a,b", "the URL has no host"),
            ("redis://h:x", "the URL's port is no port"),
            ("redis://h:0", "the URL's port is no port"),
            ("redis://[::1]6379", "the URL's port is no port"),
            ("redis://h/one", "what follows the last `/` is no database number"),
            ("redis://a:%zz@h", "the URL's user or password holds a stray `%`"),
            ("redis+unix://run/redis.sock", "a unix socket has no host"),
            ("redis+unix://", "the URL has no path"),
            ("redis+unix:///", "the URL has no path"),
            ("redis+unix:///a%", "the URL's path holds a stray `%`"),
            ("redis+unix:///a?db=x", "what follows the `?` is not db=NUMBER"),
            ("redis+unix:///a?password=x", "what follows the `?` is not db=NUMBER"),
            ("redis-sentinel://s1,s2", "the URL does not name the master"),
            ("redis-sentinel://s1,s2/", "the URL does not name the master"),
            ("redis-sentinel://s1,,s2/m", "the URL has no host"),
            ("redis-sentinel:///m", "the URL has no host"),
            ("redis-sentinel://s1/m/x", "what follows the last `/` is no database number"),
            ("redis-cluster://a,b/1", "a Redis Cluster has database 0 only"),
            ("redis-cluster://", "the URL has no host"),
        ];
        for (url, message) in cases {
            assert_eq!(parse(url).unwrap_err().message, message, "{url}");
        }
    }
}
