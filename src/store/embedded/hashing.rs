//! The one hash of the store, seeded at random for each process: clients choose keys, and must not choose collisions.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

static SEEDED: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

/// Hash of a name: the top bits choose the shard, the low 32 the place in an index.
#[inline]
pub(super) fn hash(name: &[u8]) -> u64 {
    let mut hasher = SEEDED.build_hasher();
    hasher.write(name);
    hasher.finish()
}
