//! The steps of the cache protocol as Lua scripts: each touches one key and its side keys, which share a slot, but for [`ENTER`].
//!
//! Called by hash; an upstream that has forgotten them (restart, `SCRIPT FLUSH`) answers NOSCRIPT and is sent the text.
//!
//! What invalidates must work on an upstream that is full, or what was changed in the database would be served for as long as it
//! is. Redis refuses a script's command that may need memory (`denyoom`) only until the script has written: it cannot be stopped
//! in the middle (6.2: `lua_write_dirty` in scripting.c, 7.0: `SCRIPT_WRITE_DIRTY` in script.c, of scripts without `#!`). So these
//! begin with a command that writes and needs none: PEXPIRE, also of a key that is not there.

/// One script, and how many keys it takes.
#[derive(Debug)]
pub struct Script {
    /// Lua.
    pub text: &'static str,
    /// KEYS: of value, lease, negative entry, note and end the first so many, unless the script says otherwise.
    pub keys: usize,
}

/// What becomes of a lease that stands: `stands(its key, what is there, who asks, a lease's time)` answers the lease and how many
/// milliseconds are left of it. One that somebody has made last for ever ends nevertheless.
macro_rules! stands {
    () => {
        "local function stands(key, held, mine, time)
  local left = redis.call('PTTL', key)
  if left < 0 then
    left = tonumber(time)
    redis.call('PEXPIRE', key, left)
  end
  if #held == 32 and string.sub(held, 17) ~= string.sub(mine, 17) then
    redis.call('SET', key, held .. '+', 'PX', math.max(left, 1))
  end
  return string.sub(held, 1, 32) .. ' ' .. left
end
"
    };
}
pub(super) use stands;

/// KEYS value, lease, negative; ARGV lease, lease time in ms, `miss`, `refresh` or `seize`: what stands there counts only for the
/// first, and another's lease not for the last. A lease is the token and its process, 16 digits each; a `+`
/// behind them says that somebody waits for it in another process, and its end is to be told.
/// Answers `present`, `negative`, `granted`, or the lease that stands and the milliseconds that are left of it.
pub static ACQUIRE: Script = Script {
    keys: 3,
    text: concat!(
        stands!(),
        "if ARGV[3] == 'miss' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 'present' end
  if redis.call('EXISTS', KEYS[3]) == 1 then return 'negative' end
end
local held = redis.call('GET', KEYS[2])
if not held or ARGV[3] == 'seize' then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return 'granted'
end
return stands(KEYS[2], held, ARGV[1], ARGV[2])"
    ),
};

/// Where the tokens of leases are told that have ended, and that somebody in another process waits for.
pub const ENDED: &str = "weir:{lease}ended";

/// KEYS value, lease, negative, note, end; ARGV lease, what the fill may take the place of, kind (`string`, `hash`, `negative`,
/// `nothing`, `gone`), TTL in ms, how many tags to note, those tags, then the value, or fields and values. `fill`: of nothing that
/// is there; `replace`: of anything; a number: of what has no more than so many ms left to live.
///
/// The note's fields are tags; a field holds `row` if it was a fill that noted it, and nothing if a client did. What
/// takes the place of a value keeps what clients noted of that, and the row's tags take the place of the row's; beside what begins
/// from nothing, nothing earlier is noted.
/// Answers `stored`, `lost` or `occupied`. A hash is written in pieces: Lua unpacks a few thousand arguments at most.
///
/// The end is told if the lease is not as it was made: somebody waits for it, or it is gone, and nobody knows any more who
/// does. What is told is heard after the script. A user who may not PUBLISH fills all the same.
pub static FILL: Script = Script {
    keys: 5,
    text: "local held = redis.call('GET', KEYS[2])
if held ~= ARGV[1] then redis.pcall('PUBLISH', 'weir:{lease}ended', string.sub(ARGV[1], 1, 16)) end
if held ~= ARGV[1] and held ~= ARGV[1] .. '+' then return 'lost' end
redis.call('UNLINK', KEYS[2])
local kind, tags = ARGV[3], tonumber(ARGV[5])
if kind == 'nothing' then return 'stored' end
local present = redis.call('EXISTS', KEYS[1]) == 1
if ARGV[2] == 'fill' then
  if present then return 'occupied' end
else
  local left = ARGV[2] == 'replace' and 0 or redis.call('PTTL', KEYS[1])
  if left == -1 or left > (tonumber(ARGV[2]) or 0) then return 'occupied' end
  redis.call('UNLINK', KEYS[3])
  if kind ~= 'string' then redis.call('UNLINK', KEYS[1]) end
end
redis.call('UNLINK', KEYS[5])
if kind == 'negative' then
  redis.call('SET', KEYS[3], '', 'PX', ARGV[4])
elseif kind == 'string' then
  redis.call('SET', KEYS[1], ARGV[6 + tags], 'PX', ARGV[4])
elseif kind == 'hash' then
  for first = 6 + tags, #ARGV, 1000 do
    redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
if kind == 'string' or kind == 'hash' then
  local kept = {}
  if present and redis.call('EXISTS', KEYS[4]) == 1 then
    for _, tag in ipairs(redis.call('HKEYS', KEYS[4])) do
      if redis.call('HGET', KEYS[4], tag) ~= 'row' then kept[#kept + 1] = tag end
    end
  end
  redis.call('UNLINK', KEYS[4])
  for at = 6, 5 + tags do redis.call('HSET', KEYS[4], ARGV[at], 'row') end
  for _, tag in ipairs(kept) do redis.call('HSET', KEYS[4], tag, '') end
  if #kept + tags > 0 then redis.call('PEXPIRE', KEYS[4], ARGV[4]) end
end
return 'stored'",
};

/// KEYS value, lease, negative, note, end. Deletes all but the note; answers 1 if there was a value.
pub static INVALIDATE: Script = Script {
    keys: 5,
    text: "redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[5])
return redis.call('UNLINK', KEYS[1])",
};

/// KEYS as above. Drops lease and negative entry behind a client's change of the value; if somebody waits for the lease in
/// another process, its end is told.
pub static RELEASE: Script = Script {
    keys: 3,
    text: "local held = redis.call('GET', KEYS[2])
redis.call('UNLINK', KEYS[2], KEYS[3])
if held and #held > 32 then redis.pcall('PUBLISH', 'weir:{lease}ended', string.sub(held, 1, 16)) end
return redis.status_reply('released')",
};

/// KEYS as above; ARGV a whole command on the value's key. Runs it only if that key is present, else answers
/// `+weir:absent`; so that no INCR of a routed counter ever begins from nothing between a check and the command.
pub static IF_PRESENT: Script = Script {
    keys: 3,
    text: "if redis.call('EXISTS', KEYS[1]) == 0 then return redis.status_reply('weir:absent') end
redis.call('UNLINK', KEYS[2], KEYS[3])
local reply = redis.pcall(unpack(ARGV))
if type(reply) ~= 'number' or (reply < 9007199254740992 and reply > -9007199254740992) then return reply end
local exact
if string.lower(ARGV[1]) == 'hincrby' then exact = redis.call('HGET', KEYS[1], ARGV[3])
else exact = redis.call('GET', KEYS[1]) end
return redis.status_reply('weir:integer ' .. exact)",
};

/// KEYS index, mark; ARGV key, life in ms. Adds the key to the index, drops what has ended from it, and lets the index live as
/// long as any of its keys. Answers the mark.
pub static INDEX: Script = Script {
    keys: 2,
    text: "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[2]) or '0'",
};

/// KEYS value, lease, negative, indexes; ARGV life in ms, `fence` or nothing, a whole command on the value's key. Enters the key in
/// the indexes, and runs the command. Between the two no invalidation of a tag can come, so that nothing is to be done again.
///
/// ZADD comes first: it is refused when the command would be (the upstream is full, or has too few replicas …), and with the
/// same words; only of a right that Weir's user lacks a script tells otherwise. Not for a cluster: keys and tags have slots of
/// their own.
pub static ENTER: Script = Script {
    keys: 3,
    text: "local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 4, #KEYS do
  local entered = redis.pcall('ZADD', KEYS[at], 'GT', now + ARGV[1], KEYS[1])
  if type(entered) == 'table' then return entered end
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', now)
  if redis.call('PTTL', KEYS[at]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[at], ARGV[1]) end
end
if ARGV[2] == 'fence' then redis.call('UNLINK', KEYS[2], KEYS[3]) end
return redis.pcall(unpack(ARGV, 3))",
};

/// KEYS index, mark, lists, list; ARGV number, the mark's time to live in ms, the list's name. Raises the mark, turns the index
/// into the list, and answers the names of all lists that are not worked off.
pub static SET_ASIDE: Script = Script {
    keys: 4,
    text: "redis.call('PEXPIRE', KEYS[2], ARGV[2])
local mark = tonumber(redis.call('GET', KEYS[2]) or 0)
redis.call('SET', KEYS[2], string.format('%.0f', math.max(mark, tonumber(ARGV[1]))), 'PX', ARGV[2])
local life = redis.call('PTTL', KEYS[1])
if life > 0 then
  redis.call('RENAME', KEYS[1], KEYS[4])
  redis.call('SADD', KEYS[3], ARGV[3])
  if redis.call('PTTL', KEYS[3]) < life then redis.call('PEXPIRE', KEYS[3], life) end
end
return redis.call('SMEMBERS', KEYS[3])",
};

/// KEYS sequence; ARGV its life in ms. The next number. Where there is none it may have been evicted, and what was noted of it
/// before must not be above: it begins at the server's time in microseconds, which no counting has reached.
pub static NEXT: Script = Script {
    keys: 1,
    text: "if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[1], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[1])
end
return redis.call('INCR', KEYS[1])",
};

/// KEYS note; ARGV life in ms, tags. Notes these too, and answers all that are noted.
pub static NOTE: Script = Script {
    keys: 1,
    text: "for at = 2, #ARGV do redis.call('HSET', KEYS[1], ARGV[at], '') end
local tags = redis.call('HKEYS', KEYS[1])
if #tags > 0 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return tags",
};

/// KEYS value, note, end; ARGV life and grace in ms. Lets value and note live on, unless the value is in its grace, lives longer, or
/// somebody holds its end. Answers the noted tags, or nil: nothing was done.
pub static RENEW: Script = Script {
    keys: 3,
    text: "local left = redis.call('PTTL', KEYS[1])
if left <= tonumber(ARGV[2]) or left >= tonumber(ARGV[1]) then return false end
if redis.call('EXISTS', KEYS[3]) == 1 then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
return redis.call('HKEYS', KEYS[2])",
};

/// What [`IF_PRESENT`] answers instead of an integer that Lua's numbers, doubles, cannot hold (2^53 and beyond): this and
/// its digits. Only counters grow so large, and their new value is what they answer.
pub const INTEGER: &[u8] = b"+weir:integer ";

/// Most arguments that Lua's `unpack` takes in one call is near 8,000 (`LUAI_MAXCSTACK`); longer commands do not go
/// through [`IF_PRESENT`].
pub const MOST_UNPACKED: usize = 7000;

/// What [`IF_PRESENT`] answers for an absent key.
pub const ABSENT: &[u8] = b"+weir:absent\r\n";
