//! The scanners' promises: any split parses alike, limits hold, what `write` makes is scanned back.

mod properties;

use properties::{DEPTH, LIMITS, commands_hold, replies_hold, scan_commands, scan_replies};
use proptest::collection::vec;
use proptest::prelude::*;
use weir::resp::error::ProtocolError;
use weir::resp::scan::{
    Advanced, CommandScanner, Progress, ReplyScanner, ScanLimits, Scanned, Strings, may_be_absent, may_be_absent_among,
    nil_elements,
};
use weir::resp::write::{self, Protocol};

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..20),
        4 => proptest::sample::select(vec!["SET", "get", "EVAL", "XREAD", "STREAMS", "2", "-1", "99999999999", "KEYS",
            "ZUNIONSTORE", "STORE", "SORT", "MIGRATE", "", "MSETEX", "\r\n", "GEORADIUS", "client", "id", "BLOCK"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..300),
    ]
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(payload(), 0..8).prop_map(|args| {
            let mut out = Vec::new();
            write::command(&mut out, &args);
            out
        }),
        2 => vec(proptest::sample::select(vec![0, 1, 3, 3, 3, 16, 16, 16, 120]), 10..30).prop_map(|lengths| {
            let mut out = Vec::new();
            write::command(&mut out, lengths.into_iter().map(|length| vec![b'1'; length]).collect::<Vec<_>>());
            out
        }),
        1 => "[a-z\"' \\\\x0-9\t]{0,30}\r?\n".prop_map(String::into_bytes),
        1 => proptest::sample::select(vec!["*0\r\n", "*-1\r\n", "\r\n", "\n", "*", "$", "*1\r\n:1\r\n"])
            .prop_map(|odd| odd.as_bytes().to_vec()),
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("no line end", |byte| !matches!(byte, b'\r' | b'\n')), 0..20)
}

fn scalar() -> impl Strategy<Value = Vec<u8>> {
    let lined = |kind: u8| move |text: Vec<u8>| [&[kind][..], &text, b"\r\n"].concat();
    let sized = |kind: u8| {
        move |text: Vec<u8>| [&[kind][..], text.len().to_string().as_bytes(), b"\r\n", &text, b"\r\n"].concat()
    };
    prop_oneof![
        line().prop_map(lined(b'+')),
        line().prop_map(lined(b'-')),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        any::<f64>().prop_map(|number| format!(",{number}\r\n").into_bytes()),
        "[-]?[0-9]{1,40}".prop_map(|digits| format!("({digits}\r\n").into_bytes()),
        proptest::sample::select(vec![
            "_\r\n", "$-1\r\n", "*-1\r\n", "#t\r\n", "#f\r\n", ",inf\r\n", "+OK\r\n", "*0\r\n"
        ])
        .prop_map(|odd| odd.as_bytes().to_vec()),
        payload().prop_map(sized(b'$')),
        payload().prop_map(sized(b'!')),
        payload().prop_map(|text| [b"txt:".to_vec(), text].concat()).prop_map(sized(b'=')),
    ]
}

fn aggregate(kind: u8, per: usize) -> impl Fn(Vec<Vec<u8>>) -> Vec<u8> + Clone {
    move |mut values| {
        values.truncate(values.len() / per * per);
        let head = format!("{}{}\r\n", kind as char, values.len() / per).into_bytes();
        [head, values.concat()].concat()
    }
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let nested = scalar().prop_recursive(4, 40, 6, |inner| {
        let values = vec(inner.clone(), 0..6);
        prop_oneof![
            4 => values.clone().prop_map(aggregate(b'*', 1)),
            1 => values.clone().prop_map(aggregate(b'~', 1)),
            1 => values.clone().prop_map(aggregate(b'%', 2)),
            1 => (values, inner).prop_map(|(pairs, value)| [aggregate(b'|', 2)(pairs), value].concat()),
        ]
    });
    prop_oneof![6 => nested.clone(), 1 => vec(nested, 0..4).prop_map(aggregate(b'>', 1))]
}

/// Bytes as they should be, or spoiled in a few places.
fn spoiled(good: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoil = vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 0..4);
    (good, any::<bool>(), spoil).prop_map(|(mut bytes, spoil, places)| {
        for (place, how, byte) in if spoil { places } else { Vec::new() } {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

/// Sizes of reads: mostly bytes, so that every place is cut sooner or later.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![1; 600]), vec(1..5u8, 0..400), vec(any::<u8>(), 0..20)]
}

/// Appends one reply.
type Writer<'a> = &'a dyn Fn(&mut Vec<u8>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_commands_scans_alike(bytes in spoiled(vec(command(), 0..6).prop_map(|all| all.concat())), pieces in pieces()) {
        commands_hold(&bytes, &pieces);
    }

    #[test]
    fn any_split_of_replies_scans_alike(bytes in spoiled(vec(reply(), 0..6).prop_map(|all| all.concat())), pieces in pieces()) {
        replies_hold(&bytes, &pieces);
    }

    #[test]
    fn good_replies_are_all_found(replies in vec(reply(), 0..6)) {
        let mut end = 0;
        let ends: Vec<(usize, bool)> = replies.iter().map(|reply| { end += reply.len(); (end, reply[0] == b'>') }).collect();
        prop_assert_eq!(scan_replies(&replies.concat(), &[]), (ends, Ok(0)));
    }

    #[test]
    fn written_commands_are_scanned_back(args in vec(payload(), 1..8)) {
        let mut out = Vec::new();
        write::command(&mut out, &args);
        let (commands, end) = scan_commands(&out, &[]);
        prop_assert_eq!(end, Ok(0));
        prop_assert_eq!(&commands[0].args, &args);
    }

    #[test]
    fn written_replies_are_scanned_back(text in payload(), number in any::<i64>(), resp3 in any::<bool>()) {
        let protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        let mut out = Vec::new();
        let mut ends = Vec::new();
        let writers: [Writer<'_>; 12] = [
            &|out| write::ok(out),
            &|out| write::simple(out, "PONG"),
            &|out| write::error(out, &text),
            &|out| write::integer(out, number),
            &|out| write::bulk(out, &text),
            &|out| write::nil(out, protocol),
            &|out| write::nil_array(out, protocol),
            &|out| write::verbatim(out, protocol, &text),
            &|out| { write::array(out, 1); write::bulk(out, &text); },
            &|out| { write::map(out, protocol, 1); write::bulk(out, &text); write::integer(out, number); },
            &|out| { write::set(out, protocol, 1); write::bulk(out, &text); },
            &|out| ProtocolError::ExpectedBulk(number as u8).reply(out),
        ];
        for write in writers {
            write(&mut out);
            ends.push((out.len(), false));
        }
        prop_assert_eq!(scan_replies(&out, &[]), (ends, Ok(0)));
    }
}

fn scan(limits: ScanLimits, bytes: &[u8]) -> Result<Scanned, ProtocolError> {
    CommandScanner::new(limits).scan(bytes)
}

#[test]
fn a_command_is_bounded_in_bytes_arguments_and_lines() {
    let scan = |bytes: &[u8]| scan(LIMITS, bytes);
    assert_eq!(scan(b"*51\r\n"), Err(ProtocolError::InvalidCount));
    assert_eq!(scan(b"*9223372036854775807\r\n"), Err(ProtocolError::InvalidCount));
    assert_eq!(scan(b"*1\r\n$2001\r\n"), Err(ProtocolError::InvalidLength));
    assert_eq!(scan(b"*1\r\n$1999\r\n"), Err(ProtocolError::CommandTooBig));
    assert_eq!(scan(b"*1\r\n$9223372036854775807\r\n"), Err(ProtocolError::InvalidLength));
    assert_eq!(scan(b"*1\r\n$99999999999999999999\r\n"), Err(ProtocolError::InvalidLength));
    assert_eq!(scan(&[b'a'; 201]), Err(ProtocolError::InlineTooBig));
    assert_eq!(scan(&[&b"*"[..], &[b'1'; 200]].concat()), Err(ProtocolError::CountLineTooBig));
    assert_eq!(scan(&[&b"*1\r\n"[..], &[b'$'; 201]].concat()), Err(ProtocolError::LengthLineTooBig));
    assert_eq!(scan(b"*1\r\n$1987\r\n"), Ok(Scanned::Incomplete { needed: 2000 }));
}

#[test]
fn arguments_are_as_long_as_their_own_lines_say() {
    let lengths = [3, 3, 3, 4, 3, 12, 12, 13, 99_999, 99_999, 100_000, 100_000, 100_001, 10_000_000, 10_000_000, 1, 1];
    let args: Vec<_> = lengths.iter().map(|&length| vec![b'\r'; length]).collect();
    let mut bytes = Vec::new();
    write::command(&mut bytes, &args);
    let mut scanner = CommandScanner::new(ScanLimits::default());
    assert_eq!(scanner.scan(&bytes), Ok(Scanned::Complete { len: bytes.len(), inline: false }));
    let found = scanner.args(&bytes);
    assert!(found.iter().map(<[u8]>::len).eq(lengths) && found.iter().all(|arg| arg.iter().all(|byte| *byte == b'\r')));
    // The same line with something else behind it.
    for (at, byte) in [(1, b'4'), (2, b'x'), (3, b'x')] {
        let mut bytes = b"*12\r\n".to_vec();
        (0..12).for_each(|_| bytes.extend(b"$3\r\nabc\r\n"));
        let last = bytes.len() - 9;
        bytes[last + at] = byte;
        let whole = Scanned::Complete { len: bytes.len(), inline: false };
        assert_ne!(CommandScanner::new(ScanLimits::default()).scan(&bytes), Ok(whole));
    }
}

#[test]
fn a_stranger_may_send_less() {
    let stranger = ScanLimits { authenticated: false, ..ScanLimits::default() };
    assert_eq!(scan(stranger, b"*11\r\n"), Err(ProtocolError::UnauthenticatedCount));
    assert_eq!(scan(stranger, b"*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedLength));
    let mut scanner = CommandScanner::new(stranger);
    assert_eq!(scanner.scan(b"*10\r\n"), Ok(Scanned::Incomplete { needed: 6 }));
    scanner.set_limits(ScanLimits::default());
    assert_eq!(scanner.scan(b"*10\r\n$16385\r\n"), Ok(Scanned::Incomplete { needed: 13 + 16385 + 2 }));
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let limits = ScanLimits { max_arguments: usize::MAX, ..ScanLimits::default() };
    assert_eq!(scan(limits, b"*2147483647\r\n"), Ok(Scanned::Incomplete { needed: 14 }));
    assert_eq!(ReplyScanner::new(4).advance(b"*9223372036854775807\r\n").map(|p| p.complete), Ok(false));
}

#[test]
fn lengths_that_overflow_are_refused() {
    for bytes in [
        "%9223372036854775808\r\n",
        "*-2\r\n",
        "$-2\r\n",
        "%-1\r\n",
        "~-1\r\n",
        "!-1\r\n",
        "=3\r\n",
        "*?\r\n",
        "$?\r\n",
    ] {
        assert_eq!(ReplyScanner::new(4).advance(bytes.as_bytes()), Err(ProtocolError::InvalidReplyLength), "{bytes:?}");
    }
    let big = ReplyScanner::new(4).advance(b"|9223372036854775807\r\n");
    assert_eq!(big, Ok(Progress { consumed: 22, complete: false }));
}

#[test]
fn depth_is_bounded_in_replies() {
    let deep = b"*1\r\n".repeat(50_000);
    let mut scanner = ReplyScanner::new(DEPTH);
    let consumed = scanner.advance(&deep).expect("the first levels").consumed;
    assert_eq!(consumed, 4 * DEPTH);
    assert_eq!(scanner.advance(&deep[consumed..]), Err(ProtocolError::TooDeep));
}

#[test]
fn a_line_of_a_reply_is_bounded() {
    let long = [b":".to_vec(), vec![b'1'; 70_000], b"\r\n".to_vec()].concat();
    assert_eq!(ReplyScanner::new(4).advance(&long), Err(ProtocolError::ReplyLineTooLong));
    assert_eq!(ReplyScanner::new(4).advance(&long[..66_000]), Err(ProtocolError::ReplyLineTooLong));
}

/// A script may answer a status or an error as long as it likes.
#[test]
fn a_long_text_is_passed_on_in_pieces() {
    for kind in ["+", "-"] {
        let text = [kind.as_bytes(), &vec![b'x'; 100_000], b"\rx\r\n"].concat();
        let mut scanner = ReplyScanner::new(4);
        assert_eq!(scanner.advance(&text), Ok(Progress { consumed: text.len(), complete: true }));
        let reply = [b"*2\r\n", &text[..], b":1\r\n"].concat();
        for cut in [10, 70_000, 70_001, 100_005, 100_006, 100_007, 100_008, 100_009] {
            let mut consumed = 0;
            for end in [cut, reply.len()] {
                while consumed < end {
                    let progress = scanner.advance(&reply[consumed..end]).expect("a reply");
                    consumed += progress.consumed;
                    assert_eq!(progress.complete, consumed == reply.len(), "{cut}");
                    if progress.consumed == 0 {
                        break;
                    }
                }
            }
            assert_eq!(consumed, reply.len(), "{cut}");
            assert!(scanner.is_idle());
        }
    }
}

#[test]
fn a_push_inside_a_reply_is_no_element_of_it() {
    let mut scanner = ReplyScanner::new(4);
    for push in [">1\r\n:1\r\n", ">0\r\n", ">2\r\n+a\r\n*1\r\n:1\r\n"] {
        let reply = format!("*2\r\n:1\r\n{push}:2\r\n");
        let consumed = reply.len();
        assert_eq!(scanner.advance(reply.as_bytes()), Ok(Progress { consumed, complete: true }), "{push}");
        assert!(!scanner.is_push());
    }
}

#[test]
fn a_run_stops_before_a_push() {
    let mut scanner = ReplyScanner::new(4);
    let bytes = b"+OK\r\n$2\r\nab\r\n>2\r\n+x\r\n+y\r\n:1\r\n";
    assert_eq!(scanner.advance_many(bytes, 9, |_, _| ()), Ok(advanced(13, 2, 13, (0, 0))));
    assert!(!scanner.is_push());
    assert_eq!(scanner.advance_many(&bytes[13..], 9, |_, _| ()), Ok(advanced(0, 0, 0, (0, 0))));
    assert_eq!(scanner.advance(&bytes[13..]), Ok(Progress { consumed: 12, complete: true }));
    assert!(scanner.is_push());
    assert_eq!(scanner.advance_many(&bytes[25..], 9, |_, _| ()), Ok(advanced(4, 1, 4, (0, 0))));
    assert!(!scanner.is_push());
}

#[test]
fn a_run_takes_no_more_than_its_replies() {
    let mut scanner = ReplyScanner::new(4);
    assert_eq!(scanner.advance_many(b"+OK\r\n+OK\r\n+OK\r\n", 2, |_, _| ()), Ok(advanced(10, 2, 10, (0, 0))));
    assert_eq!(scanner.advance_many(b"+OK\r\n$5\r\nab", 2, |_, _| ()), Ok(advanced(11, 1, 5, (0, 0))));
    assert_eq!(scanner.advance_many(b"cde\r\n+OK\r\n", 1, |_, _| ()), Ok(advanced(5, 1, 5, (0, 0))));
}

#[test]
fn the_strings_that_a_run_begins_with_are_told() {
    let mut scanner = ReplyScanner::new(4);
    let mut run = |bytes: &[u8], replies| scanner.advance_many(bytes, replies, |_, _| ()).expect("these are replies");
    assert_eq!(run(b"$1\r\na\r\n$2\r\nab\r\n", 9), advanced(15, 2, 15, (2, 15)));
    assert_eq!(run(b"$1\r\na\r\n$2\r\nab\r\n", 1), advanced(7, 1, 7, (1, 7)));
    // What is behind another reply is not looked at, for a string may be empty.
    for other in ["$-1\r\n", "$0\r\n\r\n", ":1\r\n", "_\r\n", "-ERR x\r\n", "*1\r\n$1\r\na\r\n"] {
        let (bytes, end) = (format!("$1\r\na\r\n{other}$1\r\na\r\n"), other.len() + 14);
        assert_eq!(run(bytes.as_bytes(), 3), advanced(end, 3, end, (1, 7)), "{other}");
    }
    // The rest of one that began earlier is none.
    assert_eq!(run(b"$1\r\na\r\n$2\r\na", 9), advanced(12, 1, 7, (1, 7)));
    assert_eq!(run(b"b\r\n$1\r\na\r\n", 9), advanced(10, 2, 10, (0, 0)));
}

#[test]
fn replies_that_may_stand_for_an_absent_key_are_told() {
    for reply in [
        "$-1\r\n",
        "_\r\n",
        "*-1\r\n",
        "*0\r\n",
        "%0\r\n",
        "~0\r\n",
        ":0\r\n",
        ":-1\r\n",
        ":-2\r\n",
        "$0\r\n\r\n",
        "+none\r\n",
        "*2\r\n$1\r\na\r\n$-1\r\n",
        "*2\r\n_\r\n:1\r\n",
        "*1\r\n*-1\r\n",
        "*1\r\n:-2\r\n",
        "*2\r\n$1\r\n0\r\n*0\r\n",
        "%1\r\n+len\r\n:0\r\n",
        "-ERR no such key\r\n",
        "|1\r\n+a\r\n:1\r\n:5\r\n",
    ] {
        assert!(may_be_absent(reply.as_bytes()), "{reply:?}");
    }
    for reply in [
        "$1\r\na\r\n",
        ":1\r\n",
        ":10\r\n",
        ":-10\r\n",
        "+OK\r\n",
        "+string\r\n",
        "*1\r\n$1\r\na\r\n",
        "%1\r\n+a\r\n:1\r\n",
        "*1\r\n*1\r\n_\r\n",
        "-ERR no\r\n",
        "#f\r\n",
        "",
    ] {
        assert!(!may_be_absent(reply.as_bytes()), "{reply:?}");
    }
    assert!(may_be_absent_among(b":1\r\n", 2));
    assert!(!may_be_absent_among(b":2\r\n", 2));
    assert!(may_be_absent_among(b"*2\r\n$-1\r\n+a\r\n", 2));
}

#[test]
fn the_positions_of_nils_are_those_of_the_array_itself() {
    let reply = b"*5\r\n$-1\r\n*2\r\n_\r\n_\r\n_\r\n$5\r\n_\r\n_\r\r\n*-1\r\n";
    assert_eq!(nil_elements(reply).collect::<Vec<_>>(), [0, 2, 4]);
    for torn in ["*2\r\n$-1\r\n", "*9223372036854775807\r\n", "*2\r\n$5\r\nab", "*", "%9223372036854775807\r\n_\r\n"] {
        assert!(nil_elements(torn.as_bytes()).count() <= 1, "{torn:?}");
    }
}

#[test]
fn a_payload_is_followed_by_crlf() {
    let mut scanner = ReplyScanner::new(4);
    assert_eq!(scanner.advance(b"$2\r\nabXY"), Ok(Progress { consumed: 6, complete: false }));
    assert_eq!(scanner.advance(b"XY"), Err(ProtocolError::ExpectedCrlf));
    let mut scanner = ReplyScanner::new(4);
    assert_eq!(scanner.advance(b"$2\r\nab\rY"), Ok(Progress { consumed: 7, complete: false }));
    assert_eq!(scanner.advance(b"Y"), Err(ProtocolError::ExpectedCrlf));
    assert_eq!(scan(LIMITS, b"*1\r\n$4\r\nPINGxx"), Err(ProtocolError::ExpectedCrlf));
}

/// Reads of one byte must not look at the same bytes again and again.
#[test]
fn many_small_reads_cost_no_more_than_the_bytes() {
    let started = std::time::Instant::now();
    let mut command = Vec::new();
    write::command(&mut command, vec![vec![b'x'; 30]; 20_000]);
    let limits = ScanLimits { max_arguments: 20_000, ..ScanLimits::default() };
    let mut scanner = CommandScanner::new(limits);
    for end in 0..command.len() {
        assert!(matches!(scanner.scan(&command[..end]), Ok(Scanned::Incomplete { .. })));
    }
    assert_eq!(scanner.scan(&command), Ok(Scanned::Complete { len: command.len(), inline: false }));
    let line = [b"PING ".to_vec(), vec![b'x'; 60_000]].concat();
    let mut scanner = CommandScanner::new(limits);
    for end in 0..line.len() {
        assert!(matches!(scanner.scan(&line[..end]), Ok(Scanned::Incomplete { .. })));
    }
    let mut scanner = ReplyScanner::new(4);
    let text = [b"+".to_vec(), vec![b'\n'; 60_000]].concat();
    for end in 0..text.len() {
        assert_eq!(scanner.advance(&text[..end]), Ok(Progress { consumed: 0, complete: false }));
    }
    // A quadratic scanner takes minutes; this one well under a second, even unoptimised.
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

fn advanced(consumed: usize, completed: usize, whole: usize, (count, end): (usize, usize)) -> Advanced {
    Advanced { consumed, completed, whole, strings: Strings { count, end } }
}
