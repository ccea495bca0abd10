//! Finds where commands and replies end, in time proportional to the bytes, however they are split into reads.
//!
//! Nothing is decoded here and nothing recurses: a command becomes ranges of the bytes it came in, a reply only its
//! end. What the parts mean is told by [`crate::resp::command`] and [`crate::resp::frame`].
//! `tests/resp_scan` holds that any split parses alike, and holds both scanners against `redis-protocol`.

mod command;
mod elements;
mod inline;
mod reply;
mod series;

pub use command::{CommandScanner, ScanLimits, Scanned};
pub use elements::{
    Elements, bulk, elements, found, is_nil, may_be_absent, may_be_absent_among, nil_elements, value_end,
};
pub use reply::{Advanced, Progress, ReplyScanner, Strings};
pub use series::Series;

pub use crate::resp::error::ProtocolError;
