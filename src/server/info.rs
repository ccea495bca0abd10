//! INFO: what clients and exporters look for, and Weir's own section.

use super::app::{App, EMBEDDED_VERSION, StoreKind};
use crate::config::Listen;
use crate::resp::frame::{self, Reply};
use crate::resp::write::{self, Protocol};
use crate::store::embedded::Embedded;
use std::fmt::Write;

/// Sections that INFO without arguments gives.
const DEFAULT: [&str; 10] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster", "keyspace", "weir"];

/// INFO over the embedded store.
pub fn of_embedded(app: &App, embedded: &Embedded, sections: &[String]) -> String {
    let wanted = |section: &str| is_wanted(section, sections);
    let mut text = String::new();
    for section in DEFAULT.iter().filter(|section| wanted(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        write_section(&mut text, app, embedded, section).expect("a string takes every text");
    }
    text
}

fn is_wanted(section: &str, sections: &[String]) -> bool {
    let all = |word: &String| matches!(word.as_str(), "all" | "everything" | "default");
    sections.is_empty() || sections.iter().any(|wanted| all(wanted) || wanted == section)
}

fn write_section(text: &mut String, app: &App, embedded: &Embedded, section: &str) -> std::fmt::Result {
    let stats = embedded.stats();
    let uptime = app.started.elapsed().as_secs();
    match section {
        "server" => {
            let addresses = app.config.server.listen.iter().filter_map(Listen::address);
            let (port, id) = (addresses.map(|address| address.port()).next().unwrap_or(0), std::process::id());
            write!(
                text,
                "# Server\r\nredis_version:{EMBEDDED_VERSION}\r\nredis_mode:standalone\r\nos:{}\r\narch_bits:64\r\n\
                 process_id:{id}\r\ntcp_port:{port}\r\nuptime_in_seconds:{uptime}\r\nuptime_in_days:{}\r\n",
                std::env::consts::OS,
                uptime / 86_400,
            )
        }
        "clients" => {
            let (now, most) = (app.clients.count(), app.config.server.max_clients);
            write!(text, "# Clients\r\nconnected_clients:{now}\r\nmaxclients:{most}\r\nblocked_clients:0\r\n")
        }
        "memory" => write!(
            text,
            "# Memory\r\nused_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:allkeys-lfu\r\n",
            stats.bytes, app.config.embedded.max_memory,
        ),
        "persistence" => write!(text, "# Persistence\r\nloading:0\r\nrdb_bgsave_in_progress:0\r\naof_enabled:0\r\n"),
        "stats" => write!(
            text,
            "# Stats\r\ntotal_connections_received:{}\r\nexpired_keys:{}\r\nevicted_keys:{}\r\nkeyspace_hits:{}\r\n\
             keyspace_misses:{}\r\n",
            app.clients.ever(),
            stats.expired,
            stats.evicted,
            stats.hits,
            stats.misses,
        ),
        "replication" => write!(text, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"),
        "cpu" => write!(text, "# CPU\r\n"),
        "cluster" => write!(text, "# Cluster\r\ncluster_enabled:0\r\n"),
        "keyspace" => {
            text.push_str("# Keyspace\r\n");
            embedded
                .databases()
                .into_iter()
                .try_for_each(|(db, keys, expires)| write!(text, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n"))
        }
        _ => write_own_section(text, app),
    }
}

fn write_own_section(text: &mut String, app: &App) -> std::fmt::Result {
    let (store, up) = match &app.store {
        StoreKind::Redis(upstream) => ("redis", upstream.is_up()),
        StoreKind::Embedded(_) => ("embedded", true),
    };
    write!(
        text,
        "# Weir\r\nweir_version:{}\r\nweir_store:{store}\r\nweir_upstream_up:{}\r\nweir_databases_down:{}\r\n\
         weir_routes:{}\r\nweir_clients:{}\r\nweir_uptime_in_seconds:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        u8::from(up),
        app.routes.gates().into_iter().filter(|gate| gate.is_down()).count(),
        app.routes.iter().count(),
        app.clients.count(),
        app.started.elapsed().as_secs(),
    )
}

/// The upstream's INFO, with Weir's section behind it where that was asked for.
pub fn with_own_section(app: &App, reply: Vec<u8>, protocol: Protocol, sections: &[String]) -> Vec<u8> {
    let Ok(Reply::Bulk(text)) = frame::decode(&reply, 2) else { return reply };
    if !is_wanted("weir", sections) {
        return reply;
    }
    let mut own = String::new();
    write_own_section(&mut own, app).expect("a string takes every text");
    let gap: &[u8] = if text.is_empty() { b"" } else { b"\r\n" };
    let mut out = Vec::new();
    write::verbatim(&mut out, protocol, [&text, gap, own.as_bytes()].concat());
    out
}
