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
    missed: Notify,
}

impl Default for Whereabouts {
    fn default() -> Self {
        Whereabouts { master: watch::Sender::new(Master::Sought), doubted: Notify::new(), missed: Notify::new() }
    }
}

impl Whereabouts {
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

    /// A link broke, or could not be made: the sentinels may know of another master already.
    pub fn miss(&self) {
        self.missed.notify_one();
    }

    /// Waits until somebody misses it.
    pub async fn missed(&self) {
        self.missed.notified().await;
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

    /// Where the master is; waits for the first finding. What was found until then is no move. `None`: where the
    /// configuration says.
    pub async fn address(&mut self) -> Option<Result<Address, StoreError>> {
        let found = self.0.as_mut()?.wait_for(|master| !matches!(master, Master::Sought)).await;
        Some(match found.as_deref() {
            Ok(Master::At(address)) => Ok(address.clone()),
            Ok(Master::Lost(error)) => Err(error.clone()),
            Ok(Master::Sought) | Err(_) => Err(StoreError::Unavailable("the master is not known yet".into())),
        })
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
    use std::pin::pin;

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
        assert!(address(&mut moves).is_none(), "waits for the first finding");
        whereabouts.found(at(1));
        assert_eq!(address(&mut moves), Some(Ok(at(1))));
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
        assert_eq!(address(&mut moves), Some(Err(lost("still gone").to_string())));
    }

    /// `None`: it is waited for.
    fn address(moves: &mut Moves) -> Option<Result<Address, String>> {
        let found = moves.address().now_or_never()?.expect("sentinels are asked");
        Some(found.map_err(|error| error.to_string()))
    }

    #[test]
    fn a_first_finding_that_a_link_waited_for_is_no_move() {
        let whereabouts = Whereabouts::default();
        let mut moves = Moves::of(Some(&whereabouts));
        {
            let mut address = pin!(moves.address());
            assert!(address.as_mut().now_or_never().is_none(), "it is waited for");
            whereabouts.found(at(1));
            assert_eq!(address.now_or_never().flatten().and_then(Result::ok), Some(at(1)));
        }
        assert!(moves.next().now_or_never().is_none());
    }

    #[test]
    fn a_server_that_the_configuration_names_never_moves() {
        assert!(Moves::of(None).next().now_or_never().is_none());
        assert!(Moves::of(None).address().now_or_never().is_some_and(|address| address.is_none()));
    }
}
