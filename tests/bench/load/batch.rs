//! What is sent: the bytes of a pipeline, encoded once, in which only the digits of the keys change from one to the next.

use crate::replies::Expected;

/// Digits of a key's number. All have as many, so that a key can be written over another.
const DIGITS: usize = 12;

/// What all the commands of a run have in common.
pub struct Shape {
    pub pipeline: usize,
    pub prefix: String,
    pub value_bytes: usize,
}

/// The commands that are sent together.
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the digits of keys stand.
    places: Vec<usize>,
    /// What is to come back, in order.
    pub expected: Vec<Expected>,
}

impl Batch {
    fn command(&mut self, words: &[Word<'_>], expected: Expected) {
        self.bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            match word {
                Word::Text(text) => {
                    self.bytes.extend_from_slice(format!("${}\r\n{text}", text.len()).as_bytes());
                }
                Word::Value(bytes) => {
                    self.bytes.extend_from_slice(format!("${bytes}\r\n").as_bytes());
                    self.bytes.resize(self.bytes.len() + bytes, b'x');
                }
                Word::Key(prefix) => {
                    self.bytes.extend_from_slice(format!("${}\r\n{prefix}", prefix.len() + DIGITS).as_bytes());
                    self.places.push(self.bytes.len());
                    self.bytes.resize(self.bytes.len() + DIGITS, b'0');
                }
            }
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.expected.push(expected);
    }

    /// Writes the batch with other keys over what `out` holds.
    pub fn write(&self, out: &mut Vec<u8>, mut next_key: impl FnMut() -> u64) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        let mut digits = itoa::Buffer::new();
        for &place in &self.places {
            let number = digits.format(next_key());
            out[place..place + DIGITS].copy_from_slice(number.as_bytes());
        }
    }
}

enum Word<'a> {
    Text(&'a str),
    /// So many bytes.
    Value(usize),
    /// This prefix, and a number.
    Key(&'a str),
}

/// A number that is a key's: of [`DIGITS`] digits, none of them a leading zero, so that it is also the text of an integer.
pub fn is_key(number: u64) -> bool {
    (100_000_000_000..1_000_000_000_000).contains(&number)
}

pub fn gets(shape: &Shape) -> Vec<Batch> {
    let mut batch = Batch::default();
    for _ in 0..shape.pipeline {
        get(&mut batch, &shape.prefix, Expected::Value(shape.value_bytes));
    }
    vec![batch]
}

pub fn sets(shape: &Shape, expire: Option<u32>) -> Vec<Batch> {
    let mut batch = Batch::default();
    for _ in 0..shape.pipeline {
        set(&mut batch, shape, expire);
    }
    vec![batch]
}

/// As many batches as there are ways in which one can begin, so that the shares are right for each pipeline depth.
pub fn mix(shape: &Shape, reads: usize) -> Vec<Batch> {
    let mut number = 0;
    let batches = (0..100).map(|_| {
        let mut batch = Batch::default();
        for _ in 0..shape.pipeline {
            // The writes are spread as evenly as may be.
            match number * (100 - reads) % 100 < 100 - reads {
                true => set(&mut batch, shape, None),
                false => get(&mut batch, &shape.prefix, Expected::Value(shape.value_bytes)),
            }
            number += 1;
        }
        batch
    });
    batches.collect()
}

pub fn mgets(shape: &Shape, count: usize) -> Vec<Batch> {
    let mut words = vec![Word::Text("MGET")];
    words.resize_with(count + 1, || Word::Key(&shape.prefix));
    let mut batch = Batch::default();
    for _ in 0..shape.pipeline {
        batch.command(&words, Expected::Values { count, bytes: shape.value_bytes });
    }
    vec![batch]
}

pub fn mixed(shape: &Shape, present: &[String], absent: &[String]) -> Vec<Batch> {
    let value = Expected::Value(shape.value_bytes);
    let kinds: Vec<_> = present
        .iter()
        .map(|prefix| (prefix, value))
        .chain(absent.iter().map(|prefix| (prefix, Expected::Nil)))
        .collect();
    let mut batch = Batch::default();
    for (prefix, expected) in kinds.iter().cycle().take(shape.pipeline) {
        get(&mut batch, prefix, *expected);
    }
    vec![batch]
}

fn get(batch: &mut Batch, prefix: &str, expected: Expected) {
    batch.command(&[Word::Text("GET"), Word::Key(prefix)], expected);
}

fn set(batch: &mut Batch, shape: &Shape, expire: Option<u32>) {
    let (key, value) = (Word::Key(&shape.prefix), Word::Value(shape.value_bytes));
    match expire.map(|seconds| seconds.to_string()) {
        None => batch.command(&[Word::Text("SET"), key, value], Expected::Ok),
        Some(seconds) => {
            batch.command(&[Word::Text("SET"), key, value, Word::Text("EX"), Word::Text(&seconds)], Expected::Ok)
        }
    }
}
