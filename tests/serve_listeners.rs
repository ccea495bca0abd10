//! Where clients connect: unix sockets, TLS with and without certificates of clients, and what happens at the door.

mod harness;

use harness::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

const HEAD: &str = "[server]\nadmin = \"127.0.0.1:{admin}\"\n";
const PONG: &str = "PONG";

fn unix(weir: &Weir) -> Tunnel {
    Tunnel::to(Far::Unix(weir.folder().join("weir.sock")))
}

fn tls(cert: &Signed, more: &str) -> String {
    format!("tls = {{ cert = \"{}\", key = \"{}\"{more} }}\n", cert.cert.display(), cert.key.display())
}

fn client_ca(authority: &Authority) -> String {
    format!(", client_ca = \"{}\"", authority.file().display())
}

fn is_served(client: &mut Client) -> bool {
    client.try_cmd(&["PING"]).is_ok_and(|reply| reply == Reply::Simple(PONG.into()))
}

#[test]
fn a_unix_socket_serves_as_a_port_does_and_is_gone_with_weir() {
    let mut weir = Weir::start(&format!("{HEAD}listen = [\"127.0.0.1:{{port}}\", \"unix:weir.sock\"]\n"));
    let socket = weir.folder().join("weir.sock");
    let mode = std::fs::metadata(&socket).expect("the socket's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let tunnel = unix(&weir);
    let mut client = tunnel.client();
    client.run("SET k v");
    assert_eq!(weir.client().run("GET k"), Reply::bulk("v"));
    let (info, path) = (client.run("CLIENT INFO").text(), socket.display());
    assert!(info.contains(&format!(" addr={path}:0 laddr={path}:0 ")), "{info}");
    drop(client);
    weir.signal("TERM");
    assert!(weir.wait().success());
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("weir.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "a listener that is dropped leaves its file behind");
    let weir = Weir::start(&format!("{HEAD}listen = [\"unix:{}\"]\n", path.display()));
    assert!(is_served(&mut Tunnel::to(Far::Unix(path)).client()));
    drop(weir);
}

#[test]
fn a_socket_that_somebody_listens_on_or_another_file_is_left_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (live, file) = (folder.path().join("live.sock"), folder.path().join("file"));
    let _listener = UnixListener::bind(&live).expect("a socket");
    std::fs::write(&file, "precious").expect("temporary folder");
    for (path, words) in [(&live, "another process listens there"), (&file, "there is a file of another kind")] {
        let finished = serve_until_it_fails(folder.path(), path);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(words), "{finished:?}");
        assert!(path.exists());
    }
    assert_eq!(std::fs::read(&file).expect("the file"), b"precious");
}

fn serve_until_it_fails(folder: &Path, socket: &Path) -> Finished {
    let config = folder.join("weir.toml");
    let text = format!("[server]\nadmin = \"127.0.0.1:0\"\nlisten = [\"unix:{}\"]\n", socket.display());
    std::fs::write(&config, text).expect("temporary folder");
    run_weir(&["serve", "--config", &config.display().to_string()])
}

#[test]
fn with_a_certificate_every_port_speaks_tls_but_those_that_say_tcp() {
    let authority = Authority::new();
    let plain = free_port();
    let listen = format!("listen = [\"127.0.0.1:{{port}}\", \"tcp:127.0.0.1:{plain}\"]\n");
    let weir = Weir::start(&format!("{HEAD}{listen}{}", tls(&authority.sign("localhost"), "")));
    let tunnel = Tunnel::to(Far::Tls(weir.port(), authority.client(None)));
    let mut client = tunnel.client();
    assert!(is_served(&mut client));
    // More than one record, and more than a socket's buffer holds.
    let value = vec![b'v'; 8 << 20];
    assert_eq!(client.cmd(&[&b"SET"[..], b"k", &value]), Reply::ok());
    for reply in client.pipeline(&[vec!["GET", "k"], vec!["STRLEN", "k"], vec!["GET", "k"]]).chunks(2) {
        assert_eq!(reply[0], Reply::Bulk(value.clone()));
    }
    let mut beside = Client::connect(plain);
    assert_eq!(beside.run("STRLEN k"), Reply::Int(8 << 20));
    let mut naked = weir.client();
    naked.run_later("PING");
    assert!(naked.is_closed(), "a client that speaks no TLS is not served");
    wait_until("the failed handshake is counted", || {
        weir.metric("weir_clients_closed_total", &[("reason", "tls")]) == 1.0
    });
    assert!(is_served(&mut client));
}

#[test]
fn with_an_authority_for_clients_only_its_clients_are_served() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let config = tls(&ours.sign("localhost"), &client_ca(&ours));
    let weir = Weir::start(&format!("{HEAD}listen = [\"127.0.0.1:{{port}}\"]\n{config}"));
    let (known, unknown) = (ours.sign("app"), theirs.sign("app"));
    for (identity, served) in [(Some(&known), true), (None, false), (Some(&unknown), false)] {
        let tunnel = Tunnel::to(Far::Tls(weir.port(), ours.client(identity)));
        assert_eq!(is_served(&mut tunnel.client()), served);
    }
    wait_until("both are counted", || weir.metric("weir_clients_closed_total", &[("reason", "tls")]) == 2.0);
    wait_until("nobody is left", || weir.metric("weir_clients", &[]) == 0.0);
}

#[test]
fn a_handshake_that_stalls_holds_up_nobody_and_its_place_is_free_in_time() {
    let authority = Authority::new();
    let config = tls(&authority.sign("localhost"), "");
    let weir = Weir::start(&format!(
        "{HEAD}listen = [\"127.0.0.1:{{port}}\"]\nmax_clients = 5\n{config}[limits]\nauth_timeout = \"2s\"\n"
    ));
    let mut stalled: Vec<Client> = (0..4).map(|_| weir.client()).collect();
    stalled[0].send(b"\x16\x03\x01");
    let tunnel = Tunnel::to(Far::Tls(weir.port(), authority.client(None)));
    assert!(is_served(&mut tunnel.client()), "the fifth is served meanwhile");
    for client in &mut stalled {
        assert!(client.is_closed());
    }
    // The socket is closed before that is counted, and the place is free after.
    wait_until("their places are free", || weir.metric("weir_clients", &[]) == 0.0);
    assert_eq!(weir.metric("weir_clients_closed_total", &[("reason", "tls")]), 4.0);
    let mut again: Vec<Client> = (0..4).map(|_| tunnel.client()).collect();
    assert!(again.iter_mut().all(is_served));
}
