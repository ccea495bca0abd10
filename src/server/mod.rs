//! The proxy itself: listeners, workers, sessions and their ordered replies, and the drain.
//!
//! Each worker is a thread with a single-threaded runtime of its own, its own links to the upstream and its own
//! clients; nothing on a hit is shared between two of them. Who may take time (database connections, the accepting of
//! clients, the admin port) runs on a multi-threaded runtime beside them. [`crate::cli`] puts the pieces together.

mod access;
mod app;
mod as_user;
mod aside;
mod batch;
mod buffers;
mod change;
mod client_command;
mod client_list;
mod clients;
mod clustered;
mod conn;
mod data;
mod embedded_server;
mod errand;
mod events;
mod explain;
mod facade;
mod freshness;
mod gets;
mod incoming;
mod info;
mod keys;
mod lasting;
mod learned;
mod lifetime;
pub mod listener;
mod listing;
mod lives;
pub mod metrics;
mod missed;
mod near;
mod output;
mod own;
mod patience;
mod private;
mod reads;
mod refreshing;
mod replies;
mod rights;
mod routed;
mod rules;
mod sampling;
mod series;
mod session;
mod short_cut;
mod stats;
mod tagging;
mod threads;
mod timed;
mod transaction;
mod unstored;
mod warming;
mod weir;
mod window;
mod worker;

pub use self::access::Access;
pub use self::app::{App, StoreKind};
pub use self::threads::Workers;
pub use self::weir::HELP as WEIR_HELP;
