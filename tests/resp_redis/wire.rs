//! Commands are read, and wrongly formed ones refused, as a Redis server reads and refuses them.

use crate::server::Redis;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir::resp::scan::{CommandScanner, ScanLimits, Scanned};
use weir::resp::write;

/// What Weir answers to bytes that are no command.
fn refusal(limits: ScanLimits, bytes: &[u8]) -> Vec<u8> {
    let error = CommandScanner::new(limits).scan(bytes).expect_err(&bytes.escape_ascii().to_string());
    let mut reply = Vec::new();
    error.reply(&mut reply);
    reply
}

#[test]
fn protocol_errors_are_redis_own_words() {
    let redis = Redis::start(&[]);
    let long = 65_537;
    for bytes in [
        &b"*1\r\nx3\r\n"[..],
        b"*1\r\n\xff3\r\n",
        b"*1\r\n\r\n",
        b"*x\r\n",
        b"*\r\n",
        b"*-\r\n",
        b"*-0\r\n",
        b"*+1\r\n",
        b"*03\r\n",
        b"* 1\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$04\r\n",
        b"*1\r\n$536870913\r\n",
        b"*2\r\n$4\r\nECHO\r\n:1\r\n",
        b"\"abc\r\n",
        b"'abc\r\n",
        b"\"a\"b\r\n",
        b"'a'b\r\n",
        b"ECHO \"a\\\"\r\n",
        &vec![b'x'; long],
        &[b"*".to_vec(), vec![b'1'; long]].concat(),
        &[b"*1\r\n$".to_vec(), vec![b'1'; long]].concat(),
        &[b"*1\r\n".to_vec(), vec![b'x'; long]].concat(),
    ] {
        let mut connection = redis.connect();
        connection.send(bytes);
        let expected = refusal(ScanLimits::default(), bytes);
        let (shown, start) = (bytes[..bytes.len().min(30)].escape_ascii(), expected.escape_ascii());
        assert_eq!(connection.rest(), expected, "{shown}: {start}");
    }
}

#[test]
fn strangers_are_refused_in_redis_own_words() {
    let redis = Redis::start(&["--requirepass", "secret"]);
    let stranger = ScanLimits { authenticated: false, ..ScanLimits::default() };
    for bytes in [&b"*11\r\n"[..], b"*1\r\n$16385\r\n"] {
        let mut connection = redis.connect();
        connection.send(bytes);
        assert_eq!(connection.rest(), refusal(stranger, bytes));
    }
}

#[test]
fn empty_commands_are_answered_by_nothing() {
    let redis = Redis::start(&[]);
    for bytes in [&b"\r\n"[..], b"\n", b"  \t\r\n", b"*0\r\n", b"*-1\r\n", b"*-7\r\n"] {
        let mut scanner = CommandScanner::new(ScanLimits::default());
        assert!(matches!(scanner.scan(bytes), Ok(Scanned::Complete { len, .. }) if len == bytes.len()));
        assert!(scanner.args(bytes).is_empty());
        let mut connection = redis.connect();
        connection.send(bytes);
        connection.send(b"PING\r\n");
        assert_eq!(connection.reply(), b"+PONG\r\n");
    }
}

/// Lines full of quotes, escapes and spaces; no zero byte, which Redis 7.0 waits behind for ever.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "\"", "'", "\\", "\\x41", "\\xfF", "\\x4", "\\n", "\\'", "\\\"", " ", "\t", "\r", "\x0b", "\x0c"
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        "[a-z]{0,3}".prop_map(String::into_bytes),
        any::<u8>().prop_filter("no end", |byte| !matches!(byte, 0 | b'\n')).prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn inline_commands_have_the_arguments_that_redis_gives_them() {
    let redis = Redis::start(&[]);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&line(), |line| {
        let bytes = [b"EVAL \"return ARGV\" 0 ", &line[..], b"\r\n"].concat();
        let mut connection = redis.connect();
        connection.send(&bytes);
        let mut scanner = CommandScanner::new(ScanLimits::default());
        match scanner.scan(&bytes) {
            Ok(scanned) => {
                prop_assert_eq!(scanned, Scanned::Complete { len: bytes.len(), inline: true });
                let mut expected = Vec::new();
                write::command(&mut expected, scanner.args(&bytes).from(3).iter());
                prop_assert_eq!(connection.reply(), expected);
            }
            Err(error) => {
                let mut expected = Vec::new();
                error.reply(&mut expected);
                prop_assert_eq!(connection.rest(), expected);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
