//! Name to [`Spec`], in any case, without allocation: open addressing over a table built by the compiler.

use super::{COMMANDS, Spec};

/// Twice the commands or more, a power of two.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;

static INDEX: [u16; SLOTS] = build();

/// The command of this name, in any case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    lookup_indexed(name).map(|(_, spec)| spec)
}

/// The same, with its index in [`COMMANDS`]: counters are kept in arrays by it.
#[inline]
pub fn lookup_indexed(name: &[u8]) -> Option<(u16, &'static Spec)> {
    let mut slot = hash(name);
    loop {
        let index = INDEX[slot];
        if index == EMPTY {
            return None;
        }
        let spec = &COMMANDS[index as usize];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some((index, spec));
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Blind to case. Which name lands where is fixed at build time, and a lookup never walks further than the longest
/// run of the table, so that no client can make it slow.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5u32;
    let mut i = 0;
    // No command's name is longer: what follows could not make a difference.
    while i < name.len() && i < 24 {
        hash = (hash ^ (name[i] | 0x20) as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

const fn build() -> [u16; SLOTS] {
    let mut index = [EMPTY; SLOTS];
    assert!(COMMANDS.len() * 2 <= SLOTS);
    let mut i = 0;
    while i < COMMANDS.len() {
        let mut slot = hash(COMMANDS[i].name.as_bytes());
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
        for name in ["", "g", "gett", "get ", "\u{0}get", "a name that is much longer than any command has"] {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }
}
