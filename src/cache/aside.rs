//! Keys that applications fill themselves (cache-aside): of those who find one absent, one is answered nil, and so left to
//! fill it; the others wait for its SET, for `wait_for_fill` at most.
//!
//! 1. A reads k, which is absent, and *acquires* its lease, for `wait_for_fill`. A is answered nil: it is the *filler*.
//! 2. B reads k, here or through another Weir on the same upstream, and is shown A's lease: B waits.
//! 3. A's SET is done; then its lease is dropped, and those who wait in A's process are woken. (The lease goes behind the SET,
//!    and not ahead of it as for keys that Weir loads: there is no fill to be refused, and between the two somebody would
//!    find neither value nor lease, and be answered nil too.) The store tells other processes of the lease's
//!    end, and they look. Of a SET past Weir, or of a DEL, nobody tells them: so each looks now and then too, after pauses that
//!    grow, once for all its waiters of a key.
//! 4. B reads again.
//!
//! A filler that never comes back with a SET costs those who wait their `wait_for_fill`, then they are answered nil too. Its
//! lease ends with its time, and one of those who are answered then, or still wait, or come, is the next filler. If that one
//! lapses too, nobody waits for the key any more, for ten times `wait_for_fill`, or until it is set through this process:
//! what no application ever fills (a row that does not exist) must not make its readers wait for ever.
//!
//! Nobody waits for itself: the lease bears the filler's connection, and what that connection reads meanwhile is answered nil. A
//! DEL drops the lease ahead, as of every key: whoever reads then is a filler of its own, and waits for no older one.

use super::route::Route;
use super::{Engine, FIRST_LOOK, LONGEST_LOOK};
use crate::clock::Clock;
use crate::store::ends::End;
use crate::store::{Acquired, Held, Store, StoreKey, Token};
use foldhash::fast::RandomState;
use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a reader is told that has found a key absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The key holds a value: read it again.
    Present,
    /// A write of the key through this process is done: read it again, and wait on if it is still absent.
    Written,
    /// Nil. It is left to this client to fill the key, or nobody has in time.
    Absent,
}

/// Those of this process who wait for a filler, and the fillers that let them wait in vain.
pub struct Fills {
    state: Arc<Mutex<State>>,
    /// Most who wait at once.
    most: usize,
    /// The upper half of this process's readers, for a lease to show whose it is.
    process: u32,
    /// `weir_fill_waiters_refused_total`: they were too many, and this one was answered nil.
    refused: Counter,
}

struct State {
    queues: HashMap<StoreKey, Queue, RandomState>,
    lapses: Lapses,
    /// All who wait.
    seats: usize,
    /// For the next seat or queue.
    number: u64,
    /// `weir_fill_waiters`.
    waiters: Gauge,
}

/// Those who wait for one key, the first of them first.
struct Queue {
    /// A later queue of the same key has another.
    number: u64,
    seats: VecDeque<Seat>,
}

struct Seat {
    number: u64,
    reader: Token,
    word: oneshot::Sender<Waited>,
}

/// A place in a queue; dropped, it is free again.
struct Waiting {
    key: StoreKey,
    number: u64,
    word: oneshot::Receiver<Waited>,
    state: Arc<Mutex<State>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let Some(queue) = state.queues.get_mut(&self.key) else { return };
        let Some(index) = queue.seats.iter().position(|seat| seat.number == self.number) else { return };
        queue.seats.remove(index);
        if queue.seats.is_empty() {
            state.queues.remove(&self.key);
        }
        state.left(1);
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn left(&mut self, seats: usize) {
        self.seats -= seats;
        self.waiters.decrement(seats as f64);
    }

    /// Tells everybody who waits for `key`.
    fn tell_all(&mut self, key: &StoreKey, word: Waited) {
        let Some(queue) = self.queues.remove(key) else { return };
        self.left(queue.seats.len());
        for seat in queue.seats {
            // Whoever does not wait any more need not know.
            let _ = seat.word.send(word);
        }
    }

    /// Takes one out of its queue and tells it.
    fn tell(&mut self, key: &StoreKey, number: u64, word: Waited) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Some(index) = queue.seats.iter().position(|seat| seat.number == number) else { return };
        let seat = queue.seats.remove(index).expect("it is there");
        if queue.seats.is_empty() {
            self.queues.remove(key);
        }
        self.left(1);
        let _ = seat.word.send(word);
    }
}

impl Fills {
    /// `most`: how many may wait at once.
    pub fn new(most: usize) -> Self {
        let state = State {
            queues: HashMap::default(),
            lapses: Lapses::default(),
            seats: 0,
            number: 0,
            waiters: metrics::gauge!("weir_fill_waiters"),
        };
        let refused = metrics::counter!("weir_fill_waiters_refused_total");
        Fills { state: Arc::new(Mutex::new(state)), most, process: fastrand::u32(1..), refused }
    }

    /// A place among those who wait for `key`, and the number of their queue if this is the first; `None` if too many wait.
    fn sit(&self, key: &StoreKey, reader: Token) -> Option<(Waiting, Option<u64>)> {
        let mut state = self.state.lock();
        if state.seats >= self.most {
            self.refused.increment(1);
            return None;
        }
        state.seats += 1;
        state.waiters.increment(1.0);
        let (number, (word, told)) = (state.next_number(), oneshot::channel());
        let seat = Seat { number, reader, word };
        let waiting = Waiting { key: key.clone(), number, word: told, state: self.state.clone() };
        if let Some(queue) = state.queues.get_mut(key) {
            queue.seats.push_back(seat);
            return Some((waiting, None));
        }
        let queue = Queue { number: state.next_number(), seats: VecDeque::from([seat]) };
        let first = queue.number;
        state.queues.insert(key.clone(), queue);
        Some((waiting, Some(first)))
    }

    /// The first in this queue, by seat and name, as long as anybody is in it.
    fn first(&self, key: &StoreKey, queue: u64) -> Option<(u64, Token)> {
        let state = self.state.lock();
        let seats = &state.queues.get(key).filter(|found| found.number == queue)?.seats;
        seats.front().map(|seat| (seat.number, seat.reader))
    }

    fn is_given_up(&self, key: &StoreKey, now: Instant) -> bool {
        self.state.lock().lapses.is_given_up(key, now)
    }

    fn note_lapse(&self, key: &StoreKey, now: Instant, wait: Duration) {
        self.state.lock().lapses.note(key, now, wait);
    }
}

/// What a read looks up, and for whom.
pub struct Reader<'a> {
    /// The key's route, which has a `wait_for_fill`.
    pub route: &'a Arc<Route>,
    /// The key.
    pub key: &'a StoreKey,
    /// Whose read it is: the same for all reads of one connection.
    pub name: Token,
    /// Until when it may wait.
    pub deadline: Instant,
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// The name of a connection, by its number in this process, as leases bear it.
    pub fn reader(&self, connection: u64) -> Token {
        Token(u64::from(self.shared.fills.process) << 32 | (connection & u64::from(u32::MAX)))
    }

    /// Until when a read that begins now may wait.
    pub fn deadline_of(&self, route: &Route) -> Instant {
        self.clock.now() + route.config.wait_for_fill()
    }

    /// A read has found the key absent: whether it is to fill it, or there is a value by now. Waits for that until the
    /// deadline, or until `hurried` is over: then the answer is [`Waited::Absent`]. Must run where `spawn_local` may.
    pub async fn wait_for_fill(&self, reader: &Reader<'_>, hurried: impl Future<Output = ()>) -> Waited {
        let &Reader { route, key, name, deadline } = reader;
        let wait = route.config.wait_for_fill();
        let fills = &self.shared.fills;
        if fills.is_given_up(key, self.clock.now()) {
            return Waited::Absent;
        }
        let Held { token: holder, end } = match self.store.acquire(key, name, wait).await {
            Ok(Acquired::Present) => return Waited::Present,
            Ok(Acquired::Held(held)) if held.token != name => held,
            // Without leases nobody is the one who fills: as on a Redis alone, all are.
            Ok(Acquired::Held(_) | Acquired::Granted | Acquired::Negative) | Err(_) => return Waited::Absent,
        };
        let Some((mut waiting, first)) = fills.sit(key, name) else { return Waited::Absent };
        match holder.0 >> 32 == u64::from(fills.process) {
            true => route.metrics.coalesced.increment(1),
            false => route.metrics.coalesced_fleet.increment(1),
        }
        if let Some(queue) = first {
            tokio::task::spawn_local(self.clone().look_out(key.clone(), queue, wait, end));
        }
        let left = deadline.saturating_duration_since(self.clock.now());
        tokio::select! {
            biased;
            told = &mut waiting.word => told.unwrap_or(Waited::Absent),
            () = hurried => Waited::Absent,
            () = self.clock.sleep(left) => {
                fills.note_lapse(key, self.clock.now(), wait);
                // One last look, which makes one of those whose time is up the next filler.
                match self.store.acquire(key, name, wait).await {
                    Ok(Acquired::Present) => Waited::Present,
                    _ => Waited::Absent,
                }
            }
        }
    }

    /// A write of `key` through this process is done: those who wait for it look.
    pub fn written(&self, key: &StoreKey) {
        let mut state = self.shared.fills.state.lock();
        state.lapses.forget(key);
        state.tell_all(key, Waited::Written);
    }

    /// Looks for all who are in a queue, as long as anybody is.
    async fn look_out(self, key: StoreKey, queue: u64, wait: Duration, mut end: Option<End>) {
        let fills = &self.shared.fills;
        let mut pause = FIRST_LOOK;
        loop {
            let over = self.clock.sleep(pause.mul_f64(0.5 + self.clock.random() / 2.0));
            match end.take() {
                None => over.await,
                Some(end) => tokio::select! {
                    biased;
                    () = end.heard() => {}
                    () = over => {}
                },
            }
            pause = (pause * 2).min(LONGEST_LOOK);
            let Some((seat, reader)) = fills.first(&key, queue) else { return };
            match self.store.acquire(&key, reader, wait).await {
                Ok(Acquired::Present) => fills.state.lock().tell_all(&key, Waited::Present),
                // It may have left meanwhile; then it was answered nil just now, and is the filler all the same.
                Ok(Acquired::Granted) => {
                    fills.note_lapse(&key, self.clock.now(), wait);
                    fills.state.lock().tell(&key, seat, Waited::Absent);
                }
                Ok(Acquired::Negative) => fills.state.lock().tell_all(&key, Waited::Absent),
                Ok(Acquired::Held(held)) => end = held.end,
                Err(_) => {}
            }
        }
    }
}

/// So many fillers of a key in a row may let those who wait down.
const PATIENT: u32 = 2;
/// So many times `wait_for_fill` nobody waits for the key then.
const GIVEN_UP: u32 = 10;
/// Most keys remembered; beyond them most are forgotten.
const MOST_LAPSES: usize = 16_384;

/// Keys whose fillers have not filled them.
#[derive(Default)]
struct Lapses {
    keys: HashMap<StoreKey, Lapse, RandomState>,
}

struct Lapse {
    count: u32,
    last: Instant,
    until: Instant,
}

impl Lapses {
    fn is_given_up(&self, key: &StoreKey, now: Instant) -> bool {
        self.keys.get(key).is_some_and(|lapse| lapse.count >= PATIENT && now < lapse.until)
    }

    /// Many who wait see the same filler lapse, at about the same time: that is one.
    fn note(&mut self, key: &StoreKey, now: Instant, wait: Duration) {
        let until = now + wait * GIVEN_UP;
        match self.keys.get_mut(key) {
            Some(lapse) if now < lapse.last + wait.mul_f64(0.9) => {}
            Some(lapse) => {
                let count = if now < lapse.until { lapse.count + 1 } else { 1 };
                *lapse = Lapse { count, last: now, until };
            }
            None => {
                self.make_room(now);
                self.keys.insert(key.clone(), Lapse { count: 1, last: now, until });
            }
        }
    }

    fn forget(&mut self, key: &StoreKey) {
        if !self.keys.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Looks through all keys once in a long while. To forget a lapse costs somebody one more wait, and nothing else.
    fn make_room(&mut self, now: Instant) {
        if self.keys.len() < MOST_LAPSES {
            return;
        }
        self.keys.retain(|_, lapse| now < lapse.until);
        if self.keys.len() > MOST_LAPSES / 2 {
            self.keys.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(100);

    fn key(number: usize) -> StoreKey {
        StoreKey { db: 0, name: number.to_string().into() }
    }

    #[test]
    fn a_key_is_given_up_after_two_fillers_and_for_a_while() {
        let (mut lapses, start) = (Lapses::default(), Instant::now());
        for waiter in 0..10 {
            lapses.note(&key(1), start + Duration::from_millis(waiter), WAIT);
        }
        assert!(!lapses.is_given_up(&key(1), start + WAIT), "ten saw one filler lapse");
        let second = start + WAIT;
        lapses.note(&key(1), second, WAIT);
        assert!(lapses.is_given_up(&key(1), second + WAIT * 9) && !lapses.is_given_up(&key(2), second));
        assert!(!lapses.is_given_up(&key(1), second + WAIT * 10));
        lapses.note(&key(1), second + WAIT * 10, WAIT);
        assert!(!lapses.is_given_up(&key(1), second + WAIT * 10), "it is counted anew");
    }

    #[test]
    fn a_write_forgets_and_the_number_of_keys_is_bounded() {
        let (mut lapses, now) = (Lapses::default(), Instant::now());
        lapses.note(&key(1), now, WAIT);
        lapses.note(&key(1), now + WAIT, WAIT);
        lapses.forget(&key(1));
        assert!(!lapses.is_given_up(&key(1), now + WAIT));
        for number in 0..3 * MOST_LAPSES {
            lapses.note(&key(number), now, WAIT);
            assert!(lapses.keys.len() <= MOST_LAPSES);
        }
    }

    #[test]
    fn who_leaves_a_queue_leaves_nothing() {
        let fills = Fills::new(3);
        let seats: Vec<_> = (1..=3).map(|reader| fills.sit(&key(1), Token(reader)).expect("room").0).collect();
        assert!(fills.sit(&key(2), Token(4)).is_none(), "there is room for three");
        let queue = fills.state.lock().queues[&key(1)].number;
        drop(seats);
        assert!(fills.state.lock().queues.is_empty() && fills.first(&key(1), queue).is_none());
        assert_eq!(fills.state.lock().seats, 0);
        let (mut waiting, first) = fills.sit(&key(1), Token(5)).expect("room again");
        assert!(first.is_some_and(|number| number != queue), "a queue of its own");
        fills.state.lock().tell_all(&key(1), Waited::Written);
        assert_eq!(waiting.word.try_recv(), Ok(Waited::Written));
        assert_eq!(fills.state.lock().seats, 0);
    }
}
