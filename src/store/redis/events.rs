//! `[invalidation] channel`: passes on the messages of a channel on which others tell what they have changed.
//!
//! Redis keeps no message for who is not there. What was told while the connection was lost is not known; that it was lost
//! is logged, and shown by `weir_invalidation_channel_up`.

use super::subscriber::Audience;
use super::talk::{Command, command};
use crate::store::StoreError;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::mpsc;

/// Takes the channel's messages.
pub struct Events {
    channel: String,
    /// While it is full nothing more is read: the server keeps the rest, up to its limit for subscribers.
    to: mpsc::Sender<Bytes>,
    attended: AtomicBool,
}

impl Events {
    /// Of this channel.
    pub fn new(channel: &str, to: mpsc::Sender<Bytes>) -> Self {
        metrics::describe_gauge!("weir_invalidation_channel_up", "1 if [invalidation] channel is subscribed to");
        metrics::gauge!("weir_invalidation_channel_up").set(0.0);
        Events { channel: channel.to_owned(), to, attended: AtomicBool::new(false) }
    }
}

impl Audience for Events {
    fn opening(&self) -> Vec<Command> {
        vec![command(&["SUBSCRIBE", &self.channel])]
    }

    async fn message(&self, payload: &[u8]) {
        // Nobody takes it when the process ends.
        let _ = self.to.send(Bytes::copy_from_slice(payload)).await;
    }

    fn attends(&self, attends: bool) {
        metrics::gauge!("weir_invalidation_channel_up").set(if attends { 1.0 } else { 0.0 });
        let channel = &self.channel;
        match (self.attended.swap(attends, Relaxed), attends) {
            (true, false) => {
                tracing::warn!(channel, "[invalidation] channel is not heard; what is told meanwhile is lost");
            }
            (false, true) => tracing::info!(channel, "[invalidation] channel is heard"),
            _ => {}
        }
    }

    fn refused(&self, error: &StoreError) {
        let hint = "give Weir's user +subscribe, and the channel";
        tracing::error!(channel = self.channel, %error, hint, "[invalidation] channel cannot be subscribed to");
    }
}
