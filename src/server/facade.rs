//! A cluster of one node, which is Weir: what clients that speak cluster are told where the upstream is one.
//!
//! The node owns every slot and listens where the client itself connected, so that such a client sends everything here and
//! the real nodes stay out of its reach. What it says to prepare for redirects (READONLY, ASKING) is taken for said.

use super::clients::Client;
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::resp::write::{self, Protocol};
use crate::store::redis::side_key::slot;
use std::sync::OnceLock;

/// Whether Weir answers this call itself.
pub fn answers(spec: &Spec, args: Args<'_>) -> bool {
    match spec.name {
        "readonly" | "readwrite" | "asking" => true,
        "cluster" => matches!(
            spec.resolve(args).name,
            "slots" | "shards" | "nodes" | "info" | "myid" | "myshardid" | "keyslot" | "replicas" | "slaves" | "links"
        ),
        _ => false,
    }
}

/// Answers it.
pub fn answer(spec: &Spec, args: Args<'_>, client: &Client, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = spec.resolve(args);
    if !spec.arity_ok(args.len()) || !sub.arity_ok(args.len()) {
        let name = if std::ptr::eq(spec, sub) { spec.name.to_owned() } else { format!("{}|{}", spec.name, sub.name) };
        return write::error(out, format!("ERR wrong number of arguments for '{name}' command"));
    }
    if spec.name != "cluster" {
        return write::ok(out);
    }
    // Of a unix socket this is the path and 0: who came that way knows it.
    let (host, port) = client.local.rsplit_once(':').unwrap_or((&client.local, "0"));
    let (host, port) = (host.trim_matches(['[', ']']), port.parse().unwrap_or(0));
    match sub.name {
        "slots" => slots(out, protocol, host, port),
        "shards" => shards(out, protocol, host, port),
        "nodes" => write::verbatim(out, protocol, format!("{}\n", line(host, port))),
        "info" => write::verbatim(out, protocol, INFO),
        "myid" | "myshardid" => write::bulk(out, id()),
        "keyslot" => write::integer(out, slot(&args[2]).into()),
        "replicas" | "slaves" if args[2] != *id().as_bytes() => {
            write::error(out, format!("ERR Unknown node {}", String::from_utf8_lossy(&args[2])));
        }
        // No replicas, and no links to other nodes.
        _ => write::array(out, 0),
    }
}

/// The name of the one node: 40 hexadecimal digits, as long as the process lives.
fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| (0..40).map(|_| fastrand::digit(16)).collect())
}

fn slots(out: &mut Vec<u8>, protocol: Protocol, host: &str, port: u16) {
    write::array(out, 1);
    write::array(out, 3);
    write::integer(out, 0);
    write::integer(out, LAST);
    write::array(out, 4);
    write::bulk(out, host);
    write::integer(out, port.into());
    write::bulk(out, id());
    write::map(out, protocol, 0);
}

const LAST: i64 = 16383;

fn shards(out: &mut Vec<u8>, protocol: Protocol, host: &str, port: u16) {
    write::array(out, 1);
    write::map(out, protocol, 2);
    write::bulk(out, "slots");
    write::array(out, 2);
    write::integer(out, 0);
    write::integer(out, LAST);
    write::bulk(out, "nodes");
    write::array(out, 1);
    write::map(out, protocol, 7);
    for (name, value) in [("id", id()), ("ip", host), ("endpoint", host), ("role", "master"), ("health", "online")] {
        write::bulk(out, name);
        write::bulk(out, value);
    }
    for (name, value) in [("port", i64::from(port)), ("replication-offset", 0)] {
        write::bulk(out, name);
        write::integer(out, value);
    }
}

fn line(host: &str, port: u16) -> String {
    format!("{} {host}:{port}@{port} myself,master - 0 0 1 connected 0-{LAST}", id())
}

const INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
    cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\n\
    cluster_current_epoch:1\r\ncluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\n\
    cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n";
