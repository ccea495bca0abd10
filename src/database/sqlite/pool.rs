//! A few threads, each with a connection of its own, and jobs that can be taken back.
//!
//! A job whose future is dropped is skipped if it still waits, and interrupted if it runs: the one who dropped it
//! holds the job's lock while it interrupts, and the thread takes that lock before it turns to the next job, so that
//! an interrupt never reaches a job that nobody dropped.

use crate::database::DatabaseError;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Statements that each connection keeps compiled.
const CACHED_STATEMENTS: usize = 128;

/// The threads. They end when the pool and every statement of it are gone.
pub(super) struct Pool {
    jobs: Sender<Job>,
    threads: usize,
    /// Jobs that somebody waits for.
    wanted: Arc<AtomicUsize>,
}

struct Job {
    state: Arc<Mutex<State>>,
    work: Work,
}

type Work = Box<dyn FnOnce(Result<&Connection, DatabaseError>) + Send>;

enum State {
    Waiting,
    Running(InterruptHandle),
    /// Finished, or nobody waits for it any more.
    Over,
}

impl Pool {
    pub(super) fn start(path: &Path, threads: usize, timeout: Duration) -> Result<Pool, DatabaseError> {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = threads.max(1);
        for index in 0..threads {
            let mut worker = Worker { path: path.to_owned(), timeout, open: None };
            let receiver = receiver.clone();
            std::thread::Builder::new()
                .name(format!("sqlite-{index}"))
                .spawn(move || worker.work(&receiver))
                .map_err(|error| DatabaseError::Unavailable(format!("cannot start a thread: {error}")))?;
        }
        Ok(Pool { jobs, threads, wanted: Arc::default() })
    }

    /// Whether less than half of the threads have something to do.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.load(Relaxed) * 2 < self.threads
    }

    /// Runs `work` on some thread's connection. Dropping the future takes it back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (sender, receiver) = oneshot::channel();
        let state = Arc::new(Mutex::new(State::Waiting));
        self.wanted.fetch_add(1, Relaxed);
        let _guard = TakeBack { state: state.clone(), wanted: self.wanted.clone() };
        let work: Work = Box::new(move |connection: Result<&Connection, DatabaseError>| {
            // Nobody listens to a job that was taken back.
            let _ = sender.send(connection.and_then(work));
        });
        let gone = || DatabaseError::Unavailable("the SQLite threads have ended".into());
        self.jobs.send(Job { state, work }).map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }
}

struct TakeBack {
    state: Arc<Mutex<State>>,
    wanted: Arc<AtomicUsize>,
}

impl Drop for TakeBack {
    fn drop(&mut self) {
        self.wanted.fetch_sub(1, Relaxed);
        let mut state = self.state.lock();
        if let State::Running(handle) = &*state {
            handle.interrupt();
        }
        *state = State::Over;
    }
}

struct Worker {
    path: PathBuf,
    timeout: Duration,
    open: Option<(Connection, FileId)>,
}

/// Which file this is, whatever its name: a database may be replaced by renaming another over it.
type FileId = (u64, u64);

fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

impl Worker {
    fn work(&mut self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            // A statement of its own, so that the lock is free while the job runs.
            let job = jobs.lock().recv();
            match job {
                Ok(job) => self.run(job),
                Err(_) => return,
            }
        }
    }

    fn run(&mut self, job: Job) {
        if matches!(*job.state.lock(), State::Over) {
            return;
        }
        let connection = match self.connection() {
            Ok(connection) => connection,
            Err(error) => return (job.work)(Err(error)),
        };
        {
            let mut state = job.state.lock();
            if matches!(*state, State::Over) {
                return;
            }
            *state = State::Running(connection.get_interrupt_handle());
        }
        // A thread that dies of one job's bug would take its part of the pool with it.
        let ran = catch_unwind(AssertUnwindSafe(|| (job.work)(Ok(connection))));
        *job.state.lock() = State::Over;
        if ran.is_err() {
            self.open = None;
        }
    }

    fn connection(&mut self) -> Result<&Connection, DatabaseError> {
        let path = self.path.display();
        let metadata = std::fs::metadata(&self.path)
            .map_err(|error| DatabaseError::Unavailable(format!("no database file at {path}: {error}")))?;
        let current = file_id(&metadata);
        if self.open.as_ref().is_none_or(|(_, opened)| *opened != current) {
            self.open = Some((open(&self.path, self.timeout)?, current));
        }
        Ok(&self.open.as_ref().expect("it was opened just now").0)
    }
}

/// Read-only: it neither makes a file that is missing nor lets a statement write.
fn open(path: &Path, timeout: Duration) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ready = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(connection)
    });
    ready.map_err(|error| DatabaseError::Unavailable(format!("cannot open {}: {error}", path.display())))
}

/// What an SQLite failure means to the caller.
pub(super) fn failure(error: &rusqlite::Error) -> DatabaseError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            DatabaseError::Timeout(message)
        }
        Some(
            ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt,
        ) => DatabaseError::Unavailable(message),
        _ => match error {
            rusqlite::Error::SqlInputError { msg, .. } => DatabaseError::Statement(msg.clone()),
            _ => DatabaseError::Statement(message),
        },
    }
}
