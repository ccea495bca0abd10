//! Runs a read command on values that are in no store: loaded values that could not be stored, or must not be.

use super::call::{Call, Guards};
use super::commands::{self, Command, Effect, Keys, Run};
use super::keyspace::{NEVER, Shard};
use super::protocol::object;
use super::time::TimeSource;
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::write::{self, Protocol};
use crate::value::View;
use foldhash::fast::RandomState;
use std::collections::HashSet;

/// A key and what it holds; `None`: it is absent.
pub type Held<'a> = (&'a [u8], Option<View<'a>>);

/// Appends the reply that `args` would give if each of these keys held its value, without a deadline, or were absent.
/// False, and nothing is written, if the command is not a supported read of these keys alone.
pub fn evaluate(held: &[Held<'_>], args: Args<'_>, protocol: Protocol, out: &mut Vec<u8>) -> bool {
    let Some(command) = args.get(0).and_then(commands::find).filter(|command| reads_only(command, args, held)) else {
        return false;
    };
    let time = TimeSource::default();
    let mut shard = Box::new(shard_with(held, time.now()));
    let mut call = Call {
        guards: Guards::One(&mut shard),
        hashed: None,
        now: time.now(),
        time: &time,
        db: 0,
        visited: 0,
        protocol,
        name: command.name,
        limit: usize::MAX,
    };
    let start = out.len();
    if let Err(refusal) = call.run(command, args, out) {
        out.truncate(start);
        write::error(out, refusal.text());
    }
    true
}

fn reads_only(command: &Command, args: Args<'_>, held: &[Held<'_>]) -> bool {
    let held: HashSet<&[u8], RandomState> = held.iter().map(|(key, _)| *key).collect();
    let (mut keys, mut others) = (0, 0);
    command.keys.each(args, |name| {
        keys += 1;
        others += usize::from(!held.contains(name));
    });
    let these = matches!(command.keys, Keys::One(_) | Keys::Every(_)) && keys > 0 && others == 0;
    these && command.effect == Effect::Read && matches!(command.run, Run::Keyed(_)) && command.accepts(args.len())
}

fn shard_with(held: &[Held<'_>], now: i64) -> Shard {
    let mut shard = Shard::default();
    for (key, value) in held {
        if let Some(value) = value {
            shard.spaces[0].put(hash(key), key, object(*value), NEVER, now);
        }
    }
    shard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::value::Value;

    fn read(value: &Value, line: &str) -> Option<String> {
        let args: OwnedArgs = line.split(' ').collect();
        let mut out = b"before".to_vec();
        let held: [Held<'_>; 2] = [(b"k", Some(value.view())), (b"absent", None)];
        let done = evaluate(&held, args.as_args(), Protocol::Resp2, &mut out);
        let reply = String::from_utf8(out).expect("text").split_off("before".len());
        assert!(done || reply.is_empty());
        done.then_some(reply)
    }

    #[test]
    fn reads_see_the_value_and_only_the_value() {
        let text = Value::String("hello".into());
        assert_eq!(read(&text, "GET k").as_deref(), Some("$5\r\nhello\r\n"));
        assert_eq!(read(&text, "GETRANGE k 1 2").as_deref(), Some("$2\r\nel\r\n"));
        assert_eq!(read(&text, "EXISTS k").as_deref(), Some(":1\r\n"));
        assert!(read(&text, "HGET k f").is_some_and(|reply| reply.starts_with("-WRONGTYPE")));
        let hash = Value::Hash(vec![("name".into(), "pen".into()), ("price".into(), "3".into())]);
        let all = "*4\r\n$4\r\nname\r\n$3\r\npen\r\n$5\r\nprice\r\n$1\r\n3\r\n";
        assert_eq!(read(&hash, "HGETALL k").as_deref(), Some(all));
    }

    #[test]
    fn several_keys_are_read_together_and_absent_ones_are_absent() {
        let text = Value::String("hello".into());
        assert_eq!(read(&text, "MGET absent k").as_deref(), Some("*2\r\n$-1\r\n$5\r\nhello\r\n"));
        assert_eq!(read(&text, "EXISTS k absent k").as_deref(), Some(":2\r\n"));
        assert_eq!(read(&text, "GET absent").as_deref(), Some("$-1\r\n"));
        assert_eq!(read(&text, "HGETALL absent").as_deref(), Some("*0\r\n"));
    }

    #[test]
    fn other_commands_are_left_alone() {
        let text = Value::String("hello".into());
        for line in ["SET k v", "GET", "GET other", "MGET k other", "DEL k", "LRANGE k 0 1", "DBSIZE", "GETEX k", "x"] {
            assert_eq!(read(&text, line), None, "{line}");
        }
    }
}
