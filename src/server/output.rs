//! Bytes on their way to one client: a tail that replies are appended to, and large values that are shared, not copied.
//!
//! A thousand clients who waited for one row of ten megabytes hold it once (T40).

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Values from this size on are shared instead of copied.
const SHARED: usize = 16 << 10;
/// A tail that has grown to this becomes a piece of its own: what is written of it is given back, although the client never
/// takes all that there is, and nothing large is copied for it to grow.
const PIECE: usize = 64 << 10;
/// A tail that has grown past this is given back once it is written.
const KEPT: usize = 16 << 10;
/// So many larger ones this thread's outputs keep between them: what goes back to the allocator, and from there to the kernel, is
/// zeroed anew by it for the next large reply.
const SPARE: usize = 16;
/// None of them has more room than this.
const LARGEST_SPARE: usize = 2 * PIECE;
/// Most pieces that one write hands to the kernel.
const PIECES: usize = 16;

/// Unwritten bytes, in order.
#[derive(Default)]
pub struct Output {
    /// Before the tail; `None`: there are none, as of most outputs.
    pieces: Option<Box<Pieces>>,
    tail: Vec<u8>,
    /// Of the first piece, or of the tail if there is none.
    written: usize,
    len: usize,
}

/// One at least.
#[derive(Default)]
struct Pieces {
    queue: VecDeque<Piece>,
    /// Of them, bytes that another client's output answers for.
    elsewhere: usize,
}

struct Piece {
    bytes: Bytes,
    /// Another client's output answers for it.
    elsewhere: bool,
}

thread_local! {
    /// Where the values lie that were shared last. Those who waited for one value get it one after the other.
    static RECENT: Cell<[usize; 16]> = const { Cell::new([0; 16]) };
    /// Empty ones with more room than [`KEPT`].
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that is needed no more.
fn give_back(mut buffer: Vec<u8>) {
    if (KEPT + 1..=LARGEST_SPARE).contains(&buffer.capacity()) {
        buffer.clear();
        SPARES.with_borrow_mut(|spares| {
            spares.truncate(SPARE - 1);
            spares.push(buffer);
        });
    }
}

/// Whether a value has just been shared with another client of this thread.
fn is_shared_already(bytes: &Bytes) -> bool {
    let address = bytes.as_ptr() as usize;
    let mut recent = RECENT.get();
    if recent.contains(&address) {
        return true;
    }
    recent.rotate_right(1);
    recent[0] = address;
    RECENT.set(recent);
    false
}

impl Output {
    /// Unwritten bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Unwritten bytes that this output answers for: a value that many clients wait for counts for the first of them, as
    /// far as can be told; it is held once.
    pub fn own(&self) -> usize {
        self.len.saturating_sub(self.pieces.as_ref().map_or(0, |pieces| pieces.elsewhere))
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether what is not written yet begins with these bytes, in one piece.
    pub fn begins_with(&self, bytes: &[u8]) -> bool {
        let first = self.first_piece().map_or(&self.tail[..], |piece| &piece.bytes[..]);
        first.get(self.written..).is_some_and(|first| first.starts_with(bytes))
    }

    /// Appends through one of the writers of [`crate::resp::write`].
    pub fn write<T>(&mut self, writer: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.close_long_tail();
        let before = self.tail.len();
        let result = writer(&mut self.tail);
        self.len = self.len + self.tail.len() - before;
        result
    }

    /// Appends a copy.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.close_long_tail();
        self.make_room(bytes.len());
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a value that others hold too.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED {
            return self.extend(bytes);
        }
        self.close_tail();
        let elsewhere = is_shared_already(bytes);
        self.push_piece(Piece { bytes: bytes.clone(), elsewhere });
        self.len += bytes.len();
    }

    /// Before many bytes are appended: in a buffer that others have given back, if there is one.
    #[inline]
    fn make_room(&mut self, more: usize) {
        let needed = self.tail.len() + more;
        if needed > KEPT && needed > self.tail.capacity() {
            self.move_to_spare(needed);
        }
    }

    fn move_to_spare(&mut self, needed: usize) {
        let spare = SPARES.with_borrow_mut(|spares| {
            let fits = spares.iter().rposition(|spare| spare.capacity() >= needed);
            fits.map(|index| spares.swap_remove(index))
        });
        if let Some(mut spare) = spare {
            spare.extend_from_slice(&self.tail);
            give_back(std::mem::replace(&mut self.tail, spare));
        }
    }

    fn first_piece(&self) -> Option<&Piece> {
        self.pieces.as_ref()?.queue.front()
    }

    fn push_piece(&mut self, piece: Piece) {
        let pieces = self.pieces.get_or_insert_default();
        pieces.elsewhere += if piece.elsewhere { piece.bytes.len() } else { 0 };
        pieces.queue.push_back(piece);
    }

    fn drop_first_piece(&mut self) {
        let Some(pieces) = &mut self.pieces else { return };
        if let Some(piece) = pieces.queue.pop_front() {
            pieces.elsewhere -= if piece.elsewhere { piece.bytes.len() } else { 0 };
            // Nobody else holds it.
            if let Ok(bytes) = piece.bytes.try_into_mut() {
                give_back(bytes.into());
            }
        }
        if pieces.queue.is_empty() {
            self.pieces = None;
        }
    }

    /// Nothing is to be written for a while: it keeps no room.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Output::default();
        }
    }

    /// Bytes that are whole already.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Output { len: bytes.len(), tail: bytes, ..Output::default() }
    }

    /// Appends all of another output that nothing has been written of.
    pub fn append(&mut self, other: Output) {
        debug_assert_eq!(other.written, 0);
        if self.is_empty() {
            *self = other;
            return;
        }
        if other.pieces.is_none() && other.tail.len() < SHARED {
            return self.extend(&other.tail);
        }
        self.close_tail();
        self.len += other.len;
        for piece in other.pieces.into_iter().flat_map(|pieces| pieces.queue) {
            self.push_piece(piece);
        }
        self.tail = other.tail;
    }

    fn close_long_tail(&mut self) {
        if self.tail.len() >= PIECE {
            self.close_tail();
        }
    }

    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        if self.pieces.is_none() {
            tail.drain(..self.written);
            self.written = 0;
        }
        if !tail.is_empty() {
            self.push_piece(Piece { bytes: tail.into(), elsewhere: false });
        }
    }

    /// The next bytes to write, as slices for one vectored write.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        let pieces = self.pieces.iter().flat_map(|pieces| &pieces.queue);
        for piece in pieces.map(|piece| &piece.bytes[..]).chain([&self.tail[..]]) {
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
        self.pieces.is_none().then(|| &self.tail[self.written..])
    }

    /// `count` more bytes are written.
    pub fn advance(&mut self, count: usize) {
        self.len -= count;
        self.written += count;
        while let Some(piece) = self.first_piece() {
            let len = piece.bytes.len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.drop_first_piece();
        }
        if self.written == self.tail.len() {
            self.written = 0;
            self.tail.clear();
            if self.tail.capacity() > KEPT {
                give_back(std::mem::take(&mut self.tail));
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
    fn a_reader_that_is_always_behind_does_not_make_it_grow() {
        let mut output = Output::default();
        output.extend(&[b'v'; 1000]);
        for _ in 0..10_000 {
            output.extend(&[b'v'; 1000]);
            output.advance(1000);
        }
        let held: usize =
            output.pieces.iter().flat_map(|pieces| &pieces.queue).map(|piece| piece.bytes.len()).sum::<usize>()
                + output.tail.len();
        assert_eq!(output.len(), 1000);
        assert!(held < 2 * PIECE, "{held} bytes are held");
    }

    #[test]
    fn it_keeps_no_room_while_it_rests_and_nothing_unwritten_is_lost() {
        let mut output = Output::default();
        output.extend(b"first");
        output.rest();
        assert_eq!((output.len(), output.single()), (5, Some(&b"first"[..])));
        output.advance(5);
        assert!(output.tail.capacity() > 0);
        output.rest();
        assert_eq!(output.tail.capacity(), 0);
        output.extend(b"next");
        assert_eq!(output.single(), Some(&b"next"[..]));
    }

    #[test]
    fn what_one_has_given_back_another_takes_and_it_is_bounded() {
        let spares = || SPARES.with_borrow(|spares| spares.iter().map(Vec::capacity).collect::<Vec<_>>());
        let (mut one, mut other) = (Output::default(), Output::default());
        one.extend(&[b'a'; KEPT + 1]);
        one.extend(&[b'b'; PIECE]);
        let (first, more) = (one.tail.as_ptr(), one.len());
        assert_eq!(drain(&mut one, more).len(), more);
        assert!(spares().iter().all(|room| *room > KEPT) && !spares().is_empty());
        other.extend(b"small");
        other.extend(&[b'c'; KEPT]);
        assert_eq!(other.tail.as_ptr(), first);
        assert_eq!(drain(&mut other, 100_000), [&b"small"[..], &[b'c'; KEPT]].concat());
        for length in (0..100).map(|step| KEPT + step * 4096) {
            let mut outputs: [Output; 40] = std::array::from_fn(|_| Output::default());
            outputs.iter_mut().for_each(|output| output.extend(&vec![b'd'; length]));
            outputs.iter_mut().for_each(|output| assert_eq!(drain(output, 1 << 20).len(), length));
        }
        assert!(spares().len() <= SPARE && spares().iter().all(|room| *room <= LARGEST_SPARE));
    }

    #[test]
    fn a_value_that_many_wait_for_counts_once() {
        let value = Bytes::from(vec![b'v'; SHARED]);
        let mut outputs: [Output; 3] = Default::default();
        for output in &mut outputs {
            output.share(&value);
            output.extend(b"end");
        }
        assert_eq!(outputs.each_ref().map(Output::own), [SHARED + 3, 3, 3]);
        for output in &mut outputs {
            output.advance(SHARED + 1);
        }
        assert_eq!(outputs.each_ref().map(Output::own), [2, 2, 2]);
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
