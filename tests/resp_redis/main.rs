//! The RESP floor against a real Redis server: its command table, its keys, its words for what is wrong.

mod commands;
mod server;
mod wire;
