//! A store with the three steps of the cache protocol and the commands that clients need, over one table in memory.
//!
//! Every call waits before and after its step, which alone is atomic; some lose their answer after the step is done. Each
//! engine reaches it in its own way, which may be cut: then nothing is asked, and what was asked has no answer.

use crate::universe::Chance;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use weir::store::{Acquired, Fill, Filled, Store, StoreError, StoreKey, Token};
use weir::value::Value;

#[derive(Clone)]
pub struct SimStore {
    pub chance: Chance,
    pub table: Rc<RefCell<Table>>,
    /// The deliberate bug: fills do not look at the lease.
    pub without_fence: bool,
    /// Whether answers get lost.
    pub lossy: bool,
    /// This way to the table is cut.
    pub cut: Rc<Cell<bool>>,
}

#[derive(Default)]
pub struct Table {
    values: BTreeMap<StoreKey, Held<String>>,
    leases: BTreeMap<StoreKey, Held<Token>>,
    negatives: BTreeMap<StoreKey, Held<()>>,
    pub refused: u64,
    pub lost: u64,
    pub unreached: u64,
    pub expired: u64,
    pub most_negatives: usize,
}

struct Held<T> {
    what: T,
    until: Instant,
}

/// What stands at `key`, if its time has not passed.
fn live<'a, T>(map: &'a mut BTreeMap<StoreKey, Held<T>>, key: &StoreKey) -> Option<&'a T> {
    if map.get(key).is_some_and(|held| held.until <= Instant::now()) {
        map.remove(key);
    }
    map.get(key).map(|held| &held.what)
}

impl Table {
    fn value(&mut self, key: &StoreKey) -> Option<String> {
        let before = self.values.len();
        let value = live(&mut self.values, key).cloned();
        self.expired += (before - self.values.len()) as u64;
        value
    }

    fn acquire(&mut self, key: &StoreKey, token: Token, lease: Duration) -> Acquired {
        if self.value(key).is_some() {
            return Acquired::Present;
        }
        if live(&mut self.negatives, key).is_some() {
            return Acquired::Negative;
        }
        if let Some(&held) = live(&mut self.leases, key) {
            return Acquired::Held(held);
        }
        self.leases.insert(key.clone(), Held { what: token, until: Instant::now() + lease });
        Acquired::Granted
    }

    fn fill(&mut self, key: &StoreKey, token: Token, fill: Fill, without_fence: bool) -> Filled {
        if live(&mut self.leases, key) != Some(&token) && !without_fence {
            self.refused += 1;
            return Filled::LeaseLost;
        }
        self.leases.remove(key);
        if !matches!(fill, Fill::Nothing) && self.value(key).is_some() && !without_fence {
            self.refused += 1;
            return Filled::Occupied;
        }
        match fill {
            Fill::Value { value: Value::String(bytes), ttl } => {
                let what = String::from_utf8(bytes.to_vec()).expect("the simulated rows are text");
                self.values.insert(key.clone(), Held { what, until: Instant::now() + ttl });
            }
            Fill::Value { .. } => unreachable!("the simulated rows are strings"),
            Fill::Negative { ttl } => {
                self.negatives.insert(key.clone(), Held { what: (), until: Instant::now() + ttl });
                let now = Instant::now();
                let alive = self.negatives.values().filter(|held| held.until > now).count();
                self.most_negatives = self.most_negatives.max(alive);
            }
            Fill::Nothing => {}
        }
        Filled::Stored
    }

    fn fence(&mut self, key: &StoreKey) {
        self.leases.remove(key);
        self.negatives.remove(key);
    }
}

impl SimStore {
    /// One atomic step at some moment; the answer takes its time too, and may get lost.
    async fn step<T>(&self, step: impl FnOnce(&mut Table) -> T) -> Result<T, StoreError> {
        self.reach()?;
        self.chance.pause(3).await;
        self.reach()?;
        let answer = step(&mut self.table.borrow_mut());
        self.chance.pause(3).await;
        self.reach()?;
        if self.lossy && self.chance.one_in(40) {
            self.table.borrow_mut().lost += 1;
            return Err(StoreError::Timeout);
        }
        Ok(answer)
    }

    fn reach(&self) -> Result<(), StoreError> {
        if !self.cut.get() {
            return Ok(());
        }
        self.table.borrow_mut().unreached += 1;
        Err(StoreError::Unavailable("simulated".into()))
    }

    pub async fn get(&self, key: &StoreKey) -> Result<Option<String>, StoreError> {
        self.step(|table| table.value(key)).await
    }

    /// A routed SET as the server sends it: the fence first, then the command, on one link: both happen or neither is
    /// known to.
    pub async fn set(&self, key: &StoreKey, value: String, ttl: Duration) -> Result<(), StoreError> {
        self.chance.pause(2).await;
        self.reach()?;
        self.table.borrow_mut().fence(key);
        self.step(|table| {
            table.values.insert(key.clone(), Held { what: value, until: Instant::now() + ttl });
        })
        .await
    }

    /// A routed DEL, likewise.
    pub async fn del(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.chance.pause(2).await;
        self.reach()?;
        self.table.borrow_mut().fence(key);
        self.step(|table| drop(table.values.remove(key))).await
    }
}

impl Store for SimStore {
    async fn acquire(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        self.step(|table| table.acquire(key, token, lease)).await
    }

    async fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> Result<Filled, StoreError> {
        self.step(|table| table.fill(key, token, fill, self.without_fence)).await
    }

    async fn invalidate(&self, key: &StoreKey) -> Result<bool, StoreError> {
        self.step(|table| {
            table.fence(key);
            table.values.remove(key).is_some()
        })
        .await
    }
}
