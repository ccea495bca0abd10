//! Warming as operators meet it: at start, by `WEIR WARM route`, and how far it is, for the log and the admin port.

use super::conn::{Conn, Flow, Request};
use super::output::Output;
use super::routed::error;
use super::worker::Worker;
use crate::cache::route::{Loading, Routes, Warm};
use crate::cache::warm::{Progress, State};
use crate::resp::write;
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often it is looked whether the upstream is there yet, at start.
const LOOK: Duration = Duration::from_millis(100);

/// The routes that are warmed, in the order of the file.
pub struct Warming {
    routes: Vec<Entry>,
    /// All of them have been warmed once, well or not.
    over: AtomicBool,
}

/// One of them.
pub struct Entry {
    route: Loading,
    warm: Arc<Warm>,
    progress: Mutex<Progress>,
}

impl Warming {
    /// Those of `routes` that have a `warm`.
    pub fn new(routes: &Routes) -> Self {
        let entry = |route: Loading| {
            let warm = route.load.warm.clone()?;
            Some(Entry { route, warm, progress: Mutex::default() })
        };
        let routes: Vec<Entry> = routes.iter().filter_map(|route| entry(route.loading()?)).collect();
        Warming { over: AtomicBool::new(routes.is_empty()), routes }
    }

    /// Whether every route has been warmed once, well or not.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// How far each route is.
    pub fn report(&self) -> Vec<(String, Progress)> {
        self.routes.iter().map(|entry| (entry.route.config.name.clone(), entry.progress.lock().clone())).collect()
    }
}

/// Warms all routes, one after the other, once the store is there. Runs on one worker.
pub async fn warm_all(worker: Rc<Worker>) {
    let app = worker.app.clone();
    for entry in &app.warming.routes {
        while !app.is_connected() || worker.engine.has_doubts() {
            tokio::time::sleep(LOOK).await;
        }
        warm(&worker, entry).await;
    }
    app.warming.over.store(true, Relaxed);
}

async fn warm(worker: &Worker, entry: &Entry) {
    worker.engine.warm(&entry.route, &entry.warm, worker.backend.first_db(), &entry.progress).await;
}

/// `WEIR WARM route`: answers how many keys were loaded, once it is over. It goes on though its client leaves.
pub fn run(conn: &mut Conn, request: Request<'_>) -> Flow {
    let worker = conn.worker.clone();
    let app = worker.app.clone();
    let name = String::from_utf8_lossy(&request.args[2]).into_owned();
    let Some(index) = app.warming.routes.iter().position(|entry| entry.route.config.name == name) else {
        conn.answer_now(|out| write::error(out, "ERR there is no route of that name with a `warm`"));
        return Flow::Next;
    };
    {
        let mut progress = app.warming.routes[index].progress.lock();
        if progress.state == State::Running {
            drop(progress);
            conn.answer_now(|out| write::error(out, "ERR it is being warmed already"));
            return Flow::Next;
        }
        progress.state = State::Running;
    }
    let slot = conn.open_slow();
    // In a task of its own, whatever becomes of the client.
    conn.replies.finish_with(slot, async move {
        let entry = &app.warming.routes[index];
        warm(&worker, entry).await;
        let progress = entry.progress.lock().clone();
        match progress.state {
            State::Failed => error("LOAD the statement of `warm` failed; the log says why"),
            _ if progress.failed > 0 && progress.failed == progress.keys => {
                error("LOAD none of the keys that `warm` names could be loaded: the database or the upstream fails")
            }
            _ => {
                let mut output = Output::default();
                output.write(|out| write::integer(out, progress.loaded as i64));
                output
            }
        }
    });
    Flow::Next
}
