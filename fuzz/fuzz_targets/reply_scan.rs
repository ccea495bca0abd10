//! Any bytes as replies, in any pieces: the property of tests/resp_scan. `cargo +nightly fuzz run reply_scan`
#![no_main]

#[path = "../../tests/resp_scan/properties.rs"]
#[expect(dead_code, reason = "the half of the other target")]
mod properties;

use libfuzzer_sys::fuzz_target;

// The first byte says how many sizes of reads follow it; the rest is what is read.
fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (pieces, bytes) = rest.split_at(rest.len().min(count.into()));
    properties::replies_hold(bytes, pieces);
});
