//! What the buffers of all clients hold together, and what each of them does, so that those that hold the most can be
//! closed when that is too much. Noted when it changes by whole pages, so that small clients never touch what all share.

use crate::config::Limits;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Steps in which bytes are noted.
const PAGE: usize = 4 << 10;

/// One of the two sorts of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Replies that the client has not taken.
    Output,
    /// Commands that have come in part, wait, or are not answered.
    Query,
}

const BOTH: [Buffer; 2] = [Buffer::Output, Buffer::Query];

impl Buffer {
    /// Label `reason` of `weir_clients_closed_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Buffer::Output => "max_output_total",
            Buffer::Query => "max_query_total",
        }
    }
}

/// Whole pages in each sort of buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held([u32; BOTH.len()]);

impl Held {
    /// So many bytes.
    pub fn new(output: usize, query: usize) -> Self {
        Held([output, query].map(|bytes| u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)))
    }
}

/// What one client holds, as last noted.
#[derive(Debug, Default)]
pub struct Share([AtomicUsize; BOTH.len()]);

impl Share {
    /// Bytes in one sort.
    pub fn of(&self, buffer: Buffer) -> usize {
        self.0[buffer as usize].load(Relaxed)
    }
}

/// What all clients hold.
pub struct Buffers {
    most: [usize; BOTH.len()],
    all: Share,
}

impl Buffers {
    /// Empty ones.
    pub fn new(limits: &Limits) -> Self {
        Buffers { most: [limits.max_output_total, limits.max_query_total], all: Share::default() }
    }

    /// A client holds this now. If it is more than before, and all together hold too much: of which sort.
    pub fn note(&self, share: &Share, held: Held) -> Option<Buffer> {
        let mut too_much = None;
        for buffer in BOTH {
            let now = held.0[buffer as usize] as usize * PAGE;
            let before = share.0[buffer as usize].swap(now, Relaxed);
            let all = &self.all.0[buffer as usize];
            if now < before {
                all.fetch_sub(before - now, Relaxed);
            } else if now > before {
                all.fetch_add(now - before, Relaxed);
                too_much = too_much.or(self.is_too_much(buffer).then_some(buffer));
            }
        }
        too_much
    }

    /// Whether all clients together hold too much.
    pub fn is_too_much(&self, buffer: Buffer) -> bool {
        self.all.of(buffer) > self.most[buffer as usize]
    }

    /// Writes the gauges in Prometheus's text format.
    pub fn render(&self, out: &mut String) {
        for (buffer, name) in BOTH.into_iter().zip(["weir_client_output_bytes", "weir_client_query_bytes"]) {
            writeln!(out, "# TYPE {name} gauge\n{name} {}", self.all.of(buffer)).expect("a string takes every text");
        }
    }
}
