//! Protected mode: where whoever connects may do everything, only this machine's own loopback may connect, and everybody else
//! is told the ways out.

mod harness;

use harness::*;
use std::io::Read;
use std::net::{IpAddr, TcpStream, UdpSocket};

/// An address of this machine that is not loopback: what connects to it comes from it. It is the one that this machine would
/// reach others from; nothing is sent.
fn own_address() -> IpAddr {
    let towards = |from: &str, other: &str| {
        let socket = UdpSocket::bind(from)?;
        socket.connect(other)?;
        Ok::<IpAddr, std::io::Error>(socket.local_addr()?.ip())
    };
    let address = towards("0.0.0.0:0", "192.0.2.1:9").or_else(|_| towards("[::]:0", "[2001:db8::1]:9"));
    address.expect(
        "an address beyond loopback. Without a network, run this in `unshare -rn`, after: ip link set lo up; \
         ip addr add 198.51.100.7/32 dev lo; ip route add default dev lo src 198.51.100.7",
    )
}

/// What a peer from there hears without saying anything, up to its end.
fn heard(weir: &Weir) -> String {
    let mut stream = TcpStream::connect((own_address(), weir.port())).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("socket option");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("words, and the end");
    text
}

fn ping(weir: &Weir) -> Reply {
    let tunnel = Tunnel::to(Far::Tcp(own_address(), weir.port()));
    tunnel.client().run("PING")
}

fn config(more: &str) -> String {
    format!("[server]\nlisten = [\"[::]:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\n{more}")
}

#[test]
fn others_are_told_four_ways_out_and_are_counted() {
    let weir = Weir::start(&config(""));
    let text = heard(&weir);
    assert!(text.starts_with("-DENIED ") && text.ends_with("\r\n") && text.lines().count() == 1, "{text}");
    for way_out in ["1) let clients", "2) write `password", "3) write `users", "4) write `tls", "client_ca"] {
        assert!(text.contains(way_out), "{way_out}: {text}");
    }
    assert_eq!(heard(&weir), text);
    let mut client = weir.client();
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "an IPv4 loopback peer of an IPv6 socket");
    assert_eq!(weir.metric("weir_clients_refused_total", &[("reason", "protected")]), 2.0);
    assert_eq!(weir.metric("weir_clients", &[]), 1.0);
}

#[test]
fn a_password_users_or_a_certificate_end_it() {
    let weir = Weir::start(&config("password = \"secret\"\n"));
    assert!(ping(&weir).is_error("NOAUTH"));

    let file = UsersFile::new("[user.default]\nnopass = true\ncommands = [\"+ping\"]\n");
    let weir = Weir::start(&config(&format!("users = \"{}\"\n", file.path().display())));
    assert_eq!(ping(&weir), Reply::Simple("PONG".into()), "who writes down that there is no password means it");

    let redis = Redis::start();
    let weir = Weir::start(&config(&format!("auth = \"upstream\"\n[upstream]\nurl = \"{}\"\n", redis.url())));
    assert!(ping(&weir).is_error("NOAUTH"));

    let authority = Authority::new();
    let (cert, app) = (authority.sign("localhost"), authority.sign("app"));
    let tls = |more: &str| {
        format!("tls = {{ cert = \"{}\", key = \"{}\"{more} }}\n", cert.cert.display(), cert.key.display())
    };
    let certified = Weir::start(&config(&tls(&format!(", client_ca = \"{}\"", authority.file().display()))));
    let over = |weir: &Weir, signed| Tunnel::to(Far::TlsAt(own_address(), weir.port(), authority.client(signed)));
    assert_eq!(over(&certified, Some(&app)).client().run("PING"), Reply::Simple("PONG".into()));
    let uncertified = Weir::start(&config(&tls("")));
    assert!(over(&uncertified, None).client().try_cmd(&["PING"]).is_err(), "a certificate of Weir's own proves nobody");
    assert_eq!(uncertified.metric("weir_clients_refused_total", &[("reason", "protected")]), 1.0);
}

#[test]
fn check_warns_of_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("weir.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("temporary folder");
        let finished = run_weir(&["check", "--offline", &file.display().to_string()]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    };
    let open = check("[server]\nlisten = [\"0.0.0.0:6380\", \"127.0.0.1:6381\", \"unix:s\"]\n");
    let warnings: Vec<&str> = open.lines().filter(|line| line.starts_with("warning")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("0.0.0.0:6380 serves nobody but this machine")), "{open}");
    assert!(!check("[server]\nlisten = [\"0.0.0.0:6380\"]\npassword = \"p\"\n").contains("warning"));
}
