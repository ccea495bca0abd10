//! One client from its first byte to its last, which comes at any time.

use crate::act::{Memory, Script};
use crate::harness::{Client, Reply, raw_command};
use crate::town::Town;
use fastrand::Rng;

/// How clients end; each must happen.
pub const ENDS: [&str; 5] = [
    "answered in full",
    "cut in what it sends",
    "cut in what it reads",
    "gone while its load runs",
    "gone while the server remembers it",
];

pub struct Life<'a> {
    town: &'a Town,
    random: &'a mut Rng,
    publisher: &'a mut Client,
    client: Client,
    memory: Memory,
    id: Option<i64>,
}

impl<'a> Life<'a> {
    pub fn begin(town: &'a Town, random: &'a mut Rng, publisher: &'a mut Client) -> Life<'a> {
        let (client, memory) = (Client::connect(town.port), Memory::new(town.next_life()));
        Life { town, random, publisher, client, memory, id: None }
    }

    pub fn live(mut self) {
        for _ in 0..self.random.u8(1..5) {
            let script = self.script();
            self.client.send(&script.bytes);
            if !self.judge(&script, script.expected.len()) {
                return self.town.ended("told something wrong");
            }
            if self.random.u8(..6) == 0 && !self.hear() {
                return self.town.ended("told something wrong");
            }
        }
        match self.random.u8(..6) {
            0 | 1 => self.town.ended(ENDS[0]),
            2 => self.cut_in_commands(),
            3 => self.cut_in_replies(),
            4 => self.leave_a_load(),
            _ => self.leave_a_state(),
        }
    }

    /// Some commands, to be sent in one write.
    fn script(&mut self) -> Script {
        let mut script = Script::default();
        for _ in 0..self.random.u8(1..16) {
            self.memory.act(&mut script, &self.town.shared_tag(), self.random);
        }
        script
    }

    /// Reads the first `count` replies; false if one is not what it must be.
    fn judge(&mut self, script: &Script, count: usize) -> bool {
        for (index, (command, expected)) in script.expected.iter().take(count).enumerate() {
            let story = match self.client.try_recv() {
                Ok(reply) if expected.fits(&reply, &mut self.id) => continue,
                Ok(reply) => format!("{reply:?}"),
                Err(error) => error.to_string(),
            };
            let (life, story) = (self.memory.life, story.chars().take(500).collect::<String>());
            self.town
                .wrong(format!("client {life}, command {index}, {command}: {story}; {expected:.300?} was expected"));
            return false;
        }
        self.town.judged(count as u64);
        true
    }

    /// A message from somebody else reaches the one who has subscribed.
    fn hear(&mut self) -> bool {
        let (channel, message) = (format!("letters {}", self.memory.tag()), self.memory.tag());
        let mut heard = |client: &mut Client| {
            client.try_cmd(&["SUBSCRIBE", &channel])?;
            let receivers = self.publisher.cmd(&["PUBLISH", &channel, &message]);
            let letter = client.try_recv()?;
            client.try_cmd(&["UNSUBSCRIBE", &channel])?;
            std::io::Result::Ok((receivers, letter))
        };
        let expected = vec![Reply::bulk("message"), Reply::bulk(&channel), Reply::bulk(&message)];
        match heard(&mut self.client) {
            Ok((Reply::Int(1), Reply::Array(letter) | Reply::Push(letter))) if letter == expected => {
                self.town.judged(4);
                true
            }
            other => {
                self.town.wrong(format!("client {} on {channel} heard {other:?}", self.memory.life));
                false
            }
        }
    }

    /// Hangs up, politely or not.
    fn hang_up(self, how: &'static str) {
        self.town.ended(how);
        if self.random.bool() {
            self.client.abort();
        }
    }

    fn cut_in_commands(mut self) {
        let script = self.script();
        let sent = self.random.usize(..script.bytes.len());
        self.client.send(&script.bytes[..sent]);
        self.hang_up(ENDS[1]);
    }

    fn cut_in_replies(mut self) {
        let script = self.script();
        self.client.send(&script.bytes);
        let whole = self.random.usize(..script.expected.len());
        if !self.judge(&script, whole) {
            return self.town.ended("told something wrong");
        }
        let more = self.random.usize(..script.expected[whole].1.least_bytes());
        self.client.recv_bytes(more);
        self.hang_up(ENDS[2]);
    }

    fn leave_a_load(mut self) {
        let tag = if self.random.bool() { self.town.shared_tag() } else { self.memory.tag() };
        self.client.send(&raw_command(&format!("GET slow:{tag}")));
        self.hang_up(ENDS[3]);
    }

    fn leave_a_state(mut self) {
        let own = self.memory.tag();
        let states = [
            format!("MULTI|SET own:{own} left"),
            format!("WATCH own:{own}|GET own:{own}"),
            format!("BLPOP own:{own} 0"),
            format!("SUBSCRIBE channel-{own}"),
            format!("MULTI|BLPOP own:{own} 0|EXEC|BLPOP own:{own} 0"),
            "CLIENT TRACKING on|GET own:1".to_owned(),
            format!("MULTI|SELECT 3|SET own:{own} left|EXEC"),
            "MONITOR".to_owned(),
        ];
        let commands = self.random.choice(&states).expect("there are some");
        self.client.send(&commands.split('|').flat_map(raw_command).collect::<Vec<u8>>());
        if self.random.bool()
            && !commands.starts_with("BLPOP")
            && let Err(error) = self.client.try_recv()
        {
            // The first of them must be answered: the link has certainly been used then.
            self.town.wrong(format!("client {}: {commands}: {error}", self.memory.life));
        }
        self.hang_up(ENDS[4]);
    }
}
