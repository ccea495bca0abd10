//! What must hold for any bytes. The property tests and the fuzz targets call the same functions.

use redis_protocol::{resp2, resp3};
use weir::resp::args::OwnedArgs;
use weir::resp::command::lookup;
use weir::resp::error::ProtocolError;
use weir::resp::frame::{self, Reply};
use weir::resp::scan::{
    self, Advanced, CommandScanner, Progress, ReplyScanner, ScanLimits, Scanned, elements, is_nil, may_be_absent,
    nil_elements,
};
use weir::resp::write;

/// Deep enough for what the generators make, shallow enough for the oracle's recursion.
pub const DEPTH: usize = 8;

/// Small, so that the inputs reach them.
pub const LIMITS: ScanLimits =
    ScanLimits { max_command: 2000, max_arguments: 50, max_inline: 200, authenticated: true };

/// One scanned command.
#[derive(Debug, PartialEq)]
pub struct Command {
    /// Its bytes.
    pub len: usize,
    /// If it was a line.
    pub inline: bool,
    /// Copied out.
    pub args: Vec<Vec<u8>>,
}

/// Scans all commands of `bytes`, which arrive in pieces of these sizes (the last one takes the rest), and says how
/// it ended: with an error, or with so many bytes left over.
pub fn scan_commands(bytes: &[u8], pieces: &[u8]) -> (Vec<Command>, Result<usize, ProtocolError>) {
    let mut scanner = CommandScanner::new(LIMITS);
    let (mut commands, mut start, mut needed) = (Vec::new(), 0, 0);
    for end in ends(bytes.len(), pieces) {
        loop {
            let buf = &bytes[start..end];
            match scanner.scan(buf) {
                Ok(Scanned::Complete { len, inline }) => {
                    assert!(len >= needed, "a command of {len} bytes was said to need {needed}");
                    let args = scanner.args(buf).iter().map(<[u8]>::to_vec).collect();
                    commands.push(Command { len, inline, args });
                    start += len;
                    needed = 0;
                }
                Ok(Scanned::Incomplete { needed: more }) => {
                    assert!(more > buf.len() && more >= needed);
                    needed = more;
                    break;
                }
                Err(error) => return (commands, Err(error)),
            }
        }
    }
    (commands, Ok(bytes.len() - start))
}

/// Any split of the bytes parses alike; what is found is what the bytes say.
pub fn commands_hold(bytes: &[u8], pieces: &[u8]) {
    let (commands, end) = scan_commands(bytes, &[]);
    assert_eq!(scan_commands(bytes, pieces), (commands, end), "split into {pieces:?}");
    let (commands, _) = scan_commands(bytes, pieces);
    let mut rest = bytes;
    for command in &commands {
        let (this, after) = rest.split_at(command.len);
        rest = after;
        command_holds(this, command);
    }
}

fn command_holds(bytes: &[u8], command: &Command) {
    let mut written = Vec::new();
    write::command(&mut written, &command.args);
    if command.inline {
        assert_ne!(bytes.first(), Some(&b'*'));
    } else if !command.args.is_empty() {
        assert_eq!(written, bytes, "a command has one spelling");
        let (decoded, len) = resp2::decode::decode(bytes).expect("oracle accepts").expect("oracle finds it whole");
        let expected = command.args.iter().cloned().map(resp2::types::OwnedFrame::BulkString).collect();
        assert_eq!((decoded, len), (resp2::types::OwnedFrame::Array(expected), bytes.len()));
    }
    let owned: OwnedArgs = command.args.iter().collect();
    let args = owned.as_args();
    let Some(spec) = args.get(0).and_then(lookup) else { return };
    assert!(spec.key_positions(args).all(|position| position > 0 && position < args.len()));
    assert!(spec.key_positions(args).count() < args.len());
    let _ = (spec.access_of(args), spec.handling_of(args));
}

/// Where the replies of `bytes` end and which are pushes, when they arrive in these pieces; and how it ended.
pub fn scan_replies(bytes: &[u8], pieces: &[u8]) -> (Vec<(usize, bool)>, Result<usize, ProtocolError>) {
    let mut scanner = ReplyScanner::new(DEPTH);
    let (mut replies, mut at) = (Vec::new(), 0);
    for end in ends(bytes.len(), pieces) {
        loop {
            match scanner.advance(&bytes[at..end]) {
                Ok(Progress { consumed, complete }) => {
                    at += consumed;
                    assert_eq!(complete, consumed > 0 && scanner.is_idle());
                    if complete {
                        replies.push((at, scanner.is_push()));
                    } else if consumed == 0 {
                        break;
                    }
                }
                Err(error) => return (replies, Err(error)),
            }
        }
    }
    (replies, Ok(bytes.len() - at))
}

/// The same through [`ReplyScanner::advance_many`], in runs of `run` replies.
fn scan_runs(bytes: &[u8], pieces: &[u8], run: usize) -> (usize, usize, Option<ProtocolError>) {
    let mut scanner = ReplyScanner::new(DEPTH);
    let (mut pushes, mut replies, mut at) = (0, 0, 0);
    for end in ends(bytes.len(), pieces) {
        loop {
            let buf = &bytes[at..end];
            let Advanced { consumed, completed, .. } = match scanner.advance_many(buf, run, |_, _| ()) {
                Ok(progress) => progress,
                Err(error) => return (replies, pushes, Some(error)),
            };
            at += consumed;
            replies += completed;
            assert!(completed <= run);
            if completed > 0 {
                assert!(!scanner.is_push() || !scanner.is_idle());
            }
            if consumed > 0 || buf.is_empty() {
                if buf.is_empty() {
                    break;
                }
                continue;
            }
            // Either a push stands here, or too little.
            match scanner.advance(buf) {
                Ok(Progress { consumed: 0, .. }) => break,
                Ok(Progress { consumed, complete }) => {
                    assert!(scanner.is_push());
                    at += consumed;
                    pushes += usize::from(complete);
                }
                Err(error) => return (replies, pushes, Some(error)),
            }
        }
    }
    (replies, pushes, None)
}

/// Any split of the bytes parses alike, in runs too; the oracle finds the same ends.
pub fn replies_hold(bytes: &[u8], pieces: &[u8]) {
    let (replies, end) = scan_replies(bytes, &[]);
    assert_eq!(scan_replies(bytes, pieces), (replies.clone(), end), "split into {pieces:?}");
    let pushes = replies.iter().filter(|(_, push)| *push).count();
    let run = 1 + usize::from(pieces.first().copied().unwrap_or(255));
    assert_eq!(scan_runs(bytes, pieces, run), (replies.len() - pushes, pushes, end.err()), "in runs of {run}");
    let mut start = 0;
    for (end, _) in replies {
        reply_holds(&bytes[start..end]);
        start = end;
    }
}

fn reply_holds(reply: &[u8]) {
    // The oracle refuses more (errors that are not UTF-8, aggregates as keys), but never ends elsewhere.
    if let Ok(found) = resp3::decode::complete::decode(reply) {
        assert_eq!(found.map(|(_, len)| len), Some(reply.len()), "{}", reply.escape_ascii());
    }
    let mut end = None;
    for range in elements(reply) {
        assert_eq!(range.start, end.unwrap_or(range.start), "elements leave no gap");
        let whole = Progress { consumed: range.len(), complete: true };
        assert_eq!(ReplyScanner::new(DEPTH).advance(&reply[range.clone()]), Ok(whole));
        end = Some(range.end);
    }
    assert_eq!(end.unwrap_or(reply.len()), reply.len(), "elements reach the end");
    let nils: Vec<usize> = nil_elements(reply).collect();
    assert!(nils.is_empty() || reply[0] != b'*' || may_be_absent(reply));
    match frame::decode(reply, DEPTH) {
        Ok(Reply::Nil) => assert!(scan::is_nil(reply) || reply[0] == b'|'),
        Ok(Reply::Array(elements)) if reply[0] == b'*' && !reply.contains(&b'|') => {
            let decoded = elements.iter().enumerate().filter(|(_, element)| **element == Reply::Nil);
            assert_eq!(decoded.map(|(position, _)| position).collect::<Vec<_>>(), nils);
        }
        Ok(_) | Err(_) => assert!(!is_nil(reply)),
    }
}

/// Running ends of the pieces, the whole last; a piece of 0 is a read of 1.
fn ends(len: usize, pieces: &[u8]) -> impl Iterator<Item = usize> {
    let mut end = 0;
    let mut ends: Vec<usize> = Vec::new();
    for piece in pieces {
        end += usize::from(*piece).max(1);
        if end >= len {
            break;
        }
        ends.push(end);
    }
    ends.push(len);
    ends.into_iter()
}
