//! Who knocks at a dead Redis' door, and how often; and who has come in once it is alive again.

use crate::harness::{Redis, wait_for};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Listens where Redis did, and closes every connection at once.
pub struct CountingDoor {
    port: u16,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Instant>>,
}

impl CountingDoor {
    pub fn open(port: u16) -> CountingDoor {
        let listener = wait_for("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ends = ends.clone();
            move || {
                let knocks = listener.incoming().take_while(|_| !ends.load(Ordering::SeqCst));
                knocks.flatten().map(|_| Instant::now()).collect()
            }
        });
        CountingDoor { port, ends, thread }
    }

    /// When each connection came in.
    pub fn close(self) -> Vec<Instant> {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes the listener.
        TcpStream::connect(("127.0.0.1", self.port)).expect("the door is open");
        self.thread.join().expect("the door's thread only counts")
    }
}

/// What so many shared links may try within `time`: after pauses of 50, 100, 200, 400 ms, and then 500 ms each.
pub fn most_attempts(links: u64, time: Duration) -> u64 {
    links * (5 + (time.as_millis() / 500) as u64)
}

/// The most that came within any `window`.
pub fn largest_burst(knocks: &[Instant], window: Duration) -> usize {
    let within = |first: &Instant| knocks.iter().filter(|knock| **knock >= *first && **knock < *first + window).count();
    knocks.iter().map(within).max().unwrap_or(0)
}

/// Connections that this Redis has ever let in.
pub fn connections(redis: &Redis) -> u64 {
    let info = redis.client().run("INFO stats").text();
    let count = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.and_then(|count| count.parse().ok()).expect("Redis counts its connections")
}
