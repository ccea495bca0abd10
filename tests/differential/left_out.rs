//! What is not sent to Weir: what it refuses by design, and what it does not serve as Redis does yet.

use super::command::Command;
use super::sequence::{CLIENTS, Sequence};
use weir::resp::args::OwnedArgs;
use weir::resp::command::{Handling, lookup};

/// What cannot be compared. The sequences have it all the same, and two Redis are compared over it where they know it.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("MONITOR", "its stream shows addresses, times and what Weir itself asks: it wants a comparison of its own"),
    ("WAITAOF", "the reference does not know it"),
    ("CLIENT KILL", "it ends connections of the test itself; serve_connection_state compares it"),
    ("CLIENT UNBLOCK", "its numbers are Weir's own; serve_connection_state compares it"),
    ("CLIENT SETINFO", "Weir knows it, whether the server behind does or not, and the reference does not"),
    ("CLIENT NO-TOUCH", "Weir knows it, whether the server behind does or not, and the reference does not"),
];

/// Weir refuses these inside MULTI, for they are about its own connection, where Redis queues them.
const NOT_QUEUED: &[&str] = &[
    "AUTH",
    "CLIENT KILL",
    "CLIENT LIST",
    "CLIENT REPLY",
    "CLIENT UNBLOCK",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
];

/// Whether Weir is never sent this command.
pub fn is_left_out(command: &Command) -> bool {
    is_refused(command) || NOT_COMPARED.iter().any(|(name, _)| command.is(name))
}

/// The command table names the reasons.
fn is_refused(command: &Command) -> bool {
    let args: OwnedArgs = command.words().iter().collect();
    let spec = command.words().first().and_then(|name| lookup(name));
    spec.is_some_and(|spec| matches!(spec.handling_of(args.as_args()), Handling::Refused(_)))
}

/// What a client has queued.
#[derive(Clone, Copy, Default)]
struct Transaction {
    /// Its commands are.
    queues: bool,
    /// A PUBLISH is among them: to the client itself, it would be a push in the middle of EXEC's array, which takes the place of
    /// an element. The last element then cannot be told from a reply.
    publishes: bool,
}

impl Transaction {
    fn leaves_out(self, command: &Command) -> bool {
        // A number in HELLO's answer differs, and where that stands must be known.
        let is_unsure = command.is("HELLO") && (self.publishes || command.words().len() > 2);
        self.queues && (is_unsure || NOT_QUEUED.iter().any(|name| command.is(name)))
    }

    /// After this command.
    fn follow(&mut self, command: &Command) {
        match command.words() {
            [_] if command.is("MULTI") => self.queues = true,
            _ if command.is("EXEC") => *self = Self::default(),
            [_] if ["DISCARD", "RESET"].iter().any(|name| command.is(name)) => *self = Self::default(),
            _ => self.publishes |= self.queues && (command.is("PUBLISH") || command.is("SPUBLISH")),
        }
    }
}

/// The sequence without them.
pub fn without(mut sequence: Sequence) -> Sequence {
    let mut transactions = [Transaction::default(); CLIENTS];
    for turn in &mut sequence.turns {
        let transaction = &mut transactions[turn.client];
        turn.steps.retain(|step| {
            let mut behind = *transaction;
            let left_out = step.0.iter().any(|command| {
                let left_out = is_left_out(command) || behind.leaves_out(command);
                behind.follow(command);
                left_out
            });
            if !left_out {
                *transaction = behind;
            }
            !left_out
        });
    }
    sequence.turns.retain(|turn| !turn.steps.is_empty());
    sequence.settled()
}
