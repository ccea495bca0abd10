//! Look-ups that are about to come, warmed together.
//!
//! A hit on a cold name waits for memory several times: for its place in the index, for its seat, and for its value; and each
//! address is known only when the last one has come. Of a pipeline's look-ups none depends on another, so that a core works at
//! several at once, if nothing between them holds it up. Taking a lock does: so the shards of all are locked first, and each once.

use super::shard::Shard;
use super::{Near, SHARDS};
use parking_lot::RwLockReadGuard;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;

/// For fewer it costs more than it saves.
const FEWEST: usize = 4;
/// So many are warmed at once: the shards are locked for no longer than that takes.
const MOST: usize = 64;
/// While no more than so many bytes are kept, they are near enough to the core as it is.
const COLD: usize = 4 << 20;

impl Near {
    /// Look-ups of names with these [`crate::hash::hash`]es are about to come: brings what they will read nearer to the core. Nothing
    /// else comes of it, and whatever is being changed just now is left out.
    pub fn warm(&self, hashes: &[u64]) {
        if self.taken.load(Relaxed) < COLD {
            return;
        }
        hashes.chunks(MOST).filter(|hashes| hashes.len() >= FEWEST).for_each(|hashes| self.warm_some(hashes));
    }

    fn warm_some(&self, hashes: &[u64]) {
        let mut shards: [Option<RwLockReadGuard<'_, Shard>>; SHARDS] = [const { None }; SHARDS];
        for &hash in hashes {
            let home = self.home(hash);
            if shards[home].is_none() {
                // Never waited for: two who hold some and wait for others might wait for each other.
                shards[home] = self.shards[home].try_read();
            }
        }
        for &hash in hashes {
            if let Some(shard) = &shards[self.home(hash)] {
                black_box(shard.touch(hash));
            }
        }
    }
}
