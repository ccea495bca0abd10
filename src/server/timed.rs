//! A *timed read*: a read of routed keys, and behind it the question how long each of them has yet to live (PTTL), in one
//! write. The client sees its own reply and nothing of the others.
//!
//! Both are two commands to the upstream, and a key may change between them: whoever uses the answers must hear of changes
//! by another way, as the near cache does. A key that ends between them has no time left, and one that lives no longer than
//! its answer says is reckoned from before the question was sent, so that what is known here never outlives it.

use crate::cache::near::Marker;
use crate::cache::refresh::Schedule;
use crate::resp::args::Args;
use crate::resp::number;
use crate::resp::scan::{bulk, elements, value_end};
use crate::resp::write;
use crate::value::Value;
use bytes::Bytes;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A read that shows all that its keys hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// A string: GET.
    String,
    /// A hash: HGETALL.
    Hash,
    /// A string of each key: MGET.
    Strings,
}

impl Shows {
    /// What the command of this name shows, if it is such a read.
    pub fn of(command: &str) -> Option<Self> {
        match command {
            "get" => Some(Shows::String),
            "hgetall" => Some(Shows::Hash),
            "mget" => Some(Shows::Strings),
            _ => None,
        }
    }

    /// What the reply to such a read of one key shows.
    pub fn value(self, reply: &[u8]) -> Option<Value> {
        match self {
            Shows::String => string(reply),
            Shows::Hash => hash(reply),
            Shows::Strings => None,
        }
    }
}

/// See the module's page.
pub struct Timed {
    /// `None`: it shows less than all.
    shows: Option<Shows>,
    /// Before it was sent.
    sent: Instant,
    keys: Vec<Asked>,
}

/// A key that is asked about.
pub struct Asked {
    /// Its place among the command's arguments.
    pub position: usize,
    /// The right to keep its value; `None`: it is not kept.
    pub marker: Option<Marker>,
    /// It is kept no longer than so.
    pub most: Duration,
    /// Index of its route.
    pub route: usize,
    /// When it is to be refreshed.
    pub schedule: Schedule,
}

/// What the answers to a timed read say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many of the bytes are the read's own reply.
    pub own: usize,
    /// The keys that are to be refreshed or renewed.
    pub due: Vec<Due>,
}

/// A key that is to be refreshed or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its place among the command's arguments.
    pub position: usize,
    /// Index of its route.
    pub route: usize,
    /// What is to be done.
    pub action: Action,
    /// So much was left of its life.
    pub left: Duration,
}

/// What a read has found to do about a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its time is over, and it was served all the same: it is loaded anew.
    ReplaceStale,
    /// It is loaded anew before its time is over.
    RefreshEarly,
    /// It gets a new life.
    Renew,
}

impl Due {
    /// Whether it was served though its time is over.
    pub fn is_stale(&self) -> bool {
        self.action == Action::ReplaceStale
    }
}

impl Asked {
    /// Whether it is due with so much left of its life.
    #[inline]
    pub fn due(&self, left: Duration) -> Option<Due> {
        let Schedule { stale, due, renewal } = self.schedule;
        let within = |limit: Duration| !limit.is_zero() && left <= limit;
        let action = match () {
            () if within(stale) => Action::ReplaceStale,
            () if within(due) => Action::RefreshEarly,
            () if within(renewal) => Action::Renew,
            () => return None,
        };
        Some(Due { position: self.position, route: self.route, action, left })
    }

    /// Keeps the `value` that was read, as far as it may be by what the server says of its life. Answers whether it is due.
    #[inline]
    pub fn settle(&mut self, life: Life, sent: Instant, value: impl FnOnce() -> Option<Value>) -> Option<Due> {
        let marker = self.marker.take();
        let left = life.left()?;
        if let Some(marker) = marker {
            let kept = self.keeps(left);
            if !kept.is_zero()
                && let Some(value) = value()
            {
                marker.keep(value, sent + kept);
            }
        }
        self.due(left)
    }

    /// How long a value may be kept near that has so much left: while it is fresh, and until a read of it is to renew it.
    fn keeps(&self, left: Duration) -> Duration {
        let Schedule { stale, renewal, .. } = self.schedule;
        let until = if left > renewal { renewal.max(stale) } else { stale };
        left.saturating_sub(until).min(self.most)
    }
}

/// What an upstream says of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// So long.
    Left(Duration),
    /// It has no end.
    Endless,
    /// It is over, or nobody knows.
    Over,
}

impl Timed {
    /// About to be sent, on at least one key.
    pub fn new(shows: Option<Shows>, sent: Instant, keys: Vec<Asked>) -> Self {
        Timed { shows, sent, keys }
    }

    /// How many replies come behind the read's own.
    pub fn questions(&self) -> usize {
        self.keys.len()
    }

    /// The read and its questions, and where each command ends.
    pub fn commands(&self, read: &[u8], args: Args<'_>) -> (Vec<u8>, Vec<u32>) {
        let (mut commands, mut ends) = (read.to_vec(), vec![read.len() as u32]);
        for key in &self.keys {
            write::command(&mut commands, [&b"PTTL"[..], &args[key.position]]);
            ends.push(commands.len() as u32);
        }
        (commands, ends)
    }

    /// The replies come from where changes may go unheard: what they say is not kept.
    pub fn keep_nothing(&mut self) {
        self.keys.iter_mut().for_each(|key| key.marker = None);
    }

    /// The keys that are asked about.
    pub fn keys(&self) -> &[Asked] {
        &self.keys
    }

    /// Keeps what the replies say, as far as it may be.
    pub fn settle(self, replies: &[u8]) -> Settled {
        let mut due = Vec::new();
        let own = value_end(replies, 0).unwrap_or(replies.len());
        let reply = &replies[..own];
        let parts: Vec<Range<usize>> = match self.shows {
            Some(Shows::Strings) => elements(reply).collect(),
            _ => Vec::new(),
        };
        let mut at = own;
        for mut key in self.keys {
            let Some((life, end)) = Life::next(replies, at) else { break };
            let position = key.position;
            due.extend(key.settle(life, self.sent, || match self.shows {
                Some(Shows::Strings) => parts.get(position - 1).and_then(|part| string(&reply[part.clone()])),
                Some(shows) => shows.value(reply),
                None => None,
            }));
            at = end;
        }
        Settled { own, due }
    }
}

impl Life {
    /// How long it lasts; `None`: it is over.
    pub fn left(self) -> Option<Duration> {
        match self {
            Life::Left(left) => Some(left),
            Life::Endless => Some(Duration::MAX),
            Life::Over => None,
        }
    }

    /// By the reply to PTTL that stands at `at`, and where that ends; `None`: it is not whole.
    #[inline]
    pub fn next(replies: &[u8], at: usize) -> Option<(Life, usize)> {
        if replies.get(at) == Some(&b':')
            && let Some((left @ 1.., end)) = number::plain_line(replies, at + 1)
        {
            return Some((Life::Left(Duration::from_millis(left.into())), end));
        }
        let end = value_end(replies, at)?;
        Some((Life::of(&replies[at..end]), end))
    }

    /// By such a whole reply.
    fn of(reply: &[u8]) -> Life {
        let number = reply.strip_prefix(b":").and_then(|text| number::parse(text.strip_suffix(b"\r\n")?));
        match number {
            Some(-1) => Life::Endless,
            Some(left @ 1..) => Life::Left(Duration::from_millis(left as u64)),
            _ => Life::Over,
        }
    }
}

/// A copy of the exact size: a slice would hold on to the buffer that it came in.
fn string(reply: &[u8]) -> Option<Value> {
    bulk(reply).map(|text| Value::String(Bytes::copy_from_slice(text)))
}

/// All fields in one allocation of the exact size.
fn hash(reply: &[u8]) -> Option<Value> {
    if !matches!(reply.first(), Some(b'*' | b'%')) {
        return None;
    }
    let texts: Vec<&[u8]> = elements(reply).map(|range| bulk(&reply[range])).collect::<Option<_>>()?;
    if texts.is_empty() || !texts.len().is_multiple_of(2) {
        return None;
    }
    let all = Bytes::from(texts.concat());
    let mut at = 0;
    let mut next = |text: &[u8]| {
        at += text.len();
        all.slice(at - text.len()..at)
    };
    let fields = texts.chunks_exact(2).map(|field| (next(field[0]), next(field[1])));
    Some(Value::Hash(fields.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::near::{Key, Near};
    use crate::resp::args::OwnedArgs;
    use crate::store::redis::tracking::Hears;
    use std::sync::Arc;

    const MOST: Duration = Duration::from_secs(5);

    fn key(name: &str) -> Key<'_> {
        Key::new(0, None, name.as_bytes())
    }

    /// What the replies to `words` leave in the near cache for each key, with how long from the sending on; and the
    /// client's own reply.
    fn settle(words: &str, replies: &str) -> (Vec<Option<(Value, Duration)>>, String) {
        let near = Arc::new(Near::new(1 << 20));
        near.hears();
        let args: OwnedArgs = words.split(' ').collect();
        let (args, sent) = (args.as_args(), Instant::now());
        let names: Vec<String> = args.from(1).iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let asked = names.iter().zip(1..).map(|(name, position)| Asked {
            position,
            marker: near.mark(key(name), sent),
            most: MOST,
            route: 0,
            schedule: Schedule::default(),
        });
        let shows = Shows::of(&String::from_utf8_lossy(&args[0]).to_lowercase()).expect("a read that shows all");
        let timed = Timed::new(Some(shows), sent, asked.collect());
        let own = timed.settle(replies.as_bytes()).own;
        let kept = names.iter().map(|name| {
            let until = near.until(key(name))?;
            near.look(key(name), near.moment(sent), |value| (value.to_value(), until - sent))
        });
        (kept.collect(), replies[..own].to_owned())
    }

    fn text(text: &str, life: Duration) -> Option<(Value, Duration)> {
        Some((Value::String(Bytes::copy_from_slice(text.as_bytes())), life))
    }

    #[test]
    fn a_string_lives_for_what_it_has_left_and_no_longer_than_it_may() {
        let own = "$1\r\nv\r\n";
        for (left, kept) in [
            (":1500\r\n", text("v", Duration::from_millis(1500))),
            (":999999\r\n", text("v", MOST)),
            (":-1\r\n", text("v", MOST)),
            (":-2\r\n", None),
            (":0\r\n", None),
            ("-NOPERM no\r\n", None),
            ("", None),
        ] {
            assert_eq!(settle("GET k", &format!("{own}{left}")), (vec![kept], own.to_owned()), "{left:?}");
        }
        assert_eq!(settle("GET k", "$-1\r\n:-2\r\n"), (vec![None], "$-1\r\n".to_owned()));
        assert_eq!(settle("GET k", "-WRONGTYPE no\r\n:-1\r\n"), (vec![None], "-WRONGTYPE no\r\n".to_owned()));
    }

    #[test]
    fn of_many_keys_each_has_its_own_value_and_life() {
        let own = "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n";
        let kept = vec![text("a", MOST), None, text("c", Duration::from_millis(7))];
        assert_eq!(settle("MGET a b c", &format!("{own}:-1\r\n:-2\r\n:7\r\n")), (kept, own.to_owned()));
        let nil = "*2\r\n_\r\n$0\r\n\r\n";
        assert_eq!(settle("MGET a b", &format!("{nil}:-2\r\n:-1\r\n")), (vec![None, text("", MOST)], nil.to_owned()));
    }

    #[test]
    fn a_hash_is_kept_with_its_fields_in_their_order() {
        let fields = [("name", "pen"), ("price", "")];
        let fields =
            fields.map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        let value = Some((Value::Hash(fields.to_vec()), MOST));
        for head in ["*4", "%2"] {
            let own = format!("{head}\r\n$4\r\nname\r\n$3\r\npen\r\n$5\r\nprice\r\n$0\r\n\r\n");
            assert_eq!(settle("HGETALL k", &format!("{own}:-1\r\n")), (vec![value.clone()], own));
        }
        assert_eq!(settle("HGETALL k", "*0\r\n:-2\r\n").0, [None]);
    }

    #[test]
    fn what_is_told_from_elsewhere_is_not_kept() {
        let near = Arc::new(Near::new(1 << 20));
        near.hears();
        let sent = Instant::now();
        let (marker, schedule) = (near.mark(key("k"), sent), Schedule::default());
        let asked = Asked { position: 1, marker, most: MOST, route: 0, schedule };
        let mut timed = Timed::new(Some(Shows::String), sent, vec![asked]);
        timed.keep_nothing();
        assert_eq!(timed.settle(b"$1\r\nv\r\n:-1\r\n").own, 7);
        assert_eq!(near.until(key("k")), None);
    }

    #[test]
    fn a_key_is_due_by_what_is_left_of_its_life() {
        let seconds = Duration::from_secs;
        let schedule = Schedule { stale: seconds(10), due: seconds(12), renewal: seconds(20) };
        let due = |left: &str| {
            let asked = Asked { position: 1, marker: None, most: MOST, route: 3, schedule };
            let replies = format!("$1\r\nv\r\n:{left}\r\n");
            Timed::new(None, Instant::now(), vec![asked]).settle(replies.as_bytes()).due
        };
        for (left, expected) in [
            (20_001, None),
            (20_000, Some(Action::Renew)),
            (12_001, Some(Action::Renew)),
            (12_000, Some(Action::RefreshEarly)),
            (10_001, Some(Action::RefreshEarly)),
            (10_000, Some(Action::ReplaceStale)),
            (1, Some(Action::ReplaceStale)),
            (-1, None),
            (-2, None),
        ] {
            let found = |action| Due { position: 1, route: 3, action, left: Duration::from_millis(left as u64) };
            assert_eq!(due(&left.to_string()), expected.map(found).into_iter().collect::<Vec<_>>(), "{left}");
        }
    }

    #[test]
    fn what_a_read_is_to_renew_is_not_kept_near_past_that() {
        let seconds = Duration::from_secs;
        let schedule = Schedule { stale: seconds(10), due: seconds(10), renewal: seconds(20) };
        let asked = Asked { position: 1, marker: None, most: seconds(15), route: 0, schedule };
        for (left, kept) in [(60, 15), (30, 10), (21, 1), (20, 10), (12, 2), (10, 0), (3, 0)] {
            assert_eq!(asked.keeps(seconds(left)), seconds(kept), "{left}");
        }
        let asked = Asked { schedule: Schedule::default(), ..asked };
        assert_eq!((asked.keeps(seconds(60)), asked.keeps(seconds(3))), (seconds(15), seconds(3)));
    }
}
