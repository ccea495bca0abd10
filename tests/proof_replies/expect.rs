//! What a reply must be.

use crate::harness::Reply;

#[derive(Clone, Debug)]
pub enum Expect {
    Exactly(Reply),
    /// 0 or 1: somebody else may have been first.
    ZeroOrOne,
    /// The confirmation of a subscription: its kind, its channel, and how many there are now.
    Confirms(&'static str, String, i64),
    /// What HELLO tells.
    Protocol(i64),
    /// The connection's number: ever the same.
    Id,
}

impl Expect {
    pub fn bulk(text: impl AsRef<[u8]>) -> Expect {
        Expect::Exactly(Reply::bulk(text))
    }

    pub fn ok() -> Expect {
        Expect::Exactly(Reply::ok())
    }

    pub fn queued() -> Expect {
        Expect::Exactly(Reply::Simple("QUEUED".into()))
    }

    /// Whether `reply` is what it must be; `id` is the connection's number, once it is known.
    pub fn fits(&self, reply: &Reply, id: &mut Option<i64>) -> bool {
        match (self, reply) {
            (Expect::Exactly(expected), reply) => expected == reply,
            (Expect::ZeroOrOne, Reply::Int(number)) => (0..=1).contains(number),
            (Expect::Confirms(kind, channel, count), Reply::Array(parts) | Reply::Push(parts)) => {
                parts[..] == [Reply::bulk(kind), Reply::bulk(channel), Reply::Int(*count)]
            }
            (Expect::Protocol(version), Reply::Map(pairs)) => {
                pairs.contains(&(Reply::bulk("proto"), Reply::Int(*version)))
            }
            (Expect::Protocol(version), Reply::Array(words)) => {
                words.chunks(2).any(|pair| pair == [Reply::bulk("proto"), Reply::Int(*version)])
            }
            (Expect::Id, Reply::Int(number)) => *id.get_or_insert(*number) == *number,
            _ => false,
        }
    }

    /// The fewest bytes that it has on the wire.
    pub fn least_bytes(&self) -> usize {
        match self {
            Expect::Exactly(Reply::Bulk(bytes)) => bytes.len() + 5,
            _ => 4,
        }
    }
}
