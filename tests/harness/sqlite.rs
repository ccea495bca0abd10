//! A SQLite file of one's own.

use std::path::{Path, PathBuf};

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
