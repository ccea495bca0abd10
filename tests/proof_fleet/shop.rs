//! Rows with versions and categories that change, and what a writer must invalidate to be sure of its change.
//!
//! A row is read under two keys: `row:7` is its JSON, `card:7` its hash. Their values have the tags `category:C`, of the row as it
//! was loaded, and `row-7`. When a writer has committed version 9, somebody may still keep any version from the newest one whose
//! invalidation was acknowledged, say 6, up to 8. So by key it invalidates the key; and by category, those of the versions 6, 7
//! and 8, for the row moves with every version. The category of version 9 is none of them, unless it was there before.

use crate::harness::{Postgres, Session, Zipf};
use crate::history::FIRST;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The keys of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Row = 0,
    Card = 1,
}

pub const KINDS: [Kind; 2] = [Kind::Row, Kind::Card];

impl Kind {
    pub fn key(self, row: usize) -> String {
        match self {
            Kind::Row => format!("row:{row}"),
            Kind::Card => format!("card:{row}"),
        }
    }

    /// What the history calls this key.
    pub fn number(self, row: usize) -> u32 {
        (row * KINDS.len() + self as usize) as u32
    }
}

/// Rows of one category, and categories at least.
const ROWS_EACH: u64 = 8;
const CATEGORIES: u64 = 7;

pub struct Shop {
    postgres: Postgres,
    rows: Vec<Mutex<Ledger>>,
    chances: Zipf,
    categories: u32,
}

/// What is known of a row.
#[derive(Debug)]
struct Ledger {
    /// Of each version from the first one on.
    categories: Vec<u32>,
    /// For each kind of key, the newest version whose invalidation was acknowledged.
    floors: [u64; KINDS.len()],
}

/// A version that stands in the database.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    pub row: usize,
    pub number: u64,
    pub category: u32,
}

impl Shop {
    pub fn new(rows: u64) -> Shop {
        let postgres = Postgres::start();
        postgres.sql(&format!(
            "CREATE TABLE rows (id integer PRIMARY KEY, version bigint NOT NULL, category integer NOT NULL) WITH (fillfactor = 20);
             INSERT INTO rows SELECT id, {FIRST}, 0 FROM generate_series(0, {rows} - 1) AS id"
        ));
        let categories = (rows / ROWS_EACH).max(CATEGORIES);
        let ledger = |_| Mutex::new(Ledger { categories: vec![0], floors: [FIRST; KINDS.len()] });
        Shop {
            postgres,
            rows: (0..rows).map(ledger).collect(),
            chances: Zipf::new(rows),
            categories: categories as u32,
        }
    }

    pub fn database_port(&self) -> u16 {
        self.postgres.port()
    }

    /// The database's URL, over another port.
    pub fn url_through(&self, port: u16) -> String {
        self.postgres.url().replace(&format!(":{}/", self.postgres.port()), &format!(":{port}/"))
    }

    pub fn session(&self) -> Session {
        self.postgres.session()
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    pub fn pick(&self, random: &mut fastrand::Rng) -> usize {
        self.chances.pick(random)
    }

    /// Commits the row's next version, in some category.
    pub fn change(&self, row: usize, session: &mut Session, random: &mut fastrand::Rng) -> Version {
        // Held until it is written down, so that whoever commits the next version knows of this one.
        let mut ledger = self.rows[row].lock().expect("no thread panics with it");
        let category = random.u32(..self.categories);
        let rows = session.sql(&format!(
            "UPDATE rows SET version = version + 1, category = {category} WHERE id = {row} RETURNING version"
        ));
        let number = rows[0][0].as_deref().and_then(|text| text.parse().ok()).expect("a version");
        ledger.categories.push(category);
        assert_eq!(number, FIRST + ledger.categories.len() as u64 - 1, "somebody else has changed row {row}");
        Version { row, number, category }
    }

    /// The categories of all versions before this one that somebody may still keep. If later ones were acknowledged already,
    /// there is none, and this version's own is as good as any.
    pub fn categories_before(&self, version: Version) -> BTreeSet<u32> {
        let ledger = self.rows[version.row].lock().expect("no thread panics with it");
        let oldest = ledger.floors.into_iter().min().unwrap_or(FIRST).min(version.number);
        let before = (oldest - FIRST) as usize..(version.number - FIRST) as usize;
        match before.is_empty() {
            true => BTreeSet::from([version.category]),
            false => ledger.categories[before].iter().copied().collect(),
        }
    }

    /// An invalidation of this key that began after the commit was acknowledged.
    pub fn acknowledged(&self, version: Version, kind: Kind) {
        let floor = &mut self.rows[version.row].lock().expect("no thread panics with it").floors[kind as usize];
        *floor = version.number.max(*floor);
    }
}
