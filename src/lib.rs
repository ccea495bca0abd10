//! Weir: a transparent RESP caching proxy.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod resp;
pub mod server;
pub mod store;
pub mod value;
