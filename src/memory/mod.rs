//! What things cost, as the process's resident memory sees it and not as their payload adds up.
//!
//! The figures are those of the size classes of a general-purpose allocator: eight bytes of header for each
//! allocation, sizes rounded up to 16, nothing below 32. `tests/embedded_memory.rs` holds the sum of all this
//! against the resident set of a process.
//!
//! They are those of the system's own allocator, which Weir keeps. Measured against it (near hits and GETs of the embedded
//! store, 64-byte values, P=16 and P=64, CPU as ratios to Redis): mimalloc 0.56 and 0.44, 0.59 and 0.57; the system's 0.60 and
//! 0.49, 0.62 and 0.60, most of it for the large pages that mimalloc asks for. But once values had gone from tiny to large, a
//! process with mimalloc held twice `max_memory`, which is a limit, and speed buys none.

mod blob;
pub mod warm;

pub use self::blob::Blob;

/// Bytes that an allocation of `size` takes; nothing is allocated for nothing.
pub fn allocated(size: usize) -> usize {
    if size == 0 { 0 } else { ((size + 8 + 15) & !15).max(32) }
}

/// Bytes behind a `Vec` of `capacity` elements of type `T`.
pub fn vec_allocated<T>(capacity: usize) -> usize {
    allocated(capacity * size_of::<T>())
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn allocations_are_rounded_to_size_classes() {
        let sizes = [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008), (1001, 1024)];
        for (size, cost) in sizes {
            assert_eq!(allocated(size), cost, "{size}");
        }
    }
}
