//! Runs a sequence on both sides and compares what came back.

use super::command::Command;
use super::compare;
use super::harness::{PATIENCE, wait_until};
use super::sequence::{CLIENTS, Sequence, Step, Turn};
use super::setup;
use super::side::Side;
use std::time::{Duration, Instant};

/// What one client was told, and what it should have been.
#[derive(Clone, Debug)]
pub struct Difference {
    pub turn: usize,
    pub client: usize,
    /// Index of the first frame that differs, of those that answer this turn.
    pub at: usize,
    pub expected: Told,
    pub found: Told,
}

/// What came to one client in one turn.
#[derive(Clone, Debug)]
pub struct Told {
    pub frames: Vec<Vec<u8>>,
    pub ended: bool,
}

pub struct Pair {
    /// Redis itself.
    pub reference: Side,
    /// What is tested.
    pub tested: Side,
    /// How long the tested side may take for what the reference has done.
    pub patience: Duration,
    /// Sequences so far.
    pub count: u64,
    /// Whether the last sequence may have loaded scripts.
    loaded: bool,
    /// Clients of the reference that wait in a blocking command.
    blocked: usize,
}

impl Pair {
    pub fn new(reference: Side, tested: Side) -> Pair {
        Pair { reference, tested, patience: PATIENCE, count: 0, loaded: true, blocked: 0 }
    }

    /// Forgets all connections.
    pub fn hang_up(&mut self) {
        for client in 0..CLIENTS {
            self.drop_client(client);
        }
        self.release();
        self.loaded = true;
    }

    fn drop_client(&mut self, client: usize) {
        self.reference.drop_client(client);
        self.tested.drop_client(client);
    }

    /// Runs it from a fresh set of keys. After a difference the connections are new.
    pub fn run(&mut self, sequence: &Sequence) -> Result<(), Difference> {
        self.fill(sequence);
        self.count += 1;
        let outcome = self.turns(sequence);
        if outcome.is_err() {
            self.hang_up();
        }
        outcome
    }

    fn fill(&mut self, sequence: &Sequence) {
        for side in [&mut self.reference, &mut self.tested] {
            side.ask(setup::commands(self.loaded));
        }
        self.loaded = sequence.turns.iter().flat_map(Turn::commands).any(setup::loads);
    }

    fn turns(&mut self, sequence: &Sequence) -> Result<(), Difference> {
        for (index, turn) in sequence.turns.iter().enumerate() {
            if self.blocked == 0 {
                self.turn(index, turn, false)?;
                continue;
            }
            // One command at a time: whoever it wakes goes on with what it has sent before, and nobody could tell whether
            // the server does that before or after it reads the rest of this turn.
            for step in apart(turn) {
                self.turn(index, &step, false)?;
            }
        }
        let used: Vec<usize> = (0..CLIENTS).filter(|client| self.reference.clients[*client].is_some()).collect();
        for client in used {
            self.end(client, sequence.turns.len())?;
        }
        let waited = self.blocked > 0;
        self.release();
        if waited { self.follow_blocked(sequence.turns.len(), 0) } else { Ok(()) }
    }

    /// Waits until both have let those go who waited and have been hung up on: who is woken by the next sequence's keys
    /// goes on with the commands that it had sent.
    fn release(&mut self) {
        if self.blocked > 0 {
            wait_until("nobody waits any more", || self.reference.blocked() + self.tested.blocked() == 0);
            self.blocked = 0;
        }
    }

    /// Brings a client back to where it began, and finds out whether it was told more than it should have been.
    fn end(&mut self, client: usize, turn: usize) -> Result<(), Difference> {
        let end = format!("ECHO end:{}", self.count);
        let told = self.turn(turn, &Turn::new(client, vec![Step::of("RESET"), Step::of(&end)]), true)?;
        if !told {
            // It waits in a blocking command, or has been hung up on.
            self.drop_client(client);
            self.blocked = 1;
        }
        Ok(())
    }

    /// Whether the client was told something at the end of this turn.
    fn turn(&mut self, index: usize, turn: &Turn, last: bool) -> Result<bool, Difference> {
        if self.reference.client(turn.client).has_ended() {
            return Ok(false);
        }
        let apart = self.count.is_multiple_of(16);
        self.reference.write(turn, apart);
        self.reference.quiesce();
        self.wait_out(turn);
        self.tested.write(turn, apart);
        let told = !self.reference.client(turn.client).frames().is_empty();
        for client in 0..CLIENTS {
            self.compare(index, client, last)?;
        }
        if self.blocked > 0 || turn.commands().any(waits) {
            self.follow_blocked(index, turn.client)?;
        }
        Ok(told && !self.reference.client(turn.client).has_ended())
    }

    /// Waits until commands that wait for a time no longer do.
    fn wait_out(&mut self, turn: &Turn) {
        if turn.commands().any(expires) {
            let (blocked, reference) = (self.blocked, &mut self.reference);
            wait_until("the commands have waited long enough", || reference.blocked() <= blocked);
            self.reference.quiesce();
        }
    }

    /// Waits until as many clients wait behind the tested side as do at the reference.
    fn follow_blocked(&mut self, turn: usize, client: usize) -> Result<(), Difference> {
        self.blocked = self.reference.blocked();
        let until = Instant::now() + self.patience;
        let mut found = self.tested.blocked();
        while found != self.blocked && Instant::now() < until {
            std::thread::yield_now();
            found = self.tested.blocked();
        }
        if found == self.blocked {
            return Ok(());
        }
        let told = |count| Told { frames: vec![format!("{count} clients wait at Redis").into_bytes()], ended: false };
        Err(Difference { turn, client, at: 0, expected: told(self.blocked), found: told(found) })
    }

    fn compare(&mut self, turn: usize, client: usize, last: bool) -> Result<(), Difference> {
        let Some(reference) = &mut self.reference.clients[client] else { return Ok(()) };
        let expected = Told { frames: reference.take(), ended: reference.has_ended() };
        let tested = self.tested.client(client);
        let count = expected.frames.len();
        let in_time = tested.wait(count, expected.ended, self.patience);
        let surplus = last && (tested.frames().len() > count || tested.is_midway());
        let at = compare::difference(&expected.frames, tested.frames());
        if in_time && !surplus && at.is_none() && tested.has_ended() == expected.ended {
            tested.take_first(count);
            return Ok(());
        }
        let found = Told { frames: tested.take(), ended: tested.has_ended() };
        let at = at.unwrap_or(count.min(found.frames.len()));
        Err(Difference { turn, client, at, expected, found })
    }
}

/// A turn for each of its steps.
fn apart(turn: &Turn) -> impl Iterator<Item = Turn> {
    let last = turn.steps.len() - 1;
    turn.steps.iter().enumerate().map(move |(index, step)| {
        let mut apart = Turn::new(turn.client, vec![step.clone()]);
        apart.ends = turn.ends && index == last;
        apart
    })
}

/// Whether a command may wait on the connection.
fn waits(command: &Command) -> bool {
    let name = command.word(0);
    let blocking = ["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT"];
    blocking.contains(&name.as_str())
        || (name.starts_with("XREAD") && (1..command.words().len()).any(|index| command.word(index) == "BLOCK"))
}

/// Whether a command waits for a time, and no longer.
pub fn expires(command: &Command) -> bool {
    let last = command.words().len().saturating_sub(1);
    let time = match command.word(0).as_str() {
        _ if !waits(command) => return false,
        "BLMPOP" | "BZMPOP" => command.word(1),
        name if name.starts_with("XREAD") => {
            let block = (1..last).find(|index| command.word(*index) == "BLOCK");
            command.word(block.map_or(0, |block| block + 1))
        }
        _ => command.word(last),
    };
    time.parse::<f64>().is_ok_and(|time| time > 0.0)
}
