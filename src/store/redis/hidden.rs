//! What clients see of the keyspace: all of it but Weir's own keys (T35).
//!
//! Commands that list names (SCAN, KEYS, PUBSUB CHANNELS) are asked as they are, and what begins with the reserved prefix is
//! taken out of the answer; a pattern that no such name fits needs not even that. In place of commands that answer for the
//! whole keyspace (DBSIZE, RANDOMKEY), and of lists inside MULTI, whose answers come within that of EXEC, the server is sent
//! a script of the same answer.
//!
//! **DBSIZE.** Nothing that Weir kept would be right for long: other processes make and drop such keys, and most of them
//! expire unseen. So they are counted where they are, in the same step as all keys: the script looks at 4,096 keys at most,
//! which takes a server one to three milliseconds. Up to so many keys the answer is exact. Of more it is an estimate: a
//! server walks its keys in the order of their hashes, so the first 4,096 are as good as a random sample (of a cluster node
//! newer than Redis 7.2 they are those of its first slots), and the share of Weir's own among them is taken for that of all.
//! A keyspace with none of them there is told as the server counts it. Where a hundredth of 10^6 keys are Weir's, the answer
//! is mostly within 2,000 (two thousandths) of the truth.
//!
//! **RANDOMKEY** asks again, 100 times, while it draws one of Weir's own, and then takes any other of the first 4,096 keys.
//! Only if there is none, the answer is nil.
//!
//! Limits: what is no list of names is told as it is: INFO's keyspace section, CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT,
//! MONITOR, invalidations of CLIENT TRACKING … BCAST, and what a client's own script finds. Messages on Weir's own channel, and
//! keyspace events of Weir's own keys, do not reach who has not asked for them by name (`frames`).
//!
//! tests/serve_hidden.rs compares with a server that never had such keys.

use super::side_key::RESERVED_PREFIX;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::Spec;
use crate::resp::scan::elements;
use crate::resp::write;
use std::ops::Range;

/// How Weir's own keys are kept out of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hides {
    /// Taken out of the list that the server answers; SCAN's stands behind a cursor.
    FromList {
        /// It is SCAN's.
        behind_cursor: bool,
    },
    /// By a script in the command's place.
    ByScript(&'static str),
}

/// Up to 4,096 keys the walk goes to its end, however thinly they lie; it is cut off where it would last for ever.
const DBSIZE: &str = "local all = redis.call('DBSIZE')
local own, cursor, steps = 0, '0', 0
repeat
  local page = redis.pcall('SCAN', cursor, 'MATCH', 'weir:{*', 'COUNT', 4096)
  if page.err then return all end
  own, cursor, steps = own + #page[2], page[1], steps + 1
until cursor == '0' or all > 4096 or steps == 100
if cursor ~= '0' and all > 4096 then own = math.floor(own * all / 4096 + 0.5) end
return math.max(all - own, 0)";

const RANDOMKEY: &str = "for attempt = 1, 100 do
  local key = redis.call('RANDOMKEY')
  if not key or string.sub(key, 1, 6) ~= 'weir:{' then return key end
end
local cursor, seen = '0', 0
repeat
  local page = redis.pcall('SCAN', cursor, 'COUNT', 4096)
  if page.err then return false end
  for _, key in ipairs(page[2]) do
    if string.sub(key, 1, 6) ~= 'weir:{' then return key end
  end
  cursor, seen = page[1], seen + #page[2]
until cursor == '0' or seen >= 4096
return false";

/// ARGV: a whole command that lists names.
const LIST: &str = "local reply = redis.pcall(unpack(ARGV))
if reply.err then return reply end
local scan = string.lower(ARGV[1]) == 'scan'
local shown = {}
for _, name in ipairs(scan and reply[2] or reply) do
  if string.sub(name, 1, 6) ~= 'weir:{' then table.insert(shown, name) end
end
if scan then return {reply[1], shown} end
return shown";

/// How Weir's own names are kept out of the answer to this call; `None`: there are none in it.
pub fn hides(spec: &Spec, args: Args<'_>) -> Option<Hides> {
    let sub = spec.resolve(args);
    if !spec.arity_ok(args.len()) || !sub.arity_ok(args.len()) {
        return None;
    }
    let list = |behind_cursor, pattern: Option<&[u8]>| {
        pattern.is_none_or(may_be_own).then_some(Hides::FromList { behind_cursor })
    };
    match (spec.name, sub.name) {
        ("dbsize", _) => Some(Hides::ByScript(DBSIZE)),
        ("randomkey", _) => Some(Hides::ByScript(RANDOMKEY)),
        ("keys", _) => list(false, args.get(1)),
        ("scan", _) => list(true, match_option(args)),
        ("pubsub", "channels") => list(false, args.get(2)),
        _ => None,
    }
}

/// Whether a call names a key that is Weir's own.
#[inline]
pub fn names_own(spec: &Spec, args: Args<'_>) -> bool {
    spec.key_positions(args).filter_map(|position| args.get(position)).any(|key| key.starts_with(RESERVED_PREFIX))
}

/// The pattern of a SCAN; of several the server takes the last.
fn match_option(args: Args<'_>) -> Option<&[u8]> {
    let mut options = (2..args.len()).step_by(2).rev();
    options.find(|&at| args[at].eq_ignore_ascii_case(b"MATCH")).and_then(|at| args.get(at + 1))
}

/// Whether a name with the reserved prefix may fit a pattern: what stands before its first special byte decides.
fn may_be_own(pattern: &[u8]) -> bool {
    let literal = pattern.iter().take_while(|byte| !matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    literal.zip(RESERVED_PREFIX).all(|(one, other)| one == other)
}

/// A call of a script that takes no keys.
pub fn call(script: &str, args: Args<'_>) -> OwnedArgs {
    [&b"EVAL"[..], script.as_bytes(), b"0"].into_iter().chain(args.iter()).collect()
}

/// What is sent inside MULTI in the place of a call.
pub fn call_in_transaction(hides: Hides, args: Args<'_>) -> OwnedArgs {
    match hides {
        Hides::ByScript(script) => call(script, args),
        Hides::FromList { .. } => call(LIST, args),
    }
}

/// Takes Weir's own names out of a whole reply, in its place: it may be large. What is no list stays as it is.
pub fn take_out(reply: &mut Vec<u8>, behind_cursor: bool) {
    let list = match behind_cursor {
        true => elements(reply).nth(1).map_or(reply.len(), |list| list.start),
        false => 0,
    };
    let (mut names, mut kept) = (0, Vec::<Range<usize>>::new());
    let mut all = 0;
    for element in elements(&reply[list..]) {
        all += 1;
        if is_own(&reply[list..][element.clone()]) {
            continue;
        }
        names += 1;
        let (start, end) = (list + element.start, list + element.end);
        match kept.last_mut().filter(|last| last.end == start) {
            Some(last) => last.end = end,
            None => kept.push(start..end),
        }
    }
    if names == all {
        return;
    }
    let mut head = Vec::new();
    write::array(&mut head, names);
    // A smaller number has no more digits: what is kept only moves down.
    let mut end = list + head.len();
    for range in kept {
        let length = range.len();
        reply.copy_within(range, end);
        end += length;
    }
    reply.truncate(end);
    reply[list..list + head.len()].copy_from_slice(&head);
}

/// Whether a bulk string is a name with the reserved prefix.
fn is_own(element: &[u8]) -> bool {
    let payload = memchr::memchr(b'\n', element).map_or(element.len(), |end| end + 1);
    element[payload..].starts_with(RESERVED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::command::lookup;

    fn hides_in(words: &str) -> Option<Hides> {
        let args: OwnedArgs = words.split(' ').collect();
        let args = args.as_args();
        hides(lookup(&args[0]).expect("a known command"), args)
    }

    #[test]
    fn the_scripts_mean_the_reserved_prefix() {
        let prefix = std::str::from_utf8(RESERVED_PREFIX).expect("it is text");
        assert_eq!(prefix.len(), 6, "as the scripts compare it");
        assert!(DBSIZE.contains(&format!("'MATCH', '{prefix}*'")));
        assert!([RANDOMKEY, LIST].iter().all(|script| script.contains(&format!("1, 6) ~= '{prefix}'"))));
    }

    #[test]
    fn only_calls_that_may_show_own_names_are_touched() {
        let (list, scan) = (Hides::FromList { behind_cursor: false }, Hides::FromList { behind_cursor: true });
        for (words, expected) in [
            ("KEYS *", Some(list)),
            ("KEYS w?ir*", Some(list)),
            ("KEYS weir:{0}lease:a", Some(list)),
            ("keys user:*", None),
            ("KEYS weird*", None),
            ("KEYS * *", None),
            ("SCAN 0", Some(scan)),
            ("SCAN 0 COUNT 10 TYPE string", Some(scan)),
            ("SCAN 0 MATCH user:* COUNT 10", None),
            ("SCAN 0 MATCH user:* MATCH *", Some(scan)),
            ("SCAN 0 MATCH * match user:*", None),
            ("SCAN 0 MATCH", Some(scan)),
            ("PUBSUB CHANNELS", Some(list)),
            ("PUBSUB CHANNELS news.*", None),
            ("PUBSUB NUMPAT", None),
            ("DBSIZE", Some(Hides::ByScript(DBSIZE))),
            ("DBSIZE now", None),
            ("RANDOMKEY", Some(Hides::ByScript(RANDOMKEY))),
            ("HSCAN h 0", None),
            ("GET weir:{0}lease:a", None),
        ] {
            assert_eq!(hides_in(words), expected, "{words}");
        }
    }

    /// A reply of bulk strings.
    fn names(names: &[&str]) -> Vec<u8> {
        write::whole_command(names.iter())
    }

    fn without(mut reply: Vec<u8>, behind_cursor: bool) -> Vec<u8> {
        take_out(&mut reply, behind_cursor);
        reply
    }

    #[test]
    fn own_names_leave_no_trace_in_a_list() {
        const OWN: &str = "weir:{0}lease:a";
        for list in [
            &[][..],
            &["a"],
            &[OWN],
            &[OWN, "a", "weir", "weir:{"],
            &["a", OWN, OWN, "b", "", "weird", OWN, "a longer name than that of any lease"],
            &["a", "b", "c", "d", "e", "f", "g", "h", OWN, "i"],
        ] {
            let shown: Vec<&str> = list.iter().copied().filter(|name| !name.starts_with("weir:{")).collect();
            assert_eq!(without(names(list), false), names(&shown), "{list:?}");
            let page = |list: &[&str]| [&b"*2\r\n$2\r\n17\r\n"[..], &names(list)].concat();
            assert_eq!(without(page(list), true), page(&shown), "{list:?}");
        }
    }

    #[test]
    fn what_is_no_list_stays_as_it_is() {
        for reply in [&b"-ERR invalid cursor\r\n"[..], b"+QUEUED\r\n", b"*-1\r\n", b"_\r\n", b"*1\r\n$1\r\n0\r\n", b""]
        {
            assert_eq!(without(reply.to_vec(), true), reply);
            assert_eq!(without(reply.to_vec(), false), reply);
        }
    }
}
