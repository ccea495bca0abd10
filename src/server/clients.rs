//! Who is connected: numbers, names and addresses, for CLIENT and the metrics. Touched when a client comes, goes or
//! names itself, never by its other commands.

use crate::resp::write::Protocol;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
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
    pub peer: String,
    /// Where it connected to.
    pub local: String,
    since: Instant,
    /// What it said of itself.
    pub said: Mutex<Said>,
    /// Wakes its session, from any thread.
    pub waker: AtomicWaker,
    killed: AtomicBool,
    /// The number of its private link at the upstream; 0: it has none.
    connection: AtomicU64,
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
    pub fn arrive(&self, peer: String, local: String) -> Option<Arc<Client>> {
        if self.count.fetch_add(1, Relaxed) >= self.most {
            self.count.fetch_sub(1, Relaxed);
            return None;
        }
        let id = self.next.fetch_add(1, Relaxed);
        let client = Arc::new(Client {
            id,
            peer,
            local,
            since: Instant::now(),
            said: Mutex::default(),
            waker: AtomicWaker::new(),
            killed: AtomicBool::new(false),
            connection: AtomicU64::new(0),
        });
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

    /// The client of this number, if it is connected.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.connected.lock().get(&id).cloned()
    }

    /// The client whose private link has this number at the upstream.
    pub fn of_connection(&self, connection: u64) -> Option<Arc<Client>> {
        self.connected.lock().values().find(|client| client.connection() == connection).cloned()
    }

    /// Ends those that `picked` picks; answers how many.
    pub fn kill(&self, picked: impl Fn(&Client) -> bool) -> usize {
        let picked: Vec<Arc<Client>> =
            self.connected.lock().values().filter(|client| picked(client)).cloned().collect();
        picked.iter().for_each(|client| client.kill());
        picked.len()
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
    /// Ends it as soon as its session looks up.
    fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.waker.wake();
    }

    /// Whether somebody has ended it.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// The number of its private link at the upstream; 0: it has none, or not yet.
    pub fn connection(&self) -> u64 {
        self.connection.load(Relaxed)
    }

    /// Its private link has this number.
    pub fn note_connection(&self, connection: u64) {
        self.connection.store(connection, Relaxed);
    }

    /// One line of CLIENT LIST, with Redis 7's fields in their order. What Weir does not measure is 0.
    pub fn line(&self) -> String {
        let said = self.said.lock();
        let Said { name, library, library_version, db, protocol } = &*said;
        let resp = if *protocol == Protocol::Resp3 { 3 } else { 2 };
        let Client { id, peer, local, .. } = self;
        let age = self.since.elapsed().as_secs();
        format!(
            "id={id} addr={peer} laddr={local} fd=0 name={name} age={age} idle=0 flags=N db={db} sub=0 psub=0 ssub=0 multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client \
             user=default redir=-1 resp={resp} lib-name={library} lib-ver={library_version}\n"
        )
    }
}
