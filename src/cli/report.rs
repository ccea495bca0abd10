//! What a configuration comes to, for people: every default filled in, no secret shown.

use crate::config::durations::{show, show_rounded};
use crate::config::{
    Auth, Checks, Config, Database, DatabaseUrl, Filler, Limits, Listen, Load, Route, Rows, Server, shares, sizes,
};
use std::fmt::Write;
use std::time::Duration;

/// The whole report: one line per section and warning, then one block per route. `warnings`: what was found besides.
pub fn report(config: &Config, warnings: &[String]) -> String {
    let mut text = String::new();
    line(&mut text, "server", &server(&config.server));
    for place in config.server.listen.iter().filter(|place| is_shut(&config.server, place)) {
        let warning =
            format!("{place} serves nobody but this machine: [server] has no password, users, auth or tls client_ca");
        line(&mut text, "warning", &warning);
    }
    line(&mut text, "store", &store(config));
    warnings.iter().for_each(|warning| line(&mut text, "warning", warning));
    for database in config.databases.values() {
        line(&mut text, "database", &self::database(database));
    }
    if let Some(channel) = &config.invalidation_channel {
        line(&mut text, "events", &format!("invalidation channel {channel}"));
    }
    line(&mut text, "limits", &limits(&config.limits));
    for route in &config.routes {
        text.push_str(&block(route, config.upstream.is_none()));
    }
    text
}

/// Whether others could reach the place, and protected mode will not let them in.
fn is_shut(server: &Server, place: &Listen) -> bool {
    server.is_open(place) && place.address().is_some_and(|address| !address.ip().is_loopback())
}

fn line(text: &mut String, label: &str, value: &str) {
    writeln!(text, "{label:<9} {value}").expect("a String takes everything");
}

fn server(server: &Server) -> String {
    let listen: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    let password = match &server.auth {
        Auth::Nothing => "no password".into(),
        Auth::Password(_) => "with a password".into(),
        Auth::Users(file) => format!("{} users", file.users.len()),
        Auth::Upstream => "users of the upstream".to_owned(),
    };
    format!(
        "{} ({password}), admin {}, workers {}, max_clients {}",
        listen.join(", "),
        server.admin,
        server.workers,
        server.max_clients
    )
}

fn store(config: &Config) -> String {
    match &config.upstream {
        None => format!("embedded, max_memory {}", sizes::show(config.embedded.max_memory)),
        Some(upstream) => {
            let (timeout, replaced) = (show(upstream.timeout), upstream.when_replaced.word());
            format!("{upstream}, timeout {timeout}, when_replaced {replaced}")
        }
    }
}

fn database(database: &Database) -> String {
    let kind = match &database.url {
        DatabaseUrl::Postgres(_) if database.prepare => "postgres, named statements".to_owned(),
        DatabaseUrl::Postgres(_) => "postgres, no named statements".to_owned(),
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
    };
    format!("{}: {kind}, pool {}, timeout {}", database.name, database.pool, show(database.timeout))
}

fn limits(limits: &Limits) -> String {
    format!(
        "max_command {}, max_arguments {}, max_inline {}, max_command_before_auth {}, max_output {}, \
         max_output_total {}, max_query_total {}, max_subscriber_output {}, max_private_links {}, max_pipeline {}, max_negative {}, max_tags {}, max_near {}, max_fill_waiters {}, max_missed_invalidations {}, max_waiting_loads {}, auth_timeout {}, command_timeout {}, idle_timeout {}, write_timeout {}",
        sizes::show(limits.max_command),
        limits.max_arguments,
        sizes::show(limits.max_inline),
        sizes::show(limits.max_command_before_auth),
        sizes::show(limits.max_output),
        sizes::show(limits.max_output_total),
        sizes::show(limits.max_query_total),
        sizes::show(limits.max_subscriber_output),
        limits.max_private_links,
        limits.max_pipeline,
        limits.max_negative,
        limits.max_tags,
        sizes::show(limits.max_near),
        limits.max_fill_waiters,
        limits.max_missed_invalidations,
        limits.max_waiting_loads,
        show(limits.auth_timeout),
        show(limits.command_timeout),
        if limits.idle_timeout.is_zero() { "off".into() } else { show(limits.idle_timeout) },
        show(limits.write_timeout),
    )
}

fn block(route: &Route, embedded: bool) -> String {
    let mut rows = vec![("key", route.key.text.clone())];
    match &route.filler {
        Filler::Load(load) => rows.extend(of_load(route, load, embedded)),
        Filler::Clients { wait_for_fill } => rows.extend(of_clients(route, *wait_for_fill, embedded)),
    }
    let mut text = format!("\nroute {}\n", route.name);
    rows.push(("tags", route.tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>().join(", ")));
    for (label, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "  {label:<10} {value}").expect("a String takes everything");
    }
    text
}

fn of_load(route: &Route, load: &Load, embedded: bool) -> [(&'static str, String); 8] {
    let parameters: Vec<String> = load.parameters.iter().map(|name| format!(":{name}")).collect();
    [
        ("database", load.database.clone()),
        ("load", one_line(&load.sql)),
        ("parameters", if parameters.is_empty() { "none".into() } else { parameters.join(" ") }),
        ("value", value(load)),
        ("timeline", timeline(route, load, embedded)),
        ("checks", checks(load.checks)),
        ("on_modify", load.on_modify.word().into()),
        ("warm", load.warm.as_ref().map(|warm| one_line(&warm.sql)).unwrap_or_default()),
    ]
}

/// `1 in 1000 hits, 1 in 100 invalidations`; nothing where nothing is checked.
fn checks(Checks { hits, invalidations }: Checks) -> String {
    let counts = [(hits, "hits"), (invalidations, "invalidations")].into_iter().filter(|(one_in, _)| *one_in > 0);
    counts.map(|(one_in, what)| format!("1 in {one_in} {what}")).collect::<Vec<_>>().join(", ")
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_clients(route: &Route, wait_for_fill: Duration, embedded: bool) -> [(&'static str, String); 2] {
    let wait = if wait_for_fill.is_zero() { "off".into() } else { show(wait_for_fill) };
    let jitter = if route.jitter == 0.0 { "off".into() } else { shares::show(route.jitter) };
    let (fresh, near) = (fresh(route), near(route, embedded));
    let timeline = format!("at most {fresh}, clients' TTLs jittered {jitter}, wait for fill {wait}, near {near}");
    [("load", "none: applications fill these keys themselves".into()), ("timeline", timeline)]
}

fn value(load: &Load) -> String {
    let rows = match load.rows {
        Rows::One => "one row",
        Rows::Many => "many rows",
    };
    format!("{} of {rows}, max_value {}", load.value.word(), sizes::show(load.max_value))
}

/// `fresh 4.5m–5m, negative 60s, load timeout 2s, near 5s`.
fn timeline(route: &Route, load: &Load, embedded: bool) -> String {
    let negative = if load.negative_ttl == Duration::ZERO { "off".into() } else { show(load.negative_ttl) };
    let (fresh, timeout, near) = (fresh(route), show(load.load_timeout), near(route, embedded));
    let grace = if load.grace.is_zero() { "off".into() } else { show(load.grace) };
    let refresh = if load.early_refresh == 0.0 { "off".into() } else { format!("{:?}", load.early_refresh) };
    format!(
        "fresh {fresh}, grace {grace}, early refresh {refresh}, negative {negative}, load timeout {timeout}, near {near}"
    )
}

fn near(route: &Route, embedded: bool) -> String {
    match route.near {
        Duration::ZERO => "off".into(),
        _ if embedded => "off (the embedded store is as near)".into(),
        near => show(near),
    }
}

/// `4.5m–5m`, and `4.5m–5m from the last read`.
fn fresh(route: &Route) -> String {
    let shortest = route.ttl.mul_f64(1.0 - route.jitter);
    let fresh = match shortest == route.ttl {
        true => show_rounded(route.ttl),
        false => format!("{}–{}", show_rounded(shortest), show_rounded(route.ttl)),
    };
    if route.sliding { format!("{fresh} from the last read") } else { fresh }
}
