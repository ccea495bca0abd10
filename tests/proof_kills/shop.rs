//! Rows with versions, and which version a reader may see at least. Shares no code with what is tested.

use crate::crowd::DATABASES;
use crate::harness::{Sqlite, Zipf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// `row:7` answers `row 7 version 3`.
pub const ROUTES: &str = "[[route]]\nname = \"row\"\nkey = \"row:{id}\"\nvalue = \"text\"\n\
    load = \"SELECT 'row ' || id || ' version ' || version FROM rows WHERE id = :id\"\n";

pub struct Shop {
    database: Sqlite,
    writer: Mutex<rusqlite::Connection>,
    /// Of each row in each Redis database, the newest version whose invalidation was acknowledged.
    floors: Vec<AtomicU64>,
    rows: usize,
    chances: Zipf,
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
        writer.busy_timeout(crate::harness::PATIENCE).expect("setting");
        Shop {
            rows: rows as usize,
            chances: Zipf::new(rows),
            floors: (0..rows * u64::from(DATABASES)).map(|_| AtomicU64::new(1)).collect(),
            database,
            writer: Mutex::new(writer),
        }
    }

    pub fn url(&self) -> String {
        self.database.url()
    }

    /// Some row, seldom any but the first.
    pub fn pick(&self, random: &mut fastrand::Rng) -> usize {
        self.chances.pick(random)
    }

    /// The oldest version that a read of this row may answer if it begins now.
    pub fn floor(&self, database: u32, row: usize) -> u64 {
        self.floors[self.place(database, row)].load(Ordering::SeqCst)
    }

    /// Commits the row's next version and answers it.
    pub fn change(&self, row: usize) -> u64 {
        let writer = self.writer.lock().expect("no thread panics with it");
        let sql = "UPDATE rows SET version = version + 1 WHERE id = ?1 RETURNING version";
        writer.query_row(sql, [row as i64], |row| row.get::<_, i64>(0)).expect("the row is there") as u64
    }

    /// That version was committed before an invalidation that has been acknowledged.
    pub fn acknowledged(&self, database: u32, row: usize, version: u64) {
        self.floors[self.place(database, row)].fetch_max(version, Ordering::SeqCst);
    }

    fn place(&self, database: u32, row: usize) -> usize {
        database as usize * self.rows + row
    }
}
