//! The RESP floor against a real Redis server: its command table, its keys, its words for what is wrong.

mod commands;
mod rights;
mod server;
mod wire;
