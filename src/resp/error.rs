//! What can be wrong with bytes on the wire. Clients are told in Redis's own words, for client libraries and people
//! know them; a link whose upstream breaks the format is closed.

use crate::resp::write;

/// The bytes are no RESP, or pass a limit. Nothing after them can be understood: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A command's argument starts with this byte and not with `$`.
    #[error("expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// The argument count is no number, or above the limit.
    #[error("invalid multibulk length")]
    InvalidCount,
    /// An argument's length is no number, negative, or above the limit.
    #[error("invalid bulk length")]
    InvalidLength,
    /// More arguments than a client may send before AUTH.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedCount,
    /// A longer argument than a client may send before AUTH.
    #[error("unauthenticated bulk length")]
    UnauthenticatedLength,
    /// An inline command without an end.
    #[error("too big inline request")]
    InlineTooBig,
    /// A count line without an end.
    #[error("too big mbulk count string")]
    CountLineTooBig,
    /// A length line without an end.
    #[error("too big bulk count string")]
    LengthLineTooBig,
    /// An inline command with an open quote.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A payload is not followed by CRLF. (Redis skips these two bytes unseen; as Weir's reading must never differ
    /// from an upstream's, it takes only what cannot be read in two ways.)
    #[error("expected CRLF after the bulk string")]
    ExpectedCrlf,
    /// All arguments together pass the limit.
    #[error("command larger than max_command")]
    CommandTooBig,

    /// A reply starts with a byte that is no RESP2 or RESP3 type, or a type that cannot stand here.
    #[error("unexpected reply type '{}'", .0.escape_ascii())]
    UnexpectedType(u8),
    /// A number, boolean or null in a reply is not spelled like one.
    #[error("malformed '{}' line in a reply", .0.escape_ascii())]
    MalformedLine(u8),
    /// A length or count in a reply is no number, or out of range.
    #[error("invalid length in a reply")]
    InvalidReplyLength,
    /// A line of a reply without an end.
    #[error("too long a line in a reply")]
    ReplyLineTooLong,
    /// A reply nests deeper than the limit.
    #[error("reply nested too deep")]
    TooDeep,
    /// A whole reply was asked for, and the bytes hold less or more than one.
    #[error("not one whole reply")]
    NotOneReply,
    /// The scanner takes the frame, the decoder does not.
    #[error("cannot decode the reply")]
    Undecodable,
}

impl ProtocolError {
    /// Appends the error reply that a client gets before its connection is closed, byte for byte Redis's where Redis
    /// has the same error.
    pub fn reply(self, out: &mut Vec<u8>) {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            // Redis prints the byte as it is, whatever it is.
            ProtocolError::ExpectedBulk(byte) => text.extend([b"expected '$', got '", &[byte][..], b"'"].concat()),
            other => text.extend(other.to_string().bytes()),
        }
        write::error(out, text);
    }
}
