//! Clients over few links, and over links of their own and back: each reads its own writes, is in its own database, and leaves
//! nothing behind (T23, T31, T33).
//!
//! `WEIR_PROOF_PAIRS=1000000`, `WEIR_PROOF_CLIENTS=1000` and `WEIR_PROOF_ROUNDS=200` run them in full. Times are printed and
//! never asserted.

#[path = "../harness/mod.rs"]
mod harness;

mod blocked;
mod identities;
mod pairs;

use harness::*;

/// Weir over a Redis, with more in its `[server]` section, and more sections.
pub fn over(redis: &Redis, workers: u32, server: &str, sections: &str) -> Weir {
    Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = {workers}\n{server}\
         [upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n{sections}",
        redis.url()
    ))
}

/// Connections at Redis in whose line of CLIENT LIST all these words stand.
pub fn links(redis: &Redis, words: &[&str]) -> usize {
    let list = redis.client().run("CLIENT LIST").text();
    list.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}
