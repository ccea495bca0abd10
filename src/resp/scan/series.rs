//! Commands of one argument that follow each other under one name, as the reads of most pipelines do: the name is read once.

use super::ScanLimits;
use super::command::plain_argument;

/// Bytes of `*2`, `$n` and the name, with their line ends, that are compared as one word.
const HEAD: usize = 16;

/// Whole commands `NAME argument`, each written as the first one, with an argument of up to 99 bytes; the first that is not ends it.
/// What it yields a [`super::CommandScanner`] would find too.
#[derive(Clone)]
pub struct Series<'a> {
    bytes: &'a [u8],
    at: usize,
    head: usize,
    word: u128,
    mask: u128,
    max_command: usize,
}

impl<'a> Series<'a> {
    /// That which begins at `at`; `None`: what is there is no such command, or its name has more than six bytes.
    #[inline]
    pub fn new(bytes: &'a [u8], at: usize, limits: &ScanLimits) -> Option<Self> {
        let first: &[u8; HEAD] = bytes.get(at..)?.first_chunk()?;
        let [b'*', b'2', b'\r', b'\n', b'$', length @ b'1'..=b'6', b'\r', b'\n', ..] = first else { return None };
        let name_end = 8 + usize::from(length - b'0');
        if &first[name_end..name_end + 2] != b"\r\n" || limits.max_arguments < 2 {
            return None;
        }
        let head = name_end + 2;
        let mask = u128::MAX >> (8 * (HEAD - head));
        let word = u128::from_le_bytes(*first) & mask;
        Some(Series { bytes, at, head, word, mask, max_command: limits.max_command })
    }

    /// The name of its commands. Asked for before the first of them is taken.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[self.at + 8..self.at + self.head - 2]
    }
}

impl<'a> Iterator for Series<'a> {
    /// The command's argument, and where the command ends.
    type Item = (&'a [u8], usize);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let first: &[u8; HEAD] = self.bytes.get(self.at..)?.first_chunk()?;
        if u128::from_le_bytes(*first) & self.mask != self.word {
            return None;
        }
        let argument = plain_argument(self.bytes, self.at + self.head)?;
        let end = argument.end + 2;
        if end - self.at > self.max_command {
            return None;
        }
        self.at = end;
        Some((&self.bytes[argument], end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::scan::{CommandScanner, Scanned};

    fn series(bytes: &[u8], at: usize) -> Vec<(&[u8], usize)> {
        Series::new(bytes, at, &ScanLimits::default()).into_iter().flatten().collect()
    }

    /// The same by the scanner that knows all commands.
    fn scanned(bytes: &[u8], mut at: usize) -> Vec<(Vec<u8>, usize)> {
        let (mut scanner, mut found, mut first) = (CommandScanner::new(ScanLimits::default()), Vec::new(), None);
        while let Ok(Scanned::Complete { len, inline: false }) = scanner.scan(&bytes[at..]) {
            let args = scanner.args(&bytes[at..at + len]);
            if args.len() != 2 || args[0] != **first.get_or_insert_with(|| args[0].to_vec()) || args[1].len() > 99 {
                break;
            }
            at += len;
            found.push((args[1].to_vec(), at));
        }
        found
    }

    #[test]
    fn it_ends_where_a_command_differs_or_is_not_whole() {
        let reads = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$12\r\nkey:\r\n:long:\r\n";
        for other in ["*2\r\n$3\r\nget\r\n$1\r\na\r\n", "*3\r\n$3\r\nGET\r\n", "*2\r\n$3\r\nGEX", "PING\r\n", ""] {
            let bytes = [reads, other.as_bytes()].concat();
            assert_eq!(series(&bytes, 0), [(&b"a"[..], 20), (b"key:\r\n:long:", 52)], "{other:?}");
        }
        for length in 0..reads.len() {
            assert_eq!(series(&reads[..length], 0).len(), usize::from(length >= 20), "{length}");
        }
        assert_eq!(series(reads, 20).len(), 1);
        assert_eq!(Series::new(reads, 0, &ScanLimits::default()).expect("a series").name(), b"GET");
    }

    #[test]
    fn what_passes_a_limit_is_left_out() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$2\r\nab\r\n";
        let limits = ScanLimits { max_command: 20, ..ScanLimits::default() };
        assert_eq!(Series::new(bytes, 0, &limits).expect("a series").count(), 1);
        assert!(Series::new(bytes, 0, &ScanLimits { max_arguments: 1, ..limits }).is_none());
    }

    #[test]
    fn a_scanner_that_has_looked_at_a_part_is_not_between_two_commands() {
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        for part in 1..get.len() {
            let mut scanner = CommandScanner::new(ScanLimits::default());
            assert!(scanner.is_between());
            assert!(matches!(scanner.scan(&get[..part]), Ok(Scanned::Incomplete { .. })));
            assert!(!scanner.is_between(), "{part}");
            assert!(matches!(scanner.scan(get), Ok(Scanned::Complete { .. })));
            assert!(scanner.is_between());
        }
    }

    #[test]
    fn it_finds_what_the_scanner_finds() {
        fastrand::seed(11);
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..fastrand::usize(1..6) {
                let name = ["GET", "GET", "GET", "STRLEN", "G"][fastrand::usize(..5)];
                let argument = "x".repeat([0, 1, 9, 10, 42, 99, 100][fastrand::usize(..7)]);
                let (name_length, length) = (name.len(), argument.len());
                bytes.extend(format!("*2\r\n${name_length}\r\n{name}\r\n${length}\r\n{argument}\r\n").bytes());
            }
            if fastrand::bool() {
                let at = fastrand::usize(..bytes.len());
                bytes[at] = b"\r\n$*0129Gx"[fastrand::usize(..10)];
            }
            let scanned = scanned(&bytes, 0);
            let found: Vec<(Vec<u8>, usize)> =
                series(&bytes, 0).into_iter().map(|(key, end)| (key.to_vec(), end)).collect();
            // Heads such as `$03` and a mixture of cases it leaves to the scanner.
            assert!(scanned.starts_with(&found), "{}", bytes.escape_ascii());
        }
    }
}
