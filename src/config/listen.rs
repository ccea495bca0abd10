//! `[server] listen`: TCP addresses, plain or with TLS, and unix sockets.
//!
//! Once there is a certificate every address speaks TLS, and one that does not must say so (`tcp:`): a port that was
//! forgotten is then one that clients cannot use, not one that sends passwords in clear.

use super::context::Context;
use super::setting::At;
use super::{Listen, Origin, raw};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// The kernel's bound on a unix socket's path, without the final NUL (unix(7)).
const LONGEST_PATH: usize = 107;

/// The places to listen on; with `tls`, there is a certificate, and addresses speak TLS. Problems are reported.
pub fn listeners(context: &mut Context<'_>, raw: &raw::Server, tls: bool) -> Vec<Listen> {
    let default = loopback(6380);
    let Some(at) = context.read(&raw.listen) else {
        return vec![if tls { Listen::Tls(default) } else { Listen::Tcp(default) }];
    };
    if at.value.is_empty() {
        context.complain(&at.origin, "nowhere to listen", "write [\"127.0.0.1:6380\"]");
    }
    let mut listen: Vec<Listen> = Vec::new();
    for written in &at.value {
        let Some(place) = place(context, written, tls) else { continue };
        if listen.iter().any(|other| is_same(other, &place)) {
            context.complain(&written.origin, format!("{place} stands here twice"), "remove one of them");
        }
        listen.push(place);
    }
    listen
}

/// The default address of a port.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Port 0 is any free port, so that two of them are two.
fn is_same(one: &Listen, other: &Listen) -> bool {
    match (one.address(), other.address()) {
        (Some(one), Some(other)) => one == other && one.port() != 0,
        _ => one == other,
    }
}

fn place(context: &mut Context<'_>, written: &At<String>, tls: bool) -> Option<Listen> {
    let text = written.value.as_str();
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(context, &written.origin, path);
    }
    let (text, tls) = text.strip_prefix("tcp:").map_or((text, tls), |rest| (rest, false));
    let address = address(context, &written.origin, text)?;
    Some(if tls { Listen::Tls(address) } else { Listen::Tcp(address) })
}

fn unix(context: &mut Context<'_>, origin: &Origin, path: &str) -> Option<Listen> {
    let full = context.folder.join(path);
    let hint = "write the path of a file that weir may make, as in \"unix:/run/weir/weir.sock\"";
    if path.is_empty() || full.file_name().is_none() {
        context.complain(origin, format!("`unix:{path}` names no file"), hint);
        return None;
    }
    if bytes(&full) > LONGEST_PATH {
        let message = format!("{} is too long for a unix socket", full.display());
        context.complain(origin, message, format!("write a path of at most {LONGEST_PATH} bytes"));
        return None;
    }
    Some(Listen::Unix(full))
}

fn bytes(path: &Path) -> usize {
    path.as_os_str().len()
}

/// An IP address and a port; `localhost` stands for 127.0.0.1.
pub fn address(context: &mut Context<'_>, origin: &Origin, text: &str) -> Option<SocketAddr> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    if let Ok(address) = numeric.as_deref().unwrap_or(text).parse() {
        return Some(address);
    }
    let (message, hint) = address_problem(text);
    context.complain(origin, message, hint);
    None
}

fn address_problem(text: &str) -> (String, String) {
    if text.starts_with("tls:") {
        let hint = "write the address alone, and `tls = { cert = \"…\", key = \"…\" }` in [server]: every address but \
                    those with `tcp:` in front then speaks TLS";
        return ("`tls:` does not stand in front of an address".into(), hint.into());
    }
    let hint = match (text.parse::<IpAddr>(), text.trim_start_matches(':').parse::<u16>()) {
        (Ok(ip), _) => format!("add the port, as in \"{}\"", SocketAddr::new(ip, 6380)),
        (_, Ok(port)) => format!("add the address, as in \"127.0.0.1:{port}\""),
        _ => "write an IP address and a port, as in \"127.0.0.1:6380\" or \"[::1]:6380\"".into(),
    };
    (format!("`{text}` is no address to listen on"), hint)
}
