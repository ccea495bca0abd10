//! A connection between its acceptance and its first command: told off, or opened on the worker that will serve it.

use crate::config::Config;
use crate::resp::write;
use crate::transport::Transport;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

/// A connection that was accepted.
pub struct Incoming {
    /// It.
    pub socket: Socket,
    /// Where it comes from, as CLIENT LIST says it.
    pub peer: String,
    /// Where it connected to.
    pub local: String,
    /// Whether it may come in, as far as its address decides that.
    pub welcome: bool,
}

/// A socket, and what is spoken over it.
pub enum Socket {
    /// RESP.
    Tcp(TcpStream),
    /// TLS, not begun yet.
    Tls(TcpStream),
    /// RESP.
    Unix(UnixStream),
}

/// A socket on its way from one runtime to another.
pub enum Moved {
    /// See [`Socket`].
    Tcp(std::net::TcpStream),
    /// See [`Socket`].
    Tls(std::net::TcpStream),
    /// See [`Socket`].
    Unix(std::os::unix::net::UnixStream),
}

/// A socket on the runtime that will serve it.
pub enum Opened {
    /// RESP can be spoken.
    Ready(Transport),
    /// … once [`shake_hands`] is done.
    Tls(TcpStream),
}

/// Whoever is refused has so long to read why.
const LINGER: Duration = Duration::from_secs(1);

impl Socket {
    /// Leaves the runtime that accepted it.
    pub fn leave(self) -> io::Result<Moved> {
        let detach = |stream: TcpStream| {
            stream.set_nodelay(true)?;
            stream.into_std()
        };
        Ok(match self {
            Socket::Tcp(stream) => Moved::Tcp(detach(stream)?),
            Socket::Tls(stream) => Moved::Tls(detach(stream)?),
            Socket::Unix(stream) => Moved::Unix(stream.into_std()?),
        })
    }

    /// Says why, if that can be said without a handshake, and hangs up.
    pub async fn refuse(self, why: &'static str) {
        let mut line = Vec::new();
        write::error(&mut line, why);
        let told = async {
            match self {
                Socket::Tcp(mut stream) => stream.write_all(&line).await,
                Socket::Unix(mut stream) => stream.write_all(&line).await,
                Socket::Tls(_) => Ok(()),
            }
        };
        // Whether it was read or not: the connection ends here.
        let _ = tokio::time::timeout(LINGER, told).await;
    }
}

impl Moved {
    /// On the runtime that will serve it.
    pub fn open(self) -> io::Result<Opened> {
        Ok(match self {
            Moved::Tcp(stream) => Opened::Ready(Transport::Tcp(TcpStream::from_std(stream)?)),
            Moved::Unix(stream) => Opened::Ready(Transport::Unix(UnixStream::from_std(stream)?)),
            Moved::Tls(stream) => Opened::Tls(TcpStream::from_std(stream)?),
        })
    }
}

/// The TLS handshake, which may take `auth_timeout`.
pub async fn shake_hands(stream: TcpStream, config: &Config) -> io::Result<Transport> {
    let tls = config.server.tls.as_ref().ok_or_else(|| io::Error::other("there is no certificate"))?;
    let handshake = TlsAcceptor::from(tls.config.clone()).accept(stream);
    let stream = tokio::time::timeout(config.limits.auth_timeout, handshake).await??;
    Ok(Transport::Tls(Box::new(stream.into())))
}

/// Ends a connection. TLS says that this is the end, so that nobody takes it for a connection that was cut.
pub async fn hang_up(stream: &mut Transport) {
    if matches!(stream, Transport::Tls(_)) {
        // A client that does not take it does not need it.
        let _ = Box::pin(tokio::time::timeout(LINGER, stream.shutdown())).await;
    }
}
