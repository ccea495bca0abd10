//! Byte strings at their exact size: up to 22 bytes without an allocation of their own.
//!
//! Most keys of a cache and many of its values are that short, so that a key usually costs one cache line and no
//! trip to the allocator. A blob is always a copy, never a slice of somebody's read buffer (which it would pin).

use super::allocated;

/// How many bytes fit without an allocation.
const INLINE: usize = 22;

/// An immutable byte string of 24 bytes plus, beyond 22 bytes of payload, one exact allocation.
#[derive(Clone)]
pub struct Blob(Form);

#[derive(Clone)]
enum Form {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Blob {
    /// A copy of `bytes`.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE {
            return Blob(Form::Heap(bytes.into()));
        }
        let mut inline = [0; INLINE];
        inline[..bytes.len()].copy_from_slice(bytes);
        Blob(Form::Inline(bytes.len() as u8, inline))
    }

    /// Becomes a copy of `bytes`: in its own place, if they are as many as it has.
    pub fn set(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Form::Heap(own) if own.len() == bytes.len() => own.copy_from_slice(bytes),
            _ => *self = Blob::new(bytes),
        }
    }

    /// The payload.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Inline(length, bytes) => &bytes[..*length as usize],
            Form::Heap(bytes) => bytes,
        }
    }

    /// Bytes that it takes from the allocator.
    #[inline]
    pub fn heap(&self) -> usize {
        match &self.0 {
            Form::Inline(..) => 0,
            Form::Heap(bytes) => allocated(bytes.len()),
        }
    }
}

impl PartialEq<[u8]> for Blob {
    /// 8 to 32 bytes are compared as two words from both ends, which may overlap: calling the function that compares any number of
    /// bytes takes longer, and a look-up in a table ends with this.
    #[inline]
    fn eq(&self, other: &[u8]) -> bool {
        let own = self.bytes();
        own.len() == other.len()
            && match own.len() {
                8..=16 => have_same_ends::<8>(own, other),
                17..=32 => have_same_ends::<16>(own, other),
                _ => own == other,
            }
    }
}

/// Whether both begin and end with the same `N` bytes.
#[inline]
fn have_same_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::Blob;

    #[test]
    fn keeps_bytes_of_every_length_around_the_inline_limit() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8 ^ 0xA5).collect();
            assert_eq!(Blob::new(&bytes).bytes(), bytes);
        }
    }

    #[test]
    fn takes_other_bytes_of_every_length() {
        for (before, after) in (0..64).flat_map(|before| (0..64).map(move |after| (before, after))) {
            let mut blob = Blob::new(&vec![b'a'; before]);
            blob.set(&vec![b'b'; after]);
            assert_eq!(blob.bytes(), vec![b'b'; after]);
            assert_eq!(blob.heap(), Blob::new(&vec![b'c'; after]).heap());
        }
    }

    #[test]
    fn is_what_it_was_made_of_and_nothing_else() {
        for length in 0..40 {
            let bytes = vec![b'a'; length];
            let blob = Blob::new(&bytes);
            assert!(blob == bytes[..]);
            assert!(blob != vec![b'a'; length + 1][..] && (length == 0 || blob != bytes[1..]));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] = b'b';
                assert!(blob != other[..], "{at} of {length}");
            }
        }
    }

    #[test]
    fn is_three_words() {
        assert_eq!(size_of::<Blob>(), 24);
    }
}
