//! Who is connected: numbers, names and addresses, for CLIENT and the metrics. Touched when a client comes, goes or
//! names itself, never by its other commands.

use crate::resp::write::Protocol;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// The registry.
pub struct Clients {
    most: usize,
    count: AtomicUsize,
    next: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    gauge: metrics::Gauge,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, never used again.
    pub id: u64,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    since: Instant,
    /// What it said of itself.
    pub said: Mutex<Said>,
}

/// What a client said of itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
    /// SELECT.
    pub db: u32,
    /// HELLO.
    pub protocol: Protocol,
}

impl Clients {
    /// At most `most` at once.
    pub fn new(most: usize) -> Self {
        let gauge = metrics::gauge!("weir_clients");
        gauge.set(0.0);
        Clients { most, count: AtomicUsize::new(0), next: AtomicU64::new(1), connected: Mutex::default(), gauge }
    }

    /// Registers a connection; `None` if there are too many.
    pub fn arrive(&self, peer: SocketAddr, local: SocketAddr) -> Option<Arc<Client>> {
        if self.count.fetch_add(1, Relaxed) >= self.most {
            self.count.fetch_sub(1, Relaxed);
            return None;
        }
        let id = self.next.fetch_add(1, Relaxed);
        let client = Arc::new(Client { id, peer, local, since: Instant::now(), said: Mutex::default() });
        self.connected.lock().insert(id, client.clone());
        self.gauge.increment(1.0);
        Some(client)
    }

    /// Forgets a connection.
    pub fn leave(&self, id: u64) {
        if self.connected.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Relaxed);
            self.gauge.decrement(1.0);
        }
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// How many have connected since the start.
    pub fn ever(&self) -> u64 {
        self.next.load(Relaxed) - 1
    }

    /// CLIENT LIST, of all or of those with one of `ids`.
    pub fn list(&self, ids: Option<&[u64]>) -> String {
        let wanted = |client: &&Arc<Client>| ids.is_none_or(|ids| ids.contains(&client.id));
        self.connected.lock().values().filter(wanted).fold(String::new(), |mut text, client| {
            text.push_str(&client.line());
            text
        })
    }
}

impl Client {
    /// One line of CLIENT LIST: the fields of Redis's that mean something here.
    pub fn line(&self) -> String {
        let said = self.said.lock();
        let Said { name, library, library_version, db, protocol } = &*said;
        let resp = if *protocol == Protocol::Resp3 { 3 } else { 2 };
        let (id, peer, local, age) = (self.id, self.peer, self.local, self.since.elapsed().as_secs());
        let mut line = String::new();
        writeln!(
            line,
            "id={id} addr={peer} laddr={local} name={name} age={age} db={db} user=default resp={resp} \
             lib-name={library} lib-ver={library_version}"
        )
        .expect("a string takes every text");
        line
    }
}
