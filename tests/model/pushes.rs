//! What the store tells of changes: to each process over a connection of its own, in order, each a while after it has happened.
//!
//! A push is lost only with its connection: from some moment on nothing arrives, and the process learns of that a while later.
//! Until it listens again, what changes is told to nobody.

use crate::history::History;
use crate::universe::{Chance, Kind};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use weir::cache::near::Near;
use weir::store::redis::tracking::Hears;

/// A moment in what a process is told: so many pushes were due to it by then, and so many times it did not hear.
pub type Moment = u64;

enum Push {
    Changed(Moment, Bytes),
    /// The answer to whoever has asked whether all was told.
    Sign(oneshot::Sender<()>),
}

/// The store's ends of the connections, by process.
#[derive(Default)]
pub struct Pushes {
    lines: Vec<Line>,
}

#[derive(Clone, Default)]
struct Line {
    to: Option<mpsc::UnboundedSender<Push>>,
    now: Moment,
}

impl Pushes {
    pub fn new(processes: usize) -> Self {
        Pushes { lines: vec![Line::default(); processes] }
    }

    /// Each of them is told of it.
    pub fn changed(&mut self, key: &Bytes) {
        for line in &mut self.lines {
            line.now += 1;
            // Nobody listens.
            let _ = line.send(Push::Changed(line.now, key.clone()));
        }
    }

    /// All connections end. The news of that is under way as a push would be.
    pub fn hang_up(&mut self) {
        for line in &mut self.lines {
            line.to = None;
            line.now += 1;
        }
    }

    /// A process does not hear; that it does again will be this moment of its.
    pub fn deafen(&mut self, process: usize) {
        self.lines[process].to = None;
        self.lines[process].now += 1;
    }

    /// How far it is with each process.
    pub fn now(&self) -> Vec<Moment> {
        self.lines.iter().map(|line| line.now).collect()
    }

    fn listen(&mut self, process: usize) -> mpsc::UnboundedReceiver<Push> {
        let (to, from) = mpsc::unbounded_channel();
        self.lines[process].to = Some(to);
        from
    }
}

impl Line {
    /// A connection on which nothing arrives any more takes what is sent all the same; one that has ended gives it back.
    fn send(&self, push: Push) -> Result<(), Push> {
        let Some(to) = &self.to else { return Err(push) };
        to.send(push).map_err(|error| error.0)
    }
}

/// How much has come of it.
#[derive(Clone, Default)]
pub struct Counts {
    pub arrived: Cell<u64>,
    pub lost: Cell<u64>,
}

/// A process listens.
pub struct Ear {
    pub process: usize,
    pub near: Arc<Near>,
    pub pushes: Rc<RefCell<Pushes>>,
    pub history: Rc<RefCell<History>>,
    pub chance: Chance,
    pub counts: Rc<Counts>,
    pub hears: Cell<bool>,
    /// Questions that nobody will answer, on a connection of which the process does not know yet that it has ended.
    pub unanswered: RefCell<Vec<oneshot::Sender<()>>>,
}

/// A broken connection is noticed within this time, in ms: longer than anything is kept near.
const NOTICED: u64 = 130;

impl Ear {
    /// Listens for as long as the process lives.
    pub async fn listen(self: Rc<Self>, kind: Kind) {
        loop {
            let mut from = self.pushes.borrow_mut().listen(self.process);
            self.chance.pause(3).await;
            self.near.hears();
            self.hears.set(true);
            self.heard_all();
            let life = match kind {
                Kind::Stormy => Duration::from_millis(self.chance.below(600)),
                _ => Duration::from_secs(3600),
            };
            // It ends by itself if the store has hung up.
            let _ = timeout(life, self.hear(&mut from)).await;
            self.chance.pause(NOTICED).await;
            self.count_lost(&mut from);
            self.hears.set(false);
            self.near.is_deaf("lost");
            self.unanswered.borrow_mut().clear();
            self.heard_all();
            self.pushes.borrow_mut().deafen(self.process);
            self.chance.pause(60).await;
        }
    }

    async fn hear(&self, from: &mut mpsc::UnboundedReceiver<Push>) {
        while let Some(push) = from.recv().await {
            self.chance.pause(if self.chance.one_in(8) { 40 } else { 4 }).await;
            match push {
                Push::Changed(moment, key) => {
                    self.near.changed(&key);
                    self.history.borrow_mut().heard(self.process, moment);
                    self.counts.arrived.set(self.counts.arrived.get() + 1);
                }
                // Who asked may have left.
                Push::Sign(sign) => drop(sign.send(())),
            }
        }
    }

    fn count_lost(&self, from: &mut mpsc::UnboundedReceiver<Push>) {
        while let Ok(push) = from.try_recv() {
            self.counts.lost.set(self.counts.lost.get() + u64::from(matches!(push, Push::Changed(..))));
        }
    }

    /// Nothing is kept of what was before.
    fn heard_all(&self) {
        let now = self.pushes.borrow().now()[self.process];
        self.history.borrow_mut().heard(self.process, now);
    }

    /// As the process's own listener does it: waits until all has arrived that has changed by then, and if that cannot be known,
    /// all has changed.
    pub async fn catch_up(&self, limit: Duration) {
        if !self.hears.get() {
            return self.near.all_changed();
        }
        let told = async {
            let (sign, told) = oneshot::channel();
            self.chance.pause(3).await;
            if let Err(Push::Sign(sign)) = self.pushes.borrow().lines[self.process].send(Push::Sign(sign)) {
                self.unanswered.borrow_mut().push(sign);
            }
            told.await
        };
        // A connection that has ended meanwhile leaves nothing behind.
        let in_time = timeout(limit, told).await.is_ok();
        if !in_time || !self.hears.get() {
            self.near.all_changed();
        }
    }
}
