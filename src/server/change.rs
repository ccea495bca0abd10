//! What a client's command is about to change, from before it is sent until it is answered.
//!
//! - Keys of routes with `near` are barred there meanwhile, so that nobody who asks after the acknowledgement is shown what
//!   was.
//! - What was heard of how long keys of routes with a `load` have yet to live is forgotten ([`super::lives`]).
//! - Such keys are remembered if the answer is that the upstream could not be reached: nobody knows then what
//!   it has done, and the client may have changed the row ([`crate::cache::doubts`]).
//!
//! Every command passes by here, whatever way it takes. What MULTI queues is changed by its EXEC. A command that could not even be
//! queued counts as missed; and so does all that was, if the link is lost before EXEC and its client hung up on: it may have done
//! its part already, and will not come back for this one.

use super::app::StoreKind;
use super::conn::Conn;
use super::worker::Worker;
use crate::cache::near::{Bar, Closed};
use crate::cache::route::{Route, Routes};
use crate::hash::hash;
use crate::memory::Blob;
use crate::resp::args::Args;
use crate::resp::command::{Access, Flags, Spec};
use crate::store::StoreKey;
use bytes::Bytes;
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Which routed keys a command may change.
#[derive(Default)]
pub struct Touched {
    /// Those that may be kept near.
    near: SmallVec<[Blob; 1]>,
    /// Any key may be changed, for all that is known.
    any: bool,
    /// Those that can be loaded.
    loaded: SmallVec<[Loaded; 1]>,
    /// Whole databases are emptied, or change places.
    all_loaded: bool,
}

impl Touched {
    /// By a command of the table, or `None`: one that nobody knows.
    fn by(routes: &Routes, spec: Option<&Spec>, args: Args<'_>) -> Touched {
        let mut touched = Touched::default();
        let Some(spec) = spec else {
            touched.add_key(routes, args.get(1));
            return touched;
        };
        match spec.access_of(args) {
            Access::None => {
                touched.any = spec.flags.contains(Flags::WRITE);
                touched.all_loaded = matches!(spec.name, "flushall" | "flushdb" | "swapdb");
            }
            Access::Read if !may_write(spec.resolve(args)) => {}
            access => {
                spec.key_positions(args).for_each(|position| touched.add_key(routes, args.get(position)));
                if access == Access::Read {
                    // It changes how long a key lives, and not its value: a GETEX that was missed, even one that would have ended
                    // the key at once, leaves what was true when it was loaded, and ends no later than the route lets it.
                    touched.loaded.iter_mut().for_each(|loaded| loaded.keeps_value = true);
                }
            }
        }
        touched
    }

    fn add_key(&mut self, routes: &Routes, key: Option<&[u8]>) {
        let Some((key, route)) = key.and_then(|key| Some((key, routes.find(key)?))) else { return };
        if route.has_near() {
            self.near.push(Blob::new(key));
        }
        if route.has_load() {
            self.loaded.push(Loaded { key: Blob::new(key), route: route.clone(), keeps_value: false });
        }
    }

    fn is_empty(&self) -> bool {
        self.near.is_empty() && self.loaded.is_empty() && !self.any && !self.all_loaded
    }

    /// What both touch.
    pub fn add(&mut self, other: Touched) {
        self.near.extend(other.near);
        self.any |= other.any;
        self.loaded.extend(other.loaded);
        self.all_loaded |= other.all_loaded;
    }
}

/// Reads that may write: GETEX its key's time limit, SORT and GEORADIUS another key, PFCOUNT what it has counted.
fn may_write(spec: &Spec) -> bool {
    spec.flags.contains(Flags::WRITE) || spec.name == "pfcount"
}

/// A change that is under way.
pub struct Change {
    barred: Option<Barred>,
    worker: Rc<Worker>,
    /// In each of which databases …
    dbs: SmallVec<[u32; 2]>,
    /// … these are changed.
    loaded: SmallVec<[Loaded; 1]>,
    all_loaded: bool,
}

/// A key that can be loaded.
#[derive(Clone)]
struct Loaded {
    key: Blob,
    route: Arc<Route>,
    /// How long it lives is all that is changed.
    keeps_value: bool,
}

#[expect(dead_code, reason = "they are held, and dropped")]
enum Barred {
    Keys(Bar),
    Any(Closed),
}

impl Change {
    /// In the database `db`, and in those of `selects`, too. `None`: of nothing that matters here.
    fn begin(worker: &Rc<Worker>, touched: &Touched, db: u32, selects: impl Iterator<Item = u32>) -> Option<Change> {
        let mut change = Change::queued(worker, touched, db, selects)?;
        change.forget_lives();
        let near = worker.app.near.as_ref();
        change.barred = near.and_then(|near| match touched {
            Touched { any: true, .. } => Some(Barred::Any(near.close("command"))),
            Touched { near: keys, .. } if keys.is_empty() => None,
            Touched { near: keys, .. } => Some(Barred::Keys(near.bar(keys.iter().map(Blob::bytes)))),
        });
        Some(change)
    }

    /// The same of what changes nothing before its EXEC.
    fn queued(worker: &Rc<Worker>, touched: &Touched, db: u32, selects: impl Iterator<Item = u32>) -> Option<Change> {
        if touched.is_empty() {
            return None;
        }
        let (loaded, all_loaded) = (touched.loaded.clone(), touched.all_loaded);
        let dbs = std::iter::once(db).chain(selects.filter(|&other| other != db)).collect();
        Some(Change { barred: None, worker: worker.clone(), dbs, loaded, all_loaded })
    }

    /// Before it is sent, for those who read behind it; and once it is answered, for what was heard meanwhile.
    fn forget_lives(&self) {
        if self.loaded.is_empty() {
            return;
        }
        let lives = &self.worker.app.lives;
        let now = lives.moment(Instant::now());
        for key in self.loaded.iter().map(|loaded| hash(loaded.key.bytes())) {
            self.dbs.iter().for_each(|&db| lives.forget(key, db, now));
        }
    }

    /// The upstream could not be reached: perhaps it was not made.
    pub fn was_missed(&self) {
        let (doubts, routes) = (self.worker.engine.doubts(), &self.worker.app.routes);
        if self.all_loaded {
            doubts.add_routes(routes.iter().map(|route| &**route));
        }
        for Loaded { key, route, .. } in self.loaded.iter().filter(|loaded| !loaded.keeps_value) {
            for &db in &self.dbs {
                doubts.add_key(route, StoreKey { db, name: Bytes::copy_from_slice(key.bytes()) });
            }
        }
    }
}

impl Drop for Change {
    /// With all keys the mark is gone that says that the server may be trusted.
    fn drop(&mut self) {
        self.forget_lives();
        if let (true, StoreKind::Redis(upstream)) = (self.all_loaded, &self.worker.app.store) {
            upstream.trust().look_again();
        }
    }
}

impl Conn {
    /// A command is about to be acted on: what it changes is under way from here on. `None`: nothing that matters here.
    pub(super) fn begin_change(&self, spec: Option<&Spec>, args: Args<'_>) -> Option<Change> {
        if !self.heeds_changes() {
            return None;
        }
        let (worker, db) = (&self.worker, self.way().identity.db);
        if spec.is_some_and(|spec| spec.name == "exec") {
            return Change::begin(worker, self.queued_changes()?, db, self.queued_selects());
        }
        let touched = Touched::by(&worker.app.routes, spec, args);
        match self.queues() {
            true => Change::queued(worker, &touched, db, self.queued_selects()),
            false => Change::begin(worker, &touched, db, std::iter::empty()),
        }
    }

    /// The transaction, if there is one, is lost, and its client is hung up on.
    pub(super) fn note_lost_transaction(&self) {
        let Some(queued) = self.queued_changes() else { return };
        let change = Change::queued(&self.worker, queued, self.way().identity.db, self.queued_selects());
        change.iter().for_each(Change::was_missed);
    }

    /// What a command that was queued by a MULTI will change.
    pub(super) fn queued_change(&self, spec: Option<&Spec>, args: Args<'_>) -> Touched {
        match self.heeds_changes() {
            true => Touched::by(&self.worker.app.routes, spec, args),
            false => Touched::default(),
        }
    }

    /// The embedded store is never out of reach, and nothing is kept nearer than it.
    fn heeds_changes(&self) -> bool {
        !self.worker.app.routes.is_empty() && matches!(self.worker.app.store, StoreKind::Redis(_))
    }
}
