//! The keys of one command, each hashed once, and matched against the routes once.

use super::worker::Worker;
use crate::cache::route::Route;
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::command::Spec;
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::sync::Arc;

/// The hashes of a command's keys: enough to know that two commands may concern the same one.
#[derive(Clone, Debug)]
pub struct KeyHashes {
    /// The first key's.
    pub first: u64,
    /// The others'; for most commands there are none, and nothing is allocated.
    pub others: Vec<u64>,
}

impl KeyHashes {
    /// Those of one key.
    pub fn one(hash: u64) -> Self {
        KeyHashes { first: hash, others: Vec::new() }
    }

    /// These; `None`: there are none.
    fn all(hashes: Vec<u64>) -> Option<Self> {
        let mut hashes = hashes.into_iter();
        Some(KeyHashes { first: hashes.next()?, others: hashes.collect() })
    }

    /// Those of all keys of a command; `None` if it has none.
    pub fn of(spec: &Spec, args: Args<'_>) -> Option<Self> {
        let mut hashes = spec.key_positions(args).filter_map(|position| Some(hash(args.get(position)?)));
        Some(KeyHashes { first: hashes.next()?, others: hashes.collect() })
    }

    /// Whether this is one of them.
    pub fn has(&self, hash: u64) -> bool {
        self.first == hash || self.others.contains(&hash)
    }

    /// Whether both have a key in common.
    pub fn meet(&self, other: &KeyHashes) -> bool {
        let (few, many) = if self.others.len() < other.others.len() { (self, other) } else { (other, self) };
        if few.others.len() < 16 {
            return few.iter().any(|key| many.iter().any(|their| key == their));
        }
        let few: HashSet<u64, RandomState> = few.iter().collect();
        many.iter().any(|key| few.contains(&key))
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

/// The keys of a command of which at least one is routed.
pub(super) struct RoutedKeys<'a> {
    first: RoutedKey<'a>,
    others: Vec<RoutedKey<'a>>,
    /// Of all its keys: a later command on one of the others waits for this one too.
    pub(super) hashes: KeyHashes,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct RoutedKey<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    /// Its route, and that one's index.
    pub(super) index: usize,
    pub(super) route: &'a Arc<Route>,
}

impl<'a> RoutedKey<'a> {
    /// `None`: no route matches it.
    #[inline]
    pub(super) fn find(worker: &'a Worker, key: &'a [u8]) -> Option<Self> {
        let (index, route) = worker.app.routes.find_indexed(key)?;
        Some(RoutedKey { key, hash: hash(key), index, route })
    }
}

impl<'a> RoutedKeys<'a> {
    /// `None`: none of them is routed.
    pub(super) fn find(worker: &'a Worker, spec: &Spec, args: Args<'a>) -> Option<Self> {
        let mut positions = spec.key_positions(args);
        let first = positions.next().and_then(|position| args.get(position))?;
        if positions.clone().next().is_none() {
            return RoutedKey::find(worker, first).map(RoutedKeys::from);
        }
        let keys = std::iter::once(first).chain(positions.filter_map(|position| args.get(position)));
        let is_routed = |key: &[u8]| worker.app.routes.find(key).is_some();
        keys.clone().any(is_routed).then(|| RoutedKeys::among(worker, keys)).flatten()
    }

    fn among(worker: &'a Worker, keys: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut routed, mut hashes) = (Vec::new(), Vec::new());
        for key in keys {
            let hash = hash(key);
            hashes.push(hash);
            let found = worker.app.routes.find_indexed(key);
            routed.extend(found.map(|(index, route)| RoutedKey { key, hash, index, route }));
        }
        let mut routed = routed.into_iter();
        Some(RoutedKeys { first: routed.next()?, others: routed.collect(), hashes: KeyHashes::all(hashes)? })
    }

    pub(super) fn first(&self) -> &RoutedKey<'a> {
        &self.first
    }

    /// All that are routed but the first.
    pub(super) fn others(&self) -> &[RoutedKey<'a>] {
        &self.others
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &RoutedKey<'a>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl<'a> From<RoutedKey<'a>> for RoutedKeys<'a> {
    /// Of a command with this key alone.
    #[inline]
    fn from(first: RoutedKey<'a>) -> Self {
        RoutedKeys { hashes: KeyHashes::one(first.hash), first, others: Vec::new() }
    }
}
