//! What is noted beside a value, for as long as it stands: the tags that its key does not tell, and until when its end is held.
//!
//! A note goes with its key, whether that is deleted, ends or is evicted; so there is none without a value.

use crate::memory::allocated;
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// The notes of one space.
#[derive(Default)]
pub(super) struct Notes {
    notes: HashMap<Vec<u8>, Note, RandomState>,
    /// Bytes of the table, which only grows.
    table: usize,
    owned: usize,
}

/// What is noted beside one value.
#[derive(Default)]
pub(super) struct Note {
    /// That clients have named.
    pub tags: BTreeSet<Bytes>,
    /// That the value was loaded with. The next load's take their place.
    pub of_row: BTreeSet<Bytes>,
    /// Until then, in milliseconds on the store's clock, nobody renews it.
    pub held_until: i64,
}

/// What a tag takes beside its bytes: its place in a tree, and the allocator's part.
const OVERHEAD: usize = 64;

impl Note {
    /// All tags, each once.
    pub fn all_tags(&self) -> Vec<Bytes> {
        self.tags.union(&self.of_row).cloned().collect()
    }

    fn heap(&self) -> usize {
        self.tags.iter().chain(&self.of_row).map(|tag| tag.len() + OVERHEAD).sum()
    }
}

impl Notes {
    /// Bytes from the allocator.
    #[inline]
    pub fn heap(&self) -> usize {
        self.table + self.owned
    }

    /// What is noted beside `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Note> {
        self.notes.get(name)
    }

    /// Changes what is noted beside `name`, which has a value.
    pub fn change(&mut self, name: &[u8], change: impl FnOnce(&mut Note)) {
        if !self.notes.contains_key(name) {
            self.owned += allocated(name.len());
        }
        let note = self.notes.entry_ref(name).or_default();
        self.owned -= note.heap();
        change(note);
        self.owned += note.heap();
        self.table = allocated(self.notes.allocation_size());
    }

    /// The value of `name` is gone.
    #[inline]
    pub fn drop(&mut self, name: &[u8]) {
        if self.notes.is_empty() {
            return;
        }
        if let Some(note) = self.notes.remove(name) {
            self.owned -= note.heap() + allocated(name.len());
        }
    }
}
