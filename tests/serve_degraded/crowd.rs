//! Clients that ask without a pause while the database goes and comes: most for keys that are known, some for keys that nobody
//! has asked for yet.

use crate::harness::{Client, Reply, wait_until};
use fastrand::Rng;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

/// What is known of the database while a command is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Other = 0,
    /// It is dead, and Weir knows.
    Down = 1,
    /// It is slower than what is asked of it.
    Slow = 2,
}

pub struct Crowd {
    port: u16,
    clients: u64,
    keys: u64,
    seed: u64,
    ends: AtomicBool,
    phase: AtomicU8,
    /// The next key that nobody has asked for.
    next: AtomicU64,
    answered: AtomicU64,
    /// Of reads that began and ended in the present phase: what has come so far.
    come: [AtomicU64; 4],
    figures: Mutex<Figures>,
}

/// What may come of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Come {
    /// A known key is answered.
    Known = 0,
    /// An unknown one is answered, told -LOAD, told -OVERLOADED.
    Loaded = 1,
    Refused = 2,
    Overloaded = 3,
}

/// What reads came to that began and ended in one phase.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often, by [`Come`].
    come: [u64; 4],
    known_taken: Vec<Duration>,
    unknown_taken: Vec<Duration>,
}

/// Sums over all clients.
#[derive(Debug, Default)]
pub struct Figures {
    pub reads: u64,
    pub down: Tally,
    pub slow: Tally,
    /// When reads of unknown keys began that were refused with -LOAD, and when they ended, as the time of the day in UTC.
    refusals: Vec<(Duration, Duration)>,
    wrong: Vec<String>,
}

impl Crowd {
    pub fn new(port: u16, clients: u64, keys: u64, seed: u64) -> Crowd {
        Crowd {
            port,
            clients,
            keys,
            seed,
            ends: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Other as u8),
            next: AtomicU64::new(1_000_000),
            answered: AtomicU64::new(0),
            come: Default::default(),
            figures: Mutex::default(),
        }
    }

    /// Loads every known key once.
    pub fn know_all(&self) {
        let mut client = Client::connect(self.port);
        for id in 1..=self.keys {
            assert_eq!(client.run(&format!("GET known:{id}")), known(id));
        }
    }

    /// Runs `disturb` while all clients ask.
    pub fn work(&self, disturb: impl FnOnce()) {
        std::thread::scope(|threads| {
            // Ends the crowd also when the disturbance panics; else the scope would wait for ever.
            let _ends = EndOnDrop(&self.ends);
            for number in 0..self.clients {
                threads.spawn(move || {
                    let figures = self.ask(number);
                    self.figures.lock().expect("no thread panics with it").add(figures);
                });
            }
            disturb();
        });
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
        self.come.iter().for_each(|come| come.store(0, SeqCst));
    }

    /// Until each of these has come of some read that began and ended in the present phase.
    pub fn wait_for(&self, expected: &[Come]) {
        let has_come = |come: &Come| self.come[*come as usize].load(SeqCst) > 0;
        wait_until(&format!("{expected:?} have come"), || expected.iter().all(has_come));
    }

    /// Until so many more reads of unknown keys were answered with their rows.
    pub fn wait_for_answers(&self, count: u64) {
        let until_now = self.answered.load(SeqCst);
        wait_until("the crowd is answered", || self.answered.load(SeqCst) > until_now + count);
    }

    pub fn figures(&self) -> Figures {
        std::mem::take(&mut *self.figures.lock().expect("no thread panics with it"))
    }

    fn ask(&self, number: u64) -> Figures {
        let mut random = Rng::with_seed(self.seed.wrapping_add(number));
        let (mut client, mut figures) = (Client::connect(self.port), Figures::default());
        while !self.ends.load(SeqCst) {
            let (phase, begun, begun_at) = (self.phase.load(SeqCst), Instant::now(), time_of_day());
            let is_known = random.u8(..4) > 0;
            let id = if is_known { random.u64(1..=self.keys) } else { self.next.fetch_add(1, SeqCst) };
            let reply = client.run(&format!("GET {}:{id}", if is_known { "known" } else { "row" }));
            figures.reads += 1;
            let is_one_phase = phase == self.phase.load(SeqCst);
            let come = match &reply {
                reply if is_known && *reply == known(id) => Come::Known,
                reply if is_known => {
                    figures.wrong.push(format!("known:{id}: {reply:?}"));
                    continue;
                }
                reply if *reply == Reply::bulk(format!("row {id}")) => Come::Loaded,
                reply if reply.is_error("LOAD route 'row': ") => Come::Refused,
                reply if reply.is_error("OVERLOADED route 'row': ") => Come::Overloaded,
                reply => {
                    figures.wrong.push(format!("row:{id}: {reply:?}"));
                    continue;
                }
            };
            match come {
                Come::Loaded => drop(self.answered.fetch_add(1, SeqCst)),
                Come::Refused => figures.refusals.push((begun_at, time_of_day())),
                Come::Known | Come::Overloaded => {}
            }
            let tally = match phase {
                phase if is_one_phase && phase == Phase::Down as u8 => &mut figures.down,
                phase if is_one_phase && phase == Phase::Slow as u8 => &mut figures.slow,
                _ => continue,
            };
            tally.come[come as usize] += 1;
            self.come[come as usize].fetch_add(1, SeqCst);
            (if is_known { &mut tally.known_taken } else { &mut tally.unknown_taken }).push(begun.elapsed());
        }
        figures
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn known(id: u64) -> Reply {
    Reply::bulk(format!("known user {id}"))
}

const DAY: u64 = 86_400;

fn time_of_day() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    Duration::new(now.as_secs() % DAY, now.subsec_nanos())
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.come.iter_mut().zip(other.come).for_each(|(sum, more)| *sum += more);
        self.known_taken.extend(other.known_taken);
        self.unknown_taken.extend(other.unknown_taken);
    }
}

impl Figures {
    fn add(&mut self, other: Figures) {
        self.reads += other.reads;
        self.down.add(other.down);
        self.slow.add(other.slow);
        self.refusals.extend(other.refusals);
        self.wrong.extend(other.wrong);
    }

    /// How long after `opened` those reads were refused that had begun before it.
    pub fn told_at(&self, opened: Duration) -> String {
        let waiting = self.refusals.iter().filter(|(begun, ended)| *begun < opened && *ended >= opened);
        let taken: Vec<Duration> = waiting.map(|(_, ended)| *ended - opened).collect();
        format!("{} reads, {}", taken.len(), spread(&taken))
    }

    /// No known key was refused, nothing was answered that is not so, and nobody loaded from a dead database.
    #[track_caller]
    pub fn assert_right(&self) {
        let some = self.wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "{} wrong answers:\n{some}", self.wrong.len());
        assert_eq!(self.down.come[Come::Loaded as usize], 0, "{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { come: [known, loaded, refused, overloaded], known_taken, unknown_taken } = self;
        write!(
            f,
            "{known} known answered ({}), {loaded} unknown loaded, {refused} told -LOAD, {overloaded} told -OVERLOADED ({})",
            spread(known_taken),
            spread(unknown_taken)
        )
    }
}

fn spread(durations: &[Duration]) -> String {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).or(sorted.last()).copied();
    let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| at(share).unwrap_or_default());
    format!("median {median:?}, p99 {p99:?}, max {most:?}")
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { reads, down, slow, wrong, .. } = self;
        write!(f, "{reads} reads, {} wrong; down: {down}; slow: {slow}", wrong.len())
    }
}
