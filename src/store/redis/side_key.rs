//! Names of Weir's own keys beside a client's key, in the same cluster slot as that key whatever bytes it has.
//!
//! A side key is `weir:{tag}kind:key`. The tag comes from a table with one short string for each of the 16,384 slots,
//! so that a key with braces, or with none, keeps lease and value in one slot and one script may touch both.

use crate::resp::write;
use std::sync::OnceLock;

/// Everything that Weir itself stores begins with this.
pub const RESERVED_PREFIX: &[u8] = b"weir:{";

/// Slots of a cluster.
pub const SLOTS: usize = 16384;

/// What stands beside a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The lease.
    Lease,
    /// The negative entry.
    Negative,
    /// The tags of the key's value that the key does not tell.
    Note,
    /// What stands for as long as a client has said when the key is to end.
    End,
}

impl Kind {
    /// All, in the order in which scripts take them behind the key itself.
    pub const ALL: [Kind; 4] = [Kind::Lease, Kind::Negative, Kind::Note, Kind::End];

    fn text(self) -> &'static [u8] {
        match self {
            Kind::Lease => b"lease",
            Kind::Negative => b"none",
            Kind::Note => b"tags",
            Kind::End => b"end",
        }
    }
}

/// The side keys of a key.
pub struct Beside<'a> {
    tag: &'static str,
    key: &'a [u8],
}

impl<'a> Beside<'a> {
    /// Those of `key`.
    pub fn of(key: &'a [u8]) -> Self {
        Beside { tag: &tags()[slot(key) as usize], key }
    }

    fn parts(&self, kind: Kind) -> [&[u8]; 6] {
        [RESERVED_PREFIX, self.tag.as_bytes(), b"}", kind.text(), b":", self.key]
    }

    /// The name of one.
    pub fn name(&self, kind: Kind) -> Vec<u8> {
        self.parts(kind).concat()
    }

    /// Appends it to a command as a bulk string.
    pub fn write(&self, out: &mut Vec<u8>, kind: Kind) {
        write::bulk_of(out, &self.parts(kind));
    }

    /// The command that drops those of these kinds.
    pub fn unlink(&self, kinds: &[Kind]) -> Vec<u8> {
        let mut command = Vec::with_capacity(32 + kinds.len() * (64 + self.key.len()));
        write::array(&mut command, 1 + kinds.len());
        write::bulk(&mut command, b"UNLINK");
        kinds.iter().for_each(|kind| self.write(&mut command, *kind));
        command
    }
}

/// What stands beside a tag, all of it in the slot of the tag's name.
pub struct TagKeys<'a> {
    tag: &'a [u8],
    slot_tag: &'static str,
}

impl<'a> TagKeys<'a> {
    /// Those of `tag`.
    pub fn of(tag: &'a [u8]) -> Self {
        TagKeys { tag, slot_tag: &tags()[slot(tag) as usize] }
    }

    /// The sorted set of its keys, by the time at which they end.
    pub fn index(&self) -> Vec<u8> {
        side_key(self.slot_tag, b"index:", self.tag)
    }

    /// The number of its newest invalidation.
    pub fn mark(&self) -> Vec<u8> {
        side_key(self.slot_tag, b"mark:", self.tag)
    }

    /// The set of the names of its lists.
    pub fn lists(&self) -> Vec<u8> {
        side_key(self.slot_tag, b"lists:", self.tag)
    }

    /// Where the list of this name stands.
    pub fn list(&self, name: &str) -> Vec<u8> {
        side_key(self.slot_tag, format!("list:{name}:").as_bytes(), self.tag)
    }
}

/// Where the sequence of invalidations by tag stands.
pub const SEQUENCE: &[u8] = b"weir:{0}sequence";

/// Where the mark of a server's data stands, in this slot of its own.
pub fn epoch(slot: u16) -> Vec<u8> {
    side_key(&tags()[usize::from(slot)], b"epoch", b"")
}

/// The key beside which `name` is a lease or a negative entry.
pub fn owner(name: &[u8]) -> Option<&[u8]> {
    let kind = name.strip_prefix(RESERVED_PREFIX)?;
    let kind = &kind[memchr::memchr(b'}', kind)? + 1..];
    kind.strip_prefix(b"lease:").or_else(|| kind.strip_prefix(b"none:"))
}

/// A key of Weir's own that belongs to no other, in this slot.
pub fn probe(slot: u16, number: u64) -> Vec<u8> {
    side_key(&tags()[usize::from(slot)], b"probe:", format!("{number:016x}").as_bytes())
}

fn side_key(tag: &str, kind: &[u8], key: &[u8]) -> Vec<u8> {
    [RESERVED_PREFIX, tag.as_bytes(), b"}", kind, key].concat()
}

/// The cluster slot of a key: CRC16 of its hash tag, or of the whole (Redis Cluster specification, "Hash tags").
pub fn slot(key: &[u8]) -> u16 {
    let tagged = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        memchr::memchr(b'}', rest).filter(|&length| length > 0).map(|length| &rest[..length])
    });
    crc16(tagged.unwrap_or(key)) % SLOTS as u16
}

/// For every slot the first string of the counting order 0, 1, … z, 00, 01, … that hashes into it.
fn tags() -> &'static [String] {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    TAGS.get_or_init(|| {
        let mut tags = vec![String::new(); SLOTS];
        let mut missing = SLOTS;
        for number in 0u32.. {
            if missing == 0 {
                break;
            }
            let candidate = base36(number);
            let tag = &mut tags[slot(candidate.as_bytes()) as usize];
            if tag.is_empty() {
                *tag = candidate;
                missing -= 1;
            }
        }
        tags
    })
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).expect("a remainder of 36 is a digit in base 36"));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// CRC-16/XMODEM, which Redis Cluster hashes keys with.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ CRC16[((crc >> 8) as u8 ^ byte) as usize])
}

const CRC16: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16384);
    }

    #[test]
    fn side_keys_share_the_slot_of_any_key() {
        for key in [&b"product:1"[..], b"{a}b", b"x{", b"}", b"{}", b"\xff\x00{\xfe}", b""] {
            let names = Kind::ALL.map(|kind| Beside::of(key).name(kind));
            assert!(names.iter().all(|name| slot(name) == slot(key)));
            let owners = [Some(key), Some(key), None, None];
            assert_eq!(names.each_ref().map(|name| owner(name)), owners);
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        }
    }

    #[test]
    fn names_in_commands_are_the_same() {
        for key in [&b"product:1"[..], b"{a}b", b"\xff"] {
            let (beside, tag) = (Beside::of(key), &tags()[slot(key) as usize]);
            for (kind, text) in Kind::ALL.into_iter().zip(["lease", "none", "tags", "end"]) {
                let name = [b"weir:{", tag.as_bytes(), b"}", text.as_bytes(), b":", key].concat();
                assert_eq!(beside.name(kind), name);
                let (mut written, mut expected) = (Vec::new(), Vec::new());
                beside.write(&mut written, kind);
                write::bulk(&mut expected, &name);
                assert_eq!(written, expected);
            }
            let [lease, negative, note, end] = Kind::ALL.map(|kind| beside.name(kind));
            let unlink = write::whole_command([&b"UNLINK"[..], &lease, &negative, &note, &end]);
            assert_eq!(beside.unlink(&Kind::ALL), unlink);
        }
    }

    #[test]
    fn a_probe_stands_in_the_slot_that_it_is_for() {
        for number in [0, 1, 7000, SLOTS as u16 - 1] {
            let key = probe(number, fastrand::u64(..));
            assert_eq!(slot(&key), number);
            assert!(key.starts_with(RESERVED_PREFIX));
        }
    }

    #[test]
    fn every_slot_has_a_short_tag() {
        assert!(tags().iter().enumerate().all(|(index, tag)| slot(tag.as_bytes()) as usize == index && tag.len() <= 4));
    }
}
