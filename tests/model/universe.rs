//! One universe: everything that happens in it follows from its seed.

use crate::database::{Row, Rows};
use crate::history::History;
use crate::process;
use crate::pushes;
use crate::report::Report;
use crate::store::{Bug, Hearing, Table};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;
use weir::cache::Bounds;
use weir::clock::Clock;
use weir::config::Route;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything that can happen.
    Stormy,
    /// Many readers of one absent key in two processes, and nothing goes wrong.
    Calm,
    /// The same, but no process hears that another's load has ended.
    Unheard,
    /// Nothing breaks, and reads renew values for far longer than they live by themselves, until a tag of theirs is invalidated.
    Sliding,
    /// Nothing breaks, but one of the protocol's rules is left out, and all that happens is about one key.
    Without(Bug),
}

impl Kind {
    /// Everybody asks once, and nothing breaks or expires.
    pub fn is_calm(self) -> bool {
        matches!(self, Kind::Calm | Kind::Unheard)
    }

    /// Reads are many, and changes few.
    pub fn is_long(self) -> bool {
        matches!(self, Kind::Sliding | Kind::Without(Bug::Lasting))
    }

    fn hearing(self) -> Hearing {
        match self {
            Kind::Calm | Kind::Sliding | Kind::Without(_) => Hearing::All,
            Kind::Unheard => Hearing::Nothing,
            Kind::Stormy => Hearing::Most,
        }
    }
}

/// The universe's one source of chance, which is also its clock.
#[derive(Clone)]
pub struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().expect("drawing does not panic"))
    }

    pub fn one_in(&self, many: u64) -> bool {
        self.draw(|random| random.u64(..many)) == 0
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.draw(|random| random.u64(..limit))
    }

    /// Waits for up to so many milliseconds; every second time not at all.
    pub async fn pause(&self, milliseconds: u64) {
        if self.one_in(2) {
            return tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(self.below(milliseconds * 1000))).await;
    }
}

impl Clock for Chance {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    fn random(&self) -> f64 {
        self.draw(|random| random.f64())
    }

    fn random_u64(&self) -> u64 {
        self.draw(|random| random.u64(..))
    }
}

pub const KEYS: u64 = 2;
/// A read that waits looks once before and once after; and once more if its own process's load ends in between.
const MOST_LOOKS: u64 = 3;
const MAX_NEGATIVE: usize = 3;
/// Few of each, so that they are reached.
pub const BOUNDS: Bounds =
    Bounds { max_negative: MAX_NEGATIVE, max_tags: 8, max_fill_waiters: 0, max_missed_invalidations: 100 };
/// The route's load_timeout, and the second that a lease outlives it by.
pub const LEASE: Duration = Duration::from_millis(1100);
/// Most loads of a process that wait for a turn at the database.
pub const MOST_WAITING: usize = 1;
pub const CATEGORIES: u64 = 2;

/// What everybody in a universe shares.
#[derive(Clone)]
pub struct World {
    pub chance: Chance,
    pub table: Rc<RefCell<Table>>,
    pub rows: Arc<Mutex<Rows>>,
    /// The route that every process prepares for itself, and how many loads its pool runs at once.
    pub config: Rc<Route>,
    pub pool: u64,
    /// What has become of pushes.
    pub pushes: Rc<pushes::Counts>,
    /// Of each row: who may move it to another category, one writer at a time; and the categories that it was in since an
    /// invalidation by category was last acknowledged.
    pub writers: Rc<Vec<tokio::sync::Mutex<BTreeSet<u64>>>>,
    pub history: Rc<RefCell<History>>,
    pub kind: Kind,
    processes: usize,
}

/// Runs the universe of `seed` to its end. `route`: that of its kind.
pub fn run(seed: u64, kind: Kind, route: &Route) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    // Whatever is left of it is dropped while there is a runtime.
    let runtime = runtime.expect("a runtime needs nothing");
    runtime.block_on(LocalSet::new().run_until(universe(seed, kind, route)))
}

async fn universe(seed: u64, kind: Kind, route: &Route) -> Report {
    let world = World::new(seed, kind, route);
    if kind == Kind::Without(Bug::Epoch) || (kind == Kind::Stormy && world.chance.one_in(3)) {
        spawn_local(come_back_now_and_then(world.clone()));
    }
    if kind == Kind::Stormy && world.chance.one_in(3) {
        spawn_local(evict_now_and_then(world.clone()));
    }
    let (over, mut ended) = mpsc::unbounded_channel();
    for number in 0..world.processes {
        spawn_local(process::run(world.clone(), number, world.clients_of(number), over.clone()));
    }
    for _ in 0..world.processes {
        ended.recv().await.expect("a process tells when its clients have gone");
    }
    world.report()
}

/// The route of all universes of a kind: with short times, so that loads hang, and values expire, within one that is not calm.
pub fn route(kind: Kind) -> Route {
    let ttl = if kind.is_calm() { "1m" } else { "400ms" };
    let head = "[database.main]\nurl = \"sqlite:none\"\n[[route]]\nname = \"row\"\nkey = \"row:{id}\"\n";
    let life = match kind {
        kind if kind.is_long() => "sliding = true\n",
        Kind::Stormy => "sliding = true\ngrace = \"150ms\"\nearly_refresh = 1.0\nnear = \"100ms\"\n",
        Kind::Without(Bug::Marker) => "near = \"100ms\"\n",
        _ => "grace = \"150ms\"\nearly_refresh = 1.0\n",
    };
    let text = "tags = [\"rows\", \"category:{category}\"]\nnegative_ttl = \"80ms\"\njitter = \"50%\"\nload_timeout = \"100ms\"\nvalue = \"text\"\n\
                load = \"SELECT value FROM rows WHERE id = :id\"\n";
    let text = format!("{head}ttl = \"{ttl}\"\n{life}{text}");
    let config = weir::config::parse(&text, Path::new("model.toml"), |_| None).expect("the file is valid");
    config.routes.into_iter().next().expect("it has a route")
}

impl World {
    fn new(seed: u64, kind: Kind, route: &Route) -> Self {
        let chance = Chance(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))));
        let mut config = route.clone();
        if kind == Kind::Stormy {
            config.sliding = seed.is_multiple_of(2);
            config.near = if seed.is_multiple_of(3) { Duration::ZERO } else { config.near };
        }
        let processes = if matches!(kind, Kind::Without(_)) { 2 } else { 2 + chance.below(2) as usize };
        let history = History::new(config.near);
        let world = World {
            table: Rc::new(RefCell::new(Table::new(processes, kind.hearing()))),
            rows: Arc::default(),
            config: Rc::new(config),
            // Where nothing is to go wrong, there is a turn for each key.
            pool: if kind == Kind::Stormy { 1 + seed % 3 } else { KEYS },
            pushes: Rc::default(),
            writers: Rc::new((0..KEYS).map(|_| tokio::sync::Mutex::default()).collect()),
            history: Rc::new(RefCell::new(history)),
            chance,
            kind,
            processes,
        };
        for key in 0..KEYS {
            world.commit(key, kind.is_calm() || world.chance.one_in(2), key);
        }
        world
    }

    /// How many clients a process has: they are dealt to the workers in turn, of which the first process has two.
    fn clients_of(&self, process: usize) -> usize {
        let clients = match self.kind {
            Kind::Stormy => 4,
            Kind::Calm | Kind::Unheard => 12,
            Kind::Sliding | Kind::Without(_) => 6,
        };
        (0..clients).filter(|client| (client % (self.processes + 1)).saturating_sub(1) == process).count()
    }

    /// A process was killed.
    pub fn bury(&self, process: usize) {
        self.history.borrow_mut().killed(process);
        self.table.borrow().pushes.borrow_mut().deafen(process);
    }

    /// The database commits a new version of a row, or its absence. Answers the category that it had before.
    pub fn commit(&self, key: u64, present: bool, category: u64) -> u64 {
        let mut rows = self.rows.lock().expect("no simulation panics while it holds the rows");
        let row = rows.rows.entry(key.to_string()).or_default();
        let before = row.category;
        *row = Row { version: row.version + 1, present, category };
        self.history.borrow_mut().committed(&key.to_string(), row.version, present);
        before
    }

    pub fn category(&self, key: u64) -> u64 {
        let rows = self.rows.lock().expect("no simulation panics while it holds the rows");
        rows.rows.get(&key.to_string()).map_or(0, |row| row.category)
    }

    fn report(&self) -> Report {
        let (kind, table) = (self.kind, self.table.borrow());
        let rows = self.rows.lock().expect("no simulation panics while it holds the rows");
        let mut history = self.history.borrow_mut();
        let mut violations = std::mem::take(&mut history.violations);
        if kind.is_calm() && rows.loads > KEYS {
            violations.push(format!("{} loads of {KEYS} keys", rows.loads));
        }
        if kind.is_calm() && table.looks > MOST_LOOKS * history.reads {
            violations.push(format!("the store was asked {} times for {} reads", table.looks, history.reads));
        }
        if rows.beyond_the_pool > 0 {
            violations.push(format!("{} loads ran beyond the pool", rows.beyond_the_pool));
        }
        // Each process may keep so many, and each that was killed may have left so many behind.
        if table.most_negatives > (self.processes + history.killed as usize) * MAX_NEGATIVE {
            violations.push(format!("{} negative entries", table.most_negatives));
        }
        let answered_by_loads = rows.loads;
        Report {
            violations,
            reads: history.reads,
            loads: rows.loads,
            coalesced: history.reads.saturating_sub(answered_by_loads),
            together: table.together,
            refused_fills: table.refused,
            replaced: table.replaced,
            seized: table.seized,
            renewed: table.renewed,
            lists_left_behind: table.left_behind,
            tags_invalidated: history.tags,
            failed_loads: rows.failed,
            hung_loads: rows.hung,
            shed: history.shed,
            not_asked: history.not_asked,
            asked_again: history.asked_again,
            lost_answers: table.lost,
            unreached: table.unreached,
            unstored: history.unstored,
            failed_changes: history.failed_changes,
            returns: table.returns,
            negatives: history.negatives,
            expired: table.expired,
            told: table.told,
            unheard: table.unheard,
            evicted: table.evicted,
            killed: history.killed,
            larger: u64::from(self.processes > 2),
            near_hits: history.near_hits,
            near_behind: history.near_behind,
            kept_unheard: history.kept_unheard,
            pushes_arrived: self.pushes.arrived.get(),
            pushes_lost: self.pushes.lost.get(),
            longest: history.longest,
        }
    }
}

/// The store is killed, and comes back with what it held earlier; after a while somebody has looked it through.
async fn come_back_now_and_then(world: World) {
    let bug = if let Kind::Without(bug) = world.kind { Some(bug) } else { None };
    loop {
        world.chance.pause(200).await;
        world.table.borrow_mut().save();
        world.chance.pause(200).await;
        world.table.borrow_mut().come_back(bug);
        if bug.is_none() {
            world.chance.pause(40).await;
            world.table.borrow_mut().look_through();
        }
    }
}

/// The store is full now and then.
async fn evict_now_and_then(world: World) {
    loop {
        world.chance.pause(60).await;
        world.table.borrow_mut().evict(&world.chance);
    }
}
