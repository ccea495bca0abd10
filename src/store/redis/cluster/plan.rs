//! Where one command goes in a cluster.
//!
//! What has keys goes to their slot's node. What has none goes to any node, or to every one where the answer is about all
//! keys, all scripts or all subscribers.

use super::super::side_key::slot;
use crate::resp::args::Args;
use crate::resp::command::{Flags, Group, Spec};
use crate::resp::number;

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// To the node of this slot.
    Slot(u16),
    /// To whichever node; always the same one for one client, as long as it is there.
    Any,
    /// Its keys are in several slots: it is taken apart, and its parts' answers are joined.
    Split(Split),
    /// Its keys are in several slots, and it cannot be taken apart.
    CrossSlot,
    /// To every master.
    Everywhere(Join),
    /// SCAN: to one master after the other.
    Walk,
}

/// Commands that can be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// MGET: an element for each key.
    Elements,
    /// MSET: keys and values; OK once all are.
    Pairs,
    /// DEL, UNLINK, EXISTS, TOUCH: the sum of the counts.
    Count,
}

/// What becomes of every master's answer. An error is the answer to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// They are alike.
    Alike,
    /// One master's success is enough: only one of them runs the script that is to be killed.
    AnyOk,
    /// The sum.
    Sum,
    /// All elements behind each other, each but once.
    Union,
    /// A list of 0 and 1: 1 if all masters say so.
    All,
    /// Names and counts in turn: counts are summed.
    Counts,
    /// A random one that is not nil.
    Some,
}

/// What Redis says of a command whose keys are in several slots.
pub const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// The plan for `args`; `spec` is that of its name, `None` if Weir does not know it.
pub fn plan(spec: Option<&Spec>, args: Args<'_>) -> Plan {
    let Some(spec) = spec else {
        // A module's: most have their key first, and if this one has not, the node says MOVED.
        return args.get(1).map_or(Plan::Any, |key| Plan::Slot(slot(key)));
    };
    let mut slots = spec.key_positions(args).filter_map(|position| args.get(position)).map(slot);
    let Some(first) = slots.next() else { return without_keys(spec, args) };
    if slots.all(|slot| slot == first) {
        return Plan::Slot(first);
    }
    match spec.name {
        "mget" => Plan::Split(Split::Elements),
        "mset" if args.len() % 2 == 1 => Plan::Split(Split::Pairs),
        "del" | "unlink" | "exists" | "touch" => Plan::Split(Split::Count),
        _ => Plan::CrossSlot,
    }
}

fn without_keys(spec: &Spec, args: Args<'_>) -> Plan {
    let sub = spec.resolve(args);
    let sub = if std::ptr::eq(sub, spec) { "" } else { sub.name };
    match (spec.name, sub) {
        ("scan", _) => Plan::Walk,
        ("flushall" | "flushdb" | "bgsave" | "bgrewriteaof" | "save", _)
        | ("script", "load" | "flush")
        | ("function", "load" | "delete" | "flush" | "restore")
        | ("memory", "purge")
        | ("slowlog", "reset") => Plan::Everywhere(Join::Alike),
        ("script" | "function", "kill") => Plan::Everywhere(Join::AnyOk),
        ("script", "exists") => Plan::Everywhere(Join::All),
        ("dbsize", _) | ("pubsub", "numpat") | ("latency", "reset") => Plan::Everywhere(Join::Sum),
        ("keys", _) | ("pubsub", "channels" | "shardchannels") => Plan::Everywhere(Join::Union),
        ("pubsub", "numsub" | "shardnumsub") => Plan::Everywhere(Join::Counts),
        ("randomkey", _) => Plan::Everywhere(Join::Some),
        ("cluster", "countkeysinslot" | "getkeysinslot") => slot_argument(args),
        _ => Plan::Any,
    }
}

/// A slot by its number: its node alone knows its keys.
fn slot_argument(args: Args<'_>) -> Plan {
    let number = args.get(2).and_then(number::parse).and_then(|number| u16::try_from(number).ok());
    number.filter(|&slot| slot < 16384).map_or(Plan::Any, Plan::Slot)
}

/// Whether a call changes nothing, so that it may be sent a second time, and to a replica.
pub fn only_reads(spec: Option<&Spec>, args: Args<'_>) -> bool {
    spec.is_some_and(|spec| spec.resolve(args).flags.contains(Flags::READONLY))
}

/// Whether the words of an error may be a client's own rather than the server's.
pub fn may_speak_for_itself(spec: Option<&Spec>) -> bool {
    spec.is_none_or(|spec| spec.group == Group::Scripting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::resp::command::lookup;

    fn planned(words: &str) -> Plan {
        let args: OwnedArgs = words.split(' ').collect();
        let args = args.as_args();
        plan(lookup(&args[0]), args)
    }

    #[test]
    fn keys_of_one_slot_decide_and_keys_of_several_are_taken_apart_or_refused() {
        for (words, expected) in [
            ("GET foo", Plan::Slot(12182)),
            ("MGET {foo}a {foo}b", Plan::Slot(12182)),
            ("EVAL x 2 {foo}a foo", Plan::Slot(12182)),
            ("XREAD STREAMS foo 0", Plan::Slot(12182)),
            ("OBJECT ENCODING foo", Plan::Slot(12182)),
            ("MODULE.CALL foo bar", Plan::Slot(12182)),
            ("SPUBLISH foo bar", Plan::Slot(12182)),
            ("MGET a b", Plan::Split(Split::Elements)),
            ("MSET a 1 b 2", Plan::Split(Split::Pairs)),
            ("MSET a 1 b", Plan::CrossSlot),
            ("DEL a b", Plan::Split(Split::Count)),
            ("SUNION a b", Plan::CrossSlot),
            ("RENAME a b", Plan::CrossSlot),
            ("EVAL x 2 a b", Plan::CrossSlot),
            ("MSETNX a 1 b 2", Plan::CrossSlot),
        ] {
            assert_eq!(planned(words), expected, "{words}");
        }
    }

    #[test]
    fn commands_without_keys_go_where_their_answer_is() {
        for (words, expected) in [
            ("ECHO a", Plan::Any),
            ("GET", Plan::Any),
            ("EVAL x 0", Plan::Any),
            ("PUBLISH a b", Plan::Any),
            ("DBSIZE", Plan::Everywhere(Join::Sum)),
            ("FLUSHALL", Plan::Everywhere(Join::Alike)),
            ("SCRIPT LOAD x", Plan::Everywhere(Join::Alike)),
            ("SCRIPT EXISTS x", Plan::Everywhere(Join::All)),
            ("FUNCTION LIST", Plan::Any),
            ("KEYS *", Plan::Everywhere(Join::Union)),
            ("PUBSUB NUMSUB a", Plan::Everywhere(Join::Counts)),
            ("SCAN 0", Plan::Walk),
            ("CLUSTER COUNTKEYSINSLOT 7", Plan::Slot(7)),
            ("CLUSTER COUNTKEYSINSLOT 16384", Plan::Any),
        ] {
            assert_eq!(planned(words), expected, "{words}");
        }
    }
}
