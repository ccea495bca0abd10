//! The one hash of keys, seeded at random for each process: clients choose keys, and must not choose collisions.
//!
//! A key is hashed once for each command; the order of a client's requests, the near cache and the embedded store all go by
//! that.

use foldhash::quality::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

static SEEDED: LazyLock<RandomState> = LazyLock::new(Default::default);

/// Hash of a name: the top bits choose a shard, the low 32 the place in an index.
#[inline]
pub fn hash(name: &[u8]) -> u64 {
    let mut hasher = SEEDED.build_hasher();
    hasher.write(name);
    hasher.finish()
}
