//! What is kept of one name.
//!
//! Nearly always it is one value, of one database, for whoever is no user of the upstream's own: that one lies beside the
//! name, in the same cache line, so that nothing but its bytes is behind a pointer.

use super::Key;
use super::moment::Moment;
use crate::store::Credentials;
use crate::value::{Value, View};
use bytes::Bytes;
use std::sync::Arc;

/// See the module's page.
pub enum Copies {
    /// None, while so many changes of the name are under way.
    None {
        /// How many.
        bars: u32,
    },
    /// One that is nobody's own.
    One(Copy),
    /// Of several users and databases; never empty.
    Several(Vec<Own>),
}

/// One user's.
pub struct Own {
    user: Option<Arc<Credentials>>,
    copy: Copy,
}

/// One database's. The database stands in each variant for the sake of size: as a field beside them it would take a word.
pub enum Copy {
    /// A read of it is under way, by the holder of this marker.
    Marked {
        /// Number of the database.
        db: u32,
        /// See [`super::shard::Place`].
        marker: u64,
    },
    /// A string was read.
    String {
        /// Number of the database.
        db: u32,
        /// It is kept no longer than so.
        until: Moment,
        /// At its exact size.
        text: Box<[u8]>,
    },
    /// A hash was read.
    Hash {
        /// Number of the database.
        db: u32,
        /// It is kept no longer than so.
        until: Moment,
        /// In the order in which they were read.
        fields: Box<[(Bytes, Bytes)]>,
    },
}

impl Copies {
    /// The copy for a key.
    #[inline]
    pub fn of(&self, key: Key<'_>) -> Option<&Copy> {
        match self {
            Copies::One(copy) => (key.user.is_none() && copy.db() == key.db).then_some(copy),
            Copies::Several(several) => several.iter().find(|own| own.is_of(key)).map(|own| &own.copy),
            Copies::None { .. } => None,
        }
    }

    /// The same, to be replaced.
    pub fn of_mut(&mut self, key: Key<'_>) -> Option<&mut Copy> {
        match self {
            Copies::One(copy) => (key.user.is_none() && copy.db() == key.db).then_some(copy),
            Copies::Several(several) => several.iter_mut().find(|own| own.is_of(key)).map(|own| &mut own.copy),
            Copies::None { .. } => None,
        }
    }

    /// The copy in which this marker stands.
    pub fn marked(&mut self, marker: u64) -> Option<&mut Copy> {
        match self {
            Copies::One(copy) => copy.is_marked(marker).then_some(copy),
            Copies::Several(several) => several.iter_mut().map(|own| &mut own.copy).find(|copy| copy.is_marked(marker)),
            Copies::None { .. } => None,
        }
    }

    /// Puts a marker for a key of which there is no copy.
    pub fn add(&mut self, key: Key<'_>, marker: u64) {
        let copy = Copy::Marked { db: key.db, marker };
        *self = match (std::mem::replace(self, Copies::NONE), key.user) {
            (Copies::None { .. }, None) => Copies::One(copy),
            (before, user) => {
                let mut several = match before {
                    Copies::None { .. } => Vec::new(),
                    Copies::One(copy) => vec![Own { user: None, copy }],
                    Copies::Several(several) => several,
                };
                several.reserve_exact(1);
                several.push(Own { user: user.cloned(), copy });
                Copies::Several(several)
            }
        };
    }

    /// Takes away the copy in which this marker stands.
    pub fn remove(&mut self, marker: u64) {
        if let Copies::Several(several) = self {
            several.retain(|own| !own.copy.is_marked(marker));
            if !several.is_empty() {
                return;
            }
        }
        *self = Copies::NONE;
    }

    /// No copies, and no bars.
    pub const NONE: Copies = Copies::None { bars: 0 };

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Copy> {
        let (one, several) = match self {
            Copies::None { .. } => (None, &[][..]),
            Copies::One(copy) => (Some(copy), &[][..]),
            Copies::Several(several) => (None, &several[..]),
        };
        one.into_iter().chain(several.iter().map(|own| &own.copy))
    }
}

impl Own {
    fn is_of(&self, key: Key<'_>) -> bool {
        self.copy.db() == key.db
            && match (&self.user, key.user) {
                (None, None) => true,
                (Some(own), Some(user)) => Arc::ptr_eq(own, user) || own == user,
                _ => false,
            }
    }
}

impl Copy {
    /// What was read.
    pub fn kept(db: u32, until: Moment, value: Value) -> Copy {
        match value {
            Value::String(text) => Copy::String { db, until, text: Vec::from(text).into_boxed_slice() },
            Value::Hash(fields) => Copy::Hash { db, until, fields: fields.into_boxed_slice() },
        }
    }

    /// Number of the database.
    #[inline]
    pub fn db(&self) -> u32 {
        match self {
            Copy::Marked { db, .. } | Copy::String { db, .. } | Copy::Hash { db, .. } => *db,
        }
    }

    /// The value, and until when it is kept; `None`: it is not here yet.
    #[inline]
    pub fn value(&self) -> Option<(View<'_>, Moment)> {
        match self {
            Copy::Marked { .. } => None,
            Copy::String { until, text, .. } => Some((View::String(text), *until)),
            Copy::Hash { until, fields, .. } => Some((View::Hash(fields), *until)),
        }
    }

    fn is_marked(&self, by: u64) -> bool {
        matches!(self, Copy::Marked { marker, .. } if *marker == by)
    }
}
