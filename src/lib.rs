//! Weir stands where Redis stood. Applications keep their Redis clients and change the port; operators write in one TOML
//! file which SQL answers which key; the proxy loads on a miss, once, and keeps what it loaded in Redis or in its own
//! embedded store.
//!
//! # The walk of one GET
//!
//! `GET product:7` over a Redis upstream, on a cold cache:
//!
//! 1. [`server`] — the client's worker thread reads its socket into a buffer that all its clients share, and
//!    `server/session.rs` asks the scanner of [`resp`] where the command ends. Nothing is decoded and nothing is copied yet.
//! 2. `server/conn.rs` finds GET in the command table and `product:7` among the routes. A command on no route would join a *run*:
//!    plain commands travel upstream as one slice, wait as one entry, and come back as one slice.
//!    Where the route has `near` and the value is kept in this process, that is the answer, and the walk ends here.
//! 3. The GET goes to Redis as it came, over the worker's one pipelined link ([`store::redis`]); its place in the order
//!    of replies is a slot in `server/replies.rs`. All that the worker's clients sent in this wake-up leaves with one write.
//! 4. Redis answers nil. Had it answered a value, its bytes would have gone straight to the client: a hit costs a
//!    command table look-up and a route match more than no proxy at all. A nil may mean a miss, and only now the engine
//!    is asked.
//! 5. [`cache`] — *acquire*: one script at Redis says whether there is a value by now, a remembered absence, or somebody's
//!    lease; and else makes the lease ours. Whoever finds our lease waits for our load, and runs none.
//! 6. [`database`] — the route's statement, prepared at start, runs with `7` as a bound parameter, on a runtime beside
//!    the workers', for no longer than `load_timeout`. The row becomes a [`value`].
//! 7. *fill*: a second script stores the value with its TTL, if the lease is still ours. A DEL, a SET, any change of
//!    `product:7` would have dropped the lease before it was made, and the fill would be refused: an invalidation always
//!    beats a load that began before it.
//! 8. Everybody who waited is answered, each in the order of its own requests.
//!
//! # The floors
//!
//! A file uses its own folder, or lower floors only.
//!
//! ```text
//! 5  main.rs, cli     arguments, start and end, exit codes
//! 4  server           listeners, workers, sessions, ordered replies, drain      admin   metrics, health, explanations
//! 3  cache            the engine: look up -> lease -> load -> fill
//! 2  store            where cached data lives: redis, embedded                  database   where the truth lives
//! 1  resp             wire format and command table: no I/O, no clock
//! 0  config, clock, hash, memory, value, transport
//! ```
//!
//! `store` and `database` do not know each other; `cache` joins them, and meets them through small traits
//! ([`store::Store`], [`database::Statement`], [`clock::Clock`]), so that `tests/model` runs the same engine over
//! simulated ones, one seed per universe.
//!
//! # Invariants
//!
//! - A fill is stored only under its own lease, and every change of a key that can be loaded drops the key's lease first.
//! - Only a key whose route has a `load` reaches a database; the lease of another says which client is to fill it.
//! - A value is stored only after its key stands in the index of each of its tags, and if none of them was invalidated since its
//!   load began.
//! - A read joins a load of its own process only after it has seen that load's lease at the store; while there is no store
//!   to ask, only if that load begins after the read.
//! - What the store may have missed, or come back with, is not served before it is dropped from it.
//! - What is kept near is dropped before a change of it through this process is acknowledged; and nothing is kept while changes
//!   by others may go unheard.
//! - No more loads ask a database at once than its pool has connections, of all workers together; and while it fails, one.
//! - A worker's state stays on its thread. Two workers share the flights (on misses), the near cache's shards or the embedded
//!   store's, and counters that are summed when they are read.
//! - What a client may do is decided for each of its commands before anything is done about it: no answer depends on
//!   whether it is a hit. Who fills is Weir itself, and never a client.
//! - A reply goes to the slot of its request or to nobody: what a timed-out or broken link still says is swallowed.
//! - What a client may make Weir hold is bounded: commands, pipelines, unread replies, negative entries, failed keys.
//! - Of a key only parts that its pattern captures reach a database, and only as bound parameters.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod hash;
pub mod memory;
pub mod resp;
pub mod server;
pub mod store;
pub mod transport;
pub mod value;
