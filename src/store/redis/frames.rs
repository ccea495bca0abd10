//! What a whole frame is that arrives over a client's private link: the next reply, one of the confirmations of a
//! SUBSCRIBE, or something that nobody asked for at that moment (a message, an invalidation, a line of MONITOR).
//!
//! RESP3 marks such frames (`>`). RESP2 does not: there the first element tells, and only while the connection is
//! subscribed, for then no command answers an array that begins so.

use super::side_key::RESERVED_PREFIX;
use crate::resp::scan::elements;
use crate::resp::write::Protocol;

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Of the oldest command.
    Reply,
    /// Of a SUBSCRIBE, UNSUBSCRIBE or their kin.
    Confirmation(Subscriptions),
    /// Between replies.
    OutOfBand,
}

/// How many subscriptions a connection has, as the newest confirmation tells: channels and patterns are counted
/// together, and shard channels by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    /// Channels and patterns.
    pub channels: u64,
    /// Shard channels.
    pub shards: u64,
}

impl Subscriptions {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self.channels + self.shards > 0
    }
}

/// What the connection's state makes of its next frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearing {
    /// As the connection speaks now.
    pub protocol: Protocol,
    /// What it has subscribed to, as far as confirmed.
    pub subscriptions: Subscriptions,
    /// The oldest command is a SUBSCRIBE or one of its kin.
    pub confirms: bool,
    /// MONITOR has been confirmed.
    pub monitors: bool,
}

impl Hearing {
    /// Whether frames must be looked at one by one, even where no push has been seen.
    pub fn attends(self) -> bool {
        self.confirms || self.monitors || self.subscriptions.any()
    }

    /// What `frame` is.
    pub fn tell(self, frame: &[u8]) -> Frame {
        match frame {
            [b'>', ..] => self.confirmation(frame).map_or(Frame::OutOfBand, Frame::Confirmation),
            [b'*', ..] if self.protocol == Protocol::Resp2 => self.array(frame),
            [b'+', b'0'..=b'9', ..] if self.monitors => Frame::OutOfBand,
            _ => Frame::Reply,
        }
    }

    fn array(self, frame: &[u8]) -> Frame {
        let is_message = matches!(word(frame), Some(b"message" | b"pmessage" | b"smessage"));
        match self.confirmation(frame) {
            Some(subscriptions) if self.confirms || self.subscriptions.any() => Frame::Confirmation(subscriptions),
            _ if is_message && self.subscriptions.any() => Frame::OutOfBand,
            _ => Frame::Reply,
        }
    }

    /// `subscribe CHANNEL COUNT` and its kin.
    fn confirmation(self, frame: &[u8]) -> Option<Subscriptions> {
        let word = word(frame)?;
        let count = elements(frame).nth(2).and_then(|range| integer(&frame[range]))?;
        match word {
            b"subscribe" | b"psubscribe" | b"unsubscribe" | b"punsubscribe" => {
                Some(Subscriptions { channels: count, ..self.subscriptions })
            }
            b"ssubscribe" | b"sunsubscribe" => Some(Subscriptions { shards: count, ..self.subscriptions }),
            _ => None,
        }
    }
}

/// Whether a frame is a message that only Weir's own doings have brought about, and that nobody has asked for by its name: on a
/// channel of Weir's own to somebody who has subscribed to a pattern, such as `*`; or an event of the keyspace about a key of
/// Weir's own (`__keyspace@0__:KEY` says what has happened to the key, `__keyevent@0__:del` to which key it has happened).
pub(super) fn is_own_message(frame: &[u8]) -> bool {
    let mut parts = elements(frame).map(|range| bulk(&frame[range]).unwrap_or_default());
    let by_pattern = match parts.next() {
        Some(b"pmessage") => parts.next().is_some(),
        Some(b"message") => false,
        _ => return false,
    };
    let (Some(channel), Some(text)) = (parts.next(), parts.next()) else { return false };
    let is_own = |name: &[u8]| name.starts_with(RESERVED_PREFIX);
    let of_key = channel.strip_prefix(b"__keyspace@").and_then(|rest| rest.splitn(2, |byte| *byte == b':').nth(1));
    let is_own_event = channel.starts_with(b"__keyevent@") && is_own(text);
    is_own_event || by_pattern && (is_own(channel) || of_key.is_some_and(is_own))
}

/// The first element, if it is a bulk string.
fn word(frame: &[u8]) -> Option<&[u8]> {
    bulk(&frame[elements(frame).next()?])
}

fn bulk(element: &[u8]) -> Option<&[u8]> {
    let start = memchr::memchr(b'\n', element)? + 1;
    element.starts_with(b"$").then(|| element.get(start..element.len() - 2)).flatten()
}

fn integer(element: &[u8]) -> Option<u64> {
    std::str::from_utf8(element.strip_prefix(b":")?.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIBED: Hearing = Hearing {
        protocol: Protocol::Resp2,
        subscriptions: Subscriptions { channels: 1, shards: 0 },
        confirms: false,
        monitors: false,
    };
    const QUIET: Hearing = Hearing { subscriptions: Subscriptions { channels: 0, shards: 0 }, ..SUBSCRIBED };

    #[test]
    fn in_resp2_only_a_subscriber_gets_messages() {
        let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";
        assert_eq!(SUBSCRIBED.tell(message), Frame::OutOfBand);
        assert_eq!(QUIET.tell(message), Frame::Reply);
        assert_eq!(SUBSCRIBED.tell(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), Frame::Reply);
        assert_eq!(SUBSCRIBED.tell(b"-ERR Can't execute 'get'\r\n"), Frame::Reply);
    }

    #[test]
    fn only_patterns_meet_messages_that_are_weir_s_own() {
        let pmessage =
            |channel: &str| format!("4\r\n$8\r\npmessage\r\n$1\r\n*\r\n${}\r\n{channel}\r\n$1\r\nm\r\n", channel.len());
        for kind in ["*", ">"] {
            let is_own = |rest: &str| is_own_message(format!("{kind}{rest}").as_bytes());
            assert!(is_own(&pmessage("weir:{lease}ended")));
            assert!(!is_own(&pmessage("weir:news")));
            assert!(is_own(&pmessage("__keyspace@15__:weir:{1bz}epoch")));
            assert!(!is_own(&pmessage("__keyspace@0__:weird")));
            assert!(is_own("4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$18\r\n__keyevent@0__:set\r\n$8\r\nweir:{0}\r\n"));
            assert!(is_own("3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$8\r\nweir:{0}\r\n"));
            assert!(!is_own("3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$1\r\nk\r\n"));
            assert!(!is_own("3\r\n$7\r\nmessage\r\n$17\r\nweir:{lease}ended\r\n$1\r\nm\r\n"), "it asked for that");
        }
    }

    #[test]
    fn in_resp3_only_pushes_are_out_of_band() {
        let hearing = Hearing { protocol: Protocol::Resp3, ..SUBSCRIBED };
        assert_eq!(hearing.tell(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"), Frame::Reply);
        assert_eq!(hearing.tell(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"), Frame::OutOfBand);
        assert_eq!(hearing.tell(b">2\r\n$10\r\ninvalidate\r\n_\r\n"), Frame::OutOfBand);
    }

    #[test]
    fn confirmations_count_channels_and_shard_channels_apart() {
        let confirms = Hearing { confirms: true, ..QUIET };
        let counted = |channels, shards| Frame::Confirmation(Subscriptions { channels, shards });
        assert_eq!(confirms.tell(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), counted(1, 0));
        assert_eq!(SUBSCRIBED.tell(b"*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:2\r\n"), counted(1, 2));
        assert_eq!(SUBSCRIBED.tell(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), counted(0, 0));
        assert_eq!(confirms.tell(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), counted(1, 0));
    }

    #[test]
    fn a_monitor_sees_commands_between_replies() {
        let monitor = Hearing { monitors: true, ..QUIET };
        assert_eq!(monitor.tell(b"+1700000000.123456 [0 127.0.0.1:5] \"get\" \"k\"\r\n"), Frame::OutOfBand);
        assert_eq!(monitor.tell(b"+PONG\r\n"), Frame::Reply);
    }
}
