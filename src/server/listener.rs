//! Accepts clients and gives each to the worker that has the fewest.

use super::app::App;
use super::threads::Workers;
use anyhow::Context;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel may hold for us while we are busy.
const BACKLOG: i32 = 4096;
/// After an accept that failed (no descriptors left) the next one waits, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds every address, or says which one cannot be.
pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for &address in addresses {
        listeners.push(bind_one(address).await?);
    }
    Ok(listeners)
}

/// Binds one address.
pub async fn bind_one(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address).with_context(|| format!("cannot listen on {address}"))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever.
pub async fn accept(listener: TcpListener, app: Arc<App>, workers: Arc<Workers>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => greet(stream, peer, &app, &workers),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn greet(stream: TcpStream, peer: SocketAddr, app: &App, workers: &Workers) {
    let Ok(local) = stream.local_addr() else { return };
    match app.clients.arrive(peer, local) {
        Some(client) => {
            let id = client.id;
            if let Err(error) = workers.assign(stream, client) {
                tracing::debug!(%error, "a client left before it was served");
                app.clients.leave(id);
            }
        }
        None => drop(tokio::spawn(refuse(stream))),
    }
}

/// One too many: told in Redis's words.
async fn refuse(mut stream: TcpStream) {
    let told = stream.write_all(b"-ERR max number of clients reached\r\n");
    // Whether it was read or not: the connection ends here.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}
