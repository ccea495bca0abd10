//! One connection, cut into frames.

use super::reply;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came over it, and whether more can come.
pub struct Wire {
    stream: Stream,
    unread: Vec<u8>,
    /// Whole frames since [`Wire::take`].
    frames: Vec<Vec<u8>>,
    ended: bool,
    scratch: Box<[u8]>,
}

impl Wire {
    pub fn tcp(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
        stream.set_nodelay(true).expect("a socket option");
        Wire::new(Stream::Tcp(stream))
    }

    pub fn unix(stream: UnixStream) -> Wire {
        Wire::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Wire {
        Wire { stream, unread: Vec::new(), frames: Vec::new(), ended: false, scratch: vec![0; 65536].into() }
    }

    /// Whether the other side took it: one that has hung up does not.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        };
        outcome.is_ok()
    }

    /// No more will be written.
    pub fn end_writing(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Takes what is there; true if anything was.
    pub fn poll(&mut self) -> bool {
        self.set_blocking(false);
        let mut any = false;
        while !self.ended && self.read() {
            any = true;
        }
        self.set_blocking(true);
        any
    }

    /// Waits for so many frames, and for the connection's end if `ends`; false if they do not come in time.
    pub fn wait(&mut self, frames: usize, ends: bool, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !self.ended && (self.frames.len() < frames || ends) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.set_timeout(left);
            self.read();
        }
        self.frames.len() >= frames && self.ended >= ends
    }

    /// One read; false if there is nothing to read now.
    fn read(&mut self) -> bool {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut self.scratch),
            Stream::Unix(stream) => stream.read(&mut self.scratch),
        };
        match outcome {
            Ok(0) => self.ended = true,
            Ok(count) => self.cut(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A reset: there were bytes that the other side did not want to read.
            Err(_) => self.ended = true,
        }
        true
    }

    /// Takes the first bytes of `scratch`.
    fn cut(&mut self, count: usize) {
        self.unread.extend_from_slice(&self.scratch[..count]);
        let mut at = 0;
        loop {
            match reply::frame(&self.unread[at..]) {
                Ok(Some(end)) => {
                    self.frames.push(self.unread[at..at + end].to_vec());
                    at += end;
                }
                Ok(None) => break,
                // It is shown as it is, and is like nothing that Redis says.
                Err(reply::Garbage) => {
                    self.frames.push(self.unread[at..].to_vec());
                    at = self.unread.len();
                    break;
                }
            }
        }
        self.unread.drain(..at);
    }

    fn set_blocking(&self, blocking: bool) {
        let outcome = match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(!blocking),
            Stream::Unix(stream) => stream.set_nonblocking(!blocking),
        };
        outcome.expect("a socket option");
    }

    fn set_timeout(&self, timeout: Duration) {
        let outcome = match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        };
        outcome.expect("a socket option");
    }

    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    /// The frames so far; counts anew from here.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames)
    }

    /// Forgets the first frames.
    pub fn take_first(&mut self, count: usize) {
        self.frames.drain(..count);
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether a frame has begun and is not whole.
    pub fn is_midway(&self) -> bool {
        !self.unread.is_empty()
    }
}
