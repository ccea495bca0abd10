//! Decodes one whole reply that Weir itself reads: a script's answer, HELLO's map. What only passes through never
//! comes here.
//!
//! `redis-protocol` does the decoding. It recurses without a limit and stops at bytes that it has not got, so a frame
//! reaches it only after the scanner has seen it whole and not too deep. What it loses is lost here too: a map's
//! order, a set's order and duplicates, attributes.

use redis_protocol::resp2::decode::decode as decode_resp2;
use redis_protocol::resp2::types::OwnedFrame as Resp2Frame;
use redis_protocol::resp3::decode::complete::decode as decode_resp3;
use redis_protocol::resp3::types::OwnedFrame;

pub use crate::resp::error::ProtocolError;
use crate::resp::scan::{Progress, ReplyScanner};

/// However deep the caller lets replies nest, the decoder's recursion stays small.
const MAX_DEPTH: usize = 64;

/// One decoded reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Any of the three nils.
    Nil,
    /// `+text`.
    Simple(Vec<u8>),
    /// `-text` or a bulk error, its prefix included.
    Error(Vec<u8>),
    /// `:number`.
    Integer(i64),
    /// `,number`.
    Double(f64),
    /// `#t`, `#f`.
    Boolean(bool),
    /// `(digits`.
    BigNumber(Vec<u8>),
    /// A bulk string, or a verbatim one without its format.
    Bulk(Vec<u8>),
    /// An array.
    Array(Vec<Reply>),
    /// A map's pairs, in no order.
    Map(Vec<(Reply, Reply)>),
    /// A set, in no order.
    Set(Vec<Reply>),
    /// A push: nobody's reply.
    Push(Vec<Reply>),
}

impl Reply {
    /// The text of a bulk or simple string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) | Reply::Simple(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Decodes the one reply that `reply` is.
///
/// # Errors
/// It is malformed, nested deeper than `max_depth` (64 at most), not exactly one reply, or beyond the decoder: an
/// aggregate as a map's key or a set's member, a verbatim string that is neither `txt` nor `mkd`.
pub fn decode(reply: &[u8], max_depth: usize) -> Result<Reply, ProtocolError> {
    let whole = Progress { consumed: reply.len(), complete: true };
    if ReplyScanner::new(max_depth.min(MAX_DEPTH)).advance(reply)? != whole {
        return Err(ProtocolError::NotOneReply);
    }
    // The decoder wants UTF-8 in errors, and Redis quotes its clients' bytes in them.
    if let Some(text) = reply.strip_prefix(b"-") {
        return Ok(Reply::Error(text[..text.len() - 2].to_vec()));
    }
    // Each decoder knows the nils of its own version only, and no server mixes them.
    if let Ok(Some((frame, _))) = decode_resp3(reply) {
        return reply_of(frame);
    }
    match decode_resp2(reply) {
        Ok(Some((frame, _))) => Ok(reply_of_resp2(frame)),
        Ok(None) | Err(_) => Err(ProtocolError::Undecodable),
    }
}

fn reply_of_resp2(frame: Resp2Frame) -> Reply {
    match frame {
        Resp2Frame::Null => Reply::Nil,
        Resp2Frame::SimpleString(text) => Reply::Simple(text),
        Resp2Frame::Error(text) => Reply::Error(text.into_bytes()),
        Resp2Frame::Integer(number) => Reply::Integer(number),
        Resp2Frame::BulkString(payload) => Reply::Bulk(payload),
        Resp2Frame::Array(frames) => Reply::Array(frames.into_iter().map(reply_of_resp2).collect()),
    }
}

/// The scanner has bounded the depth.
fn reply_of(frame: OwnedFrame) -> Result<Reply, ProtocolError> {
    Ok(match frame {
        OwnedFrame::Null => Reply::Nil,
        OwnedFrame::SimpleString { data, .. } => Reply::Simple(data),
        OwnedFrame::SimpleError { data, .. } => Reply::Error(data.into_bytes()),
        OwnedFrame::BlobError { data, .. } => Reply::Error(data),
        OwnedFrame::Number { data, .. } => Reply::Integer(data),
        OwnedFrame::Double { data, .. } => Reply::Double(data),
        OwnedFrame::Boolean { data, .. } => Reply::Boolean(data),
        OwnedFrame::BigNumber { data, .. } => Reply::BigNumber(data),
        OwnedFrame::BlobString { data, .. } | OwnedFrame::VerbatimString { data, .. } => Reply::Bulk(data),
        OwnedFrame::Array { data, .. } => Reply::Array(replies_of(data)?),
        OwnedFrame::Push { data, .. } => Reply::Push(replies_of(data)?),
        OwnedFrame::Set { data, .. } => Reply::Set(replies_of(data)?),
        OwnedFrame::Map { data, .. } => Reply::Map(
            data.into_iter().map(|(key, value)| Ok((reply_of(key)?, reply_of(value)?))).collect::<Result<_, _>>()?,
        ),
        // The scanner knows neither HELLO as a frame nor streamed strings.
        OwnedFrame::Hello { .. } | OwnedFrame::ChunkedString(_) => return Err(ProtocolError::Undecodable),
    })
}

fn replies_of(frames: impl IntoIterator<Item = OwnedFrame>) -> Result<Vec<Reply>, ProtocolError> {
    frames.into_iter().map(reply_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    #[test]
    fn every_type_is_decoded() {
        for (bytes, reply) in [
            (&b"$-1\r\n"[..], Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"_\r\n", Reply::Nil),
            (b"+OK\r\n", Reply::Simple("OK".into())),
            (b"-ERR no\r\n", Reply::Error("ERR no".into())),
            (b"-ERR \xff\r\n", Reply::Error(b"ERR \xff".to_vec())),
            (b"!6\r\nERR no\r\n", Reply::Error("ERR no".into())),
            (b":-7\r\n", Reply::Integer(-7)),
            (b",1.5\r\n", Reply::Double(1.5)),
            (b",inf\r\n", Reply::Double(f64::INFINITY)),
            (b"#t\r\n", Reply::Boolean(true)),
            (b"(123456789012345678901\r\n", Reply::BigNumber("123456789012345678901".into())),
            (b"$2\r\n\r\n\r\n", bulk("\r\n")),
            (b"=7\r\ntxt:abc\r\n", bulk("abc")),
            (b"*2\r\n$1\r\na\r\n*1\r\n_\r\n", Reply::Array(vec![bulk("a"), Reply::Array(vec![Reply::Nil])])),
            (b"*0\r\n", Reply::Array(vec![])),
            (b"%1\r\n$1\r\na\r\n:1\r\n", Reply::Map(vec![(bulk("a"), Reply::Integer(1))])),
            (b"~1\r\n$1\r\na\r\n", Reply::Set(vec![bulk("a")])),
            (b">1\r\n$1\r\na\r\n", Reply::Push(vec![bulk("a")])),
            (b"|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n", bulk("a")),
        ] {
            assert_eq!(decode(bytes, 8), Ok(reply), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_one_whole_reply_is_refused() {
        for bytes in [&b""[..], b"+OK", b"+OK\r\n+OK\r\n", b"*2\r\n:1\r\n", b"$3\r\nab\r\n"] {
            assert_eq!(decode(bytes, 8), Err(ProtocolError::NotOneReply), "{}", bytes.escape_ascii());
        }
        assert_eq!(decode(b"x\r\n", 8), Err(ProtocolError::UnexpectedType(b'x')));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_decoded() {
        let mut deep = b"*1\r\n".repeat(50_000);
        deep.extend_from_slice(b":1\r\n");
        // The scanner tells the error where it stands, so the first call still succeeds in part.
        assert_eq!(decode(&deep, usize::MAX), Err(ProtocolError::NotOneReply));
        let shallow = [b"*1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
        assert!(decode(&shallow, usize::MAX).is_ok());
        assert!(decode(&shallow, MAX_DEPTH - 1).is_err());
    }
}
