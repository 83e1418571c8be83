//! Placement of pushes: the node that has a dedup key. Pure.

use std::{collections::BTreeSet, fmt};

use ms_register::Instance;
use ms_rpc::{Balancer, Balancing};

use crate::{NODE_ID, NODES, NodeId};

/// Choice of the node for a push without a dedup key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// One after the other.
    #[default]
    Average,
    /// One after the other, in proportion to the nodes' weights.
    Weight,
    /// Any.
    Random,
}

impl From<Selection> for Balancing {
    fn from(selection: Selection) -> Self {
        match selection {
            Selection::Average => Balancer::RoundRobin.into(),
            Selection::Weight => Balancer::WeightedRoundRobin.into(),
            Selection::Random => Balancer::Random.into(),
        }
    }
}

/// Numbers of the nodes that exist, dead ones included.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Every number that was listed since the client was made.
    seen: BTreeSet<NodeId>,
}

/// Node that has a dedup key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    /// By its number.
    Node(NodeId),
    /// By its id in the registry: a list that is written by hand has no numbers.
    Instance(String),
}

impl Members {
    /// Learns the numbers of listed nodes.
    pub(super) fn listed(&mut self, nodes: &[Instance]) {
        self.seen.extend(nodes.iter().filter_map(number));
    }

    /// Places a key. Of the nodes that exist, the one with the greatest hash of node and key has it, so a node that joins
    /// takes over its own share of keys and no others move (rendezvous hashing, Thaler and Ravishankar 1998). A dead node
    /// keeps its keys.
    ///
    /// Nodes that exist: those that are listed, and those that a listed node names under [`NODES`]; if none names any, those
    /// that were listed at any time since the client was made.
    pub(super) fn home(&self, nodes: &[Instance], topic: &str, key: &str) -> Home {
        let listed: Option<BTreeSet<_>> = nodes.iter().map(number).collect();
        let Some(mut existing) = listed else {
            let best = nodes.iter().max_by_key(|node| rendezvous(node.id(), topic, key));
            return Home::Instance(best.map(|node| node.id().to_owned()).unwrap_or_default());
        };
        let named: Vec<_> = nodes.iter().filter_map(|node| node.metadata().get(NODES)).collect();
        match &named[..] {
            [] => existing.extend(&self.seen),
            _ => existing.extend(named.iter().flat_map(|text| text.split(',')).filter_map(parse)),
        }
        let best = existing.into_iter().max_by_key(|node| rendezvous(&node.to_string(), topic, key));
        best.map_or_else(|| Home::Instance(String::new()), Home::Node)
    }
}

impl Home {
    pub(super) fn is(&self, node: &Instance) -> bool {
        match self {
            Self::Node(id) => number(node) == Some(*id),
            Self::Instance(id) => node.id() == id,
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node {id}"),
            Self::Instance(id) => write!(f, "node {id:?}"),
        }
    }
}

fn number(node: &Instance) -> Option<NodeId> {
    node.metadata().get(NODE_ID).and_then(|text| parse(text))
}

fn parse(number: &str) -> Option<NodeId> {
    number.trim().parse().ok().and_then(NodeId::new)
}

fn rendezvous(node: &str, topic: &str, key: &str) -> u64 {
    // FNV-1a, and a finish that spreads its last bytes: the same on every machine, unlike the standard hasher.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in [node, "\0", topic, "\0", key].iter().flat_map(|part| part.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16, port: u16) -> Instance {
        let node = Instance::from_address(&format!("10.0.0.1:{port}")).unwrap();
        node.with_metadata(NODE_ID, number.to_string())
    }

    fn homes(members: &Members, nodes: &[Instance]) -> Vec<Home> {
        (0..3000).map(|key| members.home(nodes, "t", &key.to_string())).collect()
    }

    fn count(homes: &[Home], number: u16) -> usize {
        homes.iter().filter(|home| **home == Home::Node(NodeId::new(number).unwrap())).count()
    }

    #[test]
    fn keys_spread_and_a_node_that_joins_takes_only_its_own() {
        let nodes = [node(1, 1), node(2, 2), node(3, 3)];
        let (before, after) = (homes(&Members::default(), &nodes[..2]), homes(&Members::default(), &nodes));
        assert!((1..=3).all(|number| (850..1150).contains(&count(&after, number))), "{after:?}");
        let third = Home::Node(NodeId::new(3).unwrap());
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == third));
    }

    #[test]
    fn addresses_do_not_matter() {
        let (before, after) = ([node(1, 1), node(2, 2)], [node(2, 1), node(1, 7)]);
        assert_eq!(homes(&Members::default(), &before), homes(&Members::default(), &after));
    }

    #[test]
    fn keys_stay_with_a_node_that_dies() {
        let nodes = [node(1, 1), node(2, 2), node(3, 3)];
        let mut members = Members::default();
        members.listed(&nodes);
        let before = homes(&members, &nodes);
        assert_eq!(homes(&members, &nodes[..2]), before);
        // A client that was made later learns of it from the others.
        let named = [node(1, 1).with_metadata(NODES, "1, 2,3"), node(2, 2)];
        assert_eq!(homes(&Members::default(), &named), before);
        assert_eq!(count(&homes(&Members::default(), &nodes[..2]), 3), 0);
    }

    #[test]
    fn a_node_that_no_list_names_any_more_has_no_keys() {
        let mut members = Members::default();
        members.listed(&[node(1, 1), node(2, 2), node(3, 3)]);
        let named = [node(1, 1).with_metadata(NODES, "1,2"), node(2, 2).with_metadata(NODES, "1,2")];
        assert_eq!(count(&homes(&members, &named), 3), 0);
    }

    #[test]
    fn lists_without_numbers_place_by_id() {
        let nodes = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| Instance::from_address(address).unwrap());
        let homes = homes(&Members::default(), &nodes);
        let first = homes.iter().filter(|home| home.is(&nodes[0])).count();
        assert!((1350..1650).contains(&first), "{first}");
    }
}
