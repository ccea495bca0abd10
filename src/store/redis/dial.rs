//! Reaches the upstream: TCP, a unix socket, or TLS over TCP. What is said then is the handshake's.
//!
//! Host names are looked up at each connect, so that a name that has come to mean another server is followed.

use super::failure;
use crate::config::{Address, UpstreamTls};
use crate::store::StoreError;
use crate::transport::Transport;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// A connection that is silent for this long is asked whether its peer is still there: one that waits for a message or
/// for a list may be silent for days, and must not wait for a machine that is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// An unanswered question is put again after this.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// So many unanswered questions end the connection.
const QUESTIONS: u32 = 3;

/// A connection through a unix socket.
pub async fn socket(path: &Path) -> Result<Transport, StoreError> {
    let stream = UnixStream::connect(path).await;
    stream.map(Transport::Unix).map_err(|error| failure::no_socket(path.display(), &error))
}

/// A connection to one server, over TLS where that is asked for.
pub async fn address(address: &Address, tls: Option<&UpstreamTls>) -> Result<Transport, StoreError> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
    let stream = stream.map_err(|error| failure::not_reached(address, &error))?;
    prepare(&stream).map_err(|error| failure::not_reached(address, &error))?;
    match tls {
        None => Ok(Transport::Tcp(stream)),
        Some(tls) => encrypt(address, stream, tls).await,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(ASK_AGAIN).with_retries(QUESTIONS);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn encrypt(address: &Address, stream: TcpStream, tls: &UpstreamTls) -> Result<Transport, StoreError> {
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(address.host.clone())
            .map_err(|error| StoreError::Unavailable(format!("{address}: TLS: {error}")))?,
    };
    let stream = TlsConnector::from(tls.client.clone()).connect(name.clone(), stream).await;
    stream
        .map(|stream| Transport::Tls(Box::new(stream.into())))
        .map_err(|error| failure::no_tls(address, &name.to_str(), &error))
}
