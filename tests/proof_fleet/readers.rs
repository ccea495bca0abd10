//! Clients that read, in every way in which keys are read, and write down what they were answered.

use crate::crowd::{Crowd, History, Line, count};
use crate::fleet::WEIRS;
use crate::harness::Reply;
use crate::history::Read;
use crate::shop::Kind;

pub struct Reader<'a> {
    crowd: &'a Crowd<'a>,
    number: u16,
    random: fastrand::Rng,
    line: Line<'a>,
}

/// A command, and the rows that its answer tells of.
pub struct Question {
    /// Its name, and the rest of it.
    name: &'static str,
    arguments: Vec<String>,
    kind: Kind,
    rows: Vec<usize>,
}

impl Question {
    pub fn get(row: usize) -> Question {
        Question { name: "GET", arguments: vec![Kind::Row.key(row)], kind: Kind::Row, rows: vec![row] }
    }

    fn mget(rows: Vec<usize>) -> Question {
        let arguments = rows.iter().map(|row| Kind::Row.key(*row)).collect();
        Question { name: "MGET", arguments, kind: Kind::Row, rows }
    }

    pub fn hgetall(row: usize) -> Question {
        Question { name: "HGETALL", arguments: vec![Kind::Card.key(row)], kind: Kind::Card, rows: vec![row] }
    }

    fn hmget(row: usize) -> Question {
        let arguments = [&Kind::Card.key(row), "id", "version"].map(str::to_owned).to_vec();
        Question { name: "HMGET", arguments, kind: Kind::Card, rows: vec![row] }
    }

    fn command(&self) -> Vec<String> {
        std::iter::once(self.name.to_owned()).chain(self.arguments.iter().cloned()).collect()
    }

    /// Of each row the version that it has by this answer; `None` if this is no answer to the question.
    fn versions(&self, reply: &Reply) -> Option<Vec<Option<u64>>> {
        match (self.name, reply) {
            ("MGET", Reply::Array(items)) if items.len() == self.rows.len() => {
                items.iter().zip(&self.rows).map(|(item, row)| of_json(item, *row)).collect()
            }
            ("GET", reply) => Some(vec![of_json(reply, self.rows[0])?]),
            ("HGETALL", Reply::Array(_) | Reply::Map(_)) => {
                let pairs = reply.pairs();
                let field = |name: &str| pairs.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
                Some(vec![of_fields(field("id"), field("version"), self.rows[0])?])
            }
            ("HMGET", Reply::Array(items)) if items.len() == 2 => {
                let text = |item: &Reply| if *item == Reply::Nil { None } else { Some(item.text()) };
                Some(vec![of_fields(text(&items[0]).as_deref(), text(&items[1]).as_deref(), self.rows[0])?])
            }
            _ => None,
        }
    }
}

/// `Some(None)`: there is no such row.
fn of_json(reply: &Reply, row: usize) -> Option<Option<u64>> {
    let Reply::Bulk(bytes) = reply else { return (*reply == Reply::Nil).then_some(None) };
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    (json["id"].as_u64()? == row as u64).then_some(Some(json["version"].as_u64()?))
}

fn of_fields(id: Option<&str>, version: Option<&str>, row: usize) -> Option<Option<u64>> {
    match (id, version) {
        (None, None) => Some(None),
        (Some(id), Some(version)) => (id == row.to_string()).then_some(Some(version.parse().ok()?)),
        _ => None,
    }
}

impl<'a> Reader<'a> {
    pub fn new(crowd: &'a Crowd<'a>, number: u16, random: fastrand::Rng) -> Reader<'a> {
        let line = Line::new(crowd, usize::from(number) % WEIRS, number / WEIRS as u16 % 2 == 1);
        Reader { crowd, number, random, line }
    }

    pub fn read(mut self, history: &mut History) {
        while !self.crowd.ends() {
            let questions = match self.random.u8(..10) {
                0..8 => vec![self.question()],
                _ => (0..self.random.usize(2..6)).map(|_| self.question()).collect(),
            };
            ask(self.crowd, &mut self.line, self.number, &questions, history);
        }
    }

    fn question(&mut self) -> Question {
        let row = self.pick();
        match self.random.u8(..100) {
            0..50 => Question::get(row),
            50..65 => Question::hmget(row),
            65..85 => Question::hgetall(row),
            _ => Question::mget((0..self.random.usize(2..5)).map(|_| self.pick()).collect()),
        }
    }

    fn pick(&mut self) -> usize {
        self.crowd.shop.pick(&mut self.random)
    }
}

/// Asks all in one piece and writes the answers down.
pub fn ask(crowd: &Crowd, line: &mut Line, client: u16, questions: &[Question], history: &mut History) {
    let commands: Vec<Vec<String>> = questions.iter().map(Question::command).collect();
    let start = crowd.now();
    let Some(replies) = line.ask(&commands, history) else { return };
    let end = crowd.now();
    for ((question, command), reply) in questions.iter().zip(&commands).zip(&replies) {
        let Some(versions) = question.versions(reply) else {
            line.note_failure(command, reply, history);
            continue;
        };
        for (row, seen) in question.rows.iter().zip(versions) {
            let (command, key) = (question.name, question.kind.number(*row));
            history.reads.push(Read { client, weir: line.weir as u8, command, key, start, end, seen });
            count(&crowd.counts.reads);
        }
    }
}
