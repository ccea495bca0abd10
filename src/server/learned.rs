//! Commands that the table does not have, a module's or a newer server's: the upstream's COMMAND INFO tells where their
//! keys are, whether they change them, and whether they may wait.
//!
//! Asked once for each name and worker. What is learned is kept for as long as the process lives, like the rows of the
//! table itself, and so is bounded in number.

use crate::resp::command::{Access, Flags, Group, Handling, Keys, Spec, lookup};
use crate::resp::frame::{self, Reply};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many commands are learned; others are passed on as if nobody knew them.
const MOST: usize = 512;
/// So many names that nobody knows are remembered, for so long: clients may send any, and modules may be loaded.
const MOST_UNKNOWN: usize = 256;
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// No command of any module has a longer name.
const LONGEST: usize = 64;

const WAITS: &str = "the embedded store knows no modules; configure an [upstream]";
const RENAMED: &str = "the upstream knows it under this name only (rename-command), and Weir serves it by its own; \
    undo the renaming, and let [server] users say who may run it";
const ADMINISTERS: &str = "the server says that it is for administrators; connect to Redis itself";

/// See the module's page.
#[derive(Default)]
pub struct Learned(RefCell<Names>);

#[derive(Default)]
struct Names {
    commands: HashMap<Vec<u8>, &'static Spec>,
    unknown: HashMap<Vec<u8>, Instant>,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// All that matters.
    Command(&'static Spec),
    /// That the upstream does not know it either, or cannot be asked.
    Unknown,
    /// Nothing: ask.
    New,
}

impl Learned {
    /// What is known of `name`, in any case.
    pub fn word(&self, name: &[u8]) -> Word {
        if name.len() > LONGEST {
            return Word::Unknown;
        }
        let (names, name) = (self.0.borrow(), name.to_ascii_lowercase());
        match (names.commands.get(&name), names.unknown.get(&name)) {
            (Some(spec), _) => Word::Command(spec),
            (None, Some(since)) if since.elapsed() < UNKNOWN_FOR => Word::Unknown,
            (None, _) if names.commands.len() >= MOST => Word::Unknown,
            (None, _) => Word::New,
        }
    }

    /// Takes on what COMMAND INFO answers to one name; `None`: it could not be asked.
    pub fn learn(&self, name: &[u8], reply: Option<&[u8]>) {
        let mut names = self.0.borrow_mut();
        let name = name.to_ascii_lowercase();
        match reply.and_then(|reply| read(&name, reply)) {
            Some(spec) => {
                names.unknown.remove(&name);
                // Kept for ever, as the rows of the table are; at most MOST of them.
                names.commands.entry(name).or_insert_with(|| Box::leak(Box::new(spec)));
            }
            None => {
                if names.unknown.len() >= MOST_UNKNOWN {
                    names.unknown.clear();
                }
                names.unknown.insert(name, Instant::now());
            }
        }
    }
}

/// A row of the table, from `[[name, arity, [flag …], first, last, step, [category …], [tip …], [key specification …], …]]`.
fn read(name: &[u8], reply: &[u8]) -> Option<Spec> {
    let Reply::Array(rows) = frame::decode(reply, 16).ok()? else { return None };
    let Reply::Array(row) = rows.first()? else { return None };
    let number = |index: usize| match row.get(index) {
        Some(Reply::Integer(number)) => i16::try_from(*number).ok(),
        _ => None,
    };
    // One of the table's under another name: what is done here by its name cannot be.
    let original = row.first()?.as_bytes().and_then(lookup).filter(|spec| spec.name.as_bytes() != name);
    let flags = flags(row.get(2)?);
    let (first, last, step) = (number(3)?, number(4)?, number(5)?);
    let keys = match row.get(8).and_then(key_count) {
        Some(position) => Keys::Numkeys(position),
        None if first == 0 => Keys::None,
        None => Keys::Range,
    };
    let handling = if let Some(original) = original.filter(|spec| needs_its_name(spec)) {
        match original.handling {
            Handling::Refused(why) => Handling::Refused(why),
            _ => Handling::Refused(RENAMED),
        }
    } else if flags.contains(Flags::ADMIN) {
        Handling::Refused(ADMINISTERS)
    } else if flags.contains(Flags::BLOCKING) || flags.contains(Flags::PUBSUB) {
        Handling::Stateful(WAITS)
    } else {
        Handling::Forward
    };
    Some(Spec {
        name: String::from_utf8_lossy(name).into_owned().leak(),
        arity: number(1)?,
        flags,
        first,
        last,
        step,
        keys,
        group: Group::Server,
        handling,
        // What it reads of a routed key is its own affair: it is no command of the route's type.
        access: if flags.contains(Flags::WRITE) { Access::Write } else { Access::None },
        subcommands: &[],
    })
}

/// Whether Weir itself looks at more than this command's keys.
fn needs_its_name(spec: &Spec) -> bool {
    spec.handling != Handling::Forward || !spec.subcommands.is_empty()
}

fn flags(reply: &Reply) -> Flags {
    let (Reply::Array(names) | Reply::Set(names)) = reply else { return Flags::of(&[]) };
    let names: Vec<&[u8]> = names.iter().filter_map(Reply::as_bytes).collect();
    Flags::of(&names)
}

/// Where the number of keys stands that are not where `first`, `last` and `step` say: the one kind of key specification
/// that commands have besides those.
fn key_count(specifications: &Reply) -> Option<u8> {
    let (Reply::Array(specifications) | Reply::Set(specifications)) = specifications else { return None };
    specifications.iter().find_map(|specification| {
        let begin = field(specification, b"begin_search")?;
        let find = field(specification, b"find_keys")?;
        let by_index = field(begin, b"type")?.as_bytes()? == b"index";
        let by_number = field(find, b"type")?.as_bytes()? == b"keynum";
        let Reply::Integer(index) = field(field(begin, b"spec")?, b"index")? else { return None };
        (by_index && by_number).then(|| u8::try_from(*index).ok()).flatten()
    })
}

/// The value of a name in a map, or in an array that stands for one.
fn field<'a>(map: &'a Reply, name: &[u8]) -> Option<&'a Reply> {
    match map {
        Reply::Map(pairs) => pairs.iter().find(|(key, _)| key.as_bytes() == Some(name)).map(|(_, value)| value),
        Reply::Array(flat) => flat.chunks_exact(2).find(|pair| pair[0].as_bytes() == Some(name)).map(|pair| &pair[1]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZUNION: &[u8] = b"*1\r\n*9\r\n$6\r\nzunion\r\n:-3\r\n*2\r\n+readonly\r\n+movablekeys\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n\
        *1\r\n*6\r\n$5\r\nflags\r\n*1\r\n+RO\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n\
        $5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$6\r\nkeynum\r\n$4\r\nspec\r\n*2\r\n$9\r\nkeynumidx\r\n:0\r\n";

    #[test]
    fn a_row_is_read_from_the_upstream_s_words() {
        let spec = read(b"my.zunion", ZUNION).unwrap();
        assert_eq!((spec.name, spec.arity, spec.keys, spec.access), ("my.zunion", -3, Keys::Numkeys(1), Access::None));
        let set = b"*1\r\n*6\r\n$8\r\njson.set\r\n:-4\r\n*2\r\n+write\r\n+denyoom\r\n:1\r\n:1\r\n:1\r\n";
        let spec = read(b"json.set", set).unwrap();
        assert_eq!((spec.first, spec.keys, spec.access), (1, Keys::Range, Access::Write));
        assert!(read(b"nothing", b"*1\r\n*-1\r\n").is_none());
        assert!(read(b"nothing", b"-ERR no\r\n").is_none());
    }

    #[test]
    fn names_that_nobody_knows_are_bounded() {
        let learned = Learned::default();
        for number in 0..10 * MOST_UNKNOWN {
            learned.learn(number.to_string().as_bytes(), None);
        }
        assert!(learned.0.borrow().unknown.len() <= MOST_UNKNOWN);
        learned.learn(b"Again", None);
        assert!(matches!(learned.word(b"aGAIN"), Word::Unknown));
        learned.learn(b"again", Some(b"*1\r\n*6\r\n$5\r\nagain\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n"));
        assert!(matches!(learned.word(b"again"), Word::Command(_)));
        assert!(matches!(learned.word(b"new"), Word::New));
    }
}
