//! The near cache over a simulated upstream: whatever the order in which reads, changes, pushes and lost connections meet,
//! nobody gets from it what was there before an acknowledged change of this process, nor, once all pushes are here, anything
//! but what is there now.
//!
//! `WEIR_UNIVERSES` sets how many seeded stories run, `WEIR_TEST_SEED` the first one.

mod harness;

use bytes::Bytes;
use harness::{seed, sized};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir::cache::near::{Bar, Closed, Key, Marker, Near, TOGETHER};
use weir::store::redis::tracking::Hears;
use weir::value::Value;

const NAMES: [&str; 3] = ["a", "b", "c"];
const DATABASES: u32 = 2;

/// What is left out, to show that the story finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The marker is put when the answer is here.
    MarksLate,
    /// Changes of this process bar nothing.
    BarsNothing,
    /// A FLUSHALL of this process closes nothing.
    ClosesNothing,
    /// A lost connection is not told of.
    StaysOpen,
}

type Place = (u32, &'static str);

fn key((db, name): Place) -> Key<'static> {
    Key::new(db, None, name.as_bytes())
}

struct Read {
    place: Place,
    marker: Option<Marker>,
    until: Instant,
    got: Option<u64>,
}

enum Guard {
    None,
    #[expect(dead_code, reason = "it is held, and dropped")]
    Bar(Bar),
    #[expect(dead_code, reason = "it is held, and dropped")]
    Closed(Closed),
}

/// A change that goes through this process; of all keys, if it has no place.
struct Change {
    place: Option<Place>,
    guard: Guard,
    made: Option<u64>,
}

/// One seeded story.
struct Story {
    bug: Bug,
    random: fastrand::Rng,
    near: Arc<Near>,
    now: Instant,
    /// The upstream: what it holds. Every version is newer than all before it.
    holds: BTreeMap<Place, u64>,
    newest: u64,
    /// Names that have changed and are not told yet; `None`: all.
    pushes: VecDeque<Option<&'static str>>,
    connected: bool,
    reads: Vec<Read>,
    changes: Vec<Change>,
    /// What was acknowledged through this process.
    floors: BTreeMap<Place, u64>,
    hits: usize,
}

impl Story {
    fn new(seed: u64, bug: Bug) -> Story {
        // Room for some of the values only.
        let near = Arc::new(Near::new(1500));
        near.hears();
        Story {
            bug,
            random: fastrand::Rng::with_seed(seed),
            near,
            now: Instant::now(),
            holds: BTreeMap::new(),
            newest: 0,
            pushes: VecDeque::new(),
            connected: true,
            reads: Vec::new(),
            changes: Vec::new(),
            floors: BTreeMap::new(),
            hits: 0,
        }
    }

    /// `Err` with what went wrong.
    fn step(&mut self) -> Result<(), String> {
        let place = (self.random.u32(..DATABASES), NAMES[self.random.usize(..NAMES.len())]);
        let some = (self.random.u8(..8) > 0).then_some(place);
        match self.random.u8(..100) {
            0..35 => self.begin_read(place)?,
            35..50 => self.execute_read(),
            50..65 => self.end_read(),
            65..70 => self.begin_change(some),
            70..77 => self.execute_change(),
            77..84 => self.end_change(),
            84..87 => self.make(some),
            87..96 => self.deliver(),
            96 if self.random.u8(..5) == 0 => self.disconnect(),
            96..99 => self.connect(),
            _ => self.now += Duration::from_millis(self.random.u64(..40)),
        }
        Ok(())
    }

    fn begin_read(&mut self, place: Place) -> Result<(), String> {
        let alone = self.random.bool();
        if let Some(value) = look(&self.near, key(place), self.now, alone) {
            self.hits += 1;
            return self.judge(place, &value);
        }
        let marker = if self.bug == Bug::MarksLate { None } else { self.near.mark(key(place), self.now) };
        let until = self.now + Duration::from_millis(self.random.u64(1..100));
        self.reads.push(Read { place, marker, until, got: None });
        Ok(())
    }

    fn judge(&self, place: Place, value: &Value) -> Result<(), String> {
        let Value::String(text) = value else { return Err(format!("{place:?} is no string")) };
        let words: Vec<&str> = std::str::from_utf8(text).expect("text").split(' ').collect();
        if words[0] != place.0.to_string() || words[1] != place.1 {
            return Err(format!("{place:?} answered {words:?}"));
        }
        let version: u64 = words[2].parse().expect("a version");
        let floor = self.floors.get(&place).copied().unwrap_or(0);
        if version < floor {
            return Err(format!("{place:?} answered version {version} after {floor} was acknowledged"));
        }
        let told = !self.pushes.iter().any(|push| push.is_none_or(|name| name == place.1));
        let holds = self.holds.get(&place).copied().unwrap_or(0);
        if told && version != holds {
            return Err(format!("{place:?} answered version {version}; it is {holds}, and no push is under way"));
        }
        Ok(())
    }

    fn execute_read(&mut self) {
        let waiting: Vec<usize> = (0..self.reads.len()).filter(|&read| self.reads[read].got.is_none()).collect();
        if let Some(&index) = self.choose(&waiting) {
            let version = self.holds.get(&self.reads[index].place).copied().unwrap_or(0);
            self.reads[index].got = Some(version);
        }
    }

    fn end_read(&mut self) {
        let done: Vec<usize> = (0..self.reads.len()).filter(|&read| self.reads[read].got.is_some()).collect();
        let Some(&index) = self.choose(&done) else { return };
        let Read { place, marker, until, got } = self.reads.swap_remove(index);
        let marker = if self.bug == Bug::MarksLate { self.near.mark(key(place), self.now) } else { marker };
        // Some connections break before the answer.
        if let Some(marker) = marker.filter(|_| self.random.u8(..8) > 0) {
            let text = format!("{} {} {}", place.0, place.1, got.expect("it was executed"));
            marker.keep(Value::String(Bytes::from(text)), until);
        }
    }

    fn begin_change(&mut self, place: Option<Place>) {
        let guard = match (place, self.bug) {
            (Some(_), Bug::BarsNothing) | (None, Bug::ClosesNothing) => Guard::None,
            (Some((_, name)), _) => Guard::Bar(self.near.bar([name.as_bytes()])),
            (None, _) => Guard::Closed(self.near.close("command")),
        };
        self.changes.push(Change { place, guard, made: None });
    }

    fn execute_change(&mut self) {
        let waiting: Vec<usize> = (0..self.changes.len()).filter(|&at| self.changes[at].made.is_none()).collect();
        if let Some(&index) = self.choose(&waiting) {
            self.make(self.changes[index].place);
            self.changes[index].made = Some(self.newest);
        }
    }

    fn end_change(&mut self) {
        let done: Vec<usize> = (0..self.changes.len()).filter(|&at| self.changes[at].made.is_some()).collect();
        let Some(&index) = self.choose(&done) else { return };
        let Change { place, guard, made } = self.changes.swap_remove(index);
        let version = made.expect("it was made");
        for place in places().filter(|known| place.is_none_or(|place| place == *known)) {
            let floor = self.floors.entry(place).or_default();
            *floor = version.max(*floor);
        }
        drop(guard);
    }

    /// At the upstream, by whomever.
    fn make(&mut self, place: Option<Place>) {
        self.newest += 1;
        for known in places().filter(|known| place.is_none_or(|place| place == *known)) {
            self.holds.insert(known, self.newest);
        }
        if self.connected {
            self.pushes.push_back(place.map(|(_, name)| name));
        }
    }

    fn deliver(&mut self) {
        match self.pushes.pop_front() {
            Some(Some(name)) => self.near.changed(name.as_bytes()),
            Some(None) => self.near.all_changed(),
            None => {}
        }
    }

    /// What was not told yet is lost.
    fn disconnect(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.pushes.clear();
            if self.bug != Bug::StaysOpen {
                self.near.is_deaf("lost");
            }
        }
    }

    fn connect(&mut self) {
        if !std::mem::replace(&mut self.connected, true) && self.bug != Bug::StaysOpen {
            self.near.hears();
        }
    }

    fn choose<'a>(&mut self, from: &'a [usize]) -> Option<&'a usize> {
        (!from.is_empty()).then(|| &from[self.random.usize(..from.len())])
    }
}

fn places() -> impl Iterator<Item = Place> {
    (0..DATABASES).flat_map(|db| NAMES.map(|name| (db, name)))
}

/// Runs stories until one goes wrong: its seed, and what it tells; and how many reads were hits.
fn run(bug: Bug, first: u64, stories: usize) -> (Option<(u64, String)>, usize) {
    let mut hits = 0;
    for seed in (0..stories as u64).map(|offset| first.wrapping_add(offset)) {
        let mut story = Story::new(seed, bug);
        for _ in 0..300 {
            if let Err(wrong) = story.step() {
                return (Some((seed, wrong)), hits);
            }
        }
        hits += story.hits;
    }
    (None, hits)
}

#[test]
fn no_story_ends_with_a_value_that_is_too_old() {
    let stories = sized("WEIR_UNIVERSES", 5_000);
    let (wrong, hits) = run(Bug::None, seed(), stories);
    assert_eq!(wrong, None);
    println!("{stories} stories, {hits} hits");
    assert!(hits > stories, "too few hits to show anything");
}

#[test]
fn every_deliberate_bug_is_found() {
    let first = seed();
    for bug in [Bug::MarksLate, Bug::BarsNothing, Bug::ClosesNothing, Bug::StaysOpen] {
        let (wrong, _) = run(bug, first, 5_000);
        let (seed, wrong) = wrong.unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?}: story {} of this run: {wrong}", seed.wrapping_sub(first));
    }
}

/// Readers, a writer of this process, one beyond it and the pushes, each on a thread of its own.
#[test]
fn on_threads_no_read_is_older_than_what_was_acknowledged_before_it() {
    let near = Arc::new(Near::new(1 << 20));
    near.hears();
    let upstream = Mutex::new([0_u64; NAMES.len()]);
    let floors: [AtomicU64; NAMES.len()] = Default::default();
    let ends = AtomicBool::new(false);
    let (push, pushes) = mpsc::channel::<usize>();
    let (hits, asked) = (AtomicU64::new(0), AtomicU64::new(0));
    let rounds = sized("WEIR_NEAR_ROUNDS", 20_000);
    let change = |key: usize, push: &mpsc::Sender<usize>| {
        let mut upstream = upstream.lock().unwrap();
        upstream[key] += 1;
        push.send(key).unwrap();
        upstream[key]
    };
    let first = seed();
    std::thread::scope(|threads| {
        let told = near.clone();
        threads.spawn(move || pushes.iter().for_each(|key| told.changed(NAMES[key].as_bytes())));
        for number in 0..2 {
            let (near, upstream, floors, ends, hits, asked) = (&near, &upstream, &floors, &ends, &hits, &asked);
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(first.wrapping_add(number));
                while !ends.load(SeqCst) {
                    let at = random.usize(..NAMES.len());
                    let floor = floors[at].load(SeqCst);
                    let (key, now) = (key((0, NAMES[at])), Instant::now());
                    asked.fetch_add(1, SeqCst);
                    if let Some(Value::String(text)) = look(near, key, now, random.bool()) {
                        hits.fetch_add(1, SeqCst);
                        let version: u64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
                        assert!(version >= floor, "{} answered {version} after {floor}", NAMES[at]);
                        continue;
                    }
                    let marker = near.mark(key, now);
                    let version = upstream.lock().unwrap()[at];
                    if let Some(marker) = marker {
                        let text = Bytes::from(version.to_string());
                        marker.keep(Value::String(text), now + Duration::from_secs(60));
                    }
                }
            });
        }
        let elsewhere = push.clone();
        let (change, ends) = (&change, &ends);
        threads.spawn(move || {
            let mut random = fastrand::Rng::with_seed(first.wrapping_add(7));
            while !ends.load(SeqCst) {
                change(random.usize(..NAMES.len()), &elsewhere);
                std::thread::yield_now();
            }
        });
        let mut random = fastrand::Rng::with_seed(first.wrapping_add(8));
        for _ in 0..rounds {
            let at = random.usize(..NAMES.len());
            let bar = near.bar([NAMES[at].as_bytes()]);
            let version = change(at, &push);
            floors[at].fetch_max(version, SeqCst);
            drop(bar);
        }
        ends.store(true, SeqCst);
        drop(push);
    });
    println!("{rounds} changes, {} reads, {} of them hits", asked.load(SeqCst), hits.load(SeqCst));
    assert!(hits.load(SeqCst) > 0, "nothing was shown");
}

fn gauge(near: &Near, name: &str) -> usize {
    let mut text = String::new();
    near.render(&mut text);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).expect("the gauge is there")
}

fn keep(near: &Arc<Near>, name: &str, size: usize) {
    let (key, now) = (Key::new(0, None, name.as_bytes()), Instant::now());
    if let Some(marker) = near.mark(key, now) {
        marker.keep(Value::String(vec![b'v'; size].into()), now + Duration::from_secs(3600));
    }
}

#[test]
fn what_is_kept_stays_within_its_room_and_what_is_asked_for_again_stays() {
    const ROOM: usize = 256 << 10;
    let near = Arc::new(Near::new(ROOM));
    near.hears();
    let mut random = fastrand::Rng::with_seed(seed());
    let hot = Key::new(0, None, b"hot");
    keep(&near, "hot", 100);
    for number in 0..10_000 {
        keep(&near, &format!("cold:{number}"), random.usize(..2000));
        let bytes = gauge(&near, "weir_near_bytes");
        assert!(bytes <= ROOM, "{bytes} bytes after {number} values");
        assert!(
            near.look(hot, near.moment(Instant::now()), |_| ()).is_some(),
            "what is asked for all the time is gone"
        );
    }
    assert!(gauge(&near, "weir_near_entries") > 50);
    assert!(gauge(&near, "weir_near_bytes") > ROOM / 2);
    keep(&near, "huge", ROOM / 4);
    assert!(near.until(Key::new(0, None, b"huge")).is_none(), "one value takes no such share");
    near.all_changed();
    assert_eq!((gauge(&near, "weir_near_bytes"), gauge(&near, "weir_near_entries")), (0, 0));
}

#[test]
fn a_push_meets_a_name_in_every_database_and_every_guard_gives_its_room_back() {
    let near = Arc::new(Near::new(1 << 20));
    near.hears();
    let key = |db| Key::new(db, None, b"k");
    let now = Instant::now();
    for db in 0..3 {
        let marker = near.mark(key(db), now).expect("nothing speaks against it");
        marker.keep(Value::String(db.to_string().into()), now + Duration::from_secs(60));
    }
    let read = |db| near.look(key(db), near.moment(now), |value| value.to_value());
    assert_eq!(read(1), Some(Value::String("1".into())), "each database has its own");
    near.changed(b"k");
    assert_eq!([read(0), read(1), read(2)], [None, None, None]);
    assert_eq!(gauge(&near, "weir_near_bytes"), 0);
    let marker = near.mark(key(0), now);
    assert!(marker.is_some() && near.mark(key(0), now).is_none(), "one read is enough to bring it in");
    drop(marker);
    let bar = near.bar([&b"k"[..], b"other", b"k"]);
    assert!(near.mark(key(0), now).is_none() && near.mark(key(1), now).is_none());
    drop(bar);
    let closed = near.close("command");
    assert!(near.mark(key(0), now).is_none());
    drop(closed);
    let marker = near.mark(key(0), now).expect("all is over");
    near.is_deaf("lost");
    marker.keep(Value::String("old".into()), now + Duration::from_secs(60));
    assert_eq!((read(0), gauge(&near, "weir_near_bytes"), gauge(&near, "weir_near_open")), (None, 0, 0));
}

/// What is kept for a key: looked up alone, or twice together.
fn look(near: &Near, key: Key<'_>, now: Instant, alone: bool) -> Option<Value> {
    let now = near.moment(now);
    if alone {
        return near.look(key, now, |value| value.to_value());
    }
    let mut values = Vec::new();
    near.look_each([key, key].into_iter(), now, |value| {
        values.push(value.to_value());
        true
    });
    assert!(values.len() != 2 || values[0] == values[1]);
    values.into_iter().next()
}

fn unowned(name: &String) -> Key<'_> {
    Key::new(0, None, name.as_bytes())
}

#[test]
fn what_is_looked_up_together_is_what_would_be_found_alone() {
    let near = Arc::new(Near::new(64 << 20));
    near.hears();
    let names: Vec<String> = (0..20_000).map(|number| format!("key:{number}")).collect();
    names.iter().filter(|name| !name.ends_with("99")).for_each(|name| keep(&near, name, 300));
    let (mut random, now) = (fastrand::Rng::with_seed(seed()), near.moment(Instant::now()));
    for _ in 0..2_000 {
        let asked: Vec<_> = (0..random.usize(0..40)).map(|_| unowned(&names[random.usize(..names.len())])).collect();
        let (taken, mut values) = (random.usize(..40), 0);
        let found = near.look_each(asked.iter().copied(), now, |value| {
            assert_eq!(value.len(), 300);
            values += 1;
            values <= taken
        });
        let alone = asked.iter().take(TOGETHER).take_while(|key| near.look(**key, now, |_| ()).is_some()).count();
        assert_eq!((found, values), (alone.min(taken), alone.min(taken + 1)));
    }
    // Nobody waits for anybody for ever, and nothing is left locked.
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for together in names.chunks(TOGETHER).cycle().take(6_000) {
                    near.look_each(together.iter().map(unowned), now, |_| true);
                }
            });
            threads.spawn(|| names.iter().for_each(|name| drop(near.bar([name.as_bytes()]))));
        }
    });
    assert_eq!((gauge(&near, "weir_near_bytes"), gauge(&near, "weir_near_entries")), (0, 0));
}

#[test]
fn names_of_one_hash_are_told_apart() {
    let now = Instant::now();
    let until = now + Duration::from_secs(60);
    // Names are compared another way up to 7, to 16 and to 32 bytes.
    for length in [1, 7, 8, 12, 16, 17, 25, 32, 33, 70] {
        for at in [0, length / 2, length - 1] {
            let near = Arc::new(Near::new(1 << 20));
            near.hears();
            let one = vec![b'a'; length];
            let mut other = one.clone();
            other[at] = b'b';
            fn key(name: &[u8]) -> Key<'_> {
                Key::hashed(0, None, name, 7)
            }
            let text = |name: &[u8]| Value::String(Bytes::copy_from_slice(name));
            let keep = |name: &[u8]| near.mark(key(name), now).expect("nobody changes it").keep(text(name), until);
            let found = |name: &[u8], alone| look(&near, key(name), now, alone);
            keep(&one);
            assert_eq!([true, false].map(|alone| found(&one, alone)), [Some(text(&one)), Some(text(&one))]);
            assert_eq!([true, false].map(|alone| found(&other, alone)), [None, None], "{at} of {length}");
            keep(&other);
            for name in [&one, &other] {
                assert_eq!(found(name, true), Some(text(name)));
                // Together, one of the two may be missed; it is then read from Redis.
                assert!(found(name, false).is_none_or(|found| found == text(name)));
            }
        }
    }
}
