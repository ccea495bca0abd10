//! One process: its workers, what they share, and its clients; until it is killed.

use crate::clients::Client;
use crate::database::SimStatement;
use crate::pushes::Ear;
use crate::store::{Bug, SimStore};
use crate::universe::{BOUNDS, Chance, Kind, MOST_WAITING, World};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, timeout};
use weir::cache::gate::Gate;
use weir::cache::near::Near;
use weir::cache::route::{Loading, Routes};
use weir::cache::{Engine, Shared};
use weir::config::Route;
use weir::store::ends::Ends;

pub type SimEngine = Engine<SimStore, Chance>;

/// What all of a process shares.
pub struct Process {
    pub number: usize,
    pub route: Loading,
    pub routes: Routes,
    /// What is kept in the process itself, and how it hears of changes; `None`: the route has no `near`.
    pub near: Option<(Arc<Near>, Rc<Ear>)>,
    /// Whether it was last found not to ask the database.
    pub down: Cell<bool>,
    ends: Arc<Ends>,
}

/// Room for more than there is.
const MAX_NEAR: usize = 1 << 20;

/// A process with its clients; in a storm it is perhaps killed, and starts again with others. `over`: its clients have gone.
pub async fn run(world: World, number: usize, clients: usize, over: tokio::sync::mpsc::UnboundedSender<()>) {
    let mut tasks = LocalSet::new();
    if world.kind == Kind::Stormy && world.chance.one_in(4) {
        let life = Duration::from_millis(world.chance.below(700));
        if timeout(life, tasks.run_until(live(&world, number, clients))).await.is_err() {
            // Whatever it was about to do ends here.
            drop(std::mem::take(&mut tasks));
            world.bury(number);
            world.chance.pause(100).await;
            tasks.run_until(live(&world, number, clients)).await;
        }
    } else {
        tasks.run_until(live(&world, number, clients)).await;
    }
    // Nobody waits for it who has gone; what the process does by itself goes on.
    let _ = over.send(());
    tasks.await;
}

/// Starts, and is there until its clients have gone. The first process has two workers.
async fn live(world: &World, number: usize, clients: usize) {
    let process = Rc::new(Process::new(world, number));
    let engines = process.engines(world, if number == 0 { 2 } else { 1 });
    process.begin(world, &engines);
    let client = |index: usize| Client {
        world: world.clone(),
        process: process.clone(),
        engine: engines[index % engines.len()].clone(),
    };
    let clients: Vec<_> = (0..clients).map(|index| spawn_local(client(index).live())).collect();
    for client in clients {
        client.await.expect("a client lives to its end");
    }
}

impl Process {
    fn new(world: &World, number: usize) -> Self {
        let (rows, chance, pool) = (world.rows.clone(), world.chance.clone(), world.pool);
        let statement =
            SimStatement { rows, chance, faulty: world.kind == Kind::Stormy, running: Arc::default(), pool };
        let config = Route::clone(&world.config);
        let load = config.load().expect("it has a load").clone();
        let gate = Gate::new("main", pool as usize, MOST_WAITING);
        let route = Loading::new(config, load, Arc::new(statement), None, gate);
        let ends = Arc::<Ends>::default();
        world.table.borrow_mut().processes[number] = ends.clone();
        let near = route.has_near().then(|| {
            let near = Arc::new(Near::new(MAX_NEAR));
            let ear = Ear {
                process: number,
                near: near.clone(),
                pushes: world.table.borrow().pushes.clone(),
                history: world.history.clone(),
                chance: world.chance.clone(),
                counts: world.pushes.clone(),
                hears: Cell::new(false),
                unanswered: RefCell::default(),
            };
            (near, Rc::new(ear))
        });
        let routes = Routes::new(vec![route.route().clone()]);
        Process { number, route, routes, near, down: Cell::new(false), ends }
    }

    fn engines(&self, world: &World, workers: usize) -> Vec<SimEngine> {
        let shared = Arc::new(Shared::new(BOUNDS, Instant::now()));
        let granted = Rc::<RefCell<_>>::default();
        let engine = |_| {
            let store = SimStore {
                process: self.number,
                chance: world.chance.clone(),
                table: world.table.clone(),
                bug: if let Kind::Without(bug) = world.kind { Some(bug) } else { None },
                granted: granted.clone(),
                lossy: world.kind == Kind::Stormy,
                cut: Rc::default(),
                together: 1 + world.chance.below(3) as usize,
            };
            Engine::new(store, world.chance.clone(), shared.clone(), tokio::runtime::Handle::current())
        };
        (0..workers).map(engine).collect()
    }

    /// What it does by itself, and what its ways to the store suffer.
    fn begin(self: &Rc<Self>, world: &World, engines: &[SimEngine]) {
        self.ends.listen();
        if let Some((_, ear)) = &self.near {
            spawn_local(ear.clone().listen(world.kind));
        }
        if world.kind == Kind::Stormy {
            spawn_local(listen_now_and_then(world.chance.clone(), self.ends.clone()));
        }
        if matches!(world.kind, Kind::Stormy | Kind::Without(Bug::Missed)) {
            // One worker sees to it.
            spawn_local(settle(world.chance.clone(), engines[0].clone(), self.clone()));
            for engine in engines {
                spawn_local(cut_now_and_then(world.chance.clone(), engine.store().cut.clone()));
            }
        }
    }
}

/// Cuts a way to the store and mends it, for as long as the process lives.
async fn cut_now_and_then(chance: Chance, cut: Rc<Cell<bool>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
        cut.set(chance.one_in(3));
    }
}

/// How long the process waits for what it has missed to be heard of.
pub const CATCH_UP: Duration = Duration::from_millis(50);

/// What the process has failed to invalidate it invalidates later.
async fn settle(chance: Chance, engine: SimEngine, process: Rc<Process>) {
    loop {
        engine.doubts().raised().await;
        chance.pause(20).await;
        let page = engine.doubts().page();
        if engine.invalidate_page(&page).await.is_err() {
            continue;
        }
        if let Some((_, ear)) = &process.near {
            ear.catch_up(CATCH_UP).await;
        }
        engine.doubts().settled(&page);
    }
}

/// The process hears of the ends of leases for a while, and then not.
async fn listen_now_and_then(chance: Chance, ends: Arc<Ends>) {
    loop {
        tokio::time::sleep(Duration::from_millis(chance.below(600))).await;
        ends.break_off();
        tokio::time::sleep(Duration::from_millis(chance.below(100))).await;
        ends.listen();
    }
}
