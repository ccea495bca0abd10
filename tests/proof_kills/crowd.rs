//! Clients that ask without a pause, and judge every answer: 90 % reads of routed keys, the rest changes of their own keys and
//! invalidations, over shared links and over links of their own.

use crate::figures::{Figures, Phase};
use crate::harness::{Client, Reply, wait_for, wait_until};
use crate::shop::Shop;
use fastrand::Rng;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub struct Crowd<'a> {
    shop: &'a Shop,
    port: u16,
    clients: u64,
    seed: u64,
    born: Instant,
    ends: AtomicBool,
    phase: AtomicU8,
    /// Answers of Redis itself so far, and when the first of them came in the present phase, in µs of this crowd's life; 0:
    /// none has.
    answered: AtomicU64,
    first_success: AtomicU64,
    figures: Mutex<Figures>,
}

impl<'a> Crowd<'a> {
    pub fn new(shop: &'a Shop, port: u16, clients: u64, seed: u64) -> Crowd<'a> {
        Crowd {
            shop,
            port,
            clients,
            seed,
            born: Instant::now(),
            ends: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Other as u8),
            answered: AtomicU64::new(0),
            first_success: AtomicU64::new(0),
            figures: Mutex::default(),
        }
    }

    /// Runs `disturb` while all clients ask.
    pub fn work(&self, disturb: impl FnOnce()) {
        std::thread::scope(|threads| {
            // Ends the crowd also when the disturbance panics; else the scope would wait for ever.
            let _ends = EndOnDrop(&self.ends);
            for number in 0..self.clients {
                threads.spawn(move || {
                    let figures = Asker::new(self, number).ask();
                    self.figures.lock().expect("no thread panics with it").add(figures);
                });
            }
            disturb();
        });
    }

    /// How many kinds of shared links they need: databases and protocols.
    pub fn identities(&self) -> u32 {
        2 * DATABASES
    }

    /// Also forgets when Redis has answered first.
    pub fn set_phase(&self, phase: Phase) {
        self.first_success.store(0, SeqCst);
        self.phase.store(phase as u8, SeqCst);
    }

    fn phase(&self) -> u8 {
        self.phase.load(SeqCst)
    }

    /// Until Redis has given so many more answers.
    pub fn wait_for_answers(&self, count: u64) {
        let until_now = self.answered.load(SeqCst);
        wait_until("the crowd is answered", || self.answered.load(SeqCst) > until_now + count);
    }

    /// How long after `back` Redis' first answer came to anybody.
    pub fn first_success_since(&self, back: Instant) -> Duration {
        let first =
            wait_for("the crowd is answered again", || Some(self.first_success.load(SeqCst)).filter(|&at| at > 0));
        (self.born + Duration::from_micros(first)).saturating_duration_since(back)
    }

    pub fn figures(&self) -> Figures {
        std::mem::take(&mut *self.figures.lock().expect("no thread panics with it"))
    }
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Clients are spread over so many databases, and over both protocols.
pub const DATABASES: u32 = 2;

/// One client.
struct Asker<'a> {
    crowd: &'a Crowd<'a>,
    number: u64,
    random: Rng,
    client: Client,
    figures: Figures,
    round: u64,
}

impl<'a> Asker<'a> {
    fn new(crowd: &'a Crowd<'a>, number: u64) -> Asker<'a> {
        let client = connect(crowd.port, number);
        let random = Rng::with_seed(crowd.seed.wrapping_add(number));
        Asker { crowd, number, random, client, figures: Figures::default(), round: 0 }
    }

    fn ask(mut self) -> Figures {
        while !self.crowd.ends.load(SeqCst) {
            self.round += 1;
            let (phase, begun) = (self.crowd.phase(), Instant::now());
            let is_routed = match self.random.u8(..100) {
                0..90 => self.read(phase),
                90..95 => self.invalidate(),
                95..98 => self.change_own(),
                _ => self.transact(),
            };
            if phase != Phase::Other as u8 && phase == self.crowd.phase() {
                let taken = if is_routed { &mut self.figures.routed } else { &mut self.figures.others };
                taken.push(begun.elapsed());
            }
        }
        self.figures
    }

    /// A routed key: always answered, by a row that is not too old.
    fn read(&mut self, phase: u8) -> bool {
        let row = self.crowd.shop.pick(&mut self.random);
        let floor = self.crowd.shop.floor(self.database(), row);
        match self.client.try_cmd(&["GET", &format!("row:{row}")]) {
            Ok(Reply::Bulk(bytes)) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let version =
                    text.strip_prefix(&format!("row {row} version ")).and_then(|text| text.parse::<u64>().ok());
                match version {
                    Some(version) if version >= floor => self.figures.answered += 1,
                    _ => self.wrong(format!("GET row:{row}, at least version {floor}, answered {text}")),
                }
                self.figures.without_store += u64::from(phase != Phase::Other as u8);
            }
            Ok(other) => self.figures.unanswered.push(format!("client {}: GET row:{row}: {other:?}", self.number)),
            Err(error) => {
                self.figures.unanswered.push(format!("client {}: GET row:{row}: {error}", self.number));
                self.client = connect(self.crowd.port, self.number);
            }
        }
        true
    }

    /// A row changes, and then its key is invalidated: for all who begin after the acknowledgement.
    fn invalidate(&mut self) -> bool {
        let row = self.crowd.shop.pick(&mut self.random);
        let version = self.crowd.shop.change(row);
        if let Some(replies) = self.exchange(&[vec!["DEL".into(), format!("row:{row}")]]) {
            match &replies[0] {
                Reply::Int(0 | 1) => {
                    self.crowd.shop.acknowledged(self.database(), row, version);
                    self.figures.invalidations += 1;
                    self.succeeded(1);
                }
                reply => self.expect_refusal(reply),
            }
        }
        false
    }

    /// Keys of its own, and an echo: each answer is this client's and this round's.
    fn change_own(&mut self) -> bool {
        let (key, value) = self.own();
        let echo = format!("echo of {value}");
        let commands =
            [words(&["SET", &key, &value]), words(&["GET", &key]), words(&["GET", &key]), words(&["STRLEN", &echo])];
        let Some(replies) = self.exchange(&commands) else { return false };
        let mut good = 0;
        for (index, reply) in replies.iter().enumerate() {
            let is_set = replies[0] == Reply::ok();
            let fits = match (index, reply) {
                (0, reply) => *reply == Reply::ok(),
                (1 | 2, Reply::Bulk(bytes)) if is_set => bytes == value.as_bytes(),
                // A SET that failed may have run or not: what is there is still this client's own.
                (1 | 2, Reply::Bulk(bytes)) => bytes.starts_with(format!("{}/", self.number).as_bytes()),
                (1 | 2, Reply::Nil) => !is_set,
                (_, reply) => *reply == Reply::Int(0),
            };
            match fits {
                true => good += 1,
                false => self.expect_refusal(reply),
            }
        }
        self.succeeded(good);
        false
    }

    /// Over a link of its own, whose end ends the connection too.
    fn transact(&mut self) -> bool {
        let (key, value) = self.own();
        let commands = [words(&["MULTI"]), words(&["SET", &key, &value]), words(&["GET", &key]), words(&["EXEC"])];
        let queued = Reply::Simple("QUEUED".into());
        let done = Reply::Array(vec![Reply::ok(), Reply::bulk(&value)]);
        let Some(replies) = self.exchange(&commands) else { return false };
        if replies == [Reply::ok(), queued.clone(), queued.clone(), done.clone()] {
            self.succeeded(4);
            return false;
        }
        for (reply, fits) in replies.iter().zip([Reply::ok(), queued.clone(), queued, done]) {
            let told = reply.is_error("ERR EXEC without MULTI")
                || reply.is_error("EXECABORT ")
                // Without the MULTI, what should have been queued is run.
                || replies[0].is_error("UPSTREAM ") && (*reply == Reply::ok() || *reply == Reply::bulk(&value));
            if *reply != fits && !told {
                self.expect_refusal(reply);
            }
        }
        false
    }

    /// A key is another in each database.
    fn database(&self) -> u32 {
        database_of(self.number)
    }

    fn own(&self) -> (String, String) {
        (format!("own:{}", self.number), format!("{}/{}", self.number, self.round))
    }

    /// `None` if the connection has ended instead.
    fn exchange(&mut self, commands: &[Vec<String>]) -> Option<Vec<Reply>> {
        match self.client.try_pipeline(commands) {
            Ok(replies) => Some(replies),
            Err(_) => {
                self.figures.ended += 1;
                self.client = connect(self.crowd.port, self.number);
                None
            }
        }
    }

    fn expect_refusal(&mut self, reply: &Reply) {
        match reply.is_error("UPSTREAM ") {
            true => self.figures.refused += 1,
            false => self.wrong(format!("in round {} answered {reply:?}", self.round)),
        }
    }

    fn wrong(&mut self, story: String) {
        self.figures.wrong.push(format!("client {}: {story}", self.number));
    }

    /// So many answers were Redis' own, and right.
    fn succeeded(&mut self, count: u64) {
        self.figures.answered += count;
        if count > 0 {
            self.crowd.answered.fetch_add(count, SeqCst);
            let now = self.crowd.born.elapsed().as_micros() as u64;
            let _ = self.crowd.first_success.compare_exchange(0, now, SeqCst, SeqCst);
        }
    }
}

fn database_of(number: u64) -> u32 {
    (number % u64::from(DATABASES)) as u32
}

/// In a database and a protocol that its number decides.
fn connect(port: u16, number: u64) -> Client {
    wait_for("Weir lets the client in", || {
        let mut client = Client::try_connect(port).ok()?;
        if number % 4 > 1 {
            client.try_cmd(&["HELLO", "3"]).ok()?;
        }
        // While Redis is away, SELECT cannot be known to be right: then it is asked again.
        let database = database_of(number).to_string();
        (client.try_cmd(&["SELECT", &database]).ok()? == Reply::ok()).then_some(client)
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}
