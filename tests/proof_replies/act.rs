//! What a client does, in commands and what must be answered to them.

use crate::expect::Expect;
use crate::harness::{Reply, command};
use fastrand::Rng;
use std::collections::HashMap;

/// One client's knowledge of itself: nobody else writes its keys.
pub struct Memory {
    pub life: u64,
    pub database: u32,
    values: HashMap<(u32, String), String>,
    counters: HashMap<u32, i64>,
    sequence: u64,
}

/// Commands, and what each must be answered.
#[derive(Default)]
pub struct Script {
    pub bytes: Vec<u8>,
    pub expected: Vec<(String, Expect)>,
}

impl Script {
    fn say(&mut self, words: &[&str], expected: Expect) {
        self.bytes.extend_from_slice(&command(words));
        let shown: String = words.join(" ").chars().take(200).collect();
        self.expected.push((shown, expected));
    }
}

/// Redis databases that clients are in.
const DATABASES: u32 = 4;
const KEYS: u32 = 5;

impl Memory {
    pub fn new(life: u64) -> Memory {
        Memory { life, database: 0, values: HashMap::new(), counters: HashMap::new(), sequence: 0 }
    }

    fn key(&self, random: &mut Rng) -> String {
        format!("own:{}:{}", self.life, random.u32(..KEYS))
    }

    /// Never used before. Some are so long that they are passed on before their end has come.
    fn value(&mut self, key: &str, random: &mut Rng) -> String {
        let filling = if random.u8(..50) == 0 { 100_000 } else { random.usize(..60) };
        let (database, tag) = (self.database, self.tag());
        format!("{key}/{database}/{tag}/{}", "x".repeat(filling))
    }

    /// This client's, and never used before.
    pub fn tag(&mut self) -> String {
        self.sequence += 1;
        format!("{}.{}", self.life, self.sequence)
    }

    fn known(&self, key: &str) -> Reply {
        self.values.get(&(self.database, key.to_owned())).map_or(Reply::Nil, Reply::bulk)
    }

    fn remember(&mut self, key: &str, value: &str) {
        self.values.insert((self.database, key.to_owned()), value.to_owned());
    }

    /// One thing or another. `shared` is a tag that others ask for too.
    pub fn act(&mut self, script: &mut Script, shared: &str, random: &mut Rng) {
        match random.u8(..24) {
            0..3 => self.set(script, random),
            3..6 => self.get(script, random),
            6 => self.get_many(script, random),
            7 => self.count(script),
            8..11 => self.read_through(script, shared, random),
            11 => self.read_through_many(script),
            12 => script.say(&["DEL", &format!("quick:{shared}")], Expect::ZeroOrOne),
            13..15 => self.transact(script, random),
            15 => self.watch(script, random),
            16 => self.pop(script),
            17 => self.pop_nothing(script, random),
            18 => self.subscribe(script),
            19 => self.select(script, random),
            20 => self.hello(script, random),
            21 => self.name(script),
            22 => script.say(&["CLIENT", "ID"], Expect::Id),
            _ => {
                let text = self.tag();
                script.say(&["ECHO", &text], Expect::bulk(&text));
            }
        }
    }

    fn set(&mut self, script: &mut Script, random: &mut Rng) {
        let key = self.key(random);
        let value = self.value(&key, random);
        self.remember(&key, &value);
        script.say(&["SET", &key, &value], Expect::ok());
    }

    fn get(&mut self, script: &mut Script, random: &mut Rng) {
        let key = self.key(random);
        script.say(&["GET", &key], Expect::Exactly(self.known(&key)));
    }

    fn get_many(&mut self, script: &mut Script, random: &mut Rng) {
        let keys = [self.key(random), self.key(random), format!("own:{}:none", self.life)];
        let values = keys.iter().map(|key| self.known(key)).collect();
        script.say(&["MGET", &keys[0], &keys[1], &keys[2]], Expect::Exactly(Reply::Array(values)));
    }

    fn count(&mut self, script: &mut Script) {
        let counter = self.counters.entry(self.database).or_default();
        *counter += 1;
        let count = *counter;
        script.say(&["INCR", &format!("count:{}", self.life)], Expect::Exactly(Reply::Int(count)));
    }

    fn read_through(&mut self, script: &mut Script, shared: &str, random: &mut Rng) {
        let tag = if random.bool() { shared.to_owned() } else { self.tag() };
        match random.u8(..6) {
            0 => script.say(&["GET", &format!("absent:{tag}")], Expect::Exactly(Reply::Nil)),
            1 => {
                let length = format!("quick {tag}").len() as i64;
                script.say(&["STRLEN", &format!("quick:{tag}")], Expect::Exactly(Reply::Int(length)));
            }
            2 => script.say(&["GET", &format!("slow:{tag}")], Expect::bulk(format!("slow {tag}"))),
            _ => script.say(&["GET", &format!("quick:{tag}")], Expect::bulk(format!("quick {tag}"))),
        }
    }

    fn read_through_many(&mut self, script: &mut Script) {
        let (one, other) = (self.tag(), self.tag());
        let values = vec![Reply::bulk(format!("quick {one}")), Reply::Nil, Reply::bulk(format!("quick {other}"))];
        let keys = [format!("quick:{one}"), format!("absent:{one}"), format!("quick:{other}")];
        script.say(&["MGET", &keys[0], &keys[1], &keys[2]], Expect::Exactly(Reply::Array(values)));
    }

    fn transact(&mut self, script: &mut Script, random: &mut Rng) {
        let key = self.key(random);
        let value = self.value(&key, random);
        self.remember(&key, &value);
        script.say(&["MULTI"], Expect::ok());
        script.say(&["SET", &key, &value], Expect::queued());
        script.say(&["GET", &key], Expect::queued());
        script.say(&["EXEC"], Expect::Exactly(Reply::Array(vec![Reply::ok(), Reply::bulk(&value)])));
    }

    fn watch(&mut self, script: &mut Script, random: &mut Rng) {
        let key = self.key(random);
        let known = self.known(&key);
        script.say(&["WATCH", &key], Expect::ok());
        script.say(&["GET", &key], Expect::Exactly(known.clone()));
        script.say(&["MULTI"], Expect::ok());
        script.say(&["GET", &key], Expect::queued());
        script.say(&["EXEC"], Expect::Exactly(Reply::Array(vec![known])));
    }

    fn pop(&mut self, script: &mut Script) {
        let (list, element) = (format!("list:{}", self.life), self.tag());
        script.say(&["RPUSH", &list, &element], Expect::Exactly(Reply::Int(1)));
        let popped = Reply::Array(vec![Reply::bulk(&list), Reply::bulk(&element)]);
        script.say(&["BLPOP", &list, "0"], Expect::Exactly(popped));
    }

    fn pop_nothing(&mut self, script: &mut Script, random: &mut Rng) {
        let patience = format!("0.0{}", random.u8(1..4));
        script.say(&["BLPOP", &format!("nothing:{}", self.life), &patience], Expect::Exactly(Reply::Nil));
    }

    fn subscribe(&mut self, script: &mut Script) {
        let channel = format!("channel {}", self.tag());
        script.say(&["SUBSCRIBE", &channel], Expect::Confirms("subscribe", channel.clone(), 1));
        script.say(&["UNSUBSCRIBE", &channel], Expect::Confirms("unsubscribe", channel.clone(), 0));
    }

    fn select(&mut self, script: &mut Script, random: &mut Rng) {
        self.database = random.u32(..DATABASES);
        script.say(&["SELECT", &self.database.to_string()], Expect::ok());
    }

    fn hello(&mut self, script: &mut Script, random: &mut Rng) {
        let version = random.i64(2..=3);
        script.say(&["HELLO", &version.to_string()], Expect::Protocol(version));
    }

    fn name(&mut self, script: &mut Script) {
        let name = format!("client-{}", self.tag());
        script.say(&["CLIENT", "SETNAME", &name], Expect::ok());
        script.say(&["CLIENT", "GETNAME"], Expect::bulk(&name));
    }
}
