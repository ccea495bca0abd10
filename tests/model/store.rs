//! A store with the steps of the cache protocol and the commands that clients need, over one table in memory.
//!
//! Every call waits before and after its step, which alone is atomic; some lose their answer after the step is done. Each
//! engine reaches it in its own way, which may be cut: then nothing is asked, and what was asked has no answer. Ends of leases
//! that another process waits for are told to every process, each after a while, if at all.
//!
//! Any one of the protocol's rules can be left out, as a deliberate [`Bug`] that must be found.

use crate::pushes::Pushes;
use crate::universe::Chance;
use bytes::Bytes;
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weir::store::ends::{Ends, Since};
use weir::store::{
    Acquired, Asked, Fill, Filled, Held, ListId, Outcome, Sequence, Store, StoreError, StoreKey, Tagged, Token,
};
use weir::value::Value;

/// Which rule of the protocol is left out. The first and the last are of the store's own; the others belong to the engine, and the
/// store tells it what would be so if the engine did not keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Fills do not look at the lease.
    Fence,
    /// Loads do not see the marks of their tags.
    Mark,
    /// Readers join a load of their process whose lease the store does not show any more.
    Seen,
    /// A refused fill answers all who wait for it.
    Retry,
    /// A store that has come back with what it held earlier goes on as if nothing had happened.
    Epoch,
    /// What could not be invalidated is forgotten.
    Missed,
    /// A key that has a value stays in an index for no longer than it was entered for at first.
    Lasting,
    /// What is read is kept near though its key has changed since the read was sent: its marker is put when it is answered.
    Marker,
}

#[derive(Clone)]
pub struct SimStore {
    pub chance: Chance,
    pub table: Rc<RefCell<Table>>,
    pub bug: Option<Bug>,
    /// Which process asks, and which token it was granted last for each key: for [`Bug::Seen`].
    pub granted: Rc<RefCell<BTreeMap<StoreKey, Token>>>,
    /// Whether answers get lost.
    pub lossy: bool,
    /// This way to the table is cut.
    pub cut: Rc<Cell<bool>>,
    /// Most keys that it takes in one step.
    pub together: usize,
    /// Whose way it is: an index of the table's `processes`.
    pub process: usize,
}

#[derive(Default)]
pub struct Table {
    values: BTreeMap<StoreKey, Entry<String>>,
    leases: BTreeMap<StoreKey, Entry<Lease>>,
    negatives: BTreeMap<StoreKey, Entry<()>>,
    /// What it will come back with.
    saved: Option<Saved>,
    /// How often it has: whoever was connected before is so no more.
    pub returns: u64,
    /// What it holds is not looked through yet.
    in_doubt: bool,
    epoch: u64,
    /// What each process hears.
    pub processes: Vec<Arc<Ends>>,
    /// Tells each of every change of a value.
    pub pushes: Rc<RefCell<Pushes>>,
    /// How much of the ends is heard.
    hearing: Hearing,
    /// Steps *acquire*, ends that were told, and how often a process did not hear of one.
    pub looks: u64,
    /// Of them: for many keys at once.
    pub together: u64,
    pub told: u64,
    pub unheard: u64,
    sequence: u64,
    tags: BTreeMap<Bytes, SimTag>,
    /// For [`Bug::Retry`]: the sequence when each lease was granted, and the leases whose loads a mark would refuse.
    granted_at: BTreeMap<u64, u64>,
    doomed: BTreeSet<u64>,
    /// Tags that keys do not tell.
    notes: BTreeMap<StoreKey, BTreeSet<Bytes>>,
    /// Until when the ends of keys are held.
    held: BTreeMap<StoreKey, Instant>,
    /// Lists that somebody else had left behind, as an invalidation met them.
    pub left_behind: u64,
    pub refused: u64,
    /// Values in whose place a refresh has put another.
    pub replaced: u64,
    /// Leases that were taken from their holders, and perhaps from nobody any more.
    pub seized: u64,
    /// Values that a read has given a new life.
    pub renewed: u64,
    pub lost: u64,
    pub unreached: u64,
    pub expired: u64,
    pub evicted: u64,
    pub most_negatives: usize,
}

/// All that a server keeps on its disk.
#[derive(Clone)]
struct Saved {
    values: BTreeMap<StoreKey, Entry<String>>,
    leases: BTreeMap<StoreKey, Entry<Lease>>,
    negatives: BTreeMap<StoreKey, Entry<()>>,
    sequence: u64,
    tags: BTreeMap<Bytes, SimTag>,
}

#[derive(Clone, Default)]
struct SimTag {
    mark: u64,
    index: BTreeMap<Bytes, Instant>,
    lists: BTreeMap<ListId, Vec<Bytes>>,
}

#[derive(Clone)]
struct Entry<T> {
    what: T,
    until: Instant,
}

#[derive(Clone, Copy)]
struct Lease {
    token: Token,
    process: usize,
    /// Another process waits for it.
    wanted: bool,
}

/// What becomes of what is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    #[default]
    All,
    Most,
    Nothing,
}

/// What stands at `key`, if its time has not passed.
fn live<'a, T>(map: &'a mut BTreeMap<StoreKey, Entry<T>>, key: &StoreKey) -> Option<&'a T> {
    if map.get(key).is_some_and(|held| held.until <= Instant::now()) {
        map.remove(key);
    }
    map.get(key).map(|held| &held.what)
}

/// Any one of the keys.
fn picked<T>(map: &BTreeMap<StoreKey, Entry<T>>, chance: &Chance) -> Option<StoreKey> {
    let at = chance.below(map.len().max(1) as u64) as usize;
    map.keys().nth(at).cloned()
}

impl Table {
    /// An empty one, which tells its processes of ends and of changes.
    pub fn new(processes: usize, hearing: Hearing) -> Self {
        let pushes = Rc::new(RefCell::new(Pushes::new(processes)));
        let processes = (0..processes).map(|_| Arc::default()).collect();
        Table { processes, hearing, pushes, ..Table::default() }
    }

    /// Writes its snapshot.
    pub fn save(&mut self) {
        let Table { values, leases, negatives, sequence, tags, .. } = self;
        let (values, leases, negatives) = (values.clone(), leases.clone(), negatives.clone());
        self.saved = Some(Saved { values, leases, negatives, sequence: *sequence, tags: tags.clone() });
    }

    /// Is killed, and comes back with its snapshot, or with nothing.
    pub fn come_back(&mut self, bug: Option<Bug>) {
        let nothing = Saved {
            values: BTreeMap::new(),
            leases: BTreeMap::new(),
            negatives: BTreeMap::new(),
            sequence: 0,
            tags: BTreeMap::new(),
        };
        let Saved { values, leases, negatives, sequence, tags } = self.saved.clone().unwrap_or(nothing);
        (self.values, self.leases, self.negatives) = (values, leases, negatives);
        (self.sequence, self.tags) = (sequence, tags);
        self.returns += 1;
        self.pushes.borrow_mut().hang_up();
        if bug != Some(Bug::Epoch) {
            self.in_doubt = true;
            self.epoch += 1;
        }
    }

    /// Drops what it has come back with.
    pub fn look_through(&mut self) {
        for key in std::mem::take(&mut self.values).keys() {
            self.changed(key);
        }
        self.leases.clear();
        self.negatives.clear();
        self.sequence += 1 << 32;
        self.in_doubt = false;
        self.epoch += 1;
    }

    /// It is full: something makes way. Not the indexes and what belongs to them, which a server that is set up for tags spares.
    pub fn evict(&mut self, chance: &Chance) {
        let done = match chance.below(4) {
            0 => picked(&self.leases, chance).and_then(|key| self.leases.remove(&key)).is_some(),
            1 => picked(&self.negatives, chance).and_then(|key| self.negatives.remove(&key)).is_some(),
            _ => picked(&self.values, chance).is_some_and(|key| self.remove(&key)),
        };
        self.evicted += u64::from(done);
    }

    fn value(&mut self, key: &StoreKey) -> Option<String> {
        let was_there = self.values.contains_key(key);
        let value = live(&mut self.values, key).cloned();
        if was_there && value.is_none() {
            self.expired += 1;
            self.changed(key);
        }
        value
    }

    fn changed(&self, key: &StoreKey) {
        self.pushes.borrow_mut().changed(&key.name);
    }

    fn put(&mut self, key: &StoreKey, what: String, ttl: Duration) {
        self.values.insert(key.clone(), Entry { what, until: Instant::now() + ttl });
        self.changed(key);
    }

    fn remove(&mut self, key: &StoreKey) -> bool {
        let was_there = self.values.remove(key).is_some();
        if was_there {
            self.changed(key);
        }
        was_there
    }

    /// The lease that stands is an error, with how long it has left if it is another process's.
    fn acquire(
        &mut self,
        key: &StoreKey,
        token: Token,
        process: usize,
        time: Duration,
    ) -> Result<Acquired, (Token, Option<Duration>)> {
        self.looks += 1;
        if self.value(key).is_some() {
            return Ok(Acquired::Present);
        }
        if live(&mut self.negatives, key).is_some() {
            return Ok(Acquired::Negative);
        }
        self.take_lease(key, token, process, time)
    }

    fn take_lease(
        &mut self,
        key: &StoreKey,
        token: Token,
        process: usize,
        time: Duration,
    ) -> Result<Acquired, (Token, Option<Duration>)> {
        if live(&mut self.leases, key).is_none() {
            let what = Lease { token, process, wanted: false };
            self.leases.insert(key.clone(), Entry { what, until: Instant::now() + time });
            self.granted_at.insert(token.0, self.sequence);
            return Ok(Acquired::Granted);
        }
        let held = self.leases.get_mut(key).expect("it lives");
        let is_others = held.what.process != process;
        held.what.wanted |= is_others;
        Err((held.what.token, is_others.then(|| held.until - Instant::now())))
    }

    fn seize(&mut self, key: &StoreKey, token: Token, process: usize, time: Duration) {
        self.seized += u64::from(self.leases.remove(key).is_some());
        let taken = self.take_lease(key, token, process, time);
        assert_eq!(taken, Ok(Acquired::Granted), "no lease stands");
    }

    fn fill(
        &mut self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        over: Option<Duration>,
        bug: Option<Bug>,
        chance: &Chance,
    ) -> Filled {
        let without_fence = bug == Some(Bug::Fence);
        let lease = live(&mut self.leases, key).copied().filter(|lease| lease.token == token);
        if lease.is_none_or(|lease| lease.wanted) {
            self.tell(token, chance);
        }
        let refused = lease.is_none() || self.doomed.contains(&token.0);
        if refused && !without_fence {
            self.refused += 1;
            return if bug == Some(Bug::Retry) { Filled::Stored } else { Filled::LeaseLost };
        }
        self.leases.remove(key);
        if !matches!(fill, Fill::Nothing) && self.value(key).is_some() && !without_fence {
            if over.is_none_or(|left| self.values[key].until > Instant::now() + left) {
                self.refused += 1;
                return Filled::Occupied;
            }
            self.replaced += 1;
            self.remove(key);
        } else if !matches!(fill, Fill::Nothing) {
            self.notes.remove(key);
        }
        if over.is_some() && !matches!(fill, Fill::Nothing) {
            self.negatives.remove(key);
        }
        match fill {
            Fill::Value { value: Value::String(bytes), ttl, tags } => {
                // More than a store need keep: the row's earlier tags too.
                self.notes.entry(key.clone()).or_default().extend(tags);
                let what = String::from_utf8(bytes.to_vec()).expect("the simulated rows are text");
                self.put(key, what, ttl);
            }
            Fill::Value { .. } => unreachable!("the simulated rows are strings"),
            Fill::Negative { ttl } => {
                self.negatives.insert(key.clone(), Entry { what: (), until: Instant::now() + ttl });
                let now = Instant::now();
                let alive = self.negatives.values().filter(|held| held.until > now).count();
                self.most_negatives = self.most_negatives.max(alive);
            }
            Fill::Nothing | Fill::Gone => {}
        }
        Filled::Stored
    }

    fn index(&mut self, key: &StoreKey, tag: &[u8], life: Duration, bug: Option<Bug>) -> Sequence {
        let now = Instant::now();
        let has_value = self.value(key).is_some();
        let tag = self.tags.entry(Bytes::copy_from_slice(tag)).or_default();
        tag.index.retain(|_, until| *until > now);
        if bug == Some(Bug::Lasting) && has_value {
            return Sequence(tag.mark);
        }
        let until = tag.index.entry(key.name.clone()).or_insert(now);
        *until = (now + life).max(*until);
        let mark = tag.mark;
        if let Some(Lease { token: Token(token), .. }) = live(&mut self.leases, key)
            && self.granted_at.get(token).is_some_and(|granted_at| mark > *granted_at)
        {
            self.doomed.extend((bug == Some(Bug::Retry)).then_some(*token));
        }
        Sequence(if matches!(bug, Some(Bug::Mark | Bug::Retry)) { 0 } else { mark })
    }

    fn set_aside(&mut self, tag: &[u8], Sequence(number): Sequence, list: ListId) -> Vec<ListId> {
        let now = Instant::now();
        let tag = self.tags.entry(Bytes::copy_from_slice(tag)).or_default();
        tag.mark = tag.mark.max(number);
        self.left_behind += tag.lists.len() as u64;
        let keys = std::mem::take(&mut tag.index).into_iter().filter(|(_, until)| *until > now).map(|(key, _)| key);
        tag.lists.insert(list, keys.collect());
        tag.lists.keys().copied().collect()
    }

    /// Each process hears it on its own, or does not.
    fn tell(&mut self, token: Token, chance: &Chance) {
        self.told += 1;
        for ends in &self.processes {
            let is_lost = match self.hearing {
                Hearing::All => false,
                Hearing::Most => chance.one_in(5),
                Hearing::Nothing => true,
            };
            if is_lost {
                self.unheard += 1;
                continue;
            }
            let (ends, chance) = (ends.clone(), chance.clone());
            tokio::task::spawn_local(async move {
                chance.pause(5).await;
                ends.hear(token);
            });
        }
    }

    fn invalidate(&mut self, key: &StoreKey) -> bool {
        self.fence(key);
        self.remove(key)
    }

    fn fence(&mut self, key: &StoreKey) {
        self.leases.remove(key);
        self.negatives.remove(key);
    }
}

impl SimStore {
    /// One atomic step at some moment; the answer takes its time too, and may get lost.
    async fn step<T>(&self, step: impl FnOnce(&mut Table) -> T) -> Result<T, StoreError> {
        let connection = self.connect()?;
        self.chance.pause(3).await;
        self.reach(connection)?;
        let answer = step(&mut self.table.borrow_mut());
        // Now and then an answer takes so long that others have come and gone meanwhile.
        self.chance.pause(if self.chance.one_in(8) { 40 } else { 3 }).await;
        self.reach(connection)?;
        if self.lossy && self.chance.one_in(40) {
            self.table.borrow_mut().lost += 1;
            return Err(StoreError::Timeout);
        }
        Ok(answer)
    }

    /// Over which connection a step is made.
    fn connect(&self) -> Result<u64, StoreError> {
        let connection = self.table.borrow().returns;
        self.reach(connection).map(|()| connection)
    }

    fn reach(&self, connection: u64) -> Result<(), StoreError> {
        if !self.cut.get() && self.table.borrow().returns == connection {
            return Ok(());
        }
        self.table.borrow_mut().unreached += 1;
        Err(StoreError::Unavailable("simulated".into()))
    }

    /// The value, and how long it has yet to live.
    pub async fn get(&self, key: &StoreKey) -> Result<Option<(String, Duration)>, StoreError> {
        self.step(|table| {
            let value = table.value(key)?;
            let until = table.values.get(key).map(|entry| entry.until)?;
            Some((value, until.saturating_duration_since(Instant::now())))
        })
        .await
    }

    /// A routed SET as the server sends it: the fence first, then the command, on one link: both happen or neither is
    /// known to.
    pub async fn set(&self, key: &StoreKey, value: String, ttl: Duration) -> Result<(), StoreError> {
        let connection = self.connect()?;
        self.chance.pause(2).await;
        self.reach(connection)?;
        self.table.borrow_mut().fence(key);
        self.step(|table| table.put(key, value, ttl)).await
    }

    /// A routed DEL, likewise.
    pub async fn del(&self, key: &StoreKey) -> Result<(), StoreError> {
        let connection = self.connect()?;
        self.chance.pause(2).await;
        self.reach(connection)?;
        self.table.borrow_mut().fence(key);
        self.step(|table| table.remove(key)).await.map(drop)
    }
}

/// What an engine is told of a lease that stands.
fn told(ends: &Arc<Ends>, since: Since, acquired: Result<Acquired, (Token, Option<Duration>)>) -> Acquired {
    acquired.unwrap_or_else(|(token, left)| {
        Acquired::Held(Held { token, end: left.and_then(|left| ends.of(token, left, since)) })
    })
}

impl Store for SimStore {
    fn epoch(&self) -> Option<u64> {
        let table = self.table.borrow();
        (!table.in_doubt).then_some(table.epoch)
    }

    async fn acquire(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        let ends = self.table.borrow().processes[self.process].clone();
        let since = ends.since();
        let acquired = self.step(|table| table.acquire(key, token, self.process, lease)).await?;
        let acquired = told(&ends, since, acquired);
        if acquired == Acquired::Granted && self.bug == Some(Bug::Seen) {
            let before = self.granted.borrow_mut().insert(key.clone(), token);
            return Ok(before.filter(|_| self.chance.one_in(2)).map_or(acquired, |token| Acquired::Held(token.into())));
        }
        Ok(acquired)
    }

    fn most_together(&self) -> usize {
        self.together
    }

    /// By one step, or by several with others' between: a store may do either.
    async fn acquire_all(&self, _: u32, asked: &[Asked], lease: Duration) -> Vec<Result<Acquired, StoreError>> {
        assert!(asked.len() <= self.together, "more than it takes together");
        if self.chance.one_in(2) {
            return join_all(asked.iter().map(|Asked { key, token }| self.acquire(key, *token, lease))).await;
        }
        let ends = self.table.borrow().processes[self.process].clone();
        let since = ends.since();
        let acquired = self.step(|table| {
            table.together += 1;
            let acquire = |Asked { key, token }: &Asked| table.acquire(key, *token, self.process, lease);
            asked.iter().map(acquire).collect::<Vec<_>>()
        });
        match acquired.await {
            Ok(acquired) => acquired.into_iter().map(|acquired| Ok(told(&ends, since, acquired))).collect(),
            Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn fill_all(&self, _: u32, outcomes: Vec<Outcome>) -> Vec<Result<Filled, StoreError>> {
        assert!(outcomes.len() <= self.together, "more than it takes together");
        if self.chance.one_in(2) {
            let fill = |Outcome { key, token, fill }| async move { self.fill(&key, token, fill).await };
            return join_all(outcomes.into_iter().map(fill)).await;
        }
        let count = outcomes.len();
        let filled = self.step(|table| {
            let fill =
                |Outcome { key, token, fill }: Outcome| Ok(table.fill(&key, token, fill, None, self.bug, &self.chance));
            outcomes.into_iter().map(fill).collect()
        });
        filled.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> Result<Filled, StoreError> {
        self.step(|table| table.fill(key, token, fill, None, self.bug, &self.chance)).await
    }

    async fn acquire_to_refresh(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<Acquired, StoreError> {
        let ends = self.table.borrow().processes[self.process].clone();
        let since = ends.since();
        let acquired = self.step(|table| table.take_lease(key, token, self.process, lease)).await?;
        Ok(told(&ends, since, acquired))
    }

    async fn replace(
        &self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        due: Option<Duration>,
    ) -> Result<Filled, StoreError> {
        // So far ahead is no end of anything here.
        let over = due.unwrap_or(Duration::from_secs(86_400));
        self.step(|table| table.fill(key, token, fill, Some(over), self.bug, &self.chance)).await
    }

    async fn seize(&self, key: &StoreKey, token: Token, lease: Duration) -> Result<(), StoreError> {
        self.step(|table| table.seize(key, token, self.process, lease)).await
    }

    async fn invalidate(&self, key: &StoreKey) -> Result<bool, StoreError> {
        self.step(|table| table.invalidate(key)).await
    }

    /// Key by key, as the parts of one command in a cluster are.
    async fn invalidate_all(&self, db: u32, keys: &[Bytes]) -> Result<usize, StoreError> {
        let mut values = 0;
        for name in keys {
            let key = StoreKey { db, name: name.clone() };
            values += usize::from(self.step(|table| table.invalidate(&key)).await?);
        }
        Ok(values)
    }

    async fn sequence(&self, _: u32) -> Result<Sequence, StoreError> {
        self.step(|table| Sequence(table.sequence)).await
    }

    async fn next_sequence(&self, _: u32) -> Result<Sequence, StoreError> {
        self.step(|table| {
            table.sequence += 1;
            Sequence(table.sequence)
        })
        .await
    }

    async fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> Result<Sequence, StoreError> {
        self.step(|table| table.index(key, tag, life, self.bug)).await
    }

    async fn index_all(&self, db: u32, tagged: &[Tagged], life: Duration) -> Result<Vec<Sequence>, StoreError> {
        self.step(|table| {
            let index = |Tagged { tag, keys }: &Tagged| {
                let marks =
                    keys.iter().map(|name| table.index(&StoreKey { db, name: name.clone() }, tag, life, self.bug));
                marks.max().unwrap_or_default()
            };
            tagged.iter().map(index).collect()
        })
        .await
    }

    async fn set_aside(&self, _: u32, tag: &[u8], number: Sequence, list: ListId) -> Result<Vec<ListId>, StoreError> {
        self.step(|table| table.set_aside(tag, number, list)).await
    }

    async fn listed(&self, _: u32, tag: &[u8], list: ListId, from: usize, _: usize) -> Result<Vec<Bytes>, StoreError> {
        // Pages of one key.
        let page = |tag: &SimTag| Some(tag.lists.get(&list)?.iter().skip(from).take(1).cloned().collect());
        self.step(|table| table.tags.get(tag).and_then(page).unwrap_or_default()).await
    }

    async fn drop_list(&self, _: u32, tag: &[u8], list: ListId) -> Result<(), StoreError> {
        self.step(|table| table.tags.get_mut(tag).map(|tag| tag.lists.remove(&list))).await.map(drop)
    }

    async fn note_tags(&self, key: &StoreKey, tags: &[Bytes], _: Duration) -> Result<Vec<Bytes>, StoreError> {
        self.step(|table| {
            let note = table.notes.entry(key.clone()).or_default();
            note.extend(tags.iter().cloned());
            note.iter().cloned().collect()
        })
        .await
    }

    async fn renew(&self, key: &StoreKey, life: Duration, grace: Duration) -> Result<Option<Vec<Bytes>>, StoreError> {
        self.step(|table| {
            let now = Instant::now();
            let held = table.held.get(key).is_some_and(|until| *until > now);
            let value = table.values.get_mut(key).filter(|entry| !held && entry.until > now + grace)?;
            if value.until >= now + life {
                return None;
            }
            value.until = now + life;
            table.renewed += 1;
            table.changed(key);
            Some(table.notes.get(key).into_iter().flatten().cloned().collect())
        })
        .await
    }

    async fn hold_end(&self, key: &StoreKey, time: Duration) -> Result<(), StoreError> {
        self.step(|table| {
            table.held.insert(key.clone(), Instant::now() + time);
        })
        .await
    }
}
