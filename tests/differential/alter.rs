//! A proxy that changes one byte of what it passes on: the test must notice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Every `QUEUED` it passes on reads `QUEUE?`.
const ALTERED: (&[u8], u8) = (b"+QUEUED", b'?');

pub struct Altering {
    port: u16,
    ends: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Altering {
    pub fn start(target: u16) -> Altering {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let ends = Arc::new(AtomicBool::new(false));
        let until = ends.clone();
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                let server = TcpStream::connect(("127.0.0.1", target)).expect("Redis listens");
                connect(client, server);
            }
        });
        Altering { port, ends, listener: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Altering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

/// Both directions, until either side hangs up; the server's is altered.
fn connect(client: TcpStream, server: TcpStream) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a socket option");
    }
    let (client_too, server_too) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    std::thread::spawn(move || pump(client, server, |_| {}));
    std::thread::spawn(move || pump(server_too, client_too, alter));
}

fn pump(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut piece = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        change(&mut piece[..count]);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A reply that is cut in two may stay as it is: there will be others.
fn alter(piece: &mut [u8]) {
    let (text, byte) = ALTERED;
    let places: Vec<usize> = memchr::memmem::find_iter(piece, text).collect();
    for place in places {
        piece[place + text.len() - 1] = byte;
    }
}
