//! The worker threads, from the outside: start, assign, drain.

use super::app::{App, StoreKind};
use super::clients::Client;
use super::events;
use super::explain::explain;
use super::incoming::{Moved, Opened, Socket, shake_hands};
use super::metrics::{self, CommandCounts};
use super::missed;
use super::patience::tick;
use super::session;
use super::warming::warm_all;
use super::worker::Worker;
use crate::cache::explain::Explanation;
use crate::cache::route::Route;
use crate::cache::{Engine, Shared};
use crate::clock::SystemClock;
use crate::config::Checks;
use crate::store::redis::Redis;
use crate::store::redis::sweep::Pick;
use crate::store::redis::trust::Picks;
use crate::store::{Backend, Identity};
use bytes::Bytes;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// All workers.
pub struct Workers {
    handles: Vec<WorkerHandle>,
    drain: watch::Sender<bool>,
}

struct WorkerHandle {
    tasks: mpsc::UnboundedSender<Task>,
    count: Arc<AtomicUsize>,
    counts: Arc<CommandCounts>,
    ended: parking_lot::Mutex<Option<oneshot::Receiver<()>>>,
    _thread: JoinHandle<()>,
}

/// What a worker is asked to do.
enum Task {
    /// Serve a client.
    Serve(Moved, Arc<Client>),
    /// Invalidate what the store has missed.
    Settle,
    /// Load what is to be warm before anybody asks for it.
    Warm,
    /// Compare what clients are answered with the database.
    Check,
    /// Tell what answers a key.
    Explain(Vec<u8>, oneshot::Sender<Explanation>),
}

/// Where a worker hears what it is to do.
struct Orders {
    assigned: mpsc::UnboundedReceiver<Task>,
    draining: watch::Receiver<bool>,
    /// What others tell of changes; one worker sees to it for all.
    events: Option<mpsc::Receiver<Bytes>>,
}

impl Workers {
    /// Starts `[server] workers` threads.
    pub fn start(app: &Arc<App>, loads: Handle) -> io::Result<Self> {
        let limits = &app.config.limits;
        let now = tokio::time::Instant::now();
        let shared = Arc::new(Shared::new(limits.into(), now));
        let mut events = None;
        if let StoreKind::Redis(upstream) = &app.store {
            upstream.follow(&loads);
            if upstream.drops_when_replaced() && app.routes.iter().any(|route| route.has_load()) {
                upstream.keep_trust(picks(app), &loads);
            }
            if !app.routes.is_empty() {
                upstream.listen(&loads);
            }
            if let Some(channel) = &app.config.invalidation_channel {
                let (told, messages) = mpsc::channel(events::MOST_WAITING);
                upstream.hear_events(channel, told, &loads);
                events = Some(messages);
            }
            if let Some(hearing) = &app.hearing {
                let routes = app.routes.iter().filter(|route| route.has_near());
                let heads: Vec<&[u8]> = routes.map(|route| route.config.key.head().as_bytes()).collect();
                hearing.follow(upstream, &heads, &loads);
            }
        }
        let (drain, draining) = watch::channel(false);
        // The first worker does what is told.
        let start =
            |number| start_one(number, app.clone(), shared.clone(), loads.clone(), draining.clone(), events.take());
        let handles: Vec<WorkerHandle> = (0..app.config.server.workers).map(start).collect::<io::Result<_>>()?;
        // A worker that has ended at once has said why.
        let _ = handles[0].tasks.send(Task::Settle);
        let _ = handles[0].tasks.send(Task::Warm);
        if app.routes.iter().any(|route| route.checks != Checks::default()) {
            let _ = handles[0].tasks.send(Task::Check);
        }
        Ok(Workers { handles, drain })
    }

    /// Each worker's counters.
    pub fn counts(&self) -> Vec<Arc<CommandCounts>> {
        self.handles.iter().map(|handle| handle.counts.clone()).collect()
    }

    /// Hands a client to the worker with the fewest.
    pub fn assign(&self, socket: Socket, client: Arc<Client>) -> io::Result<()> {
        let socket = socket.leave()?;
        let idlest = self.handles.iter().min_by_key(|handle| handle.count.load(Relaxed)).expect("there is a worker");
        idlest.count.fetch_add(1, Relaxed);
        idlest.tasks.send(Task::Serve(socket, client)).map_err(|_| io::Error::other("the worker has ended"))
    }

    /// Which route and state answer a key; `None` if the workers have ended.
    pub async fn explain(&self, key: &[u8]) -> Option<Explanation> {
        let (answer, answered) = oneshot::channel();
        self.handles.first()?.tasks.send(Task::Explain(key.to_vec(), answer)).ok()?;
        answered.await.ok()
    }

    /// Lets every client have the answers to what it has sent, then ends it; answers how many had to be cut.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.drain.send_replace(true);
        let ends: Vec<_> = self.handles.iter().filter_map(|handle| handle.ended.lock().take()).collect();
        let all = futures_util::future::join_all(ends);
        match tokio::time::timeout(grace, all).await {
            Ok(_) => 0,
            Err(_) => self.handles.iter().map(|handle| handle.count.load(Relaxed)).sum(),
        }
    }
}

/// What goes from a Redis that is another than before.
fn picks(app: &Arc<App>) -> Picks {
    let pick = |which: fn(&Route) -> bool| -> Pick {
        let app = app.clone();
        Arc::new(move |key| app.routes.find(key).is_some_and(|route| route.has_load() && which(route)))
    };
    let is_tagged = |route: &Route| !route.tags.is_empty();
    let any_tagged = app.routes.iter().any(|route| route.has_load() && is_tagged(route));
    Picks { loaded: pick(|_| true), tagged: any_tagged.then(|| pick(is_tagged)) }
}

fn start_one(
    number: usize,
    app: Arc<App>,
    shared: Arc<Shared>,
    loads: Handle,
    draining: watch::Receiver<bool>,
    events: Option<mpsc::Receiver<Bytes>>,
) -> io::Result<WorkerHandle> {
    let (tasks, assigned) = mpsc::unbounded_channel();
    let orders = Orders { assigned, draining, events };
    let (end, ended) = oneshot::channel();
    let count = Arc::new(AtomicUsize::new(0));
    let counts: Arc<CommandCounts> = Arc::default();
    let work = {
        let (count, counts) = (count.clone(), counts.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(app, shared, loads, counts, count, orders)),
                Err(error) => tracing::error!(%error, "a worker does not start"),
            }
            // Nobody waits for it any more if the grace period has passed.
            let _ = end.send(());
        }
    };
    let thread = std::thread::Builder::new().name(format!("weir-worker-{number}")).spawn(work)?;
    Ok(WorkerHandle { tasks, count, counts, ended: parking_lot::Mutex::new(Some(ended)), _thread: thread })
}

/// One worker's life: serves the clients that it is assigned, until it is told to drain and all have ended.
async fn work(
    app: Arc<App>,
    shared: Arc<Shared>,
    loads: Handle,
    counts: Arc<CommandCounts>,
    count: Arc<AtomicUsize>,
    Orders { mut assigned, mut draining, events }: Orders,
) {
    let backend = match &app.store {
        StoreKind::Redis(upstream) => Backend::Redis(Redis::open(upstream.clone(), app.privates.clone())),
        StoreKind::Embedded(embedded) => Backend::Embedded(embedded.clone()),
    };
    let engine = Engine::new(backend.clone(), SystemClock, shared, loads);
    let worker = Rc::new(Worker::new(app, backend, engine, counts, count));
    if let Some(events) = events {
        tokio::task::spawn_local(events::follow(worker.clone(), events));
    }
    let mut ticks = tokio::time::interval(tick(&worker.app.config.limits));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            now = ticks.tick() => worker.tick(now.into_std()),
            Some(task) = assigned.recv() => {
                begin(task, worker.clone());
            }
            _ = draining.wait_for(|&draining| draining) => break,
        }
    }
    worker.drain();
    worker.all_left().await;
}

/// Each kind is a task of its own: one for all kinds would take as much room for every client as the largest of them.
fn begin(task: Task, worker: Rc<Worker>) {
    use tokio::task::spawn_local;
    match task {
        Task::Serve(socket, client) => serve(socket, client, worker),
        Task::Settle => drop(spawn_local(missed::follow(worker))),
        Task::Warm => drop(spawn_local(warm_all(worker))),
        Task::Check => {
            drop(spawn_local(async move { worker.engine.clone().check_for_ever(worker.app.near.clone()).await }));
        }
        Task::Explain(key, answer) => drop(spawn_local(async move {
            let identity = Identity { db: worker.backend.first_db(), ..Identity::default() };
            // Whoever asked may have left.
            let _ = answer.send(explain(&worker, &key, &identity).await);
        })),
    }
}

/// A session's task is nothing but the session. What comes before it is done at once, or, as a TLS handshake, which takes more
/// room than a connection would have for its whole life, in a task of its own.
fn serve(socket: Moved, client: Arc<Client>, worker: Rc<Worker>) {
    use tokio::task::spawn_local;
    match socket.open() {
        Ok(Opened::Ready(stream)) => drop(spawn_local(session::serve(stream, client, worker))),
        Ok(Opened::Tls(stream)) => drop(spawn_local(async move {
            match shake_hands(stream, &worker.app.config).await {
                Ok(stream) => drop(spawn_local(session::serve(stream, client, worker))),
                Err(error) => turn_away(&worker, &client, &error),
            }
        })),
        Err(error) => turn_away(&worker, &client, &error),
    }
}

fn turn_away(worker: &Worker, client: &Client, error: &io::Error) {
    metrics::closed("tls");
    tracing::debug!(%error, peer = %client.peer, "no TLS handshake with a client");
    worker.left(client);
}
