//! A redis-server of the test's own: on a port, for Weir, and on a Unix socket, where bytes have arrived once written.

use super::harness::{PATIENCE, free_port};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Ended with the test.
pub struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// Keyspace events on, so that subscribers see what commands do; lists, hashes … convert while they are small.
const OPTIONS: &[&str] = &["--notify-keyspace-events", "KEA", "--save", "", "--appendonly", "no"];

impl Server {
    pub fn start() -> Server {
        let until = Instant::now() + PATIENCE;
        loop {
            let (folder, port) = (tempfile::tempdir().expect("temporary folder"), free_port());
            let mut child = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--unixsocket", "socket"])
                .args(OPTIONS)
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            while matches!(child.try_wait(), Ok(None)) {
                // It opens the socket after the port.
                if UnixStream::connect(folder.path().join("socket")).is_ok() {
                    return Server { child, port, folder };
                }
                assert!(Instant::now() < until, "redis-server does not listen");
                std::thread::yield_now();
            }
            assert!(Instant::now() < until, "redis-server finds no port");
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("socket")).expect("redis-server listens")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
