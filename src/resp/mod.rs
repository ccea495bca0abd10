//! The wire format and the command table: pure functions of bytes, no I/O and no clock.

pub mod args;
pub mod write;
