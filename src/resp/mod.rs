//! The wire format and the command table: pure functions of bytes, no I/O and no clock.
//!
//! Bytes that only pass through are scanned ([`scan`]), never decoded. [`command`] says what each command does to
//! which keys; [`frame`] decodes the few replies that Weir itself reads; [`write`] makes those that it gives.

pub mod args;
pub mod command;
pub mod error;
pub mod frame;
pub(crate) mod number;
pub mod scan;
pub mod write;
