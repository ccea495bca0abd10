//! The near cache (T18–T20, T24, T28, T45): reads that this process answers by itself, and everything that must drop what it
//! keeps. Who has the answer to a change sees it at once through the same Weir; through others as soon as its push is there.

#[path = "../harness/mod.rs"]
mod harness;

mod cluster;
mod faults;
mod hits;
mod identities;
mod others;
mod own;
mod room;
mod setup;
mod tags;
