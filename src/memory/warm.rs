//! Look-ups that are about to come, warmed together.
//!
//! A look-up in a table that no longer fits the core's own cache waits for memory several times: for its place in the index, for
//! the entry, and for the value; and each address is known only when the last one has come. Of the look-ups of a pipeline none
//! depends on another, so that a core works at several at once, if nothing between them holds it up. Taking a lock does: so
//! the shards of all are locked first, each once, and let go before the look-ups begin.

use std::hint::black_box;

/// For fewer it costs more than it saves.
const FEWEST: usize = 4;
/// Shards of the tables that are warmed, at most.
const SHARDS: usize = 64;

/// Looks at what the look-ups of these hashes will read, which brings it nearer to the core; nothing else comes of it.
///
/// `home` says which shard a hash falls to, below 64. `lock` locks one without waiting (those who held some and waited for others
/// might wait for each other), or leaves it out. `touch` reads what a look-up will read, and answers something of it.
pub fn warm<G>(
    hashes: impl ExactSizeIterator<Item = u64> + Clone,
    home: impl Fn(u64) -> usize,
    lock: impl Fn(usize) -> Option<G>,
    touch: impl Fn(&G, u64) -> u8,
) {
    if hashes.len() < FEWEST {
        return;
    }
    let mut shards: [Option<G>; SHARDS] = [const { None }; SHARDS];
    for hash in hashes.clone() {
        let shard = &mut shards[home(hash)];
        if shard.is_none() {
            *shard = lock(home(hash));
        }
    }
    for hash in hashes {
        if let Some(shard) = &shards[home(hash)] {
            black_box(touch(shard, hash));
        }
    }
}

/// Something of the beginning of a value, and of its second cache line. The processor's own foresight brings the rest of a long one.
#[inline]
pub fn beginning(bytes: &[u8]) -> u8 {
    const LINE: usize = 64;
    bytes.first().copied().unwrap_or(0) ^ bytes.get(LINE).or(bytes.last()).copied().unwrap_or(0)
}
