//! Keys that were stored together do not end together, and keys that are read often do not end at all before somebody has
//! refreshed them (proof A10, T42).
//!
//! Small by default. In full, A10: `WEIR_PROOF_KEYS=100000 WEIR_PROOF_TTL_S=60`, T42: `WEIR_PROOF_TTLS=100
//! WEIR_PROOF_RATE=10000 WEIR_PROOF_TTL_MS=1000`, with `cargo test --test proof_expiry -- --nocapture --test-threads=1`. A10 with
//! so many keys needs a release build: where they are not loaded within the span, its peak is flat for that reason. Times are printed; what is
//! asserted are counts, and ratios of counts.

#[path = "../harness/mod.rs"]
mod harness;

mod hot;
mod together;

use harness::Weir;

fn lookups(weir: &Weir, route: &str, outcome: &str) -> u64 {
    weir.metric("weir_lookups_total", &[("route", route), ("outcome", outcome)]) as u64
}

fn loads(weir: &Weir, route: &str, trigger: &str) -> u64 {
    weir.metric("weir_loads_total", &[("route", route), ("trigger", trigger)]) as u64
}
