//! How many commands of one client may be under way: as many as the room for its replies allows.
//!
//! A command that has gone to the upstream cannot be taken back, and a link that clients share must not stop reading for
//! one of them. So the room for a reply ([`crate::config::Limits::max_output`]) is set aside before its command goes, by
//! the size of the client's recent replies: the largest of the last round, where a round is the time from one command to
//! its reply; what was larger before counts for an eighth of it with each round. A client that has had no reply yet may have one command
//! under way, and eight times as many with every round of small replies.
//!
//! The limit is passed only by replies that are larger than those before: by one value for a new client, and by as many
//! as were under way for one whose values suddenly grow. [`super::buffers`] bounds that for all clients together.

/// A reply is reckoned with so many bytes at least.
const LEAST: usize = 1 << 10;
/// What was expected falls to this share with each round.
const FALL: usize = 8;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Window {
    most_commands: usize,
    most_bytes: usize,
    /// Bytes that a reply may be expected to have.
    expected: usize,
    /// Of the largest reply in this round, so far.
    largest: usize,
    /// The round ends when this request, or a later one, is answered.
    last: u64,
}

impl Window {
    /// For a client that has asked nothing yet.
    pub fn new(most_commands: usize, most_bytes: usize) -> Self {
        Window { most_commands, most_bytes, expected: most_bytes, largest: 0, last: 0 }
    }

    /// Whether one more command may go, beside `under_way` others, while `queued` bytes wait for the client.
    pub fn admits(&self, under_way: usize, queued: usize) -> bool {
        let room = self.most_bytes.saturating_sub(queued);
        match under_way {
            0 => queued <= self.most_bytes,
            _ => under_way < self.most_commands && self.expected.saturating_mul(under_way + 1) <= room,
        }
    }

    /// How many more may go one after the other; that the first may is certain already.
    pub fn room(&self, under_way: usize, queued: usize) -> usize {
        let room = self.most_bytes.saturating_sub(queued);
        let most = self.most_commands.min(room / self.expected.max(1));
        most.saturating_sub(under_way).max(1)
    }

    /// Whether a limit of the configuration is reached, and which; a smaller window is no news.
    pub fn reached(&self, under_way: usize, queued: usize) -> Option<&'static str> {
        match () {
            () if queued > self.most_bytes => Some("max_output"),
            () if under_way >= self.most_commands => Some("max_pipeline"),
            () => None,
        }
    }

    /// Request `number` has been answered by `replies` replies, of `bytes` bytes together; `next` is the number of the
    /// request that will come next.
    pub fn answered(&mut self, number: u64, next: u64, bytes: usize, replies: usize) {
        let size = if replies > 1 { bytes / replies } else { bytes }.clamp(LEAST, self.most_bytes.max(LEAST));
        self.largest = self.largest.max(size);
        self.expected = self.expected.max(size);
        if number >= self.last {
            self.expected = self.largest.max(self.expected / FALL);
            (self.largest, self.last) = (0, next.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    /// How many commands may be under way while nothing is queued.
    fn size(window: &Window) -> usize {
        let size = (1..).find(|&count| !window.admits(count, 0)).expect("it is bounded");
        (0..size).for_each(|under_way| assert_eq!(window.room(under_way, 0), size - under_way));
        size
    }

    #[test]
    fn small_replies_open_it_eightfold_a_round_up_to_its_limits() {
        let mut window = Window::new(10_000, MOST);
        let mut sizes = vec![size(&window)];
        for round in 0..5 {
            window.answered(round, round + 1, 10, 1);
            sizes.push(size(&window));
        }
        assert_eq!(sizes, [1, 8, 64, 512, 1024, 1024]);
        let mut narrow = Window::new(3, MOST);
        (0..5).for_each(|round| narrow.answered(round, round + 1, 10, 1));
        assert_eq!(size(&narrow), 3);
        assert_eq!(
            (narrow.reached(3, 0), narrow.reached(2, MOST), narrow.reached(0, MOST + 1)),
            (Some("max_pipeline"), None, Some("max_output"))
        );
    }

    #[test]
    fn large_replies_leave_room_for_one_and_queued_ones_for_none() {
        let mut window = Window::new(10_000, MOST);
        (0..5).for_each(|round| window.answered(round, round + 1, 10, 1));
        window.answered(5, 6, 300 << 10, 1);
        assert_eq!(size(&window), 3);
        assert!(window.admits(1, 300 << 10) && !window.admits(2, 300 << 10));
        window.answered(6, 7, 3 << 20, 1);
        assert_eq!(size(&window), 1);
        assert!(window.admits(0, MOST) && !window.admits(0, MOST + 1));
    }

    #[test]
    fn a_round_of_many_requests_opens_it_once_and_its_largest_reply_counts() {
        let mut window = Window::new(10_000, MOST);
        window.answered(0, 65, 10, 1);
        assert_eq!(size(&window), 8);
        (1..64).for_each(|number| window.answered(number, 65, 10, 1));
        assert_eq!(size(&window), 8, "the last of the round is still open");
        window.answered(64, 65, 64 << 10, 1);
        assert_eq!(size(&window), 16);
        // A thousand replies with the mean of 2 KiB are reckoned with that.
        window.answered(65, 66, 2 << 20, 1024);
        window.answered(66, 67, 2 << 20, 1024);
        assert_eq!(size(&window), 512);
    }
}
