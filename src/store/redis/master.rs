//! Which server is the master at present, as all links of the process are told.
//!
//! One task finds out, by asking sentinels; links wait here for its findings, and tell it when they have reason to
//! doubt them. Where the configuration names the server itself, there is nothing to find out and links never move.

use crate::config::Address;
use crate::store::StoreError;
use std::future::pending;
use tokio::sync::{Notify, watch};

/// What is known of the master.
#[derive(Clone, Debug)]
pub enum Master {
    /// Nothing yet.
    Sought,
    /// It is here.
    At(Address),
    /// It is not where it was, or was never found.
    Lost(StoreError),
}

/// The finding, shared by all links.
#[derive(Debug)]
pub struct Whereabouts {
    master: watch::Sender<Master>,
    doubted: Notify,
}

impl Default for Whereabouts {
    fn default() -> Self {
        Whereabouts { master: watch::Sender::new(Master::Sought), doubted: Notify::new() }
    }
}

impl Whereabouts {
    /// Where the master is; waits for the first finding.
    pub async fn address(&self) -> Result<Address, StoreError> {
        let mut master = self.master.subscribe();
        match master.wait_for(|master| !matches!(master, Master::Sought)).await.as_deref() {
            Ok(Master::At(address)) => Ok(address.clone()),
            Ok(Master::Lost(error)) => Err(error.clone()),
            Ok(Master::Sought) | Err(_) => Err(StoreError::Unavailable("the master is not known yet".into())),
        }
    }

    /// Where it is by what was found last.
    pub fn known(&self) -> Option<Address> {
        match &*self.master.borrow() {
            Master::At(address) => Some(address.clone()),
            _ => None,
        }
    }

    /// It is here. Links that are elsewhere move.
    pub fn found(&self, address: Address) {
        self.master.send_if_modified(|master| {
            let moved = !matches!(master, Master::At(known) if *known == address);
            *master = Master::At(address);
            moved
        });
    }

    /// It is not where it was. Links leave that server, and fail what they have in flight.
    pub fn lost(&self, error: StoreError) {
        self.master.send_if_modified(|master| {
            let was_known = !matches!(master, Master::Lost(_));
            *master = Master::Lost(error);
            was_known
        });
    }

    /// Something about the server speaks against its being the master: the sentinels should be asked again.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until somebody doubts.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }
}

/// Tells one link of each move.
pub struct Moves(Option<watch::Receiver<Master>>);

impl Moves {
    /// Of a master that may move, or of a server that never does.
    pub fn of(master: Option<&Whereabouts>) -> Self {
        Moves(master.map(|whereabouts| whereabouts.master.subscribe()))
    }

    /// Forgets the moves until now: the link is about to ask where the master is.
    pub fn forget(&mut self) {
        if let Some(master) = &mut self.0 {
            master.mark_unchanged();
        }
    }

    /// Waits until the master has moved, or is lost; why links must leave.
    pub async fn next(&mut self) -> StoreError {
        let Some(master) = &mut self.0 else { return pending().await };
        match master.changed().await {
            Ok(()) => match &*master.borrow() {
                Master::Lost(error) => error.clone(),
                Master::At(address) => StoreError::Unavailable(format!("the master has moved to {address}")),
                Master::Sought => StoreError::Unavailable("the master is not known yet".into()),
            },
            Err(_) => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn at(port: u16) -> Address {
        Address { host: "h".into(), port }
    }

    fn lost(text: &str) -> StoreError {
        StoreError::Unavailable(text.into())
    }

    #[test]
    fn links_are_told_of_moves_and_of_nothing_else() {
        let whereabouts = Whereabouts::default();
        let mut moves = Moves::of(Some(&whereabouts));
        assert!(whereabouts.address().now_or_never().is_none(), "waits for the first finding");
        whereabouts.found(at(1));
        assert_eq!(whereabouts.address().now_or_never().and_then(Result::ok), Some(at(1)));
        moves.forget();
        assert!(moves.next().now_or_never().is_none(), "what was known when the link was made is no move");
        whereabouts.found(at(1));
        assert!(moves.next().now_or_never().is_none(), "found where it was");
        whereabouts.found(at(2));
        assert!(moves.next().now_or_never().is_some());
        whereabouts.lost(lost("gone"));
        assert_eq!(moves.next().now_or_never().map(|why| why.to_string()), Some(lost("gone").to_string()));
        assert_eq!(whereabouts.known(), None);
        whereabouts.lost(lost("still gone"));
        assert!(moves.next().now_or_never().is_none(), "links have left already");
        let why = whereabouts.address().now_or_never().and_then(Result::err);
        assert_eq!(why.map(|why| why.to_string()), Some(lost("still gone").to_string()));
    }

    #[test]
    fn a_server_that_the_configuration_names_never_moves() {
        assert!(Moves::of(None).next().now_or_never().is_none());
    }
}
