//! A SQLite file of one's own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

/// A database file in a temporary folder, in WAL mode: a writer never waits for a load that reads.
pub struct Sqlite {
    path: PathBuf,
    folder: tempfile::TempDir,
}

impl Sqlite {
    pub fn empty() -> Sqlite {
        let folder = tempfile::tempdir().expect("temporary folder");
        let database = Sqlite { path: folder.path().join("shop.sqlite"), folder };
        database.sql("PRAGMA journal_mode = wal");
        database
    }

    /// The shop of [`super::shop`].
    pub fn shop() -> Sqlite {
        let database = Sqlite::empty();
        database.sql(&super::shop::sql());
        database
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `[database.x] url` names it by.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    #[track_caller]
    pub fn sql(&self, text: &str) {
        let connection = rusqlite::Connection::open(&self.path).expect("database file");
        connection.busy_timeout(super::PATIENCE).expect("setting");
        connection.execute_batch(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
}

/// How far this machine's SQLite counts in a millisecond: measured once, for it depends on how it was compiled.
pub fn steps_per_millisecond() -> u64 {
    static STEPS: OnceLock<u64> = OnceLock::new();
    const SAMPLE: u64 = 50_000;
    *STEPS.get_or_init(|| {
        let connection = rusqlite::Connection::open_in_memory().expect("memory");
        let count = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SAMPLE}) SELECT count(*) FROM n"
        );
        let start = Instant::now();
        connection.query_row(&count, [], |row| row.get::<_, i64>(0)).expect("counting");
        (SAMPLE * 1000 / (start.elapsed().as_micros() as u64).max(1)).max(1)
    })
}
