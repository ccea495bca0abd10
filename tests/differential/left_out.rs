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

/// Whether it is not sent where it would be queued.
fn is_left_out_of_transactions(command: &Command) -> bool {
    let has_options = command.is("HELLO") && command.words().len() > 2;
    has_options || NOT_QUEUED.iter().any(|name| command.is(name))
}

/// Whether a client's commands are queued behind this one; they were before it, or not.
fn queues_behind(queues: bool, command: &Command) -> bool {
    match command.words() {
        [_] if command.is("MULTI") => true,
        _ if command.is("EXEC") => false,
        [_] if ["DISCARD", "RESET"].iter().any(|name| command.is(name)) => false,
        _ => queues,
    }
}

/// The sequence without them.
pub fn without(mut sequence: Sequence) -> Sequence {
    let mut queues = [false; CLIENTS];
    for turn in &mut sequence.turns {
        let queues = &mut queues[turn.client];
        turn.steps.retain(|step| {
            let mut behind = *queues;
            let left_out = step.0.iter().any(|command| {
                let left_out = is_left_out(command) || behind && is_left_out_of_transactions(command);
                behind = queues_behind(behind, command);
                left_out
            });
            if !left_out {
                *queues = behind;
            }
            !left_out
        });
    }
    sequence.turns.retain(|turn| !turn.steps.is_empty());
    sequence.settled()
}
