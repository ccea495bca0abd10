//! Which node serves which slot, as one node told it (CLUSTER SLOTS).
//!
//! An address is what the cluster announces: with `cluster-preferred-endpoint-type hostname` a name, which is looked up at
//! every connect. Where it announces none, it is the host that was asked, as every cluster client reads it.

use super::super::side_key::SLOTS;
use crate::config::Address;
use crate::resp::frame::Reply;
use crate::store::StoreError;
use std::collections::HashMap;

/// `host:port` as redirects have it. An empty host, or `?`, is that of the node which said so.
pub fn parse_address(text: &str, said_by: &Address) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    Some(announced(host, port.parse().ok()?, said_by))
}

fn announced(host: &str, port: u16, said_by: &Address) -> Address {
    let host = if matches!(host, "" | "?") { &said_by.host } else { host };
    Address { host: host.to_owned(), port }
}

/// Position of a node in its [`Topology`].
pub type NodeIndex = u16;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it listens.
    pub address: Address,
    /// The name that the cluster gave it.
    pub id: String,
    /// Whether it only follows one that owns slots.
    pub is_replica: bool,
}

/// All slots, all nodes that serve any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Counts the changes; 0: nothing is known yet.
    pub version: u64,
    nodes: Vec<Node>,
    owners: Box<[NodeIndex]>,
    replicas: HashMap<NodeIndex, Vec<NodeIndex>>,
}

const NOBODY: NodeIndex = NodeIndex::MAX;

impl Topology {
    /// Before the first answer.
    pub fn unknown() -> Self {
        Topology {
            version: 0,
            nodes: Vec::new(),
            owners: vec![NOBODY; SLOTS].into_boxed_slice(),
            replicas: HashMap::new(),
        }
    }

    /// Every master that owns slots, and the first of them.
    pub fn first_slots(&self) -> Vec<(Address, u16)> {
        let first = |index: NodeIndex| {
            let slot = self.owners.iter().position(|&owner| owner == index)?;
            Some((self.node(index).address.clone(), slot as u16))
        };
        self.masters().filter_map(first).collect()
    }

    /// From the reply to CLUSTER SLOTS of the node at `asked`; its version is still 0.
    ///
    /// # Errors
    /// It is no such reply.
    pub fn parse(reply: &Reply, asked: &Address) -> Result<Self, StoreError> {
        let wrong = || StoreError::Protocol("CLUSTER SLOTS answered something else".into());
        let ranges = match reply {
            Reply::Array(ranges) => ranges,
            Reply::Error(text) => return Err(StoreError::Refused(String::from_utf8_lossy(text).into_owned())),
            _ => return Err(wrong()),
        };
        let mut topology = Topology::unknown();
        for range in ranges {
            let Reply::Array(parts) = range else { return Err(wrong()) };
            let [Reply::Integer(first), Reply::Integer(last), master, replicas @ ..] = parts.as_slice() else {
                return Err(wrong());
            };
            let slots = usize::try_from(*first).map_err(|_| wrong())?..=usize::try_from(*last).map_err(|_| wrong())?;
            let master = topology.learn(master, asked, false).ok_or_else(wrong)?;
            topology.owners.get_mut(slots).ok_or_else(wrong)?.fill(master);
            for replica in replicas {
                let replica = topology.learn(replica, asked, true).ok_or_else(wrong)?;
                let known = topology.replicas.entry(master).or_default();
                if !known.contains(&replica) {
                    known.push(replica);
                }
            }
        }
        Ok(topology)
    }

    /// `[host, port, id, …]`.
    fn learn(&mut self, node: &Reply, asked: &Address, is_replica: bool) -> Option<NodeIndex> {
        let Reply::Array(parts) = node else { return None };
        let [host, Reply::Integer(port), rest @ ..] = parts.as_slice() else { return None };
        let host = String::from_utf8_lossy(host.as_bytes().unwrap_or_default());
        let address = announced(&host, u16::try_from(*port).ok()?, asked);
        if let Some(index) = self.nodes.iter().position(|node| node.address == address) {
            return Some(index as NodeIndex);
        }
        let id = rest.first().and_then(Reply::as_bytes).unwrap_or_default();
        self.nodes.push(Node { address, id: String::from_utf8_lossy(id).into_owned(), is_replica });
        Some(self.nodes.len() as NodeIndex - 1).filter(|&index| index < NOBODY)
    }

    /// The master of a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> Option<NodeIndex> {
        Some(self.owners[usize::from(slot)]).filter(|&owner| owner != NOBODY)
    }

    /// Those that follow a master.
    pub fn replicas(&self, master: NodeIndex) -> &[NodeIndex] {
        self.replicas.get(&master).map_or(&[], Vec::as_slice)
    }

    /// One node; the index is of this topology.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[usize::from(index)]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Those that own slots.
    pub fn masters(&self) -> impl Iterator<Item = NodeIndex> {
        (0..).zip(&self.nodes).filter(|(_, node)| !node.is_replica).map(|(index, _)| index)
    }

    /// Whether a node listens there.
    pub fn knows(&self, address: &Address) -> bool {
        self.nodes.iter().any(|node| node.address == *address)
    }

    /// Whether the node that listens there is a master.
    pub fn has_master(&self, address: &Address) -> bool {
        self.nodes.iter().any(|node| node.address == *address && !node.is_replica)
    }

    /// Whether both say the same, whatever their versions.
    pub fn says_the_same(&self, other: &Topology) -> bool {
        self.nodes == other.nodes && self.owners == other.owners && self.replicas == other.replicas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::frame::decode;

    fn asked() -> Address {
        Address { host: "seed".into(), port: 7000 }
    }

    fn parse(reply: &str) -> Result<Topology, StoreError> {
        Topology::parse(&decode(reply.as_bytes(), 8).unwrap(), &asked())
    }

    #[test]
    fn every_slot_has_the_master_and_the_replicas_that_were_told() {
        let topology = parse(
            "*2\r\n*4\r\n:0\r\n:99\r\n*4\r\n$1\r\na\r\n:1\r\n$2\r\nid\r\n*0\r\n*3\r\n$1\r\nb\r\n:2\r\n$3\r\nid2\r\n\
             *3\r\n:100\r\n:16383\r\n*4\r\n$-1\r\n:3\r\n$3\r\nid3\r\n*2\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n",
        )
        .unwrap();
        let owner = |slot| topology.owner(slot).map(|index| topology.node(index).address.to_string());
        assert_eq!((owner(0), owner(99)), (Some("a:1".into()), Some("a:1".into())));
        assert_eq!((owner(100), owner(16383)), (Some("seed:3".into()), Some("seed:3".into())));
        assert_eq!(topology.masters().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(topology.replicas(0), [1]);
        assert!(topology.node(1).is_replica && topology.replicas(2).is_empty());
    }

    #[test]
    fn a_slot_that_nobody_owns_has_no_owner() {
        let topology = parse("*1\r\n*3\r\n:5\r\n:5\r\n*3\r\n$0\r\n\r\n:7\r\n$2\r\nid\r\n").unwrap();
        assert_eq!(topology.owner(4), None);
        assert_eq!(topology.owner(5).map(|index| topology.node(index).address.to_string()), Some("seed:7".into()));
        assert_eq!(Topology::unknown().owner(0), None);
    }

    #[test]
    fn what_is_no_slot_map_is_refused() {
        for reply in [
            "+OK\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n*3\r\n:0\r\n:16384\r\n*3\r\n$0\r\n\r\n:7\r\n$2\r\nid\r\n",
            "*1\r\n*3\r\n:-1\r\n:5\r\n*3\r\n$0\r\n\r\n:7\r\n$2\r\nid\r\n",
            "*1\r\n*3\r\n:9\r\n:5\r\n*3\r\n$0\r\n\r\n:70000\r\n$2\r\nid\r\n",
        ] {
            assert!(matches!(parse(reply), Err(StoreError::Protocol(_))), "{reply}");
        }
        let refused = parse("-ERR This instance has cluster support disabled\r\n");
        assert!(matches!(refused, Err(StoreError::Refused(text)) if text.contains("disabled")));
    }

    #[test]
    fn redirects_name_a_node_or_the_one_that_was_asked() {
        let parse = |text: &str| parse_address(text, &asked()).map(|address| address.to_string());
        assert_eq!(parse("10.0.0.1:6379"), Some("10.0.0.1:6379".into()));
        assert_eq!(parse("::1:6379"), Some("[::1]:6379".into()));
        assert_eq!((parse(":6380"), parse("?:6380")), (Some("seed:6380".into()), Some("seed:6380".into())));
        assert_eq!((parse("host"), parse("host:x")), (None, None));
    }
}
