//! `[server]`, `[embedded]` and `[limits]`: addresses and bounds.

use super::context::Context;
use super::setting::At;
use super::sizes::{self, Size};
use super::{Embedded, Limits, Origin, Secret, Server, raw};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Spans of a command are 32 bit, and 512 MiB is also the most that Redis takes.
const MAX_COMMAND: usize = 512 * MIB;

/// `[server]`, validated.
pub fn server(context: &mut Context<'_>, raw: &raw::Server) -> Server {
    let password = context.read_secret(&raw.password);
    if let Some(empty) = password.as_ref().filter(|password| password.value.is_empty()) {
        context.complain(&empty.origin, "an empty password keeps nobody out", "write \"env:WEIR_PASSWORD\"");
    }
    let listen = listeners(context, raw, raw.password.is_some());
    let admin = admin(context, raw, &listen);
    let workers = context.read_within(&raw.workers, 0, (0, 1024), usize::to_string);
    Server {
        listen,
        admin,
        workers: if workers == 0 { cores() } else { workers },
        max_clients: context.read_within(&raw.max_clients, 10_000, (1, 1_000_000), usize::to_string),
        password: password.map(|at| Secret(at.value)),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn admin(context: &mut Context<'_>, raw: &raw::Server, listen: &[SocketAddr]) -> SocketAddr {
    let Some(written) = context.read(&raw.admin) else { return loopback(9600) };
    let Some(address) = address(context, &written) else { return loopback(9600) };
    if address.port() != 0 && listen.contains(&address) {
        context.complain(&written.origin, format!("{address} is in `listen` too"), "write another port");
    }
    address
}

fn listeners(context: &mut Context<'_>, raw: &raw::Server, has_password: bool) -> Vec<SocketAddr> {
    let Some(at) = context.read(&raw.listen) else { return vec![loopback(6380)] };
    if at.value.is_empty() {
        context.complain(&at.origin, "nowhere to listen", "write [\"127.0.0.1:6380\"]");
    }
    let mut listen = Vec::new();
    for written in &at.value {
        let Some(address) = address(context, written) else { continue };
        if !address.ip().is_loopback() && !has_password {
            complain_open(context, &written.origin, address);
        }
        if address.port() != 0 && listen.contains(&address) {
            context.complain(&written.origin, format!("{address} stands here twice"), "remove one of them");
        }
        listen.push(address);
    }
    listen
}

fn complain_open(context: &mut Context<'_>, origin: &Origin, address: SocketAddr) {
    let hint = format!(
        "add `password = \"env:WEIR_PASSWORD\"` to [server], or listen on \"127.0.0.1:{}\", where only this machine reaches it",
        address.port()
    );
    context.complain(origin, format!("{address} is reachable by others and no password is set"), hint);
}

fn address(context: &mut Context<'_>, written: &At<String>) -> Option<SocketAddr> {
    let text = written.value.as_str();
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    if let Ok(address) = numeric.as_deref().unwrap_or(text).parse() {
        return Some(address);
    }
    let (message, hint) = address_problem(text);
    context.complain(&written.origin, message, hint);
    None
}

fn address_problem(text: &str) -> (String, String) {
    if text.starts_with("unix:") {
        return ("unix sockets are not supported by this version".into(), "write an address and a port".into());
    }
    let hint = match (text.parse::<IpAddr>(), text.trim_start_matches(':').parse::<u16>()) {
        (Ok(ip), _) => format!("add the port, as in \"{}\"", SocketAddr::new(ip, 6380)),
        (_, Ok(port)) => format!("add the address, as in \"127.0.0.1:{port}\""),
        _ => "write an IP address and a port, as in \"127.0.0.1:6380\" or \"[::1]:6380\"".into(),
    };
    (format!("`{text}` is no address to listen on"), hint)
}

/// `[embedded]`, validated.
pub fn embedded(context: &mut Context<'_>, raw: &raw::Embedded) -> Embedded {
    Embedded { max_memory: size(context, &raw.max_memory, 256 * MIB, (MIB, 1 << 40)) }
}

/// `[limits]`, validated.
pub fn limits(context: &mut Context<'_>, raw: &raw::Limits) -> Limits {
    let max_command = size(context, &raw.max_command, MAX_COMMAND, (KIB, MAX_COMMAND)).clamp(KIB, MAX_COMMAND);
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
        max_output: size(context, &raw.max_output, MIB, (KIB, 1 << 30)),
        max_pipeline: context.read_within(&raw.max_pipeline, 10_000, (1, 1_000_000), usize::to_string),
        max_negative: context.read_within(&raw.max_negative, 100_000, (1, 100_000_000), usize::to_string),
    }
}

fn size(
    context: &mut Context<'_>,
    raw: &Option<super::setting::Setting<Size>>,
    default: usize,
    (least, most): (usize, usize),
) -> usize {
    context.read_within(raw, Size(default), (Size(least), Size(most)), |size| format!("{:?}", sizes::show(size.0))).0
}
