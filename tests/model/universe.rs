//! One universe: everything that happens in it follows from its seed.

use crate::database::{Row, Rows, SimStatement};
use crate::history::History;
use crate::store::{Bug, Hearing, SimStore, Table};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir::cache::error::{self, LoadError};
use weir::cache::gate::{Gate, Reason};
use weir::cache::route::{Loading, Route, Routes};
use weir::cache::{Bounds, Engine, Found, Shared, Wanted};
use weir::clock::Clock;
use weir::store::ends::Ends;
use weir::store::{StoreError, StoreKey};
use weir::value::Value;

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
    fn is_calm(self) -> bool {
        matches!(self, Kind::Calm | Kind::Unheard)
    }

    /// Reads are many, and changes few.
    fn is_long(self) -> bool {
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

    fn below(&self, limit: u64) -> u64 {
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

/// What happened; sums over universes.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<String>,
    pub reads: u64,
    pub loads: u64,
    pub coalesced: u64,
    pub refused_fills: u64,
    pub replaced: u64,
    pub seized: u64,
    pub renewed: u64,
    pub lists_left_behind: u64,
    pub tags_invalidated: u64,
    pub failed_loads: u64,
    pub hung_loads: u64,
    pub shed: u64,
    pub not_asked: u64,
    pub asked_again: u64,
    pub lost_answers: u64,
    pub unreached: u64,
    pub unstored: u64,
    pub failed_changes: u64,
    pub returns: u64,
    pub negatives: u64,
    pub expired: u64,
    pub told: u64,
    pub unheard: u64,
    /// The longest that a read took.
    pub longest: Duration,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.reads += other.reads;
        self.loads += other.loads;
        self.coalesced += other.coalesced;
        self.refused_fills += other.refused_fills;
        self.replaced += other.replaced;
        self.seized += other.seized;
        self.renewed += other.renewed;
        self.lists_left_behind += other.lists_left_behind;
        self.tags_invalidated += other.tags_invalidated;
        self.failed_loads += other.failed_loads;
        self.hung_loads += other.hung_loads;
        self.shed += other.shed;
        self.not_asked += other.not_asked;
        self.asked_again += other.asked_again;
        self.lost_answers += other.lost_answers;
        self.unreached += other.unreached;
        self.unstored += other.unstored;
        self.failed_changes += other.failed_changes;
        self.returns += other.returns;
        self.negatives += other.negatives;
        self.expired += other.expired;
        self.told += other.told;
        self.unheard += other.unheard;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads, {} loads, {} coalesced, {} refused fills, {} values refreshed, {} leases seized, {} renewed, {} invalidations by tag, {} lists left behind, {} failed \
             and {} hung loads, {} shed, {} not begun as the database fails (asked again {} times), {} lost answers, {} steps at a store out of reach, {} changes that it may have missed, {} returns of it, {} reads without it, {} negative \
             answers, {} expired, {} ends told ({} times not heard), longest read {:?}",
            self.reads,
            self.loads,
            self.coalesced,
            self.refused_fills,
            self.replaced,
            self.seized,
            self.renewed,
            self.tags_invalidated,
            self.lists_left_behind,
            self.failed_loads,
            self.hung_loads,
            self.shed,
            self.not_asked,
            self.asked_again,
            self.lost_answers,
            self.unreached,
            self.failed_changes,
            self.returns,
            self.unstored,
            self.negatives,
            self.expired,
            self.told,
            self.unheard,
            self.longest
        )
    }
}

const KEYS: u64 = 2;
/// A read that waits looks once before and once after; and once more if its own process's load ends in between.
const MOST_LOOKS: u64 = 3;
const MAX_NEGATIVE: usize = 3;
/// Few of each, so that they are reached.
const BOUNDS: Bounds =
    Bounds { max_negative: MAX_NEGATIVE, max_tags: 8, max_fill_waiters: 0, max_missed_invalidations: 100 };
/// The route's load_timeout, and the second that a lease outlives it by.
pub const LEASE: Duration = Duration::from_millis(1100);
/// Most loads of a process that wait for a turn at the database.
const MOST_WAITING: usize = 1;
const CATEGORIES: u64 = 2;

/// What every client of a universe shares.
#[derive(Clone)]
struct World {
    chance: Chance,
    table: Rc<RefCell<Table>>,
    rows: Arc<Mutex<Rows>>,
    /// As each process has prepared it, with a pool of its own.
    processes: Rc<[Loading; 2]>,
    routes: Rc<Routes>,
    /// Whether each process was last found not to ask the database.
    down: Rc<[Cell<bool>; 2]>,
    /// Of each row: who may move it to another category, one writer at a time; and the categories that it was in since an
    /// invalidation by category was last acknowledged.
    writers: Rc<Vec<tokio::sync::Mutex<BTreeSet<u64>>>>,
    history: Rc<RefCell<History>>,
    kind: Kind,
}

/// Runs the universe of `seed` to its end.
pub fn run(seed: u64, kind: Kind) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build_local(Default::default());
    runtime.expect("a runtime needs nothing").block_on(universe(seed, kind))
}

async fn universe(seed: u64, kind: Kind) -> Report {
    let chance = Chance(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))));
    let processes = (0..2).map(|_| Arc::<Ends>::default()).collect();
    let table = Rc::new(RefCell::new(Table::new(processes, kind.hearing())));
    let rows = Arc::new(Mutex::new(Rows::default()));
    // Where nothing is to go wrong, there is a turn for each key.
    let pool = if kind == Kind::Stormy { 1 + seed % 3 } else { KEYS };
    let process = || {
        let (rows, chance) = (rows.clone(), chance.clone());
        loading(SimStatement { rows, chance, faulty: kind == Kind::Stormy, running: Arc::default(), pool }, kind)
    };
    let processes = [process(), process()];
    let world = World {
        routes: Rc::new(Routes::new(vec![processes[0].route().clone()])),
        writers: Rc::new((0..KEYS).map(|_| tokio::sync::Mutex::default()).collect()),
        processes: Rc::new(processes),
        down: Rc::default(),
        history: Rc::default(),
        chance,
        table: table.clone(),
        rows,
        kind,
    };
    for key in 0..KEYS {
        world.commit(key, kind.is_calm() || world.chance.one_in(2), key);
    }
    let clients = match kind {
        Kind::Stormy => 4,
        Kind::Calm | Kind::Unheard => 12,
        Kind::Sliding | Kind::Without(_) => 6,
    };
    let engines = world.engines();
    for ends in &table.borrow().processes {
        ends.listen();
        if kind == Kind::Stormy {
            tokio::task::spawn_local(listen_now_and_then(world.chance.clone(), ends.clone()));
        }
    }
    if kind == Kind::Without(Bug::Epoch) || (kind == Kind::Stormy && world.chance.one_in(3)) {
        tokio::task::spawn_local(come_back_now_and_then(world.clone()));
    }
    if matches!(kind, Kind::Stormy | Kind::Without(Bug::Missed)) {
        // One worker of each process sees to it.
        for engine in [&engines[0], &engines[2]] {
            tokio::task::spawn_local(settle(world.chance.clone(), engine.clone()));
        }
        for engine in &engines {
            tokio::task::spawn_local(cut_now_and_then(world.chance.clone(), engine.store().cut.clone()));
        }
    }
    let clients: Vec<_> = (0..clients)
        .map(|client| tokio::task::spawn_local(life(world.clone(), engines[client % engines.len()].clone())))
        .collect();
    for client in clients {
        client.await.expect("a client lives to its end");
    }
    world.report(&table.borrow(), kind)
}

fn loading(statement: SimStatement, kind: Kind) -> Loading {
    let config = route(kind);
    let load = config.load().expect("it has a load").clone();
    let gate = Gate::new("main", statement.pool as usize, MOST_WAITING);
    Loading::new(config, load, Arc::new(statement), None, gate)
}

/// A route with short times, so that loads hang, and values expire, within a universe that is not calm.
fn route(kind: Kind) -> weir::config::Route {
    let ttl = if kind.is_calm() { "1m" } else { "400ms" };
    let head = "[database.main]\nurl = \"sqlite:none\"\n[[route]]\nname = \"row\"\nkey = \"row:{id}\"\n";
    let life = match kind {
        kind if kind.is_long() => "sliding = true\n",
        Kind::Stormy => "sliding = true\ngrace = \"150ms\"\nearly_refresh = 1.0\n",
        _ => "grace = \"150ms\"\nearly_refresh = 1.0\n",
    };
    let text = "tags = [\"rows\", \"category:{category}\"]\nnegative_ttl = \"80ms\"\njitter = \"50%\"\nload_timeout = \"100ms\"\nvalue = \"text\"\n\
                load = \"SELECT value FROM rows WHERE id = :id\"\n";
    let text = format!("{head}ttl = \"{ttl}\"\n{life}{text}");
    let config = weir::config::parse(&text, Path::new("model.toml"), |_| None).expect("the file is valid");
    config.routes.into_iter().next().expect("it has a route")
}

impl World {
    /// Two workers of one process, and another process.
    fn engines(&self) -> Vec<Engine<SimStore, Chance>> {
        let processes = [0, 1].map(|_| Arc::new(Shared::new(BOUNDS, Instant::now())));
        let granted = [Rc::default(), Rc::default()];
        let loads = tokio::runtime::Handle::current();
        let engine = |process: usize| {
            let store = SimStore { granted: Rc::clone(&granted[process]), ..self.store(process) };
            Engine::new(store, self.chance.clone(), processes[process].clone(), loads.clone())
        };
        [0, 0, 1].map(engine).into()
    }

    /// A process's way to the one store.
    fn store(&self, process: usize) -> SimStore {
        SimStore {
            process,
            chance: self.chance.clone(),
            table: self.table.clone(),
            bug: if let Kind::Without(bug) = self.kind { Some(bug) } else { None },
            granted: Rc::default(),
            lossy: self.kind == Kind::Stormy,
            cut: Rc::default(),
        }
    }

    /// The route as an engine's process has it.
    fn route_of(&self, engine: &Engine<SimStore, Chance>) -> &Route {
        self.processes[engine.store().process].route()
    }

    /// A process remembers what the store has perhaps missed.
    fn remember(&self, remember: impl FnOnce()) {
        self.history.borrow_mut().failed_changes += 1;
        if self.kind != Kind::Without(Bug::Missed) {
            remember();
        }
    }

    /// The database commits a new version of a row, or its absence. Answers the category that it had before.
    fn commit(&self, key: u64, present: bool, category: u64) -> u64 {
        let mut rows = self.rows.lock().expect("no simulation panics while it holds the rows");
        let row = rows.rows.entry(key.to_string()).or_default();
        let before = row.category;
        *row = Row { version: row.version + 1, present, category };
        self.history.borrow_mut().committed(&key.to_string(), row.version, present);
        before
    }

    fn category(&self, key: u64) -> u64 {
        let rows = self.rows.lock().expect("no simulation panics while it holds the rows");
        rows.rows.get(&key.to_string()).map_or(0, |row| row.category)
    }

    fn report(&self, table: &Table, kind: Kind) -> Report {
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
        // Each of the two processes may keep so many.
        if table.most_negatives > 2 * MAX_NEGATIVE {
            violations.push(format!("{} negative entries", table.most_negatives));
        }
        let answered_by_loads = rows.loads;
        Report {
            violations,
            reads: history.reads,
            loads: rows.loads,
            coalesced: history.reads.saturating_sub(answered_by_loads),
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
            longest: history.longest,
        }
    }
}

/// Cuts a way to the store and mends it, for as long as the universe lasts.
async fn cut_now_and_then(chance: Chance, cut: Rc<Cell<bool>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
        cut.set(chance.one_in(2));
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

/// What a process has failed to invalidate it invalidates later.
async fn settle(chance: Chance, engine: Engine<SimStore, Chance>) {
    loop {
        chance.pause(20).await;
        let page = engine.doubts().page();
        if !page.is_empty() && engine.invalidate_page(&page).await.is_ok() {
            engine.doubts().settled(&page);
        }
    }
}

/// A process hears for a while, and then not.
async fn listen_now_and_then(chance: Chance, ends: Arc<Ends>) {
    loop {
        tokio::time::sleep(Duration::from_millis(chance.below(600))).await;
        ends.break_off();
        tokio::time::sleep(Duration::from_millis(chance.below(100))).await;
        ends.listen();
    }
}

/// One client: some commands, each after the answer to the one before.
async fn life(world: World, engine: Engine<SimStore, Chance>) {
    let commands = match world.kind {
        kind if kind.is_calm() => 1,
        kind if kind.is_long() => 60,
        _ => 6,
    };
    for _ in 0..commands {
        let pause = match world.kind {
            kind if kind.is_long() => 200,
            Kind::Stormy => 120,
            Kind::Calm | Kind::Unheard => 10,
            Kind::Sliding | Kind::Without(_) => 60,
        };
        world.chance.pause(pause).await;
        let number = world.chance.below(if matches!(world.kind, Kind::Without(_)) { 1 } else { KEYS });
        let key = StoreKey { db: 0, name: format!("row:{number}").into() };
        match world.chance.below(11) {
            _ if world.kind.is_calm() => get(&world, &engine, number, &key).await,
            _ if world.kind.is_long() => match world.chance.below(60) {
                0 => change_and_move(&world, &engine, number).await,
                1 => change_all(&world, &engine).await,
                _ => get(&world, &engine, number, &key).await,
            },
            0..6 => get(&world, &engine, number, &key).await,
            6 => change(&world, &engine, number, &key).await,
            7 => change_and_move(&world, &engine, number).await,
            8 => change_all(&world, &engine).await,
            9 => change_and_refresh(&world, &engine, number, &key).await,
            _ => set(&world, &engine, number, &key).await,
        }
    }
}

/// As the server does it: at the store first; the engine if there is nothing; at the store again if it says so; and the
/// database alone where the store cannot be asked.
async fn get(world: &World, engine: &Engine<SimStore, Chance>, number: u64, key: &StoreKey) {
    let name = number.to_string();
    let begun = world.history.borrow_mut().reading(&name, engine.store().process);
    let asked = Instant::now();
    let answer = look_up(world, engine, key).await;
    let mut history = world.history.borrow_mut();
    history.longest = history.longest.max(asked.elapsed());
    match answer {
        Ok(answer) => history.read(&name, begun, answer.as_deref()),
        Err(error) if world.kind.is_calm() => history.violations.push(format!("GET {name} was not answered: {error}")),
        Err(_) => {}
    }
}

async fn look_up(
    world: &World,
    engine: &Engine<SimStore, Chance>,
    key: &StoreKey,
) -> Result<Option<String>, StoreError> {
    let process = engine.store().process;
    let route = &world.processes[process];
    for _ in 0..4 {
        let wanted = Wanted { route: route.clone(), key: key.clone() };
        let in_doubt = engine.is_in_doubt(route.route(), key);
        let reply = if in_doubt { Err(StoreError::InDoubt) } else { engine.store().get(key).await };
        let found = match reply {
            Ok(Some((value, left))) => {
                if left <= engine.schedule(&route.load).due {
                    engine.refresh_behind(route.clone(), key.clone(), left);
                } else if left <= route.renewal() {
                    engine.renew_behind(route.route(), key.clone());
                }
                return Ok(Some(value));
            }
            Ok(None) => engine.ensure_one(wanted.clone()).await,
            Err(failure) => Err(LoadError { route: "row".into(), kind: error::Kind::Store(failure) }),
        };
        let found = match found {
            Err(LoadError { kind: error::Kind::Store(failure), .. }) if failure.is_outage() => {
                world.history.borrow_mut().unstored += 1;
                engine.load_unstored(&[wanted]).await.pop().expect("one answer for one key")
            }
            found => found,
        };
        let is_down = route.load.gate.is_down();
        let was_down = world.down[process].replace(is_down);
        let mut history = world.history.borrow_mut();
        history.asked_again += u64::from(was_down && !is_down);
        if let Err(LoadError { kind: error::Kind::NotBegun(refusal), .. }) = &found {
            match refusal.reason {
                Reason::Down => history.not_asked += 1,
                Reason::Full(_) | Reason::Late(..) | Reason::Busy => history.shed += 1,
            }
        }
        drop(history);
        match found.map_err(|_| StoreError::Timeout)? {
            Found::Absent => return Ok(None),
            Found::Present => {}
            Found::Loaded { value, .. } => {
                let Value::String(bytes) = &*value else { unreachable!("the simulated rows are strings") };
                return Ok(Some(String::from_utf8_lossy(bytes).into_owned()));
            }
        }
    }
    Err(StoreError::Timeout)
}

/// An application's write: commit, then DEL.
async fn change(world: &World, engine: &Engine<SimStore, Chance>, number: u64, key: &StoreKey) {
    let name = number.to_string();
    world.commit(number, !world.chance.one_in(3), world.category(number));
    let invalidation = world.history.borrow_mut().invalidating(&name);
    match engine.store().del(key).await {
        Ok(()) => world.history.borrow_mut().invalidated(&name, invalidation),
        Err(_) => {
            world.remember(|| engine.doubts().add_key(world.route_of(engine), key.clone()));
            world.history.borrow_mut().missed(&name, engine.store().process, invalidation);
        }
    }
}

/// An application's write: commit, then WEIR REFRESH.
async fn change_and_refresh(world: &World, engine: &Engine<SimStore, Chance>, number: u64, key: &StoreKey) {
    let name = number.to_string();
    world.commit(number, !world.chance.one_in(3), world.category(number));
    let invalidation = world.history.borrow_mut().invalidating(&name);
    if engine
        .refresh_now(&Wanted { route: world.processes[engine.store().process].clone(), key: key.clone() })
        .await
        .is_ok()
    {
        world.history.borrow_mut().invalidated(&name, invalidation);
    }
}

/// An application that moves a row to another category, perhaps, and invalidates both by their tags.
async fn change_and_move(world: &World, engine: &Engine<SimStore, Chance>, number: u64) {
    let mut owed = world.writers[number as usize].lock().await;
    let name = number.to_string();
    let category = world.chance.below(CATEGORIES);
    owed.insert(world.commit(number, !world.chance.one_in(3), category));
    let invalidation = world.history.borrow_mut().invalidating_rows(&name);
    let tags: Vec<String> = owed.iter().chain([&category]).map(|category| format!("category:{category}")).collect();
    if invalidate(world, engine, &tags.iter().map(String::as_str).collect::<Vec<_>>()).await {
        world.history.borrow_mut().invalidated(&name, invalidation);
        owed.clear();
    } else {
        world.history.borrow_mut().missed(&name, engine.store().process, invalidation);
    }
}

/// An application that changes every row, and invalidates them by one tag.
async fn change_all(world: &World, engine: &Engine<SimStore, Chance>) {
    let mut promised = Vec::new();
    for number in 0..KEYS {
        world.commit(number, !world.chance.one_in(3), world.category(number));
        promised.push((number.to_string(), world.history.borrow_mut().invalidating(&number.to_string())));
    }
    let done = invalidate(world, engine, &["rows"]).await;
    let mut history = world.history.borrow_mut();
    for (name, promise) in promised {
        match done {
            true => history.invalidated(&name, promise),
            false => history.missed(&name, engine.store().process, promise),
        }
    }
}

/// WEIR INVALIDATE, as the server does it. False if nobody knows whether it was done.
async fn invalidate(world: &World, engine: &Engine<SimStore, Chance>, tags: &[&str]) -> bool {
    world.history.borrow_mut().tags += 1;
    let tags: Vec<&[u8]> = tags.iter().map(|tag| tag.as_bytes()).collect();
    let tags = world.routes.with_absences(&tags);
    let done = engine.invalidate_tags(0, &tags).await.is_ok();
    if !done {
        world.remember(|| engine.doubts().add_tags(0, &tags, world.routes.iter().map(|route| &**route)));
    }
    done
}

/// An application that stores a value of its own.
async fn set(world: &World, engine: &Engine<SimStore, Chance>, number: u64, key: &StoreKey) {
    let (name, ttl) = (number.to_string(), Duration::from_millis(60));
    if !engine.trusted(world.route_of(engine), key, Duration::from_millis(50)).await {
        return;
    }
    if engine.add_tags(key, &[b"rows"], ttl * 4).await.is_err() {
        return;
    }
    let set = world.history.borrow_mut().next_set();
    let invalidation = world.history.borrow_mut().invalidating(&name);
    let stored = engine.store().set(key, format!("set:{set}"), ttl).await.is_ok();
    if !stored {
        world.remember(|| engine.doubts().add_key(world.route_of(engine), key.clone()));
    }
    if stored && engine.add_tags(key, &[b"rows"], ttl * 4).await.is_ok() {
        let mut history = world.history.borrow_mut();
        history.set(&name, set);
        history.invalidated(&name, invalidation);
    }
}
