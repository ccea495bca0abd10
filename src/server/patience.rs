//! How long a client may let Weir wait: for AUTH, for the rest of a command, for room in its socket, for its next command.
//!
//! There is no timer for each client. A session notes what it waits for and since when by its worker's clock, which
//! ticks a few times within the shortest limit; at each tick the worker wakes those whose time is up, and they end
//! unless something has come meanwhile. So a limit is kept to within two ticks, never early, and costs a command nothing.

use crate::config::Limits;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A client that has asked nothing for so long rests: more than one tick, so that none does that has just asked.
const REST: Duration = Duration::from_millis(1500);

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For AUTH.
    Auth,
    /// For the rest of a command that has begun.
    Command,
    /// For the client to take its replies.
    Reader,
    /// For the client's next command.
    Idle,
    /// For nothing that is up to the client.
    Store,
}

/// What a session has seen since it last noted what it waits for.
#[derive(Clone, Copy, Default)]
pub struct Progress {
    /// Bytes came.
    pub read: bool,
    /// A command was whole.
    pub acted: bool,
    /// Bytes of replies were taken.
    pub taken: bool,
}

/// One session's wait, as its worker sees it.
pub struct Wait {
    what: Cell<Waiting>,
    since: Cell<Instant>,
    due: Cell<bool>,
}

impl Waiting {
    /// How long it may last; `None`: for ever.
    fn limit(self, limits: &Limits) -> Option<Duration> {
        match self {
            Waiting::Auth => Some(limits.auth_timeout),
            Waiting::Command => Some(limits.command_timeout),
            Waiting::Reader => Some(limits.write_timeout),
            Waiting::Idle => Some(limits.idle_timeout).filter(|limit| !limit.is_zero()),
            Waiting::Store => None,
        }
    }

    /// Whether this is what it waits for, so that its time begins anew.
    fn is_served_by(self, progress: Progress) -> bool {
        match self {
            Waiting::Auth | Waiting::Store => false,
            Waiting::Command => progress.acted,
            Waiting::Reader => progress.taken,
            Waiting::Idle => progress.read,
        }
    }

    /// Label `reason` of `weir_clients_closed_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Waiting::Auth => "auth_timeout",
            Waiting::Command => "command_timeout",
            Waiting::Reader => "slow_reader",
            Waiting::Idle | Waiting::Store => "idle",
        }
    }

    /// What the client is told at the end, if it may be told anything: an idle one takes a closed connection as it would
    /// Redis's, and a line that it never asked for as the answer to its next command.
    pub fn last_words(self) -> Option<&'static str> {
        match self {
            Waiting::Auth => Some("ERR no AUTH within [limits] auth_timeout, the connection is closed"),
            Waiting::Command => Some("ERR no whole command within [limits] command_timeout, the connection is closed"),
            Waiting::Reader | Waiting::Idle | Waiting::Store => None,
        }
    }
}

impl Wait {
    /// Of a client that has just come.
    pub fn new(now: Instant) -> Self {
        Wait { what: Cell::new(Waiting::Store), since: Cell::new(now), due: Cell::new(false) }
    }

    /// Notes what is waited for now; the time goes on if it is the same and nothing of it has come.
    pub fn note(&self, what: Waiting, progress: Progress, now: Instant) {
        if self.what.get() != what || what.is_served_by(progress) {
            self.what.set(what);
            self.since.set(now);
            self.due.set(false);
        }
    }

    /// Whether the client has asked nothing for a while, and is owed nothing.
    pub fn rests(&self, now: Instant) -> bool {
        self.what.get() == Waiting::Idle && now.saturating_duration_since(self.since.get()) > REST
    }

    /// What the client has let Weir wait for too long.
    pub fn overdue(&self) -> Option<Waiting> {
        self.due.get().then(|| self.what.get())
    }

    /// Looks at a tick whether the time is up; true: the session must look.
    pub fn tick(&self, now: Instant, limits: &Limits) -> bool {
        // What was noted before this tick may have begun as late as now, but for the tick.
        let is_over = |limit| now.saturating_duration_since(self.since.get()) > limit + tick(limits);
        self.due.set(self.what.get().limit(limits).is_some_and(is_over));
        self.due.get()
    }
}

/// How far the ticks of a worker's clock are apart.
pub fn tick(limits: &Limits) -> Duration {
    const FINEST: Duration = Duration::from_millis(10);
    const COARSEST: Duration = Duration::from_secs(1);
    let all = [limits.auth_timeout, limits.command_timeout, limits.write_timeout, limits.idle_timeout];
    let shortest = all.into_iter().filter(|limit| !limit.is_zero()).min().unwrap_or(COARSEST);
    (shortest / 4).clamp(FINEST, COARSEST)
}
