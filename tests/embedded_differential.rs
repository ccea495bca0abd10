//! The embedded store answers what Redis answers, byte for byte: random commands, valid and not, run on both.
//!
//! `WEIR_TEST_SEED` replays one seed. What cannot be equal is listed in [`Comparison`], with the reason.

use fastrand::Rng;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir::resp::args::OwnedArgs;
use weir::resp::write::Protocol;
use weir::store::embedded::{Context, Embedded};

const COMMANDS_PER_SEED: usize = 12_000;
const SEEDS: [u64; 4] = [1, 2, 3, 4];

type Words = Vec<Vec<u8>>;

/// A Redis of this test's own, ended with it.
struct Redis {
    process: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"])
            // What the embedded store behaves like: OBJECT's answers depend on the policy.
            .args(["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        Redis { process, folder }
    }

    fn connect(&self, db: u32, protocol: Protocol) -> Connection {
        let mut connection = Connection { stream: connect(&self.folder.path().join("redis.sock")), buffer: Vec::new() };
        if protocol == Protocol::Resp3 {
            connection.run(&words("HELLO 3"));
        }
        connection.run(&words(&format!("SELECT {db}")));
        connection
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(path: &Path) -> UnixStream {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "redis-server does not listen: {error}"),
        }
        std::thread::yield_now();
    }
}

struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// The reply's bytes.
    fn run(&mut self, words: &Words) -> Vec<u8> {
        let mut command = Vec::new();
        weir::resp::write::command(&mut command, words);
        self.stream.write_all(&command).expect("Redis listens");
        loop {
            if let Some((_, length)) = parse(&self.buffer) {
                return self.buffer.drain(..length).collect();
            }
            let mut bytes = [0; 65536];
            let count = self.stream.read(&mut bytes).expect("Redis answers");
            assert!(count > 0, "Redis hung up at {}", printed(words));
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }
}

/// A reply: its first line or its payload and, for a container, what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reply {
    kind: u8,
    text: Vec<u8>,
    elements: Vec<Reply>,
}

/// The first reply in `bytes` and its length, once it is whole.
fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, text, mut at) = (bytes[0], &bytes[1..line], line + 2);
    let number = || std::str::from_utf8(text).expect("a length").parse::<i64>().expect("a length");
    let mut reply = Reply { kind, text: text.to_vec(), elements: Vec::new() };
    match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' => {}
        b'$' if number() >= 0 => {
            let length = number() as usize;
            reply.text = bytes.get(at..at + length)?.to_vec();
            at += length + 2;
            bytes.get(..at)?;
        }
        b'*' | b'%' | b'~' if number() >= 0 => {
            let count = number() * if kind == b'%' { 2 } else { 1 };
            for _ in 0..count {
                let (element, length) = parse(&bytes[at..])?;
                reply.elements.push(element);
                at += length;
            }
        }
        b'$' | b'*' => {}
        other => panic!("no reply starts with {:?}", other as char),
    }
    Some((reply, at))
}

fn whole(bytes: &[u8]) -> Reply {
    let (reply, length) = parse(bytes).unwrap_or_else(|| panic!("no whole reply: {}", bytes.escape_ascii()));
    assert_eq!(length, bytes.len(), "exactly one reply: {}", bytes.escape_ascii());
    reply
}

/// How replies are compared, and why not simply by their bytes. Errors are always compared by their bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    /// By their bytes: all commands that are not named below.
    Bytes,
    /// As multisets, for Redis promises no order of members, fields and keys.
    Unordered,
    /// As multisets of pairs, likewise.
    UnorderedPairs,
    /// By kind and count, for the choice is random.
    Random,
    /// As numbers this far apart at most, for the two run some time after one another.
    Near(i64),
    /// By kind only: FREQ's counter grows at random.
    Kind,
    /// By the elements that a whole walk returns, for cursors are opaque and steps may repeat elements.
    Walk,
}

fn comparison(words: &Words) -> Comparison {
    let name = words[0].to_ascii_lowercase();
    match name.as_slice() {
        b"smembers" | b"sinter" | b"sunion" | b"sdiff" | b"keys" | b"hkeys" | b"hvals" => Comparison::Unordered,
        b"hgetall" => Comparison::UnorderedPairs,
        b"spop" | b"srandmember" | b"hrandfield" | b"randomkey" => Comparison::Random,
        b"ttl" | b"expiretime" => Comparison::Near(1),
        b"pttl" | b"pexpiretime" => Comparison::Near(1000),
        b"object" if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"freq")) => Comparison::Kind,
        b"scan" | b"sscan" | b"hscan" => Comparison::Walk,
        _ => Comparison::Bytes,
    }
}

fn same(comparison: Comparison, theirs: &[u8], ours: &[u8]) -> bool {
    let replies = [whole(theirs), whole(ours)];
    if theirs[0] == b'-' || ours[0] == b'-' {
        return theirs == ours;
    }
    let head = |reply: &Reply| (reply.kind, reply.elements.len());
    let heads_agree = head(&replies[0]) == head(&replies[1]);
    match comparison {
        Comparison::Bytes | Comparison::Walk => theirs == ours,
        Comparison::Unordered => heads_agree && sorted(&replies[0], 1) == sorted(&replies[1], 1),
        Comparison::UnorderedPairs => heads_agree && sorted(&replies[0], 2) == sorted(&replies[1], 2),
        Comparison::Random => {
            let nested = |reply: &Reply| reply.elements.iter().map(head).collect::<Vec<_>>();
            heads_agree && nested(&replies[0]) == nested(&replies[1])
        }
        Comparison::Near(most) => {
            let [theirs, ours] = replies.map(|reply| String::from_utf8(reply.text).expect("text").parse::<i64>());
            let (theirs, ours) = (theirs.expect("a number"), ours.expect("a number"));
            theirs.signum() == ours.signum() && (theirs - ours).abs() <= most
        }
        Comparison::Kind => theirs[0] == ours[0],
    }
}

fn sorted(reply: &Reply, width: usize) -> Vec<Vec<Reply>> {
    let mut rows: Vec<Vec<Reply>> = reply.elements.chunks(width).map(<[Reply]>::to_vec).collect();
    rows.sort();
    rows
}

fn words(line: &str) -> Words {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn on_key(name: &str, key: &[u8]) -> Words {
    vec![name.as_bytes().to_vec(), key.to_vec()]
}

fn printed(words: &Words) -> String {
    words.iter().map(|word| format!("'{}'", word.escape_ascii())).collect::<Vec<_>>().join(" ")
}

/// Both stores, in two databases and both protocols.
struct Pair {
    embedded: Embedded,
    sessions: Vec<(Context, Connection)>,
}

impl Pair {
    fn new(redis: &Redis) -> Self {
        let mut sessions = Vec::new();
        for db in [0, 1] {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                sessions.push((Context { db, protocol }, redis.connect(db, protocol)));
            }
        }
        sessions[0].1.run(&words("FLUSHALL"));
        Pair { embedded: Embedded::new(1 << 30), sessions }
    }

    fn theirs(&mut self, session: usize, words: &Words) -> Vec<u8> {
        self.sessions[session].1.run(words)
    }

    fn ours(&self, session: usize, words: &Words) -> Vec<u8> {
        let args: OwnedArgs = words.iter().collect();
        let mut out = Vec::new();
        self.embedded.execute(self.sessions[session].0, args.as_args(), &mut out);
        out
    }

    /// Runs the command on both sides and compares.
    fn check(&mut self, session: usize, words: &Words, step: &str) {
        let comparison = comparison(words);
        let (theirs, ours) = (self.theirs(session, words), self.ours(session, words));
        if comparison == Comparison::Walk && theirs[0] == b'*' {
            return self.check_walk(session, words, theirs, ours, step);
        }
        assert!(
            same(comparison, &theirs, &ours),
            "{step}, {:?}: {}\n  redis: {}\n  weir:  {}",
            self.sessions[session].0,
            printed(words),
            theirs.escape_ascii(),
            ours.escape_ascii()
        );
        self.settle(session, words, &ours);
    }

    fn check_walk(&mut self, session: usize, words: &Words, theirs: Vec<u8>, ours: Vec<u8>, step: &str) {
        let position = if words[0].eq_ignore_ascii_case(b"scan") { 1 } else { 2 };
        let width = if words[0].eq_ignore_ascii_case(b"hscan") { 2 } else { 1 };
        if words[position] != b"0" {
            return; // A cursor out of the blue: any answer that is none of an error will do.
        }
        let mut next = words.clone();
        let theirs = walk(theirs, width, |cursor| {
            next[position] = cursor;
            self.theirs(session, &next)
        });
        let mut next = words.clone();
        let ours = walk(ours, width, |cursor| {
            next[position] = cursor;
            self.ours(session, &next)
        });
        assert_eq!(theirs, ours, "{step}: {}", printed(words));
    }

    /// After a command whose outcome is random, or shows later in Redis, makes both sides equal again.
    fn settle(&mut self, session: usize, words: &Words, ours: &[u8]) {
        let name = words[0].to_ascii_lowercase();
        if name == b"set" && words.len() > 3 {
            // Redis removes a key that was set with a past deadline when it is next asked for it.
            self.both(session, &on_key("EXISTS", &words[1]));
        }
        if name == b"spop" && ours[0] != b'-' {
            let members = whole(&self.ours(session, &on_key("SMEMBERS", &words[1]))).elements;
            self.theirs(session, &on_key("DEL", &words[1]));
            self.ours(session, &on_key("DEL", &words[1]));
            if !members.is_empty() {
                let mut add = on_key("SADD", &words[1]);
                add.extend(members.into_iter().map(|member| member.text));
                self.both(session, &add);
            }
        }
    }

    fn both(&mut self, session: usize, words: &Words) {
        let (theirs, ours) = (self.theirs(session, words), self.ours(session, words));
        assert_eq!(theirs, ours, "{}", printed(words));
    }
}

/// All rows that a walk returns.
fn walk(first: Vec<u8>, width: usize, mut next: impl FnMut(Vec<u8>) -> Vec<u8>) -> BTreeSet<Words> {
    let mut rows = BTreeSet::new();
    let mut reply = whole(&first);
    loop {
        assert_eq!((reply.kind, reply.elements.len()), (b'*', 2));
        let elements = &reply.elements[1].elements;
        rows.extend(elements.chunks(width).map(|row| row.iter().map(|cell| cell.text.clone()).collect()));
        if reply.elements[0].text == b"0" {
            return rows;
        }
        reply = whole(&next(reply.elements[0].text.clone()));
    }
}

/// Commands with their arguments' kinds, see [`argument`]. The more often one stands here, the more often it comes.
const TEMPLATES: &[&str] = &[
    "GET K",
    "GET K",
    "SET K V",
    "SET K V",
    "SET K V OPTIONS",
    "SET K V OPTIONS",
    "SETNX K V",
    "SETEX K T V",
    "PSETEX K T V",
    "GETSET K V",
    "GETDEL K",
    "GETEX K OPTIONS",
    "GETEX K",
    "MGET K K K",
    "MSET K V K V",
    "MSETNX K V K V",
    "MSET K V K",
    "MSETNX K V K",
    "APPEND K V",
    "STRLEN K",
    "GETRANGE K N N",
    "SUBSTR K N N",
    "SETRANGE K N V",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K F",
    "INCRBYFLOAT K F",
    "SETBIT K N B",
    "GETBIT K N",
    "BITCOUNT K",
    "BITCOUNT K N N",
    "BITCOUNT K N N UNIT",
    "BITCOUNT K N",
    "HSET H M V",
    "HSET H M V M V",
    "HSET H M V M V M V",
    "HSET H M V M",
    "HMSET H M V M V",
    "HSETNX H M V",
    "HGET H M",
    "HMGET H M M M",
    "HGETALL H",
    "HKEYS H",
    "HVALS H",
    "HDEL H M",
    "HDEL H M M",
    "HLEN H",
    "HEXISTS H M",
    "HSTRLEN H M",
    "HINCRBY H M N",
    "HINCRBYFLOAT H M F",
    "HINCRBYFLOAT H M F",
    "HRANDFIELD H",
    "HRANDFIELD H n",
    "HRANDFIELD H n WITHVALUES",
    "HSCAN H 0 SCANNING",
    "HSCAN H N SCANNING",
    "SADD S M",
    "SADD S M M M",
    "SADD S I I I",
    "SADD S I",
    "SREM S M",
    "SREM S M I I",
    "SMEMBERS S",
    "SISMEMBER S M",
    "SMISMEMBER S M M I",
    "SCARD S",
    "SPOP S",
    "SPOP S n",
    "SRANDMEMBER S",
    "SRANDMEMBER S n",
    "SMOVE S S M",
    "SMOVE S S I",
    "SINTER S S",
    "SINTER S S S",
    "SUNION S S",
    "SUNION S",
    "SDIFF S S",
    "SDIFF S S S",
    "SINTERSTORE S S S",
    "SUNIONSTORE S S S",
    "SDIFFSTORE S S S",
    "SINTERCARD n S S",
    "SINTERCARD 2 S S LIMIT n",
    "SINTERCARD 2 S S",
    "SSCAN S 0 SCANNING",
    "DEL K",
    "DEL K K",
    "UNLINK S H",
    "EXISTS K K S",
    "TOUCH K H S K",
    "TYPE A",
    "EXPIRE A T CONDITIONS",
    "EXPIRE A T",
    "PEXPIRE A t CONDITIONS",
    "EXPIREAT A U CONDITIONS",
    "PEXPIREAT A u CONDITIONS",
    "TTL A",
    "PTTL A",
    "EXPIRETIME A",
    "PEXPIRETIME A",
    "PERSIST A",
    "RENAME A A",
    "RENAMENX A A",
    "COPY A A",
    "COPY A A REPLACE",
    "COPY A A DB D",
    "COPY A A DB D REPLACE",
    "MOVE A D",
    "RANDOMKEY",
    "KEYS P",
    "SCAN 0 SCANNING",
    "SCAN 0 SCANNING TYPE TYPES",
    "SCAN N",
    "DBSIZE",
    "OBJECT ENCODING A",
    "OBJECT ENCODING A",
    "OBJECT REFCOUNT A",
    "OBJECT FREQ A",
    "OBJECT IDLETIME A",
    "OBJECT HELP",
    "OBJECT V A",
    "ECHO V",
    "NOSUCHCOMMAND V K",
    "NOSUCHCOMMAND",
];

/// Those that end most of what was built up.
const RARE: &[&str] = &["FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB SYNC", "FLUSHDB V", "SWAPDB D D", "SWAPDB V D"];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "-5",
    "10",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775800",
    "4294967296",
    "01",
    "1.5",
    "",
    "x",
    " 1",
    "-0",
    "99999999999999999999",
];

const FLOATS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "3.0e3",
    "1.5e-3",
    "-2.25",
    "1e17",
    "12345.678901",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "0x1A",
    "0x1.8p3",
    "1e",
    "x",
    "",
    " 1",
    "5.0",
    "1e-20",
    "3.14159265358979323846",
    "123456789012345678",
    "0.30000000000000004",
    ".5",
    "5.",
    "+1",
    "1e5000",
    "1_0",
    "99999999999999999.9",
    "1e-5000",
    "infinity",
    "nan(1)",
    "-0",
    "0x",
    "0x.8",
    "1e+2",
    "-1e-19",
    "18446744073709551615.5",
];

fn pick<'a, T: ?Sized>(rng: &mut Rng, choices: &[&'a T]) -> &'a T {
    choices[rng.usize(..choices.len())]
}

fn milliseconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Words for one placeholder of a template.
fn argument(rng: &mut Rng, placeholder: &str) -> Words {
    let one = |word: &[u8]| vec![word.to_vec()];
    let number = |number: u64| vec![number.to_string().into_bytes()];
    match placeholder {
        "K" => one(pick(rng, &[b"k1" as &[u8], b"k2", b"k3", b"\0\r\n\xff", b"", b"h1", b"s1"])),
        "H" => one(pick(rng, &[b"h1" as &[u8], b"h2", b"h3", b"k1", b"h1", b"h2"])),
        "S" => one(pick(rng, &[b"s1" as &[u8], b"s2", b"s3", b"h3", b"s1", b"s2"])),
        "A" => {
            let family = pick(rng, &["K", "H", "S"]);
            argument(rng, family)
        }
        "V" => value(rng),
        "M" if rng.u8(..10) == 0 => value(rng),
        "M" => vec![format!("m{}", rng.u8(..12)).into_bytes()],
        "I" => number(rng.u64(..20)),
        "N" => one(pick(rng, NUMBERS).as_bytes()),
        "n" => one(pick(rng, &["0", "1", "2", "-3", "5", "100", "-1", "x", "", "-9223372036854775808"]).as_bytes()),
        "B" => one(pick(rng, &["0", "1", "0", "1", "2", "x"]).as_bytes()),
        "F" => one(pick(rng, FLOATS).as_bytes()),
        "D" => one(pick(rng, &["0", "1", "0", "1", "16", "-1", "x", "4294967296"]).as_bytes()),
        "P" => one(pick(rng, &["*", "k*", "[hs]?", "", "nothing", "[^k]*", "?1", "\\k1"]).as_bytes()),
        "T" | "t" if rng.u8(..8) == 0 => one(pick(rng, &NUMBERS[13..]).as_bytes()),
        "T" | "t" if rng.u8(..12) == 0 => one(pick(rng, &["0", "-1", "9223372036854775807"]).as_bytes()),
        "U" | "u" if rng.u8(..6) == 0 => number(rng.u64(..1000)),
        "T" => number(rng.u64(1_000..1_000_000)),
        "t" => number(rng.u64(1_000_000..1_000_000_000)),
        "U" => number(milliseconds_now() / 1000 + rng.u64(1_000..1_000_000)),
        "u" => number(milliseconds_now() + rng.u64(1_000_000..1_000_000_000)),
        "UNIT" => one(pick(rng, &["BIT", "BYTE", "bit", "nibble"]).as_bytes()),
        "TYPES" => one(pick(rng, &["string", "hash", "set", "list", "SET", "x"]).as_bytes()),
        "OPTIONS" => {
            some_of(rng, &["NX", "XX", "GET", "KEEPTTL", "PERSIST", "EX T", "PX t", "EXAT U", "PXAT u", "EX", "V"])
        }
        "CONDITIONS" => some_of(rng, &["NX", "XX", "GT", "LT", "nx", "V"]),
        "SCANNING" => some_of(rng, &["COUNT 1", "COUNT 100", "COUNT n", "MATCH P", "MATCH m*", "MATCH"]),
        literal => one(literal.as_bytes()),
    }
}

fn value(rng: &mut Rng) -> Words {
    let fixed: &[&[u8]] =
        &[b"hello", b"", b"12", b"-7", b"007", b"3.5", b"\xff\0\r\n$5", b"9223372036854775807", b"10.50"];
    vec![match rng.u8(..6) {
        0 => vec![b'x'; [22, 23, 44, 45, 64, 65, 300][rng.usize(..7)]],
        1 => rng.i32(-1000..1000).to_string().into_bytes(),
        _ => pick(rng, fixed).to_vec(),
    }]
}

fn some_of(rng: &mut Rng, choices: &[&str]) -> Words {
    let count = [0, 1, 1, 1, 2, 2, 3][rng.usize(..7)];
    let mut words = Words::new();
    for _ in 0..count {
        for word in pick(rng, choices).split(' ') {
            words.extend(argument(rng, word));
        }
    }
    words
}

fn some_command(rng: &mut Rng) -> Words {
    let template = if rng.u16(..400) == 0 { pick(rng, RARE) } else { pick(rng, TEMPLATES) };
    let mut command: Words = template.split(' ').flat_map(|word| argument(rng, word)).collect();
    match rng.u8(..50) {
        0 => command.extend(value(rng)),
        1 if command.len() > 1 => drop(command.pop()),
        2 => command[0].make_ascii_lowercase(),
        3 if command.len() > 1 => {
            let position = rng.usize(1..command.len());
            command[position] = value(rng).remove(0);
        }
        _ => {}
    }
    command
}

fn seeds() -> Vec<u64> {
    match std::env::var("WEIR_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("WEIR_TEST_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    }
}

#[test]
fn random_commands_are_answered_as_redis_answers_them() {
    let redis = Redis::start();
    for seed in seeds() {
        println!("WEIR_TEST_SEED={seed}");
        let mut rng = Rng::with_seed(seed);
        let mut pair = Pair::new(&redis);
        for step in 0..COMMANDS_PER_SEED {
            let words = some_command(&mut rng);
            let session = rng.usize(..4);
            pair.check(session, &words, &format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn decimal_fractions_are_added_and_printed_as_redis_does() {
    let redis = Redis::start();
    let mut pair = Pair::new(&redis);
    let mut rng = Rng::with_seed(5);
    for round in 0..6000 {
        let digits = |rng: &mut Rng, most: usize| -> String {
            (0..rng.usize(..most)).map(|_| char::from(b'0' + rng.u8(..10))).collect()
        };
        let (sign, exponent) = (pick(&mut rng, &["", "-", "+"]), rng.i32(-25..25));
        let mut number = format!("{sign}{}.{}", digits(&mut rng, 22), digits(&mut rng, 22));
        match rng.u8(..8) {
            0 => number.push_str(&format!("e{exponent}")),
            1 => number = format!("{sign}0x{:x}.{:x}p{exponent}", rng.u64(..), rng.u32(..)),
            2 => number.push_str(&format!("e{}", exponent * 200)),
            _ => {}
        }
        let key = format!("sum{}", rng.u8(..4));
        let line = match rng.u8(..8) {
            0 => format!("SET {key} {number}"),
            1 => format!("GET {key}"),
            2 => format!("OBJECT ENCODING {key}"),
            3 => format!("HINCRBYFLOAT hash {key} {number}"),
            4 => format!("DEL {key}"),
            _ => format!("INCRBYFLOAT {key} {number}"),
        };
        pair.check(0, &words(&line), &format!("round {round}"));
    }
}

#[test]
fn patterns_match_what_they_match_in_redis() {
    let redis = Redis::start();
    let mut pair = Pair::new(&redis);
    let mut rng = Rng::with_seed(6);
    let text = |rng: &mut Rng, alphabet: &[u8], most: usize| -> Vec<u8> {
        (0..rng.usize(..most)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect()
    };
    for _ in 0..100 {
        let key = text(&mut rng, b"aabbc-]^\\", 6);
        pair.both(0, &vec![b"SET".to_vec(), key, b"v".to_vec()]);
    }
    for round in 0..3000 {
        let pattern = text(&mut rng, b"aabc*?[]]^-\\", 9);
        pair.check(0, &vec![b"KEYS".to_vec(), pattern], &format!("round {round}"));
    }
}

#[test]
fn large_collections_are_answered_as_redis_answers_them() {
    const READS: &[&str] = &[
        "HGETALL h",
        "SMEMBERS ints",
        "SUNION ints names",
        "SINTER ints names",
        "SSCAN names 0 COUNT 7",
        "HSCAN h 0 COUNT 5 MATCH f1*",
        "OBJECT ENCODING h",
        "OBJECT ENCODING ints",
        "OBJECT ENCODING names",
        "SRANDMEMBER names 50",
        "HRANDFIELD h -30 WITHVALUES",
        "HRANDFIELD h 1000",
        "SDIFFSTORE d ints names",
        "COPY h g REPLACE",
        "HLEN g",
        "SSCAN ints 0",
        "HVALS h",
    ];
    let redis = Redis::start();
    let mut pair = Pair::new(&redis);
    let mut rng = Rng::with_seed(9);
    for round in 0..5000 {
        let member = rng.u32(..900);
        let line = match rng.u8(..16) {
            0..6 => format!("HSET h f{member} {}", "v".repeat(rng.usize(..80))),
            6..9 => format!("SADD ints {member} {}", rng.u32(..900)),
            9..12 => format!("SADD names n{member} x{}", rng.u32(..900)),
            12 => format!("HDEL h f{member}"),
            13 => format!("SREM ints {member}"),
            _ => pick(&mut rng, READS).to_string(),
        };
        let session = rng.usize(..2);
        pair.check(session, &words(&line), &format!("round {round}"));
    }
}
