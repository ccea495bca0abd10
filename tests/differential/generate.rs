//! Makes sequences: what clients do with a connection, one function for each kind of use.

use super::by_design;
use super::command::Command;
use super::sequence::{Cuts, Sequence, Step, Turn};
use super::stateful;
use super::templates::*;
use super::words::{fill, pick};
use fastrand::Rng;

/// A kind of use, and how often it comes.
pub struct Use {
    pub weight: u32,
    pub make: fn(&mut Rng) -> Vec<Turn>,
}

/// Everything.
pub const USES: &[Use] = &[
    Use { weight: 50, make: plain },
    Use { weight: 8, make: scripts },
    Use { weight: 8, make: two_clients },
    Use { weight: 8, make: handshakes },
    Use { weight: 4, make: endings },
    Use { weight: 12, make: stateful::transaction },
    Use { weight: 6, make: stateful::watched },
    Use { weight: 6, make: stateful::databases },
    Use { weight: 5, make: stateful::unheard },
    Use { weight: 6, make: stateful::blocked },
    Use { weight: 4, make: stateful::unblocked },
    Use { weight: 1, make: stateful::timed_out },
    Use { weight: 10, make: stateful::subscribed },
    Use { weight: 4, make: stateful::sharded },
    Use { weight: 6, make: stateful::tracked },
    Use { weight: 2, make: stateful::replicas },
    Use { weight: 4, make: stateful::mixed },
];

/// The sequence of this number.
pub fn sequence(rng: &mut Rng, uses: &[Use]) -> Sequence {
    let mut at = rng.u32(..uses.iter().map(|of| of.weight).sum::<u32>());
    let make = uses.iter().find_map(|of| match at.checked_sub(of.weight) {
        Some(left) => {
            at = left;
            None
        }
        None => Some(of.make),
    });
    let mut turns = make.expect("the weights are those of the uses")(rng);
    if rng.bool() {
        turns.insert(0, Turn::new(0, vec![Step::of("HELLO 3")]));
        join_first(&mut turns);
    }
    for turn in &mut turns {
        turn.cuts = match rng.u8(..24) {
            0 => Cuts::Bytes,
            1..=3 => Cuts::Commands,
            4..=15 => Cuts::Some(rng.u64(..)),
            _ => Cuts::None,
        };
    }
    Sequence { turns }.settled()
}

/// What the first client writes at once is one turn.
fn join_first(turns: &mut Vec<Turn>) {
    if turns.get(1).is_some_and(|turn| turn.client == 0) {
        let first = turns.remove(0);
        turns[0].steps.splice(0..0, first.steps);
    }
}

/// One command of a list of templates, now and then spoilt or written another way.
pub fn one(rng: &mut Rng, templates: &[&str]) -> Command {
    let template = pick(rng, templates);
    let mut words = fill(rng, template);
    if rng.u8(..10) == 0 {
        words[0] = words[0].iter().map(|byte| if rng.bool() { byte.to_ascii_lowercase() } else { *byte }).collect();
    }
    let command = Command::Words(words);
    match rng.u8(..32) {
        0..=2 => spoilt(rng, command),
        3 => command.inline(),
        _ => command,
    }
}

/// The same with a mistake in it; unless its reply differs by design, for then the mistake's effects might too.
fn spoilt(rng: &mut Rng, command: Command) -> Command {
    let Command::Words(mut words) = command else { return command };
    let garbage = ["", "abc", "-1", "0", "99999999999999999999", "\0\r\n", "-", "+", "nan", "1.5"];
    let garbage = pick(rng, &garbage).as_bytes();
    let original = Command::Words(words.clone());
    if by_design::mark(&original).is_some() {
        return original;
    }
    match rng.u8(..4) {
        0 => words.truncate(rng.usize(1..=words.len())),
        1 => words.push(garbage.to_vec()),
        _ if words.len() > 1 => {
            let at = rng.usize(1..words.len());
            words[at] = garbage.to_vec();
        }
        _ => {}
    }
    let spoilt = Command::Words(words);
    // A container without its subcommand may be another command: COMMAND lists everything, in the table's order.
    let bare = spoilt.words().len() == 1 && spoilt.is("COMMAND");
    if bare || by_design::mark(&spoilt).is_some() { original } else { spoilt }
}

pub fn step(rng: &mut Rng, templates: &[&str]) -> Step {
    Step(vec![one(rng, templates)])
}

/// Commands on data, with a few others.
pub fn any(rng: &mut Rng) -> Step {
    let group = pick(rng, PLAIN);
    match rng.u8(..100) {
        0..=75 => step(rng, group),
        76..=82 => step(rng, SERVER),
        83..=89 => step(rng, CONNECTION),
        90..=94 => step(rng, SCRIPTS),
        95..=97 => step(rng, UNKNOWN),
        98 => emptied(rng),
        _ if rng.u8(..10) == 0 => step(rng, RARE),
        _ => step(rng, group),
    }
}

/// Those whose effect is random, and what makes the effect the same.
fn emptied(rng: &mut Rng) -> Step {
    let lines: &[&str] = match rng.u8(..3) {
        0 => &["SPOP e1", "DEL e1"],
        1 => &["SPOP e2 2", "SCARD e2", "DEL e2"],
        _ => &["XADD auto * f v", "XLEN auto", "DEL auto"],
    };
    Step(lines.iter().map(|line| Command::of(line)).collect())
}

pub fn some(rng: &mut Rng, most: usize, make: impl Fn(&mut Rng) -> Step) -> Vec<Step> {
    (0..rng.usize(1..=most)).map(|_| make(rng)).collect()
}

/// One client, one pipeline; half the time on few types, so that commands meet what others left.
fn plain(rng: &mut Rng) -> Vec<Turn> {
    let group = pick(rng, PLAIN);
    let steps = if rng.bool() { some(rng, 12, any) } else { some(rng, 12, |rng| step(rng, group)) };
    vec![Turn::new(0, steps)]
}

fn scripts(rng: &mut Rng) -> Vec<Turn> {
    let together = |rng: &mut Rng| {
        let lines = pick(rng, SCRIPT_STEPS);
        Step(lines.iter().map(|line| Command::Words(fill(rng, line))).collect())
    };
    let steps = some(rng, 6, |rng| match rng.u8(..4) {
        0 => together(rng),
        1 => any(rng),
        _ => step(rng, SCRIPTS),
    });
    vec![Turn::new(0, steps)]
}

/// Two clients in turns, each of which sees what the other did.
fn two_clients(rng: &mut Rng) -> Vec<Turn> {
    (0..rng.usize(2..6)).map(|index| Turn::new(index % 2, some(rng, 4, any))).collect()
}

/// A connection that changes what it is, between commands on data.
fn handshakes(rng: &mut Rng) -> Vec<Turn> {
    let steps = some(rng, 10, |rng| if rng.bool() { step(rng, CONNECTION) } else { any(rng) });
    vec![Turn::new(0, steps)]
}

/// What is no command, and ends the connection.
const NO_COMMANDS: &[&[u8]] = &[
    b"*1\r\nx3\r\n",
    b"*1\r\n\xff3\r\n",
    b"*x\r\n",
    b"*\r\n",
    b"*+1\r\n",
    b"*03\r\n",
    b"*2147483648\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$04\r\n",
    b"*2\r\n$4\r\nECHO\r\n:1\r\n",
    b"GET \"abc\r\n",
    b"'a'b\r\n",
];

/// What is nothing, and ends nothing.
const NOTHINGS: &[&[u8]] =
    &[b"\r\n", b"\n", b"  \t\r\n", b"*0\r\n", b"*-1\r\n", b"PING\n", b"  ping  \r\n", b"SET s1 \"a b\\x41\\n\"\r\n"];

/// Ends of the connection: by a mistake, by QUIT, by the client's own end, midway in a command or not.
fn endings(rng: &mut Rng) -> Vec<Turn> {
    let mut steps = some(rng, 5, |rng| match rng.u8(..3) {
        0 => Step(vec![Command::Raw(pick(rng, NOTHINGS).to_vec())]),
        _ => any(rng),
    });
    let mut ends = false;
    match rng.u8(..6) {
        0..=2 => steps.push(Step(vec![Command::Raw(pick(rng, NO_COMMANDS).to_vec())])),
        3 => steps.push(Step::of(pick(rng, &["QUIT", "quit", "QUIT now"]))),
        4 => ends = true,
        _ => {
            ends = true;
            let mut bytes = Vec::new();
            one(rng, STRINGS).write(&mut bytes);
            bytes.truncate(rng.usize(1..bytes.len()));
            steps.push(Step(vec![Command::Raw(bytes)]));
        }
    }
    vec![Turn { ends, ..Turn::new(0, steps) }]
}
