//! The harness: private registry servers and server processes that a test starts, freezes, kills and starts again; a
//! relay that hurts connections; and the faults that are tried with them.
//!
//! - [`Server`]: a real registry. Each has free ports and a data directory of its own, so tests run side by side.
//! - [`EtcdCluster`]: three real members of etcd, each of which can be frozen, killed, or cut off.
//! - [`Dnsmasq`]: a real DNS server.
//! - [`Mosquitto`]: a real MQTT broker.
//! - [`Node`]: a process that serves the demo service [`Shop`], and notes in a [`Ledger`] what it executed.
//! - [`Program`]: any program, with arguments of the test's choice.
//! - [`QueueNode`]: a process of the command `ms mq-node`.
//! - [`Relay`]: stands between a client and a server, and delays, drops, swallows, resets or trickles.
//! - [`contested`]: processes that campaign for one service, and are killed and frozen.
//! - [`faults`]: the scenarios, run by the tests at reduced length and by `bench faults` in full.
//!
//! What was started ends when it is dropped. A program that is not installed is an error, never a skipped test.

mod cluster;
mod dnsmasq;
mod election;
mod etcdctl;
pub mod faults;
mod files;
mod http;
mod ledger;
mod load;
mod mosquitto;
mod node;
mod ports;
mod process;
mod program;
mod queue;
mod relay;
mod row;
mod server;
mod shop;
mod signal;
mod wire;
mod znodes;

pub use cluster::{EtcdCluster, EtcdProxy};
pub use dnsmasq::Dnsmasq;
pub use election::{Ordeal, contested, run_candidate};
pub use http::{Response, request, request_with};
pub use ledger::Ledger;
pub use load::{Ended, Load, Tally};
pub use mosquitto::Mosquitto;
pub use node::{Node, NodeOptions, NodeProgram, run as run_node};
pub use program::Program;
pub use queue::{QueueNode, Survived, killed_under_load};
pub use relay::{Fault, Relay};
pub use row::{Check, Row};
pub use server::{Data, Server};
pub use shop::{Found, Shop, ShopClient, ShopServer};

/// What broke in the harness itself, with its reason in words. A service that behaves badly is a figure, not a failure.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
