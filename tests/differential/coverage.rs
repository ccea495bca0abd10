//! Which commands succeeded, by the reference's own count.

use super::command::Command;
use super::left_out;
use super::sequence::{Sequence, Turn};
use super::side::Side;
use std::collections::BTreeSet;
use weir::resp::command::COMMANDS;

/// Names as Redis counts them: `get`, `client|id`.
#[derive(Default)]
pub struct Coverage {
    sent: BTreeSet<String>,
    succeeded: BTreeSet<String>,
}

impl Coverage {
    pub fn note(&mut self, sequence: &Sequence) {
        for command in sequence.turns.iter().flat_map(Turn::commands) {
            let (name, sub) = (command.word(0).to_ascii_lowercase(), command.word(1).to_ascii_lowercase());
            self.sent.insert(format!("{name}|{sub}"));
            self.sent.insert(name);
        }
    }

    /// Reads which commands had a reply that was no error.
    pub fn count(&mut self, reference: &mut Side) {
        let info = reference.ask(&[Command::of("INFO commandstats")]).concat();
        for line in String::from_utf8_lossy(&info).lines() {
            let Some((name, facts)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':')) else {
                continue;
            };
            let fact = |name: &str| {
                let value = facts.split(',').find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
            };
            // `calls` is those that ran; the rejected ones are counted apart.
            if self.sent.contains(name) && fact("calls") > fact("failed_calls") {
                self.succeeded.insert(name.to_owned());
            }
        }
    }

    pub fn add(&mut self, other: Coverage) {
        self.sent.extend(other.sent);
        self.succeeded.extend(other.succeeded);
    }

    /// Commands of Weir's table that should have succeeded and never did.
    pub fn missing(&self, reference: &mut Side) -> Vec<String> {
        let mut names = Vec::new();
        for spec in COMMANDS.iter().filter(|spec| spec.name != "weir") {
            match spec.subcommands {
                [] => names.push(spec.name.to_owned()),
                subs => names.extend(subs.iter().map(|sub| format!("{}|{}", spec.name, sub.name))),
            }
        }
        let wanted = names.into_iter().filter(|name| is_wanted(name) && !self.succeeded.contains(name));
        wanted.filter(|name| is_known(reference, name)).collect()
    }
}

fn is_wanted(name: &str) -> bool {
    let call = Command::of(&name.replace('|', " "));
    !left_out::is_left_out(&call) && !NEVER_SUCCEED.iter().any(|(never, _)| *never == name)
}

/// Whether the reference's version has it.
fn is_known(reference: &mut Side, name: &str) -> bool {
    let reply = reference.ask(&[Command::of(&format!("COMMAND INFO {name}"))]).concat();
    !matches!(reply.as_slice(), b"*1\r\n*-1\r\n" | b"*1\r\n$-1\r\n" | b"*1\r\n_\r\n")
}

/// What cannot succeed here, and why.
const NEVER_SUCCEED: &[(&str, &str)] = &[
    ("migrate", "there is no other server to move keys to; its errors are compared"),
    ("script|kill", "no script runs long enough to be killed; the error is compared"),
    ("function|kill", "no function runs long enough to be killed; the error is compared"),
    ("script|debug", "it needs a debugger at the other end"),
    ("latency|graph", "nothing is slow enough to be drawn; the error is compared"),
    ("object|freq", "it wants an LFU policy; the error is compared"),
    ("asking", "it wants a cluster; the error is compared"),
    ("readonly", "it wants a cluster; the error is compared"),
    ("readwrite", "it wants a cluster; the error is compared"),
    ("cluster|count-failure-reports", CLUSTER),
    ("cluster|countkeysinslot", CLUSTER),
    ("cluster|getkeysinslot", CLUSTER),
    ("cluster|help", CLUSTER),
    ("cluster|info", CLUSTER),
    ("cluster|keyslot", CLUSTER),
    ("cluster|links", CLUSTER),
    ("cluster|myid", CLUSTER),
    ("cluster|nodes", CLUSTER),
    ("cluster|replicas", CLUSTER),
    ("cluster|shards", CLUSTER),
    ("cluster|slaves", CLUSTER),
    ("cluster|slots", CLUSTER),
];

const CLUSTER: &str = "it wants a cluster; the error is compared";
