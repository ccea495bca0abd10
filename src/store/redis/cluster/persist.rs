//! One command, sent again and again until a node answers it: along redirects, and through a failover.
//!
//! Bounded by the command's own deadline, which is `[upstream] timeout` after it was first sent, and by [`MOST`] redirects.
//! A command that a node may have executed is sent again only if it changes nothing.

use super::nodes::Nodes;
use super::redirect::{Facts, Redirect};
use crate::config::Address;
use crate::store::StoreError;
use crate::store::redis::link::Link;
use crate::store::redis::request::request;
use std::time::Duration;
use tokio::time::Instant;

/// Most redirects that one command follows, as in other clients of a cluster.
const MOST: usize = 16;
/// So many of them without a pause.
const AT_ONCE: usize = 3;
/// A command that nobody can answer yet is tried again after this, and then after twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

/// Precedes a command that was redirected by ASK.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// Where a command is sent next.
enum Next {
    /// To the node of its slot, by the newest topology.
    Owner,
    /// To this node.
    There { address: Address, asking: bool },
}

/// Sends `command` to the node of its slot and answers with its reply, whatever it takes.
///
/// # Errors
/// No node answered before `deadline`, or the link broke under a command that may have changed something.
pub async fn first(nodes: &Nodes, command: &[u8], facts: Facts, deadline: Instant) -> Result<Vec<u8>, StoreError> {
    go_on(nodes, command, facts, Next::Owner, deadline).await
}

/// The same for a command that a node has sent elsewhere already.
///
/// # Errors
/// As for [`first`].
pub async fn after(
    nodes: &Nodes,
    command: &[u8],
    facts: Facts,
    redirect: Redirect,
    deadline: Instant,
) -> Result<Vec<u8>, StoreError> {
    let next = Pace::until(deadline).next(nodes, facts, redirect).await?;
    go_on(nodes, command, facts, next, deadline).await
}

async fn go_on(
    nodes: &Nodes,
    command: &[u8],
    facts: Facts,
    mut next: Next,
    deadline: Instant,
) -> Result<Vec<u8>, StoreError> {
    let mut pace = Pace::until(deadline);
    loop {
        let redirect = match reach(nodes, facts, &next) {
            None => Redirect::Later(StoreError::Unavailable("no node of the cluster serves the slot".into())),
            Some((link, said_by)) => {
                if matches!(next, Next::There { asking: true, .. }) {
                    link.send_and_forget(ASKING, 1);
                }
                match request(&link, command).await {
                    Ok(reply) => match Redirect::read(&reply, &said_by) {
                        Some(redirect) => redirect,
                        None => return Ok(reply),
                    },
                    Err(error) if error.is_unsent() || (facts.only_reads && error.is_lost()) => Redirect::Later(error),
                    Err(error) => {
                        nodes.shared().want_newer(None);
                        return Err(error);
                    }
                }
            }
        };
        next = pace.next(nodes, facts, redirect).await?;
    }
}

fn reach(nodes: &Nodes, facts: Facts, next: &Next) -> Option<(Link, Address)> {
    if let Next::There { address, .. } = next {
        return Some((nodes.link_to(address), address.clone()));
    }
    nodes.version();
    let index = match facts.slot {
        Some(slot) => nodes.owner(slot),
        None => nodes.any_master(fastrand::usize(..)),
    };
    index.map(|index| (nodes.link(index), nodes.address(index)))
}

/// How often a command has been sent elsewhere, and when it may be tried again.
struct Pace {
    deadline: Instant,
    redirects: usize,
    pause: Duration,
}

impl Pace {
    fn until(deadline: Instant) -> Self {
        Pace { deadline, redirects: 0, pause: FIRST }
    }

    /// Where to next, perhaps after a wait.
    async fn next(&mut self, nodes: &Nodes, facts: Facts, redirect: Redirect) -> Result<Next, StoreError> {
        let (address, asking) = match redirect {
            Redirect::Moved(address) => {
                nodes.shared().want_newer(Some(&address));
                (address, false)
            }
            Redirect::Ask(address) => (address, true),
            Redirect::Later(error) => return self.wait(nodes, error).await,
        };
        self.redirects += 1;
        if self.redirects > MOST {
            return Err(StoreError::Refused(format!("more than {MOST} redirects within the cluster")));
        }
        if self.redirects > AT_ONCE {
            // Nodes that have not heard of each other's news yet send it to and fro: they need a moment.
            self.pause(nodes).await;
        }
        if facts.may_speak_for_itself && !nodes.knows(&address) {
            let error = StoreError::Refused("a redirect to a place that the cluster does not know".into());
            return self.wait(nodes, error).await;
        }
        Ok(Next::There { address, asking })
    }

    /// Waits for a moment, or for a new topology if it comes earlier. `error` is the answer if the time is over.
    async fn wait(&mut self, nodes: &Nodes, error: StoreError) -> Result<Next, StoreError> {
        if self.deadline <= Instant::now() {
            return Err(error);
        }
        nodes.shared().want_newer(None);
        self.pause(nodes).await;
        Ok(Next::Owner)
    }

    async fn pause(&mut self, nodes: &Nodes) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        nodes.shared().change_within(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST);
    }
}
