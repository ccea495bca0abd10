//! Who is connected: numbers, names and addresses, for CLIENT and the metrics. The registry is touched when a client comes,
//! goes or names itself; for its commands, once for all that came together, it notes the last in a place of its own.

use super::buffers::{Buffer, Buffers, Held, Share};
use crate::config::Limits;
use crate::resp::write::Protocol;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The registry.
pub struct Clients {
    most: usize,
    count: AtomicUsize,
    next: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Where the last one connected to.
    last_local: Mutex<Arc<str>>,
    gauge: metrics::Gauge,
    /// What their buffers hold.
    pub buffers: Buffers,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, never used again.
    pub id: u64,
    /// Where it comes from.
    pub peer: Box<str>,
    /// Where it connected to; most clients to the same place.
    pub local: Arc<str>,
    since: Instant,
    /// What it said of itself.
    pub said: Mutex<Said>,
    /// Wakes its session, from any thread.
    pub waker: AtomicWaker,
    /// Why it must go.
    ended: OnceLock<&'static str>,
    held: Share,
    /// The number of its private link at the upstream; 0: it has none.
    connection: AtomicU64,
    subscribed: AtomicBool,
    /// Index in the command table.
    last_command: AtomicU16,
    /// Seconds after `since`.
    last_at: AtomicU32,
}

/// What a client said of itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Most say nothing, and take no room for it.
    words: Option<Box<Words>>,
    /// SELECT.
    pub db: u32,
    /// HELLO.
    pub protocol: Protocol,
}

/// What a client said of itself in words of its own; empty: nothing yet.
#[derive(Clone, Debug, Default)]
pub struct Words {
    user: String,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
}

/// The user of a client that has not said who it is.
const NOBODY: &str = "default";

impl Said {
    /// Its user, by AUTH; `default` as long as it has not said.
    pub fn user(&self) -> &str {
        self.words.as_ref().map(|words| words.user.as_str()).filter(|user| !user.is_empty()).unwrap_or(NOBODY)
    }

    /// From here on it is that user.
    pub fn set_user(&mut self, user: &str) {
        let user = if user == NOBODY { "" } else { user };
        if !user.is_empty() || self.words.is_some() {
            self.words_mut().user = user.to_owned();
        }
    }

    /// What it said of itself.
    pub fn words(&self) -> &Words {
        const NONE: &Words =
            &Words { user: String::new(), name: String::new(), library: String::new(), library_version: String::new() };
        self.words.as_deref().unwrap_or(NONE)
    }

    /// The same, to be changed.
    pub fn words_mut(&mut self) -> &mut Words {
        self.words.get_or_insert_default()
    }
}

impl Clients {
    /// At most `most` at once, within `limits`.
    pub fn new(most: usize, limits: &Limits) -> Self {
        let gauge = metrics::gauge!("weir_clients");
        gauge.set(0.0);
        let (count, next, connected) = (AtomicUsize::new(0), AtomicU64::new(1), Mutex::default());
        let last_local = Mutex::new("".into());
        Clients { most, count, next, connected, last_local, gauge, buffers: Buffers::new(limits) }
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
            peer: peer.into(),
            local: self.share_local(local),
            since: Instant::now(),
            said: Mutex::default(),
            waker: AtomicWaker::new(),
            ended: OnceLock::new(),
            held: Share::default(),
            connection: AtomicU64::new(0),
            subscribed: AtomicBool::new(false),
            last_command: AtomicU16::new(u16::MAX),
            last_at: AtomicU32::new(0),
        });
        self.connected.lock().insert(id, client.clone());
        self.gauge.increment(1.0);
        Some(client)
    }

    /// One text for all that connect to one place.
    fn share_local(&self, local: String) -> Arc<str> {
        let mut last = self.last_local.lock();
        if **last != *local {
            *last = local.into();
        }
        last.clone()
    }

    /// Forgets a connection.
    pub fn leave(&self, id: u64) {
        if let Some(client) = self.connected.lock().remove(&id) {
            self.buffers.note(&client.held, Held::default());
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

    /// Ends those that `picked` picks; answers who they are.
    pub fn kill(&self, picked: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        let picked: Vec<Arc<Client>> =
            self.connected.lock().values().filter(|client| picked(client)).cloned().collect();
        picked.iter().for_each(|client| client.end("killed"));
        picked
    }

    /// What a client's buffers hold now. If all together hold too much, those that hold the most are ended until the others
    /// do not.
    pub fn note_buffers(&self, client: &Client, held: Held) {
        let Some(buffer) = self.buffers.note(&client.held, held) else { return };
        let mut holders: Vec<Arc<Client>> = self.connected.lock().values().cloned().collect();
        holders.retain(|client| client.ended().is_none() && client.held.of(buffer) > 0);
        holders.sort_by_cached_key(|client| client.held.of(buffer));
        let (limit, before) = (buffer.reason(), holders.len());
        let most = holders.last().map_or(0, |client| client.held.of(buffer));
        while self.buffers.is_too_much(buffer) {
            let Some(client) = holders.pop() else { break };
            client.end(limit);
            self.buffers.note(&client.held, Held::default());
        }
        let closed = before - holders.len();
        if closed > 0 {
            tracing::warn!(closed, most, "[limits] {limit} is reached; the clients that hold the most are closed");
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

    /// All that are connected, by their numbers.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.connected.lock().values().cloned().collect()
    }
}

impl Client {
    /// Ends it as soon as its session looks up; the first reason stands.
    fn end(&self, reason: &'static str) {
        let _ = self.ended.set(reason);
        self.waker.wake();
    }

    /// Why it must go, if it must: label `reason` of `weir_clients_closed_total`.
    pub fn ended(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }

    /// The number of its private link at the upstream; 0: it has none, or not yet.
    pub fn connection(&self) -> u64 {
        self.connection.load(Relaxed)
    }

    /// Bytes of it that wait in a buffer.
    pub fn held(&self, buffer: Buffer) -> usize {
        self.held.of(buffer)
    }

    /// Whether it is subscribed to anything.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Relaxed)
    }

    /// Its private link has this number, and this many subscriptions, or it has none.
    pub fn note_link(&self, connection: u64, subscribed: bool) {
        self.connection.store(connection, Relaxed);
        self.subscribed.store(subscribed, Relaxed);
    }

    /// It has sent commands, of which this is the last, by its index in the table.
    pub fn note_command(&self, command: u16, at: Instant) {
        self.last_command.store(command, Relaxed);
        self.last_at.store(at.duration_since(self.since).as_secs() as u32, Relaxed);
    }

    /// The last command that it has sent, by its index in the table; none has the highest index.
    pub fn last_command(&self) -> u16 {
        self.last_command.load(Relaxed)
    }

    /// Seconds since it has connected.
    pub fn age(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    /// Seconds since its last command.
    pub fn idle(&self) -> u64 {
        self.age().saturating_sub(self.last_at.load(Relaxed).into())
    }
}
