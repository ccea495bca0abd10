//! Why a load was not begun, in words and in numbers.

use metrics::{Counter, Gauge};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a load was not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// NAME of `[database.NAME]`.
    pub database: Arc<str>,
    /// Why.
    pub reason: Reason,
}

/// See [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// So many wait already. Shed.
    Full(usize),
    /// It has waited so long for one of so many turns. Shed.
    Late(Duration, usize),
    /// No turn was free for a load that nobody waits for.
    Busy,
    /// The database has failed of late.
    Down,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Full(most) => write!(f, "{most} loads wait already"),
            Reason::Late(waited, pool) => write!(f, "none of {pool} connections was free within {waited:?}"),
            Reason::Busy => write!(f, "no connection is free"),
            Reason::Down => write!(f, "the database has failed of late"),
        }
    }
}

/// One gate's counters, looked up once.
pub struct GateMetrics {
    /// `weir_database_up{database}`: 0 while the breaker is open.
    pub up: Gauge,
    /// `weir_loads_waiting{database}`.
    pub waiting: Gauge,
    /// `weir_loads_shed_total{database,reason}`.
    full: Counter,
    late: Counter,
    busy: Counter,
    down: Counter,
}

impl GateMetrics {
    /// By the database's name.
    pub fn new(database: &str) -> Self {
        metrics::describe_gauge!("weir_database_up", "0 if the database has failed and is not asked");
        metrics::describe_gauge!("weir_loads_waiting", "loads that stand in line for a turn at the database");
        metrics::describe_counter!("weir_loads_shed_total", "loads that were not begun");
        let shed = |reason: &'static str| metrics::counter!("weir_loads_shed_total", "database" => database.to_owned(), "reason" => reason);
        let up = metrics::gauge!("weir_database_up", "database" => database.to_owned());
        up.set(1.0);
        let waiting = metrics::gauge!("weir_loads_waiting", "database" => database.to_owned());
        GateMetrics { up, waiting, full: shed("full"), late: shed("late"), busy: shed("busy"), down: shed("down") }
    }

    /// The counter of one reason.
    pub fn of(&self, reason: Reason) -> &Counter {
        match reason {
            Reason::Full(_) => &self.full,
            Reason::Late(..) => &self.late,
            Reason::Busy => &self.busy,
            Reason::Down => &self.down,
        }
    }
}
