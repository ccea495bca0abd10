//! A Redis server of the test's own: on a Unix socket in a temporary folder, ended with the test.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir::resp::frame::{self, Reply};
use weir::resp::scan::ReplyScanner;
use weir::resp::write;

/// Long enough for a busy machine; a test that runs into it fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Redis {
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"])
            .args(options)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Redis { child, folder };
        redis.connect().ask(&["PING"]);
        redis
    }

    /// Waits until the server listens.
    pub fn connect(&self) -> Connection {
        let started = Instant::now();
        loop {
            match UnixStream::connect(self.folder.path().join("socket")) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                    return Connection { stream };
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused), "{error}");
                    assert!(started.elapsed() < PATIENCE, "redis-server does not listen");
                    std::thread::yield_now();
                }
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }
}

pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next reply, as it is.
    pub fn reply(&mut self) -> Vec<u8> {
        let mut scanner = ReplyScanner::new(32);
        let mut reply = Vec::new();
        let mut at = 0;
        loop {
            let progress = scanner.advance(&reply[at..]).expect("Redis speaks RESP");
            at += progress.consumed;
            if progress.complete {
                assert_eq!(at, reply.len(), "nothing more was asked");
                return reply;
            }
            let mut buffer = [0; 65536];
            let read = self.stream.read(&mut buffer).expect("the server answers");
            assert!(read > 0, "closed after {}", reply.escape_ascii());
            reply.extend_from_slice(&buffer[..read]);
        }
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("{error} after {}", rest.escape_ascii()),
        }
    }

    pub fn ask<T: AsRef<[u8]>>(&mut self, command: &[T]) -> Reply {
        let mut bytes = Vec::new();
        write::command(&mut bytes, command);
        self.send(&bytes);
        frame::decode(&self.reply(), 32).expect("Weir reads what Redis says")
    }
}
