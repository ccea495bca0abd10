//! Bytes on their way to one client: a tail that replies are appended to, and large values that are shared, not copied.
//!
//! A thousand clients who waited for one row of ten megabytes hold it once (T40).

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Values from this size on are shared instead of copied.
const SHARED: usize = 16 << 10;
/// A tail that has grown past this is given back once it is written.
const KEPT: usize = 16 << 10;
/// Most pieces that one write hands to the kernel.
const PIECES: usize = 16;

/// Unwritten bytes, in order.
#[derive(Default)]
pub struct Output {
    /// Before the tail.
    pieces: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// Of the first piece, or of the tail if there is none.
    written: usize,
    len: usize,
}

impl Output {
    /// Unwritten bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the first unwritten byte is this one.
    pub fn begins_with(&self, byte: u8) -> bool {
        let first = self.pieces.front().map_or(&self.tail[..], |piece| &piece[..]);
        first.get(self.written) == Some(&byte)
    }

    /// Appends through one of the writers of [`crate::resp::write`].
    pub fn write<T>(&mut self, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.tail.len();
        let result = writer(&mut self.tail);
        self.len = self.len + self.tail.len() - before;
        result
    }

    /// Appends a copy.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a value that others hold too.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED {
            return self.extend(bytes);
        }
        self.close_tail();
        self.pieces.push_back(bytes.clone());
        self.len += bytes.len();
    }

    /// Appends all of another output that nothing has been written of.
    pub fn append(&mut self, mut other: Output) {
        debug_assert_eq!(other.written, 0);
        if self.is_empty() {
            *self = other;
            return;
        }
        if other.pieces.is_empty() {
            return self.extend(&other.tail);
        }
        self.close_tail();
        self.len += other.len;
        self.pieces.append(&mut other.pieces);
        self.tail = other.tail;
    }

    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        if self.pieces.is_empty() {
            tail.drain(..self.written);
            self.written = 0;
        }
        if !tail.is_empty() {
            self.pieces.push_back(tail.into());
        }
    }

    /// The next bytes to write, as slices for one vectored write.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for piece in self.pieces.iter().map(|piece| &piece[..]).chain([&self.tail[..]]) {
            if count == PIECES {
                break;
            }
            slices[count] = IoSlice::new(&piece[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The only slice there is, if no value is shared: the usual case.
    pub fn single(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then(|| &self.tail[self.written..])
    }

    /// `count` more bytes are written.
    pub fn advance(&mut self, count: usize) {
        self.len -= count;
        self.written += count;
        while let Some(piece) = self.pieces.front() {
            if self.written < piece.len() {
                return;
            }
            self.written -= piece.len();
            self.pieces.pop_front();
        }
        if self.written == self.tail.len() {
            self.written = 0;
            self.tail.clear();
            if self.tail.capacity() > KEPT {
                self.tail = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = output.slices(&mut slices);
            let flat: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            output.advance(flat.len());
            all.extend(flat);
        }
        all
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came_whatever_the_kernel_takes() {
        let value = Bytes::from(vec![b'v'; SHARED + 5]);
        for step in [1, 7, 4096, 1 << 20] {
            let mut output = Output::default();
            output.extend(b"one");
            output.share(&value);
            output.extend(b"two");
            let mut other = Output::default();
            other.extend(b"three");
            other.share(&value);
            other.share(&Bytes::from_static(b"small"));
            output.append(other);
            let expected = [&b"one"[..], &value, b"two", b"three", &value, b"small"].concat();
            assert_eq!(output.len(), expected.len());
            assert_eq!(drain(&mut output, step), expected);
        }
    }

    #[test]
    fn a_tail_that_is_partly_written_may_be_followed_by_a_shared_value() {
        let mut output = Output::default();
        output.extend(b"abcdef");
        output.advance(4);
        output.share(&Bytes::from(vec![b'v'; SHARED]));
        assert_eq!(&drain(&mut output, 1 << 20)[..3], b"efv");
    }
}
