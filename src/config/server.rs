//! `[server]`, `[embedded]` and `[limits]`: addresses and bounds.

use super::context::Context;
use super::listen::{address, listeners, loopback};
use super::setting::{At, Setting};
use super::sizes::{self, Size};
use super::{Auth, Embedded, Limits, Listen, Origin, Secret, Server, durations, raw, tls, users};
use std::net::SocketAddr;
use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// Of what all clients' buffers may hold: 1 TiB.
const MOST_IN_ALL: usize = 1 << 40;
/// Spans of a command are 32 bit, and 512 MiB is also the most that Redis takes.
const MAX_COMMAND: usize = 512 * MIB;

/// `[server]`, validated.
pub fn server(context: &mut Context<'_>, raw: &raw::Server, has_upstream: bool) -> Server {
    let auth = auth(context, raw, has_upstream);
    let tls = raw.tls.as_ref().map(|at| tls::tls(context, at.get_ref(), &Origin(at.span())));
    let listen = listeners(context, raw, tls.is_some());
    let admin = admin(context, raw, &listen);
    let workers = context.read_within(&raw.workers, 0, (0, 1024), usize::to_string);
    Server {
        listen,
        admin,
        workers: if workers == 0 { cores() } else { workers },
        max_clients: context.read_within(&raw.max_clients, 10_000, (1, 1_000_000), usize::to_string),
        auth,
        tls: tls.flatten(),
        ready_after_warm: context.read_or(&raw.ready_after_warm, false).value,
    }
}

/// One of `password`, `users` and `auth`, or none. Whatever a problem leaves behind is never used.
fn auth(context: &mut Context<'_>, raw: &raw::Server, has_upstream: bool) -> Auth {
    let password = context.read_secret(&raw.password);
    if let Some(empty) = password.as_ref().filter(|password| password.value.is_empty()) {
        context.complain(&empty.origin, "an empty password keeps nobody out", "write \"env:WEIR_PASSWORD\"");
    }
    let (file, who) = (context.read(&raw.users), context.read(&raw.auth));
    let several = [("password", password.is_some()), ("users", file.is_some()), ("auth", who.is_some())];
    let written: Vec<&str> = several.iter().filter(|(_, written)| *written).map(|(name, _)| *name).collect();
    if let [first, second, ..] = written.as_slice() {
        let origin = who.as_ref().or(file.as_ref()).map(|at| at.origin.clone()).unwrap_or_default();
        let message = format!("`{first}` and `{second}` exclude each other");
        context.complain(&origin, message, "keep the one that says who may connect");
    }
    if let Some(at) = &who {
        upstreams(context, at, has_upstream);
    }
    match (who, file, password) {
        (Some(_), ..) => Auth::Upstream,
        (_, Some(file), _) => users::users(context, &file).map_or(Auth::Upstream, Auth::Users),
        (.., Some(password)) => Auth::Password(Secret(password.value)),
        _ => Auth::Nothing,
    }
}

fn upstreams(context: &mut Context<'_>, at: &At<String>, has_upstream: bool) {
    let hint = "write \"upstream\", or leave it out: Weir then checks `password` or `users`";
    if at.value != "upstream" {
        context.complain(&at.origin, format!("`{}` cannot check passwords", at.value), hint);
    } else if !has_upstream {
        context.complain(
            &at.origin,
            "there is no [upstream] to check passwords",
            "write `password` or `users` instead",
        );
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn admin(context: &mut Context<'_>, raw: &raw::Server, listen: &[Listen]) -> SocketAddr {
    let Some(written) = context.read(&raw.admin) else { return loopback(9600) };
    let Some(address) = address(context, &written.origin, &written.value) else { return loopback(9600) };
    if address.port() != 0 && listen.iter().any(|place| place.address() == Some(address)) {
        context.complain(&written.origin, format!("{address} is in `listen` too"), "write another port");
    }
    address
}

/// `[embedded]`, validated.
pub fn embedded(context: &mut Context<'_>, raw: &raw::Embedded) -> Embedded {
    Embedded { max_memory: size(context, &raw.max_memory, 256 * MIB, (MIB, 1 << 40)) }
}

/// `[limits]`, validated.
pub fn limits(context: &mut Context<'_>, raw: &raw::Limits) -> Limits {
    let max_command = size(context, &raw.max_command, MAX_COMMAND, (KIB, MAX_COMMAND)).clamp(KIB, MAX_COMMAND);
    let max_output = size(context, &raw.max_output, MIB, (KIB, GIB)).clamp(KIB, GIB);
    Limits {
        max_command,
        max_arguments: context.read_within(&raw.max_arguments, 1 << 20, (16, 1 << 20), usize::to_string),
        max_inline: size(context, &raw.max_inline, (64 * KIB).min(max_command), (KIB, max_command)),
        max_command_before_auth: size(
            context,
            &raw.max_command_before_auth,
            (16 * KIB).min(max_command),
            (KIB, max_command),
        ),
        max_output,
        max_output_total: size(context, &raw.max_output_total, GIB.max(max_output), (max_output, MOST_IN_ALL)),
        max_query_total: size(context, &raw.max_query_total, GIB, (max_command, MOST_IN_ALL)),
        max_subscriber_output: size(context, &raw.max_subscriber_output, 32 * MIB, (KIB, GIB)),
        max_private_links: context.read_within(&raw.max_private_links, 10_000, (1, 1_000_000), usize::to_string),
        max_pipeline: context.read_within(&raw.max_pipeline, 10_000, (1, 1_000_000), usize::to_string),
        max_negative: context.read_within(&raw.max_negative, 100_000, (1, 100_000_000), usize::to_string),
        max_tags: context.read_within(&raw.max_tags, 128, (1, 65_536), usize::to_string),
        max_near: size(context, &raw.max_near, 64 * MIB, (64 * KIB, MOST_IN_ALL)),
        max_fill_waiters: context.read_within(&raw.max_fill_waiters, 10_000, (1, 1_000_000), usize::to_string),
        max_missed_invalidations: context.read_within(
            &raw.max_missed_invalidations,
            100_000,
            (1, 100_000_000),
            usize::to_string,
        ),
        max_waiting_loads: context.read_within(&raw.max_waiting_loads, 1024, (1, 1_000_000), usize::to_string),
        auth_timeout: time(context, &raw.auth_timeout, 10, SHORTEST),
        command_timeout: time(context, &raw.command_timeout, 30, SHORTEST),
        idle_timeout: time(context, &raw.idle_timeout, 0, Duration::ZERO),
        write_timeout: time(context, &raw.write_timeout, 60, SHORTEST),
    }
}

/// The shortest time limit for clients; networks take longer than less.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

fn time(context: &mut Context<'_>, raw: &Option<Setting<Duration>>, default: u64, least: Duration) -> Duration {
    let show = |time: &Duration| format!("{:?}", durations::show(*time));
    context.read_within(raw, Duration::from_secs(default), (least, LONGEST), show)
}

fn size(
    context: &mut Context<'_>,
    raw: &Option<Setting<Size>>,
    default: usize,
    (least, most): (usize, usize),
) -> usize {
    context.read_within(raw, Size(default), (Size(least), Size(most)), |size| format!("{:?}", sizes::show(size.0))).0
}
