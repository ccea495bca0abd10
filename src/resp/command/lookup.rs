//! Name to [`Spec`], in any case, without allocation: open addressing over a table built by the compiler.
//!
//! A name is compared as three words, which costs a fraction of comparing it byte by byte.

use super::{COMMANDS, Spec};

/// Four times the commands or more, a power of two.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;
/// No command's name is longer.
const LONGEST: usize = 24;

/// A name of up to [`LONGEST`] bytes in lower case; its words may overlap, so the length belongs to it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    words: [u64; 3],
    len: usize,
}

static INDEX: [u16; SLOTS] = index();
static KEYS: [Key; COUNT] = keys();
const COUNT: usize = COMMANDS.len();

/// The command of this name, in any case. How far it looks is bounded by the table's longest run, which is fixed when
/// the table is built, so no client can make it slow.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    lookup_indexed(name).map(|(_, spec)| spec)
}

/// The same, with its index in [`COMMANDS`]: counters are kept in arrays by it.
#[inline]
pub fn lookup_indexed(name: &[u8]) -> Option<(u16, &'static Spec)> {
    if name.len() > LONGEST {
        return None;
    }
    let key = Key::of(name);
    let mut slot = key.slot();
    loop {
        let index = INDEX[slot];
        if index == EMPTY {
            return None;
        }
        if KEYS[index as usize] == key {
            return Some((index, &COMMANDS[index as usize]));
        }
        slot = (slot + 1) % SLOTS;
    }
}

impl Key {
    #[inline]
    const fn of(name: &[u8]) -> Key {
        let len = name.len();
        let words = match len {
            0 => [0; 3],
            1..4 => [name[0] as u64 | (name[len / 2] as u64) << 8 | (name[len - 1] as u64) << 16, 0, 0],
            4..8 => [four(name, 0) | four(name, len - 4) << 32, 0, 0],
            8..=16 => [eight(name, 0), eight(name, len - 8), 0],
            _ => [eight(name, 0), eight(name, 8), eight(name, len - 8)],
        };
        match len {
            0..8 => Key { words: [lower(words[0]), 0, 0], len },
            _ => Key { words: [lower(words[0]), lower(words[1]), lower(words[2])], len },
        }
    }

    #[inline]
    const fn slot(self) -> usize {
        let [first, second, third] = self.words;
        let mixed = first ^ second.rotate_left(23) ^ third.rotate_left(46) ^ self.len as u64;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % SLOTS
    }
}

#[inline]
const fn four(name: &[u8], at: usize) -> u64 {
    match name.split_at(at).1 {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]) as u64,
        _ => 0,
    }
}

#[inline]
const fn eight(name: &[u8], at: usize) -> u64 {
    match name.split_at(at).1 {
        [a, b, c, d, e, f, g, h, ..] => u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => 0,
    }
}

/// Lower case in each of eight bytes: 0x20 is set where the byte lies from 'A' to 'Z'.
#[inline]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let past_z = low + (0x7f - b'Z' as u64) * ONES;
    let upper = from_a & !past_z & !word & (0x80 * ONES);
    word | upper >> 2
}

const fn keys() -> [Key; COUNT] {
    let mut keys = [Key { words: [0; 3], len: 0 }; COUNT];
    let mut i = 0;
    while i < COUNT {
        assert!(COMMANDS[i].name.len() <= LONGEST);
        keys[i] = Key::of(COMMANDS[i].name.as_bytes());
        i += 1;
    }
    keys
}

const fn index() -> [u16; SLOTS] {
    let mut index = [EMPTY; SLOTS];
    const { assert!(COUNT * 4 <= SLOTS) };
    let mut i = 0;
    while i < COUNT {
        let mut slot = Key::of(COMMANDS[i].name.as_bytes()).slot();
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = i as u16;
        i += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else() {
        for spec in COMMANDS {
            for name in [spec.name.to_string(), spec.name.to_uppercase()] {
                assert!(std::ptr::eq(lookup(name.as_bytes()).expect("known"), spec), "{name}");
            }
        }
        for name in ["", "g", "gett", "get ", "\u{0}get", "get\u{0}", "geet", "a name that is much longer than any has"]
        {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn one_byte_more_or_less_or_other_is_another_name() {
        for spec in COMMANDS {
            let name = spec.name.as_bytes();
            for at in 0..name.len() {
                for byte in [0, b'@', b'`', b'[', b'{', name[at] ^ 0x20, name[at] ^ 0x80, name[at] ^ 1, b'x', b'X'] {
                    let other = [&name[..at], &[byte], &name[at + 1..]].concat();
                    let found = lookup(&other).map(|spec| spec.name.as_bytes());
                    let expected =
                        COMMANDS.iter().map(|spec| spec.name.as_bytes()).find(|name| name.eq_ignore_ascii_case(&other));
                    assert_eq!(found, expected, "{}", other.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn no_run_of_the_table_is_long() {
        let run = INDEX.split(|index| *index == EMPTY).map(<[u16]>::len).max();
        assert!(run < Some(8), "{run:?}");
    }
}
