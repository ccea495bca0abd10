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

/// What counts of what a client has been sent.
#[derive(Clone, Copy, Default)]
struct Sent {
    /// A MULTI that has not ended: its commands are queued.
    multi: bool,
    /// A SUBSCRIBE, or one of its kin.
    subscribe: bool,
}

impl Sent {
    fn leaves_out(self, command: &Command) -> bool {
        let has_options = command.is("HELLO") && command.words().len() > 2;
        // Weir refuses it to subscribers.
        let turns_to_resp2 = self.subscribe && command.is("HELLO 2");
        self.multi && (has_options || turns_to_resp2 || NOT_QUEUED.iter().any(|name| command.is(name)))
    }

    /// After this command.
    fn follow(&mut self, command: &Command) {
        match command.words() {
            [_] if command.is("MULTI") => self.multi = true,
            _ if command.is("EXEC") => self.multi = false,
            [_] if command.is("DISCARD") => self.multi = false,
            [_] if command.is("RESET") => *self = Sent::default(),
            _ => self.subscribe |= ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"].iter().any(|name| command.is(name)),
        }
    }
}

/// The sequence without them.
pub fn without(mut sequence: Sequence) -> Sequence {
    let mut sent = [Sent::default(); CLIENTS];
    for turn in &mut sequence.turns {
        let sent = &mut sent[turn.client];
        turn.steps.retain(|step| {
            let mut behind = *sent;
            let left_out = step.0.iter().any(|command| {
                let left_out = is_left_out(command) || behind.leaves_out(command);
                behind.follow(command);
                left_out
            });
            if !left_out {
                *sent = behind;
            }
            !left_out
        });
    }
    sequence.turns.retain(|turn| !turn.steps.is_empty());
    sequence.settled()
}
