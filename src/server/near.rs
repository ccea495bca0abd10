//! What a client's commands have to do with the near cache ([`crate::cache::near`]): reads that it answers, reads that bring
//! values in.
//!
//! Answered from it are reads of one key, by the value alone, and MGETs of which it has every key; other MGETs go to the
//! store whole. Not TTL and its kin, which only the store knows; not HSCAN, whose cursors are the store's; not OBJECT and
//! TOUCH, which are about the store itself. Not inside MULTI, nor under WATCH, nor for a client whose reads the server tracks:
//! whoever has a link of its own is answered over it.
//!
//! GET, HGETALL and MGET show all that a key holds, so they bring it in: as timed reads, where nobody else is doing so
//! ([`Near::mark`]). An MGET over several slots of a cluster brings nothing in.
//!
//! Users of the upstream have entries of their own, and only the command that has brought one in is answered from it (a right
//! to GET is none to STRLEN), and not MGET.
//!
//! What a command may change is barred before it is sent, whatever way it takes, until it is answered: see [`super::change`].

use super::conn::{Conn, Request};
use super::gets::{Gets, MOST};
use super::keys::{RoutedKey, RoutedKeys};
use super::timed::Shows;
use crate::cache::near::{Key, Moment, Near};
use crate::cache::route::{Kept, Routes};
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::resp::write::{self, Protocol};
use crate::store::Identity;
use crate::store::embedded::evaluate;
use crate::value::View;

impl Conn {
    /// Answers an MGET of a plain client, if that may be and the near cache has all of its keys.
    pub(super) fn read_strings_near(&mut self, request: Request<'_>) -> bool {
        let worker = self.worker.clone();
        let Some(near) = worker.app.near.as_ref() else { return false };
        let is_held_up = self.gathered() > 0 || self.replies.any_slow() || worker.engine.has_doubts();
        if is_held_up || self.is_upstream_user() || request.args.len() < 2 {
            return false;
        }
        let (now, mut hits) = (self.moment(near), std::mem::take(&mut self.batch().near_keys));
        let is_answered = self.answer_if(|out| {
            look_at_strings(near, now, &self.way.identity, &worker.app.routes, request.args, out, &mut hits)
        });
        if is_answered {
            self.draw_near_names(request.args.from(1));
            self.batch().near_hits.add_keys(&hits);
        }
        hits.clear();
        self.batch().near_keys = hits;
        is_answered
    }

    /// Answers a routed read from the near cache, if that may be and it has what is asked for.
    pub(super) fn read_near(&mut self, spec: &Spec, request: Request<'_>, keys: &RoutedKeys<'_>) -> bool {
        let worker = self.worker.clone();
        let Some(near) = worker.app.near.as_ref() else { return false };
        if self.is_private() || !keys.iter().all(|key| key.route.has_near()) || !spec.arity_ok(request.args.len()) {
            return false;
        }
        if Shows::of(spec.name) == Some(Shows::Strings) && self.is_plain() && !self.is_busy() {
            // The short way has looked: nothing stood before it.
            return false;
        }
        let (now, asks) = (self.moment(near), Asks { args: request.args, keys });
        if self.gathered() > 0 {
            // Only an answer is reason enough to end a run.
            let mut answer = worker.near_answer.borrow_mut();
            answer.clear();
            if !look(near, now, &self.way.identity, spec, asks, &mut answer) {
                return false;
            }
            self.send_run(request.bytes);
            self.answer_now(|out| out.extend_from_slice(&answer));
        } else if !self.answer_if(|out| look(near, now, &self.way.identity, spec, asks, out)) {
            return false;
        }
        self.batch().near_hits.add(keys);
        self.draw_near(keys);
        true
    }
}

/// What the near cache has answered and is not counted yet: a counter that all cores write to is written once for a whole
/// batch.
#[derive(Default)]
pub struct NearHits {
    commands: usize,
    keys: KeysOfRoutes,
}

/// How many keys, by the index of their route.
pub type KeysOfRoutes = Vec<(usize, u64)>;

/// So many more of this route.
#[inline]
fn add_key(keys: &mut KeysOfRoutes, route: usize, count: u64) {
    match keys.iter_mut().find(|(known, _)| *known == route) {
        Some((_, known)) => *known += count,
        None => keys.push((route, count)),
    }
}

impl NearHits {
    fn add(&mut self, keys: &RoutedKeys<'_>) {
        self.commands += 1;
        keys.iter().for_each(|key| add_key(&mut self.keys, key.index, 1));
    }

    /// A read of one key of this route.
    pub(super) fn add_one(&mut self, route: usize) {
        self.commands += 1;
        add_key(&mut self.keys, route, 1);
    }

    /// A read of these.
    fn add_keys(&mut self, keys: &KeysOfRoutes) {
        self.commands += 1;
        keys.iter().for_each(|&(route, count)| add_key(&mut self.keys, route, count));
    }

    /// Counts the keys; answers how many commands it were.
    pub fn count(&mut self, routes: &Routes) -> usize {
        for (route, count) in self.keys.drain(..) {
            routes.get(route).metrics.lookups.near_hit.increment(count);
        }
        std::mem::take(&mut self.commands)
    }
}

/// A key as a client sees it.
pub fn key<'a>(identity: &'a Identity, name: &'a [u8]) -> Key<'a> {
    Key::new(identity.db, identity.user.as_ref(), name)
}

/// A read.
#[derive(Clone, Copy)]
struct Asks<'a> {
    args: Args<'a>,
    keys: &'a RoutedKeys<'a>,
}

impl RoutedKey<'_> {
    /// As this client sees it.
    #[inline]
    pub(super) fn near<'a>(&'a self, who: &'a Identity) -> Key<'a> {
        Key::hashed(who.db, who.user.as_ref(), self.key, self.hash)
    }
}

/// Appends the answer to a read of which all keys are kept; false, and whatever was appended means nothing: not all are.
fn look(near: &Near, now: Moment, who: &Identity, spec: &Spec, request: Asks<'_>, out: &mut Vec<u8>) -> bool {
    let (protocol, Asks { args, keys }) = (who.protocol, request);
    let shows = Shows::of(spec.name);
    if shows == Some(Shows::Strings) && who.user.is_none() {
        if keys.others().len() + 2 != args.len() {
            // One of them has no route.
            return false;
        }
        write::array(out, args.len() - 1);
        return keys
            .iter()
            .all(|asked| near.look(asked.near(who), now, |value| element(value, protocol, out)).is_some());
    }
    if who.user.is_some() && !matches!(shows, Some(Shows::String | Shows::Hash)) {
        return false;
    }
    if args.get(spec.first as usize).is_none_or(|name| !std::ptr::eq(name, keys.first().key)) {
        return false;
    }
    near.look(keys.first().near(who), now, |value| {
        show(shows, value, protocol, out)
            || (who.user.is_none() && tells_by_value(spec) && work_out(spec, args, value, protocol, out))
    })
    .unwrap_or(false)
}

/// Appends the answer to an MGET of which all keys are kept, and adds them to `hits`; false, and whatever was appended and added
/// means nothing: not all are.
fn look_at_strings(
    near: &Near,
    now: Moment,
    who: &Identity,
    routes: &Routes,
    args: Args<'_>,
    out: &mut Vec<u8>,
    hits: &mut KeysOfRoutes,
) -> bool {
    let mut keys = args.from(1).iter();
    write::array(out, keys.len());
    while keys.len() > 0 {
        let wanted = keys.len().min(MOST);
        let gets = Gets::new(keys.by_ref().take(wanted).map(|key| (key, 0)), |key| routes.find_kept(Kept::Near, key));
        let found = near.look_each(gets.all().iter().map(|get| get.near(who)), now, |value| {
            element(value, who.protocol, out);
            true
        });
        if found < wanted {
            return false;
        }
        let runs = gets.all().chunk_by(|one, next| one.route == next.route);
        runs.for_each(|run| add_key(hits, run[0].route, run.len() as u64));
    }
    true
}

/// An element of MGET's answer; a hash is nil to it.
fn element(value: View<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    match value {
        View::String(text) => write::bulk(out, text),
        View::Hash(_) => write::nil(out, protocol),
    }
}

/// The value as GET or HGETALL answers it.
pub(super) fn show(shows: Option<Shows>, value: View<'_>, protocol: Protocol, out: &mut Vec<u8>) -> bool {
    match (shows, value) {
        (Some(Shows::String), View::String(text)) => write::bulk(out, text),
        (Some(Shows::Hash), View::Hash(fields)) => {
            write::map(out, protocol, fields.len());
            for (name, value) in fields {
                write::bulk(out, name);
                write::bulk(out, value);
            }
        }
        _ => return false,
    }
    true
}

/// Reads of one key whose answer is in its value, whatever server is asked.
fn tells_by_value(spec: &Spec) -> bool {
    let strings = ["get", "strlen", "getrange", "substr", "getbit", "bitcount", "bitpos", "bitfield_ro"];
    let hashes = ["hget", "hmget", "hgetall", "hlen", "hexists", "hkeys", "hvals", "hstrlen"];
    strings.contains(&spec.name) || hashes.contains(&spec.name) || matches!(spec.name, "exists" | "type")
}

/// What such a command answers, the plain ones by themselves and the others as the embedded store would.
fn work_out(spec: &Spec, args: Args<'_>, value: View<'_>, protocol: Protocol, out: &mut Vec<u8>) -> bool {
    match (spec.name, value) {
        ("strlen", View::String(text)) => write::integer(out, text.len() as i64),
        ("exists", _) if args.len() == 2 => write::integer(out, 1),
        ("hlen", View::Hash(fields)) => write::integer(out, fields.len() as i64),
        ("hget", View::Hash(fields)) => match fields.iter().find(|(name, _)| *name == args[2]) {
            Some((_, value)) => write::bulk(out, value),
            None => write::nil(out, protocol),
        },
        _ => return evaluate(&[(&args[1], Some(value))], args, protocol, out),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;
    use crate::resp::command::lookup;
    use crate::value::Value;

    fn answer(value: &Value, words: &str) -> Option<String> {
        let args: OwnedArgs = words.split(' ').collect();
        let spec = lookup(&args.as_args()[0]).expect("a command");
        let (value, mut out) = (value.view(), Vec::new());
        let answered = show(Shows::of(spec.name), value, Protocol::Resp2, &mut out)
            || (tells_by_value(spec) && work_out(spec, args.as_args(), value, Protocol::Resp2, &mut out));
        answered.then(|| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn reads_by_the_value_are_answered_and_others_are_left_to_the_store() {
        let text = Value::String("hello".into());
        let hash = Value::Hash(vec![("name".into(), "pen".into()), ("price".into(), "3".into())]);
        for (value, words, expected) in [
            (&text, "GET k", "$5\r\nhello\r\n"),
            (&text, "STRLEN k", ":5\r\n"),
            (&text, "GETRANGE k 1 2", "$2\r\nel\r\n"),
            (&text, "EXISTS k", ":1\r\n"),
            (&text, "TYPE k", "+string\r\n"),
            (&hash, "HGETALL k", "*4\r\n$4\r\nname\r\n$3\r\npen\r\n$5\r\nprice\r\n$1\r\n3\r\n"),
            (&hash, "HGET k price", "$1\r\n3\r\n"),
            (&hash, "HGET k none", "$-1\r\n"),
            (&hash, "HMGET k none name", "*2\r\n$-1\r\n$3\r\npen\r\n"),
            (&hash, "HLEN k", ":2\r\n"),
        ] {
            assert_eq!(answer(value, words).as_deref(), Some(expected), "{words}");
        }
        for (value, words) in [(&text, "HGET k f"), (&hash, "GET k"), (&hash, "STRLEN k")] {
            assert!(answer(value, words).is_some_and(|reply| reply.starts_with("-WRONGTYPE")), "{words}");
        }
        for words in
            ["TTL k", "PTTL k", "DUMP k", "TOUCH k", "OBJECT ENCODING k", "EXISTS k other", "GETEX k", "LCS k k"]
        {
            assert_eq!(answer(&text, words), None, "{words}");
        }
        assert_eq!(answer(&hash, "HSCAN k 0"), None);
        assert_eq!(answer(&hash, "HRANDFIELD k"), None);
    }
}
