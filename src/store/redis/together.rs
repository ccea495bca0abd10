//! The steps of the cache protocol for many keys at once, at an upstream that is no cluster: one script, whose answers are those
//! that the scripts for one key would give, one after the other.
//!
//! A call of a script costs Redis several times what the commands in it do, and each reply costs a wake-up; for an MGET of a
//! hundred absent keys that was more than the database's part. What can be asked of all keys is asked by one command: mostly
//! none is present, and one EXISTS says so.
//!
//! While a script runs, Redis serves nobody else: [`MOST`] keys take it about as long as a large MGET does. What reads of all
//! keys comes before anything is written, so a script that fails as a whole (a right that is missing for one of the keys)
//! has done nothing, and each key is asked for by itself. What fails later fails for its own key alone.

use super::Redis;
use super::call::{Call, decode, milliseconds, refusal};
use super::lease::filled;
use super::scripts::{Script, stands};
use super::side_key::{Beside, Kind, TagKeys};
use crate::resp::scan::{bulk, elements};
use crate::store::{Acquired, Asked, Fill, Filled, Outcome, Sequence, StoreError, Tagged};
use crate::value::Value;
use futures_util::future::{join, join_all, try_join_all};
use std::ops::Range;
use std::time::Duration;

/// Most keys of one script. With all that stands beside them they are no more than Lua can pass to one command.
pub const MOST: usize = 128;

/// Most entries that one script makes in indexes: each costs more than a look.
const MOST_ENTRIES: usize = 512;

/// KEYS all values, all leases, all negatives; ARGV lease time in ms, then a lease for each. Answers for each key what `ACQUIRE`
/// would. A key that comes twice is granted once: SET NX looks when it writes.
pub static ACQUIRE_ALL: Script = Script {
    keys: 0,
    text: concat!(
        stands!(),
        "local n = #KEYS / 3
local some = redis.call('EXISTS', unpack(KEYS, 1, n)) > 0
local known = redis.call('EXISTS', unpack(KEYS, 2 * n + 1, 3 * n)) > 0
local answers = {}
for i = 1, n do
  if some and redis.call('EXISTS', KEYS[i]) == 1 then answers[i] = 'present'
  elseif known and redis.call('EXISTS', KEYS[2 * n + i]) == 1 then answers[i] = 'negative'
  else
    local lease, mine = KEYS[n + i], ARGV[i + 1]
    local taken = redis.pcall('SET', lease, mine, 'PX', ARGV[1], 'NX')
    if not taken then
      local held = redis.pcall('GET', lease)
      answers[i] = type(held) == 'string' and stands(lease, held, mine, ARGV[1]) or held
    elseif taken.err then answers[i] = taken
    else answers[i] = 'granted' end
  end
end
return answers"
    ),
};

/// KEYS all values, all leases, all ends, then for each its note, or if it is an absence its negative entry; ARGV for each its
/// lease, kind (`negative`, `nothing`, `gone`, or of a string how many tags to note), TTL in ms, and of a string those tags
/// and the value. Does for each key, and answers, what `FILL` does over nothing.
///
/// Whoever may not MGET is asked for each lease. The leases and all else that is in the way go by one UNLINK; after it
/// nothing is refused for want of memory.
pub static FILL_ALL: Script = Script {
    keys: 0,
    text: "local n = #KEYS / 4
local some = redis.call('EXISTS', unpack(KEYS, 1, n)) > 0
local held = redis.pcall('MGET', unpack(KEYS, n + 1, 2 * n))
local answers, drop, fill, at = {}, {}, {}, 1
for i = 1, n do
  local lease, kind, stands = ARGV[at], ARGV[at + 1], held[i]
  local tags = tonumber(kind)
  if held.err then stands = redis.call('GET', KEYS[n + i]) end
  if stands ~= lease then redis.pcall('PUBLISH', 'weir:{lease}ended', string.sub(lease, 1, 16)) end
  if stands ~= lease and stands ~= lease .. '+' then answers[i] = 'lost'
  else
    answers[i] = 'stored'
    drop[#drop + 1] = KEYS[n + i]
    if kind == 'nothing' then answers[i] = 'stored'
    elseif some and redis.call('EXISTS', KEYS[i]) == 1 then answers[i] = 'occupied'
    else
      drop[#drop + 1] = KEYS[2 * n + i]
      if tags then drop[#drop + 1] = KEYS[3 * n + i] end
      if kind ~= 'gone' then
        fill[#fill + 1] = i
        fill[#fill + 1] = at
      end
    end
  end
  at = at + 3 + (tags and tags + 1 or 0)
end
if #drop > 0 then redis.call('UNLINK', unpack(drop)) end
for entry = 1, #fill, 2 do
  local i, at = fill[entry], fill[entry + 1]
  local ttl, tags, done = ARGV[at + 2], tonumber(ARGV[at + 1])
  if tags then done = redis.pcall('SET', KEYS[i], ARGV[at + 3 + tags], 'PX', ttl)
  else done = redis.pcall('SET', KEYS[3 * n + i], '', 'PX', ttl) end
  if done.err then answers[i] = done
  elseif tags and tags > 0 then
    for tag = at + 3, at + 2 + tags do redis.call('HSET', KEYS[3 * n + i], ARGV[tag], 'row') end
    redis.call('PEXPIRE', KEYS[3 * n + i], ttl)
  end
end
return answers",
};

/// KEYS index and mark of each tag; ARGV life in ms, then for each tag how many keys, and those. Does for each tag what `INDEX`
/// does for each of its keys, and answers the marks. The time at which all of them end is put into words once.
pub static INDEX_ALL: Script = Script {
    keys: 0,
    text: "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = string.format('%.0f', now + ARGV[1])
local marks, at = {}, 2
for tag = 1, #KEYS, 2 do
  local index, entries, count = KEYS[tag], {}, tonumber(ARGV[at])
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
  for key = at + 1, at + count do
    entries[#entries + 1] = ends
    entries[#entries + 1] = ARGV[key]
  end
  redis.call('ZADD', index, 'GT', unpack(entries))
  if redis.call('PTTL', index) < tonumber(ARGV[1]) then redis.call('PEXPIRE', index, ARGV[1]) end
  marks[#marks + 1] = redis.call('GET', KEYS[tag + 1]) or '0'
  at = at + count + 1
end
return marks",
};

impl Redis {
    /// See [`crate::store::Store::acquire_all`].
    pub(super) async fn take_leases(
        &self,
        db: u32,
        asked: &[Asked],
        lease: Duration,
    ) -> Vec<Result<Acquired, StoreError>> {
        let since = self.upstream.ends().since();
        let mut call = Call::new(asked.len() * 3, 1 + asked.len());
        let beside: Vec<Beside> = asked.iter().map(|asked| Beside::of(&asked.key.name)).collect();
        asked.iter().for_each(|asked| call.word(&asked.key.name));
        beside.iter().for_each(|beside| call.name(beside, Kind::Lease));
        beside.iter().for_each(|beside| call.name(beside, Kind::Negative));
        call.word(milliseconds(lease).as_bytes());
        asked.iter().for_each(|asked| call.word(&self.lease_text(asked.token)));
        let one = |index: usize| async move {
            let Asked { key, token } = &asked[index];
            self.take_lease(key, *token, lease, b"miss").await
        };
        let words = self.call_for_words(db, &ACQUIRE_ALL, call).await;
        self.each(words, asked.len(), |word| self.acquired(word, since), one).await
    }

    /// See [`crate::store::Store::fill_all`]. Hashes are written in pieces, each by a script of its own.
    pub(super) async fn put_all(&self, db: u32, outcomes: Vec<Outcome>) -> Vec<Result<Filled, StoreError>> {
        let is_hash = |outcome: &Outcome| matches!(&outcome.fill, Fill::Value { value: Value::Hash(_), .. });
        let (hashes, others): (Vec<usize>, Vec<usize>) =
            (0..outcomes.len()).partition(|&index| is_hash(&outcomes[index]));
        let one = |Outcome { key, token, fill }: &Outcome| {
            let (key, token, fill) = (key.clone(), *token, fill.clone());
            async move { self.put(&key, token, fill, b"fill").await }
        };
        let alone = join_all(hashes.iter().map(|&index| one(&outcomes[index])));
        let together = async {
            let chosen: Vec<&Outcome> = others.iter().map(|&index| &outcomes[index]).collect();
            if chosen.is_empty() {
                return Vec::new();
            }
            let words = self.call_for_words(db, &FILL_ALL, self.call_to_fill(&chosen)).await;
            self.each(words, chosen.len(), filled, |index| one(chosen[index])).await
        };
        let (alone, together) = join(alone, together).await;
        let mut answers: Vec<_> = hashes.into_iter().zip(alone).chain(others.into_iter().zip(together)).collect();
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    fn call_to_fill(&self, outcomes: &[&Outcome]) -> Call {
        let values = outcomes.iter().filter_map(|outcome| match &outcome.fill {
            Fill::Value { tags, .. } => Some(1 + tags.len()),
            _ => None,
        });
        let mut call = Call::new(outcomes.len() * 4, outcomes.len() * 3 + values.sum::<usize>());
        let beside: Vec<Beside> = outcomes.iter().map(|outcome| Beside::of(&outcome.key.name)).collect();
        outcomes.iter().for_each(|outcome| call.word(&outcome.key.name));
        beside.iter().for_each(|beside| call.name(beside, Kind::Lease));
        beside.iter().for_each(|beside| call.name(beside, Kind::End));
        for (beside, outcome) in beside.iter().zip(outcomes) {
            let is_absence = matches!(outcome.fill, Fill::Negative { .. });
            call.name(beside, if is_absence { Kind::Negative } else { Kind::Note });
        }
        for Outcome { token, fill, .. } in outcomes {
            call.word(&self.lease_text(*token));
            match fill {
                Fill::Value { value, ttl, tags } => {
                    call.word(itoa::Buffer::new().format(tags.len()).as_bytes());
                    call.word(milliseconds(*ttl).as_bytes());
                    tags.iter().for_each(|tag| call.word(tag));
                    let Value::String(text) = value else { unreachable!("hashes go alone") };
                    call.word(text);
                }
                Fill::Negative { ttl } => {
                    call.word(b"negative");
                    call.word(milliseconds(*ttl).as_bytes());
                }
                Fill::Nothing => ["nothing", ""].iter().for_each(|word| call.word(word.as_bytes())),
                Fill::Gone => ["gone", ""].iter().for_each(|word| call.word(word.as_bytes())),
            }
        }
        call
    }

    /// See [`crate::store::Store::index_all`].
    pub(super) async fn add_all_to_indexes(
        &self,
        db: u32,
        tagged: &[Tagged],
        life: Duration,
    ) -> Result<Vec<Sequence>, StoreError> {
        let mut parts: Vec<&[Tagged]> = Vec::new();
        let mut rest = tagged;
        while !rest.is_empty() {
            let mut entries = 0;
            let fit = rest.iter().take_while(|tagged| {
                entries += tagged.keys.len();
                entries <= MOST_ENTRIES
            });
            let (part, others) = rest.split_at(fit.count().max(1));
            parts.push(part);
            rest = others;
        }
        let marks = parts.into_iter().map(|part| async move {
            let words = part.iter().map(|tagged| 1 + tagged.keys.len()).sum::<usize>();
            let mut call = Call::new(part.len() * 2, 1 + words);
            for tagged in part {
                let keys = TagKeys::of(&tagged.tag);
                call.word(&keys.index());
                call.word(&keys.mark());
            }
            call.word(milliseconds(life).as_bytes());
            for tagged in part {
                call.word(itoa::Buffer::new().format(tagged.keys.len()).as_bytes());
                tagged.keys.iter().for_each(|key| call.word(key));
            }
            let marks = self.call_for_words(db, &INDEX_ALL, call).await?;
            let mark = |at: Range<usize>| super::tags::number(&decode(&marks[at])?);
            let marks = elements(&marks).map(mark).collect::<Result<Vec<Sequence>, StoreError>>()?;
            if marks.len() == part.len() { Ok(marks) } else { Err(for_others()) }
        });
        Ok(try_join_all(marks).await?.concat())
    }

    /// The answers for each of `count` keys; `one` asks for a key by itself, where the upstream refuses all of them together.
    async fn each<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        words: Result<Vec<u8>, StoreError>,
        count: usize,
        meaning: impl Fn(&[u8]) -> Result<T, StoreError>,
        one: impl Fn(usize) -> F,
    ) -> Vec<Result<T, StoreError>> {
        let words = match words {
            Ok(words) => words,
            Err(error @ StoreError::Refused(_)) if !error.may_pass() => return join_all((0..count).map(one)).await,
            Err(error) => return (0..count).map(|_| Err(error.clone())).collect(),
        };
        let answers = elements(&words).map(|at| &words[at]).map(|word| match refusal(word) {
            Some(error) => {
                self.upstream.note_refusal(&error);
                Err(error)
            }
            None => meaning(bulk(word).unwrap_or_default()),
        });
        match answers.collect::<Vec<_>>() {
            answers if answers.len() == count => answers,
            _ => (0..count).map(|_| Err(for_others())).collect(),
        }
    }
}

fn for_others() -> StoreError {
    StoreError::Protocol("a script answered for other keys than it was asked for".into())
}
