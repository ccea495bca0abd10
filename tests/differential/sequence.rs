//! A sequence: what up to three clients write, in turns.
//!
//! A *turn* is what one client writes before another one does, all of it in a pipeline, cut into writes anywhere. Between
//! turns the runner waits until the server has done what the turn asks for, so that the order of commands is the same on
//! both sides, and what a client is sent because of another one has arrived.
//!
//! A *step* is what the shrinker drops or keeps as a whole: mostly one command.

use super::by_design;
use super::command::Command;
use fastrand::Rng;

/// No sequence has more clients.
pub const CLIENTS: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    pub turns: Vec<Turn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub client: usize,
    pub steps: Vec<Step>,
    pub cuts: Cuts,
    /// The client sends no more than this: it ends its direction of the connection behind it.
    pub ends: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(pub Vec<Command>);

/// Where the bytes of a turn are cut into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Nowhere.
    None,
    /// After each command.
    Commands,
    /// At places that follow from this seed, a few in each turn.
    Some(u64),
    /// After each byte.
    Bytes,
}

impl Step {
    pub fn of(text: &str) -> Step {
        Step(vec![Command::of(text)])
    }
}

impl Turn {
    pub fn new(client: usize, steps: Vec<Step>) -> Turn {
        Turn { client, steps, cuts: Cuts::None, ends: false }
    }

    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.steps.iter().flat_map(|step| &step.0)
    }

    /// What is written, piece by piece.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        let commands = marked(self.commands());
        if self.cuts == Cuts::Commands {
            return commands;
        }
        let bytes = commands.concat();
        match self.cuts {
            Cuts::None | Cuts::Commands => vec![bytes],
            Cuts::Bytes => bytes.chunks(1).map(<[u8]>::to_vec).collect(),
            Cuts::Some(seed) => cut(&bytes, &mut Rng::with_seed(seed)),
        }
    }
}

fn cut(bytes: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = (0..rng.usize(1..6)).map(|_| rng.usize(0..=bytes.len())).collect();
    places.push(bytes.len());
    places.sort_unstable();
    places.dedup();
    let mut from = 0;
    places.into_iter().map(|to| bytes[std::mem::replace(&mut from, to)..to].to_vec()).collect()
}

/// The bytes of each command, with a mark in front of those whose replies differ by design.
///
/// The mark is an ECHO: its reply stands before the reply that it speaks of, also among the elements of EXEC.
fn marked<'a>(commands: impl Iterator<Item = &'a Command>) -> Vec<Vec<u8>> {
    let mut skips = false;
    commands
        .map(|command| {
            let mut bytes = Vec::new();
            if let (Some(mark), false) = (by_design::mark(command), skips) {
                Command::Words(vec![b"ECHO".to_vec(), mark]).write(&mut bytes);
            }
            skips = command.is("CLIENT REPLY") && command.word(2) == "SKIP";
            command.write(&mut bytes);
            bytes
        })
        .collect()
}

impl Sequence {
    pub fn steps(&self) -> usize {
        self.turns.iter().map(|turn| turn.steps.len()).sum()
    }

    /// Without the steps at these places, counted over all turns.
    pub fn without(&self, dropped: std::ops::Range<usize>) -> Sequence {
        let mut at = 0;
        let mut turns = self.turns.clone();
        for turn in &mut turns {
            turn.steps.retain(|_| {
                at += 1;
                !dropped.contains(&(at - 1))
            });
        }
        turns.retain(|turn| !turn.steps.is_empty());
        Sequence { turns }.settled()
    }

    /// The same, with every turn's replies on again at its end: else nobody could tell when the server is done with it.
    pub fn settled(mut self) -> Sequence {
        for turn in &mut self.turns {
            let mut silent = false;
            for command in turn.steps.iter().flat_map(|step| &step.0) {
                let silences = ["CLIENT REPLY OFF", "CLIENT REPLY SKIP"].iter().any(|name| command.is(name));
                silent = !command.is("ECHO HEARD") && (silent || silences);
            }
            if silent {
                turn.steps.push(Step(vec![Command::of("CLIENT REPLY ON"), Command::of("ECHO HEARD")]));
            }
        }
        self
    }
}
