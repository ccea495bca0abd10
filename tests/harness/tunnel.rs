//! Lets the plain client speak over a unix socket or TLS: a port of its own whose bytes go on over the other.

use super::Client;
use rustls::ClientConfig;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Where a tunnel ends.
#[derive(Clone)]
pub enum Far {
    Unix(PathBuf),
    Tcp(IpAddr, u16),
    /// A port of 127.0.0.1, whose certificate must be for `localhost`.
    Tls(u16, Arc<ClientConfig>),
    TlsAt(IpAddr, u16, Arc<ClientConfig>),
}

/// Carries any number of connections until it is dropped. One whose far end cannot be reached is closed.
pub struct Tunnel {
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Tunnel {
    pub fn to(far: Far) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        listener.set_nonblocking(true).expect("socket option");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far.clone()));
            }
        });
        Tunnel { port, runtime: Some(runtime) }
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn carry(near: TcpStream, far: Far) {
    let carried = match far {
        Far::Unix(path) => match UnixStream::connect(path).await {
            Ok(far) => both(near, far).await,
            Err(error) => Err(error),
        },
        Far::Tcp(address, port) => match TcpStream::connect((address, port)).await {
            Ok(far) => both(near, far).await,
            Err(error) => Err(error),
        },
        Far::Tls(port, config) => over_tls(near, Ipv4Addr::LOCALHOST.into(), port, config).await,
        Far::TlsAt(address, port, config) => over_tls(near, address, port, config).await,
    };
    // Shown if the test fails.
    if let Err(error) = carried {
        println!("tunnel: {error}");
    }
}

async fn over_tls(near: TcpStream, address: IpAddr, port: u16, config: Arc<ClientConfig>) -> std::io::Result<()> {
    let stream = TcpStream::connect((address, port)).await?;
    let name = "localhost".try_into().expect("a name");
    both(near, TlsConnector::from(config).connect(name, stream).await?).await
}

async fn both(mut near: TcpStream, mut far: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
