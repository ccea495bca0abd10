//! What is not sent to Weir: what it refuses by design, and what it does not serve as Redis does yet.

use super::command::Command;
use super::sequence::{CLIENTS, Sequence};
use weir::resp::args::OwnedArgs;
use weir::resp::command::{Handling, lookup};

/// Commands that this version does not serve as Redis does. A line goes when its command is, and nothing else needs to
/// change: the sequences have it already, and two Redis are compared over it.
const NOT_YET: &[(&str, &str)] = &[
    ("MONITOR", "its stream shows addresses, times and what Weir itself asks: it wants a comparison of its own"),
    ("WAITAOF", "the reference does not know it"),
    ("QUIT", "after commands of a transaction its reply overtakes theirs"),
    ("RESET", "after commands of a transaction its error overtakes their replies, and REPLY SKIP does not silence it"),
    ("INFO", "over a private link it is asked after the commands behind it"),
    ("CLIENT REPLY SKIP", "said twice it skips nothing"),
    ("CLIENT \0\r\n", "the error shows more of the name than Redis does"),
    ("AUTH", "its reply overtakes pushes of commands before it"),
    ("CLIENT TRACKING", "one that fails ends the tracking that was on, or counts as on"),
    ("CLIENT HELP", "Weir has no text for it"),
    ("CLIENT SETINFO", "Weir knows it, whether the server behind does or not"),
    ("CLIENT NO-TOUCH", "Weir knows it, whether the server behind does or not"),
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
    is_refused(command) || NOT_YET.iter().any(|(name, _)| command.is(name))
}

/// The command table names the reasons.
fn is_refused(command: &Command) -> bool {
    let args: OwnedArgs = command.words().iter().collect();
    let spec = command.words().first().and_then(|name| lookup(name));
    spec.is_some_and(|spec| matches!(spec.handling_of(args.as_args()), Handling::Refused(_)))
}

fn is_not_queued(command: &Command) -> bool {
    NOT_QUEUED.iter().any(|name| command.is(name)) || (command.is("HELLO") && command.words().len() > 2)
}

/// The sequence without them.
pub fn without(mut sequence: Sequence) -> Sequence {
    let mut queues = [false; CLIENTS];
    for turn in &mut sequence.turns {
        let queues = &mut queues[turn.client];
        turn.steps.retain(|step| {
            let left_out = |command: &Command| is_left_out(command) || (*queues && is_not_queued(command));
            if step.0.iter().any(left_out) {
                return false;
            }
            step.0.iter().for_each(|command| follow(queues, command));
            true
        });
    }
    sequence.turns.retain(|turn| !turn.steps.is_empty());
    sequence.settled()
}

/// Whether commands are queued after this one.
fn follow(queues: &mut bool, command: &Command) {
    match command.words() {
        [_] if command.is("MULTI") => *queues = true,
        [_] if ["EXEC", "DISCARD", "RESET"].iter().any(|name| command.is(name)) => *queues = false,
        _ => {}
    }
}
