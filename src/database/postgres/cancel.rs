//! Cancel requests: a connection of their own that says which query to stop, and is never answered.
//!
//! The connection is kept until the server closes it, as libpq does: a PgBouncer forgets a request whose sender has
//! already gone. (tokio-postgres leaves at once, so only its encoding of the request is used.) A server that has no
//! such query ignores the request, so with several hosts each is told.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// One server that a connection may be to.
#[derive(Clone, Debug)]
pub(super) struct Address {
    host: Host,
    /// `hostaddr`, which spares the look-up.
    ip: Option<IpAddr>,
    port: u16,
}

impl Address {
    /// All that the configuration names.
    pub(super) fn all(config: &Config) -> Vec<Address> {
        let ports = config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let ip = |index: usize| config.get_hostaddrs().get(index).copied();
        let hosts = config.get_hosts().iter().enumerate();
        let named: Vec<Address> =
            hosts.map(|(index, host)| Address { host: host.clone(), ip: ip(index), port: port(index) }).collect();
        if !named.is_empty() {
            return named;
        }
        let bare = |(index, ip): (usize, &IpAddr)| Address {
            host: Host::Tcp(ip.to_string()),
            ip: Some(*ip),
            port: port(index),
        };
        config.get_hostaddrs().iter().enumerate().map(bare).collect()
    }
}

/// Asks the server at `address` to stop the token's query, and returns once it has heard.
pub(super) async fn cancel(token: &CancelToken, address: &Address, tls: MakeRustlsConnect) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    match &address.host {
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", address.port));
            send(token, UnixStream::connect(path).await.map_err(failed)?, tls, "localhost").await
        }
        Host::Tcp(name) => {
            let stream = match address.ip {
                Some(ip) => TcpStream::connect((ip, address.port)).await,
                None => TcpStream::connect((name.as_str(), address.port)).await,
            };
            send(token, stream.map_err(failed)?, tls, name).await
        }
    }
}

async fn send<S>(token: &CancelToken, stream: S, mut tls: MakeRustlsConnect, name: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tls = MakeTlsConnect::<Patient<S>>::make_tls_connect(&mut tls, name).map_err(|error| error.to_string())?;
    token.cancel_query_raw(Patient(stream), tls).await.map_err(|error| super::failure::causes(&error))
}

/// A stream that, told to shut down, waits until the other side has.
struct Patient<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ignored = [0; 64];
            let mut out = ReadBuf::new(&mut ignored);
            match ready!(Pin::new(&mut self.0).poll_read(cx, &mut out)) {
                Ok(()) if !out.filled().is_empty() => {}
                // Closed, in whichever way.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
