//! The arguments of one command, as slices of the bytes that it came in.

use std::ops::Range;

/// A byte range inside a command; 32 bits, for a command is bounded by `max_command` (at most 512 MiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The arguments of one command, its name first. Copying it copies two pointers.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// `spans` lie within `bytes`.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Args { bytes, spans }
    }

    /// How many, the name included.
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// True for an empty command (`*0`, a blank line), which is answered by nothing.
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`, if there is one.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.bytes[span.range()])
    }

    /// All of them in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| &bytes[span.range()])
    }

    /// Those from `first` on.
    pub fn from(self, first: usize) -> Self {
        Args { bytes: self.bytes, spans: self.spans.get(first..).unwrap_or(&[]) }
    }
}

impl std::ops::Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        &self.bytes[self.spans[index].range()]
    }
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|argument| argument.escape_ascii().to_string())).finish()
    }
}

/// Most arguments are no longer than so.
const USUAL: usize = 32;
/// Room for the bytes of so many is made at once; beyond that it grows with them.
const AT_ONCE: usize = 1024;

/// Arguments that own their bytes: for a command that outlives the buffer it came in, or that Weir makes itself.
#[derive(Clone, Debug, Default)]
pub struct OwnedArgs {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedArgs {
    /// Appends one argument.
    pub fn push(&mut self, argument: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(argument);
        self.spans.push(Span { start, end: self.bytes.len() as u32 });
    }

    /// As [`Args`].
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans)
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for OwnedArgs {
    fn from_iter<I: IntoIterator<Item = T>>(arguments: I) -> Self {
        let arguments = arguments.into_iter();
        let (count, _) = arguments.size_hint();
        let mut owned =
            OwnedArgs { bytes: Vec::with_capacity(USUAL * count.min(AT_ONCE)), spans: Vec::with_capacity(count) };
        for argument in arguments {
            owned.push(argument.as_ref());
        }
        owned
    }
}
