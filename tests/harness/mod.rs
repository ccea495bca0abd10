//! Throw-away servers and a client for the tests: the real programs, on free loopback ports, in folders of their own.
//!
//! Everything here ends with the test that made it, also when the test panics: each server is killed by its pid and
//! waited for in `Drop`, and what it printed is shown if the test failed. Nothing waits for a time to pass: every wait is
//! for a condition, bounded by [`PATIENCE`], which is generous because a shared machine may be slow.
//!
//! The client and its parser share no code with `src/`: they are what the program is measured against.
#![allow(dead_code, unused_imports, unused_macros, clippy::unwrap_used, clippy::large_enum_variant)]

mod certificates;
mod client;
mod cluster;
mod http;
mod metrics;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sentinel;
mod shop;
mod spread;
mod sqlite;
mod stack;
mod tunnel;
mod users;
mod weir;
mod zipf;

pub use certificates::{Authority, Signed};
pub use client::{Client, Reply, command, raw_command};
pub use cluster::{Master, RedisCluster};
pub use metrics::Metrics;
pub use pgbouncer::PgBouncer;
pub use postgres::{Gate, Postgres, Session};
pub use process::{free_port, many_descriptors};
pub use proxy::{Fault, FaultProxy};
pub use redis::Redis;
pub use sentinel::{CutOff, NAME, Sentinels, Setup};
pub use shop::sql as shop_sql;
pub use spread::Spread;
pub use sqlite::Sqlite;
pub(crate) use stack::over_all_pairs;
pub use stack::{Database, Pair, Stack, servers};
pub use tunnel::{Far, Tunnel};
pub use users::{User, UsersFile};
pub use weir::{Finished, Weir, check, run_weir, run_weir_unprivileged};
pub use zipf::Zipf;

use std::time::{Duration, Instant};

/// The longest any wait of a test may last before it counts as "never".
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()))
}

/// Waits until `probe` answers something; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    // Looks often at first and then less so: a scrape of the metrics is work for what is being tested.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}

/// A fault lasts for a time: nothing is waited for.
pub fn lasts(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// A test's size: the environment variable's, for a long run, or the small one.
pub fn sized(variable: &str, small: usize) -> usize {
    std::env::var(variable).map_or(small, |text| text.parse().expect("a test's size is a number"))
}

/// The seed of a randomised test: `WEIR_TEST_SEED`, or a new one; printed, so that a failure can be replayed.
pub fn seed() -> u64 {
    let seed = match std::env::var("WEIR_TEST_SEED") {
        Ok(text) => text.parse().expect("WEIR_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("seed: WEIR_TEST_SEED={seed}");
    seed
}

/// How much a proof does: what the environment variable `name` says, or `default`, which is little enough for every day.
pub fn size(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
