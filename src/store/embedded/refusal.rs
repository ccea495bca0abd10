//! The errors that commands answer, with Redis's texts.

use std::fmt;

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongType,
    Syntax,
    NotInteger,
    NotFloat,
    /// More arguments are wanted, or fewer; the command's name.
    Arity(&'static str),
    /// An expiry that is no time; the command's name.
    ExpireTime(&'static str),
    /// The value would not fit in `max_memory`.
    OutOfMemory,
    /// Any other, whole.
    Other(&'static str),
    /// Any other, made for the occasion.
    Text(Vec<u8>),
}

impl Refusal {
    /// The error line without its dash.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Refusal::Text(text) => text.clone(),
            known => known.to_string().into_bytes(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WrongType => f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Refusal::Syntax => f.write_str("ERR syntax error"),
            Refusal::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Refusal::NotFloat => f.write_str("ERR value is not a valid float"),
            Refusal::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Refusal::ExpireTime(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Refusal::OutOfMemory => f.write_str("OOM command not allowed when used memory > 'maxmemory'."),
            Refusal::Other(text) => f.write_str(text),
            Refusal::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
        }
    }
}
