//! Accepts clients, over TCP and unix sockets, and gives each to the worker that has the fewest.

use super::app::App;
use super::incoming::{Incoming, Socket};
use super::metrics::refused;
use super::threads::Workers;
use crate::config::{Listen, Server};
use anyhow::{Context, bail};
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// Connections that the kernel may hold for us while we are busy.
const BACKLOG: i32 = 4096;
/// After an accept that failed (no descriptors left) the next one waits, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(50);
/// Who may connect to a unix socket: Weir's own user and group.
const MODE: u32 = 0o660;

/// What everybody else is told where whoever connects may do everything.
const PROTECTED: &str = "DENIED Weir is in protected mode: it asks for no password, and so serves only its own machine. \
    To connect from elsewhere, do one of these and start it again: \
    1) let clients connect on the same machine, over 127.0.0.1 or a unix socket; \
    2) write `password = \"env:WEIR_PASSWORD\"` into [server]; \
    3) write `users = \"users.toml\"` for users with rights of their own, or `auth = \"upstream\"` for those of the Redis behind; \
    4) write `tls = { cert = ..., key = ..., client_ca = ... }`, which serves only clients with a certificate.";

/// A place that clients connect to, bound.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener, Port),
    /// A unix socket. Its file goes first, so that it never outlives the socket.
    Unix(SocketFile, UnixListener),
}

/// What is spoken at a TCP address.
#[derive(Clone, Copy)]
pub struct Port {
    tls: bool,
    /// Protected mode: only loopback is served.
    protected: bool,
}

/// The file of a unix socket, removed with it.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it; nothing is lost then.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds every place, or says which one cannot be.
pub async fn bind(server: &Server) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for place in &server.listen {
        let protected = server.is_open(place);
        listeners.push(match place {
            Listen::Tcp(address) => Listener::Tcp(bind_tcp(*address).await?, Port { tls: false, protected }),
            Listen::Tls(address) => Listener::Tcp(bind_tcp(*address).await?, Port { tls: true, protected }),
            Listen::Unix(path) => {
                bind_unix(path).with_context(|| format!("cannot listen on unix:{}", path.display()))?
            }
        });
    }
    Ok(listeners)
}

/// Binds one TCP address.
pub async fn bind_tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

fn bind_unix(path: &Path) -> anyhow::Result<Listener> {
    make_way(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.to_owned());
    // Before the first client can connect.
    std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Unix(file, UnixListener::from_std(socket.into())?))
}

/// Removes the socket that a process left behind which is no more: nobody answers there.
fn make_way(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("there is a file of another kind; write another path, or remove it");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Ok(_) => bail!("another process listens there; the address is in use"),
        Err(error) => Err(error.into()),
    }
}

/// Accepts for ever.
pub async fn accept(listener: Listener, app: Arc<App>, workers: Arc<Workers>) {
    loop {
        match listener.next().await {
            Ok(incoming) => greet(incoming, &app, &workers),
            Err(error) => {
                refused("accept");
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Listener {
    async fn next(&self) -> io::Result<Incoming> {
        match self {
            Listener::Tcp(listener, port) => {
                let (stream, peer) = listener.accept().await?;
                // A client that is gone already has no addresses any more; that is seen when it is served.
                let local = stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string());
                let welcome = !port.protected || peer.ip().to_canonical().is_loopback();
                let socket = if port.tls { Socket::Tls(stream) } else { Socket::Tcp(stream) };
                Ok(Incoming { socket, peer: peer.to_string(), local, welcome })
            }
            Listener::Unix(file, listener) => {
                let (stream, _) = listener.accept().await?;
                // As Redis names them.
                let name = format!("{}:0", file.0.display());
                Ok(Incoming { socket: Socket::Unix(stream), peer: name.clone(), local: name, welcome: true })
            }
        }
    }
}

fn greet(incoming: Incoming, app: &App, workers: &Workers) {
    let Incoming { socket, peer, local, welcome } = incoming;
    if !welcome {
        refused("protected");
        tokio::spawn(socket.refuse(PROTECTED));
        return;
    }
    match app.clients.arrive(peer, local) {
        Some(client) => {
            let id = client.id;
            if let Err(error) = workers.assign(socket, client) {
                tracing::debug!(%error, "a client left before it was served");
                app.clients.leave(id);
            }
        }
        None => {
            refused("max_clients");
            tokio::spawn(socket.refuse("ERR max number of clients reached"));
        }
    }
}
