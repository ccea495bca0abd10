//! Some keys whose values are looked up together: of GETs that follow each other, or of one MGET.

use crate::cache::near::{Key, TOGETHER};
use crate::hash::hash;
use crate::store::Identity;

/// So many are looked up together.
pub const MOST: usize = TOGETHER;

/// One of them.
#[derive(Clone, Copy, Default)]
pub struct Get<'a> {
    /// Its bytes.
    pub key: &'a [u8],
    /// Their [`hash`].
    pub hash: u64,
    /// Where its command ends.
    pub end: usize,
    /// Index of its route.
    pub route: usize,
}

impl<'a> Get<'a> {
    /// A key, where its command ends, and the index of its route.
    #[inline]
    pub fn new(key: &'a [u8], end: usize, route: usize) -> Self {
        Get { key, hash: hash(key), end, route }
    }

    /// As the near cache knows it.
    #[inline]
    pub fn near<'k>(&'k self, who: &'k Identity) -> Key<'k> {
        Key::hashed(who.db, who.user.as_ref(), self.key, self.hash)
    }
}

/// See the module's page.
pub struct Gets<'a> {
    all: [Get<'a>; MOST],
    len: usize,
}

impl<'a> Gets<'a> {
    /// The first of these keys, each given with the end of its command: up to the first that has not such a route as is wanted, and
    /// [`MOST`] at most.
    #[inline]
    pub fn new(keys: impl Iterator<Item = (&'a [u8], usize)>, route: impl Fn(&[u8]) -> Option<usize>) -> Self {
        let mut gets = Gets { all: [Get::default(); MOST], len: 0 };
        for (get, (key, end)) in gets.all.iter_mut().zip(keys) {
            let Some(route) = route(key) else { break };
            *get = Get::new(key, end, route);
            gets.len += 1;
        }
        gets
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of them.
    pub fn all(&self) -> &[Get<'a>] {
        &self.all[..self.len]
    }

    /// The hashes of all.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        self.all().iter().map(|get| get.hash)
    }
}
