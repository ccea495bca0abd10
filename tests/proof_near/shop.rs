//! Rows with versions, and what is known of each: when which version was acknowledged, and by which Weir. Shares no code
//! with what is tested.

use crate::harness::{PATIENCE, Sqlite};
use std::sync::Mutex;
use std::time::Instant;

pub struct Shop {
    database: Sqlite,
    writer: Mutex<rusqlite::Connection>,
    rows: Vec<Mutex<Vec<Change>>>,
    /// Chances of the rows, summed up: row 0 is asked for most (Zipf 0.99).
    chances: Vec<f64>,
}

/// A version that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub version: u64,
    pub weir: usize,
    pub at: Instant,
}

/// What a read that begins now may answer.
pub struct Bounds {
    /// Through the Weir that is asked, at least this version.
    pub own: u64,
    /// Acknowledged by any Weir, ascending.
    changes: Vec<Change>,
}

impl Bounds {
    /// The first change that an answer does not show, if there is one.
    pub fn missed(&self, version: u64) -> Option<Change> {
        self.changes.iter().copied().find(|change| change.version > version)
    }
}

impl Shop {
    pub fn new(rows: u64) -> Shop {
        let database = Sqlite::empty();
        database.sql(&format!(
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1)
             INSERT INTO rows SELECT i, 1 FROM n"
        ));
        let writer = rusqlite::Connection::open(database.path()).expect("database file");
        writer.execute_batch("PRAGMA synchronous = off").expect("setting");
        writer.busy_timeout(PATIENCE).expect("setting");
        let mut sum = 0.0;
        let chances = (1..=rows).map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        });
        Shop {
            chances: chances.collect(),
            rows: (0..rows).map(|_| Mutex::default()).collect(),
            database,
            writer: Mutex::new(writer),
        }
    }

    pub fn url(&self) -> String {
        self.database.url()
    }

    /// Some row, seldom any but the first.
    pub fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64() * self.chances.last().expect("there are rows");
        self.chances.partition_point(|&sum| sum < at).min(self.chances.len() - 1)
    }

    /// For a read of this row through `weir` that begins now.
    pub fn bounds(&self, row: usize, weir: usize) -> Bounds {
        let changes = self.rows[row].lock().expect("no thread panics with it");
        let own = changes.iter().rev().find(|change| change.weir == weir).map_or(0, |change| change.version);
        // Older ones than this many nobody can still see.
        Bounds { own, changes: changes[changes.len().saturating_sub(64)..].to_vec() }
    }

    /// Commits the row's next version and answers it.
    pub fn change(&self, row: usize) -> u64 {
        let writer = self.writer.lock().expect("no thread panics with it");
        let sql = "UPDATE rows SET version = version + 1 WHERE id = ?1 RETURNING version";
        writer.query_row(sql, [row as i64], |row| row.get::<_, i64>(0)).expect("the row is there") as u64
    }

    /// That version was committed before a change that this Weir has just acknowledged. Each row has one writer.
    pub fn acknowledged(&self, row: usize, version: u64, weir: usize) {
        let change = Change { version, weir, at: Instant::now() };
        self.rows[row].lock().expect("no thread panics with it").push(change);
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}
