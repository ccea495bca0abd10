//! `[upstream]`: where the Redis behind Weir is, and how to come to it.

use super::context::Context;
use super::setting::Setting;
use super::{
    Address, Origin, Place, ReadFrom, Secret, Sentinels, Upstream, WhenReplaced, durations, raw, upstream_tls,
    upstream_url,
};
use std::fmt;
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
    let mut parsed = match upstream_url::parse(&url.value) {
        Ok(parsed) => parsed,
        Err(problem) => {
            context.complain(&url.origin, problem.message, problem.hint);
            return None;
        }
    };
    sentinel_credentials(context, raw, &mut parsed.place);
    let read_from = read_from(context, raw, &parsed.place);
    let when_replaced = context.read(&raw.when_replaced).map_or(WhenReplaced::Drop, |at| at.value);
    let tls = upstream_tls::tls(context, raw.tls.as_ref(), &parsed, &url.origin);
    let upstream_url::Parsed { place, db, user, password, .. } = parsed;
    Some(Upstream { origin: url.origin, place, tls, db, user, password, timeout, read_from, when_replaced })
}

/// Behind one server there is nobody to choose.
fn read_from(context: &mut Context<'_>, raw: &raw::Upstream, place: &Place) -> ReadFrom {
    let Some(at) = context.read(&raw.read_from) else { return ReadFrom::Master };
    if at.value == ReadFrom::Replica && !matches!(place, Place::Cluster(_)) {
        let hint = "remove it, or write \"redis-cluster://…\"";
        context.complain(&at.origin, "the url names no cluster, so there are no replicas to read from", hint);
    }
    at.value
}

/// Sentinels have users of their own; those of the URL are the master's.
fn sentinel_credentials(context: &mut Context<'_>, raw: &raw::Upstream, place: &mut Place) {
    let mut read = |setting: &Option<Setting<String>>, is_secret: bool| {
        let at = if is_secret { context.read_secret(setting) } else { context.read(setting) };
        let at = at.filter(|at| !at.value.is_empty())?;
        if !matches!(place, Place::Sentinel(_)) {
            context.complain(&at.origin, "the url names no sentinels", "remove it, or write \"redis-sentinel://…\"");
        }
        Some(at)
    };
    let user = read(&raw.sentinel_user, false);
    let password = read(&raw.sentinel_password, true);
    if let (Some(user), None) = (&user, &raw.sentinel_password) {
        context.complain(&user.origin, "a user without a password", "add `sentinel_password = \"env:NAME\"`");
    }
    if let Place::Sentinel(sentinels) = place {
        sentinels.user = user.map(|at| at.value);
        sentinels.password = password.map(|at| Secret(at.value));
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The URL without its password.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.place {
            Place::Tcp(_) => "redis",
            Place::Unix(_) => "redis+unix",
            Place::Sentinel(_) => "redis-sentinel",
            Place::Cluster(_) => "redis-cluster",
        };
        let scheme = if self.tls.is_some() { scheme.replacen("redis", "rediss", 1) } else { scheme.to_owned() };
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        write!(f, "{scheme}://{user}")?;
        match &self.place {
            Place::Tcp(address) => write!(f, "{address}/{}", self.db),
            Place::Unix(path) => write!(f, "{}?db={}", path.display(), self.db),
            Place::Sentinel(Sentinels { addresses, name, .. }) => write!(f, "{}/{name}/{}", list(addresses), self.db),
            Place::Cluster(seeds) => f.write_str(&list(seeds)),
        }
    }
}

/// Without credentials, for messages.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(path) => path.display().fmt(f),
            Place::Sentinel(Sentinels { addresses, name, .. }) => write!(f, "{name} of {}", list(addresses)),
            Place::Cluster(seeds) => f.write_str(&list(seeds)),
        }
    }
}

fn list(addresses: &[Address]) -> String {
    addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}
