//! A TCP proxy between any two that can be told to misbehave.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the proxy does with bytes from now on, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Passes them on.
    None = 0,
    /// Passes them on one at a time, each in a segment of its own.
    OneByte = 1,
    /// Holds each piece for 20 ms.
    Delay = 2,
    /// Reads them and drops them: the other side looks hung.
    BlackHole = 3,
    /// Passes half of the next piece on and cuts the connection.
    CutMidway = 4,
    /// Ends one direction of the connection at the next piece, and leaves the other open.
    HalfClose = 5,
    /// Accepts connections and closes them at once.
    Refuse = 6,
    /// Keeps what comes, and passes it on once there is another fault: late, when nobody may expect it any more.
    Hold = 7,
}

impl Fault {
    fn from(code: u8) -> Fault {
        use Fault::*;
        [None, OneByte, Delay, BlackHole, CutMidway, HalfClose, Refuse, Hold][usize::from(code)]
    }
}

#[derive(Default)]
struct Shared {
    fault: AtomicU8,
    ends: AtomicBool,
    hits: AtomicUsize,
    accepted: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
    /// Only connections whose client has said this are misbehaved with; empty: all are.
    word: Vec<u8>,
}

impl Shared {
    fn fault(&self) -> Fault {
        Fault::from(self.fault.load(Ordering::SeqCst))
    }
}

/// Listens on a port of its own and forwards to another.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// No test needs more at once; it bounds the threads.
const MOST_CONNECTIONS: usize = 256;

impl FaultProxy {
    pub fn start(target: u16) -> FaultProxy {
        FaultProxy::start_for(target, "")
    }

    /// Misbehaves only with connections whose client has said `word`, from then on.
    pub fn start_for(target: u16, word: &str) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared { word: word.into(), ..Shared::default() });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, target, &shared)
        });
        FaultProxy { port, shared, listener: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, fault: Fault) {
        self.shared.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// Cuts every connection that stands.
    pub fn cut(&self) {
        for socket in self.shared.sockets.lock().expect("no thread panics with it").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// How many pieces a fault has bitten: a test in which none did has shown nothing.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// How many connections came in so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        if shared.ends.load(Ordering::SeqCst) {
            return;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        // Each connection has two threads, and each of them one of these.
        let connections = Arc::strong_count(shared) / 2;
        if shared.fault() == Fault::Refuse || connections >= MOST_CONNECTIONS {
            shared.hits.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
            connect(client, server, shared);
        }
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let (Ok(client_out), Ok(server_out)) = (client.try_clone(), server.try_clone()) else { return };
    if let (Ok(one), Ok(two)) = (client.try_clone(), server.try_clone()) {
        let mut sockets = shared.sockets.lock().expect("no thread panics with it");
        // Those that have ended on both sides have no peer any more.
        sockets.retain(|socket| socket.peer_addr().is_ok());
        sockets.extend([one, two]);
    }
    let chosen = Arc::new(AtomicBool::new(shared.word.is_empty()));
    for (from, to) in [(client, server_out), (server, client_out)] {
        let (shared, chosen) = (shared.clone(), chosen.clone());
        std::thread::spawn(move || {
            pump(from, to, &shared, &chosen);
        });
    }
}

/// Forwards one direction until either side ends.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, chosen: &AtomicBool) {
    let _ = to.set_nodelay(true);
    let mut piece = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        if !chosen.load(Ordering::SeqCst) && piece[..n].windows(shared.word.len()).any(|word| word == shared.word) {
            chosen.store(true, Ordering::SeqCst);
        }
        let fault = if chosen.load(Ordering::SeqCst) { shared.fault() } else { Fault::None };
        if fault != Fault::None {
            shared.hits.fetch_add(1, Ordering::SeqCst);
        }
        let passed = match fault {
            Fault::None | Fault::Refuse => to.write_all(&piece[..n]).is_ok(),
            Fault::OneByte => piece[..n].chunks(1).all(|byte| to.write_all(byte).is_ok()),
            Fault::Delay => {
                std::thread::park_timeout(Duration::from_millis(20));
                to.write_all(&piece[..n]).is_ok()
            }
            Fault::Hold => {
                while shared.fault() == Fault::Hold && !shared.ends.load(Ordering::SeqCst) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                to.write_all(&piece[..n]).is_ok()
            }
            Fault::BlackHole => true,
            Fault::CutMidway => {
                let _ = to.write_all(&piece[..n / 2]);
                let _ = from.shutdown(Shutdown::Both);
                false
            }
            Fault::HalfClose => false,
        };
        if !passed {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
