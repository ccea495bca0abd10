//! A table of rows whose values are versions, with loads that read at some moment of their run.

use crate::universe::Chance;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir::database::{Arguments, BoxFuture, DatabaseError, Loaded, Statement};
use weir::value::Value;

/// A row's newest version, whether that version is a row or its absence, and which category the row belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    pub version: u64,
    pub present: bool,
    pub category: u64,
}

#[derive(Default)]
pub struct Rows {
    pub rows: BTreeMap<String, Row>,
    pub loads: u64,
    pub failed: u64,
    pub hung: u64,
    /// Loads that ran while more than the pool did.
    pub beyond_the_pool: u64,
}

/// One more load runs, until it is dropped.
struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The statement `row by id`.
#[derive(Clone)]
pub struct SimStatement {
    pub rows: Arc<Mutex<Rows>>,
    pub chance: Chance,
    /// Whether loads fail, hang and panic.
    pub faulty: bool,
    /// Loads of one process that run, and how many may.
    pub running: Arc<AtomicU64>,
    pub pool: u64,
}

impl SimStatement {
    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().expect("no simulation panics while it holds the rows")
    }

    async fn run(&self, batch: Vec<Arguments>) -> Result<Vec<Loaded>, DatabaseError> {
        self.rows().loads += batch.len() as u64;
        let before = self.running.fetch_add(1, Relaxed);
        let _running = Running(self.running.clone());
        self.rows().beyond_the_pool += u64::from(before >= self.pool);
        self.chance.pause(30).await;
        if self.faulty && self.chance.one_in(25) {
            self.rows().hung += 1;
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let loaded = batch.iter().map(|arguments| self.row(&arguments[0])).collect();
        self.chance.pause(30).await;
        if self.faulty && self.chance.one_in(15) {
            self.rows().failed += 1;
            return Err(DatabaseError::Unavailable("simulated".into()));
        }
        Ok(loaded)
    }

    fn row(&self, id: &str) -> Loaded {
        let row = self.rows().rows.get(id).copied().unwrap_or_default();
        match row.present {
            true => Loaded {
                value: Some(Value::String(Bytes::from(format!("row:{}", row.version)))),
                tag_cells: vec![vec![Some(Bytes::from(row.category.to_string()))]],
            },
            false => Loaded::default(),
        }
    }
}

impl Statement for SimStatement {
    fn fits(&self, arguments: &[&str]) -> bool {
        arguments.iter().all(|argument| argument.bytes().all(|byte| byte.is_ascii_digit()))
    }

    fn load(&self, batch: Vec<Arguments>) -> BoxFuture<'_, Result<Vec<Loaded>, DatabaseError>> {
        Box::pin(self.run(batch))
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn parameter_types(&self) -> Vec<String> {
        vec!["bigint".into()]
    }
}
