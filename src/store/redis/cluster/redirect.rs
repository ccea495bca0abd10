//! What a node says when a command is not its to answer, or not yet.

use super::topology::parse_address;
use crate::config::Address;
use crate::resp::args::Args;
use crate::resp::command::lookup;
use crate::resp::scan::{CommandScanner, ScanLimits, Scanned};
use crate::store::StoreError;

/// Why a command must be sent once more, and where to.
#[derive(Clone, Debug)]
pub enum Redirect {
    /// The slot is another node's.
    Moved(Address),
    /// The slot is on its way to another node, and the key is there already.
    Ask(Address),
    /// Nobody can answer it at the moment: the slot is half moved, the cluster has no master for it, a node still loads
    /// its data, is no master any more, or its link was down before the command was sent.
    Later(StoreError),
}

impl Redirect {
    /// What one whole reply says, if it says so; `said_by` is the node that it came from.
    pub fn read(reply: &[u8], said_by: &Address) -> Option<Self> {
        let line = reply.strip_prefix(b"-")?;
        let line = &line[..memchr::memchr(b'\r', line).unwrap_or(line.len())];
        let mut words = line.split(|&byte| byte == b' ');
        let word = words.next()?;
        match word {
            b"MOVED" | b"ASK" => {
                let address = std::str::from_utf8(words.nth(1)?).ok()?;
                let address = parse_address(address, said_by)?;
                Some(if word == b"ASK" { Redirect::Ask(address) } else { Redirect::Moved(address) })
            }
            b"TRYAGAIN" | b"CLUSTERDOWN" | b"LOADING" | b"MASTERDOWN" | b"READONLY" => {
                Some(Redirect::Later(StoreError::Refused(String::from_utf8_lossy(line).into_owned())))
            }
            _ => None,
        }
    }

    /// Whether a reply is an error of this kind, at a glance.
    pub fn is_one(reply: &[u8]) -> bool {
        const WORDS: [&[u8]; 7] =
            [b"-MOVED ", b"-ASK ", b"-TRYAGAIN ", b"-CLUSTERDOWN ", b"-LOADING ", b"-MASTERDOWN ", b"-READONLY "];
        WORDS.iter().any(|word| reply.starts_with(word))
    }
}

/// What must be known of a command to send it again. Looked up anew from its bytes: it is rarely needed.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Of its keys, if it has any.
    pub slot: Option<u16>,
    /// It changes nothing, so that it may be sent again though it may have run.
    pub only_reads: bool,
    /// Its errors may be a client's own words, which must not lead Weir to a place that the cluster does not know.
    pub may_speak_for_itself: bool,
}

impl Facts {
    /// Of the one whole command that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        let limits = ScanLimits { max_command: u32::MAX as usize, max_arguments: usize::MAX, ..ScanLimits::default() };
        let mut scanner = CommandScanner::new(limits);
        match scanner.scan(bytes) {
            Ok(Scanned::Complete { .. }) => Facts::of_args(scanner.args(bytes)),
            _ => Facts { slot: None, only_reads: false, may_speak_for_itself: true },
        }
    }

    /// The same, of arguments.
    pub fn of_args(args: Args<'_>) -> Self {
        let spec = args.get(0).and_then(lookup);
        let slot = match super::plan::plan(spec, args) {
            super::plan::Plan::Slot(slot) => Some(slot),
            _ => None,
        };
        let only_reads = super::plan::only_reads(spec, args);
        Facts { slot, only_reads, may_speak_for_itself: super::plan::may_speak_for_itself(spec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_s_own_errors_are_redirects() {
        let said_by = Address { host: "a".into(), port: 1 };
        let read = |reply: &str| Redirect::read(reply.as_bytes(), &said_by).map(|redirect| format!("{redirect:?}"));
        for (reply, expected) in [
            ("-MOVED 3999 127.0.0.1:6381\r\n", "Moved(Address { host: \"127.0.0.1\", port: 6381 })"),
            ("-MOVED 3999 :6381\r\n", "Moved(Address { host: \"a\", port: 6381 })"),
            ("-ASK 3999 b:6381\r\n", "Ask(Address { host: \"b\", port: 6381 })"),
            ("-TRYAGAIN Multiple keys\r\n", "Later(Refused(\"TRYAGAIN Multiple keys\"))"),
            ("-CLUSTERDOWN The cluster is down\r\n", "Later(Refused(\"CLUSTERDOWN The cluster is down\"))"),
            ("-LOADING Redis is\r\n", "Later(Refused(\"LOADING Redis is\"))"),
        ] {
            assert_eq!(read(reply).as_deref(), Some(expected));
            assert!(Redirect::is_one(reply.as_bytes()));
        }
        for reply in ["+MOVED 1 a:1\r\n", "-ERR MOVED\r\n", "$5\r\nMOVED\r\n", "-MOVED\r\n", "-ASKED 1 a:1\r\n", ""] {
            assert!(read(reply).is_none(), "{reply}");
        }
    }

    #[test]
    fn facts_are_read_from_the_bytes() {
        let facts = Facts::of(b"*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n");
        assert_eq!((facts.slot, facts.only_reads, facts.may_speak_for_itself), (Some(12182), true, false));
        let facts = Facts::of(b"*3\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$1\r\n0\r\n");
        assert_eq!((facts.slot, facts.only_reads, facts.may_speak_for_itself), (None, false, true));
    }
}
