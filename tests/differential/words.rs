//! The grammar that templates are written in, and what stands for what.
//!
//! A template is words between spaces. `$x` stands for a choice (see [`choices`] and [`key`]); `( a | b )` for one of
//! several, `[ a | b ]` for one of several or, more often, nothing; `{ a }` for one to three times the same. A key is
//! now and then of another type or missing; `$l!` is always one of those names.

use fastrand::Rng;

type Words = Vec<Vec<u8>>;

/// One of these.
pub fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// One command of this template.
pub fn fill(rng: &mut Rng, template: &str) -> Words {
    let mut out = Vec::new();
    let tokens: Vec<&str> = template.split(' ').collect();
    sequence(rng, &tokens, &mut out);
    out
}

fn sequence(rng: &mut Rng, tokens: &[&str], out: &mut Words) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let Some(closer) = closer(token) else {
            out.push(word(rng, token));
            at += 1;
            continue;
        };
        let end = at + matching(&tokens[at..], token, closer);
        let inner = &tokens[at + 1..end];
        match *token {
            "{" => (0..rng.usize(1..=3)).for_each(|_| sequence(rng, inner, out)),
            "[" if rng.u8(..3) > 0 => {}
            _ => {
                let option = pick(rng, &split(inner));
                sequence(rng, option, out);
            }
        }
        at = end + 1;
    }
}

fn closer(token: &str) -> Option<&'static str> {
    match token {
        "(" => Some(")"),
        "[" => Some("]"),
        "{" => Some("}"),
        _ => None,
    }
}

/// Where the bracket that `tokens` begin with is closed.
fn matching(tokens: &[&str], opener: &str, closer: &str) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += usize::from(*token == opener);
        depth -= usize::from(*token == closer);
        if depth == 0 {
            return at;
        }
    }
    panic!("{opener} is not closed in {tokens:?}")
}

/// The alternatives, at the outermost level.
fn split<'a, 'b>(tokens: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut depth = 0_i32;
    tokens
        .split(|token| {
            depth += i32::from(closer(token).is_some()) - i32::from(matches!(*token, ")" | "]" | "}"));
            depth == 0 && *token == "|"
        })
        .collect()
}

fn word(rng: &mut Rng, token: &str) -> Vec<u8> {
    let Some(name) = token.strip_prefix('$').filter(|name| !name.is_empty()) else { return token.as_bytes().to_vec() };
    if let Some(key) = key(rng, name) {
        return key.as_bytes().to_vec();
    }
    match name {
        "bytes" => b"\r\n\0\xff\xfe$-1\r\n".to_vec(),
        "long" => vec![b'x'; rng.usize(60..90)],
        "huge" => vec![b'y'; rng.usize(16_000..40_000)],
        "restore" => RESTORED.to_vec(),
        "no-functions" => NO_FUNCTIONS.to_vec(),
        // Never twice the same: whether GT takes a life as long as the last one depends on the clock's milliseconds.
        "life-once" => rng.u32(200_000..9_000_000).to_string().into_bytes(),
        "v" if rng.u8(..12) == 0 => {
            let odd = pick(rng, &["$bytes", "$long"]);
            word(rng, odd)
        }
        _ => {
            let choices = choices(name).unwrap_or_else(|| panic!("{token} stands for nothing"));
            pick(rng, choices).as_bytes().to_vec()
        }
    }
}

/// The key names, by the letter of their type; see `setup`.
const TYPES: &[(&str, &[&str])] = &[
    ("s", &["s1", "s2", "s3", "s4"]),
    ("n", &["n1", "n2", "s2", "s3"]),
    ("b", &["b1", "b2", "s1"]),
    ("h", &["h1", "h2"]),
    ("l", &["l1", "l2"]),
    ("e", &["e1", "e2", "e3"]),
    ("z", &["z1", "z2", "z3"]),
    // All scores are the same: else a skip list's answer to a range of words depends on its random levels.
    ("zl", &["z4"]),
    ("x", &["x1", "x2"]),
    ("g", &["g1"]),
    ("p", &["p1", "p2"]),
    ("0", &["new1", "new2"]),
];

fn key(rng: &mut Rng, name: &str) -> Option<&'static str> {
    let any = |rng: &mut Rng| pick(rng, TYPES).1;
    let (letter, exactly) = name.strip_suffix('!').map_or((name, false), |letter| (letter, true));
    let of_type = TYPES.iter().find(|(of_type, _)| *of_type == letter).map(|(_, keys)| *keys);
    let keys = match (of_type, rng.u8(..16)) {
        (None, _) if letter != "k" => return None,
        (None, _) => any(rng),
        (Some(_), 0) if !exactly => any(rng),
        (Some(_), 1) if !exactly => &["new1", "new2"],
        (Some(keys), _) => keys,
    };
    Some(pick(rng, keys))
}

/// DUMP's answer for a string "10", of version 10 of the format.
const RESTORED: &[u8] = b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb";

/// FUNCTION DUMP's answer where there are none.
const NO_FUNCTIONS: &[u8] = b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda";

fn choices(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "v" => &["hello", "", "10", "-7", "3.14", "another value", "0", "a"],
        "m" => &["m1", "m2", "m3", "m4", "4", "1", "a", "b", "c"],
        "f" => &["f1", "f2", "f3", "f4", "none"],
        "i" => &["0", "1", "2", "3", "-1", "-2", "10", "-100"],
        "I" => &["1", "-1", "5", "100", "0", "9223372036854775807", "-9223372036854775808", "abc", "1.5", " 1", "01"],
        "count" => &["1", "2", "3", "10", "0", "-1"],
        "few" => &["1", "2", "3"],
        "d" => &["1", "2.5", "-1", "0", "1e3", "inf", "-inf", "0.1", "3", "100"],
        "D" => &["1.5", "-0.1", "1e10", "0", "3", "abc", "nan", "inf", "1e400", ""],
        "bit" => &["0", "1"],
        "off" => &["0", "1", "7", "8", "20", "100"],
        "ttl" => &["60000", "100000", "100000", "0", "-1", "abc", "9223372036854775807"],
        "life" => &["1000", "100000"],
        "at" => &["9999999999", "9999999998", "1", "0"],
        "at-ms" => &["9999999999000", "9999999998000", "1", "0"],
        "min" => &["-inf", "0", "1", "(1", "2", "(0"],
        "max" => &["+inf", "inf", "2", "(3", "3", "10"],
        "lexmin" => &["-", "[a", "(a", "[b"],
        "lexmax" => &["+", "[c", "(c", "[b"],
        "id" => &["0", "1-1", "2-1", "3-1", "1", "0-0", "9-9"],
        "newid" => &["5-1", "5-*", "6-0", "9-9", "1-1", "10"],
        "start" => &["-", "1-1", "2", "(1-1", "0"],
        "end" => &["+", "2-1", "3", "(3-1", "9-9"],
        "group" => &["w1", "w1", "w1", "w2"],
        "who" => &["c1", "c1", "c2"],
        "member" => &["Palermo", "Catania", "Nowhere"],
        "lon" => &["13.361389", "15", "0", "-180", "181"],
        "lat" => &["38.115556", "37", "0", "85", "90"],
        "unit" => &["m", "km", "mi", "ft"],
        "db" => &["0", "1", "2", "15"],
        "baddb" => &["16", "-1", "abc", "", "99999999999999999999"],
        "ch" => &["ch1", "ch2", "news:a", "news:b"],
        "pattern" => &["*", "s*", "?1", "new[12]", "h?", "none*", "[a-h]1", "\\*"],
        "enc" => &["u8", "i5", "u63", "i64"],
        "script" => SCRIPTS,
        "ro-script" => RO_SCRIPTS,
        "bad-script" => BAD_SCRIPTS,
        "sha" => SHAS,
        "library" => LIBRARIES,
        "word" => &["hello", "GET", "FOO", "on", "off", "1", "x", "*"],
        _ => return None,
    })
}

/// None answers a hash or a set as a whole: that is in the order of each server's own seed, and no script has a mark.
const SCRIPTS: &[&str] = &[
    "return 1",
    "return KEYS[1]",
    "return ARGV",
    "return {1,2,{3,'four'},false,true}",
    "return redis.call('SET',KEYS[1],ARGV[1] or 'x')",
    "return redis.call('INCR',KEYS[1])",
    "return redis.pcall('INCR',KEYS[1])",
    "return redis.call('GET',KEYS[1])",
    "redis.setresp(3) return {map={f2=redis.call('HGETALL',KEYS[1]).map.f2}}",
    "redis.setresp(3) return {double=3.5}",
    "return {ok='FINE'}",
    "return {err='ERR mine'}",
    "return redis.error_reply('MINE own')",
    "return redis.status_reply('FINE')",
    "return redis.call('LPUSH',KEYS[1],'a','b')",
    "return tostring(redis.sha1hex('a'))",
    "#!lua\nreturn 2",
    "#!lua flags=no-writes\nreturn redis.call('GET',KEYS[1])",
    "return redis.call('PUBLISH','ch1','from a script')",
];

const RO_SCRIPTS: &[&str] = &[
    "return 1",
    "return redis.call('GET',KEYS[1])",
    "return {KEYS[1],ARGV[1]}",
    "return redis.call('SET',KEYS[1],'x')",
];

const BAD_SCRIPTS: &[&str] = &[
    "return",
    "this is no lua",
    "error('thrown')",
    "return redis.call('NOSUCH')",
    "return redis.call()",
    "return redis.call('GET')",
    "return x",
    "return redis.call('SUBSCRIBE','a')",
    "return redis.call('MULTI')",
    "#!python\nreturn 1",
    "return redis.call('SELECT','abc')",
];

/// Of "return 1", of "return ARGV", and of nothing.
const SHAS: &[&str] = &[
    "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    "4cf2342858f27cba86b2b790280b0ba54885a7d0",
    "ffffffffffffffffffffffffffffffffffffffff",
    "abc",
];

const LIBRARIES: &[&str] = &[
    "#!lua name=lib1\nredis.register_function('fn1',function(k,a) return {k,a} end)",
    "#!lua name=lib1\nredis.register_function('fn1',function(k,a) return redis.call('SET',k[1],a[1] or 'f') end)",
    "#!lua name=lib1\nredis.register_function{function_name='fn1',callback=function(k,a) return redis.call('GET',k[1]) end,flags={'no-writes'}}",
    "#!lua name=lib2\nredis.register_function('fn2',function() return 'two' end)",
    "#!lua name=lib2\nthis is no lua",
    "no header",
];
