//! A durable work queue that is just another registered RPC service.

mod api;
mod batch;
mod call;
mod caller;
mod client;
mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod dedup;
mod engine;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod limited;
mod log;
mod message;
mod node;
mod queue;
mod record;
mod restore;
mod route;
mod ruled;
mod segment;
mod service;
mod sorted;
mod state;
mod store;
mod survey;
mod varint;

pub use api::{
    Delivery, Durability, Extensions, MessageInfo, NoReceipt, Pop, Push, QueueStats, Rate, Receipt, Settings,
    TopicStats,
};
pub use call::{CALLS, Call};
pub use caller::Caller;
pub use client::{Consumer, ConsumerOptions, MqClient, QueueError, Selection, Stopped};
pub use engine::{Change, End, Engine, Look, QueueName, Seen, Verb, Which};
pub use error::MqError;
pub use limited::Limited;
pub use log::{Damage, Finding, OpenError, SegmentSurvey};
pub use message::{MessageId, NodeId};
pub use node::{Meter, Node, NodeConfig};
pub use restore::{RestoreError, restore};
pub use route::{DEFAULT_QUEUE, Mode};
pub use ruled::Ruled;
pub use service::{Answer, MqNode, MqNodeClient, MqNodeServer};
pub use store::{Disk, File, Store};
pub use survey::Survey;

/// The name that nodes are registered under.
pub const SERVICE: &str = "mq";

/// The key in a node's metadata that says its number.
pub const NODE_ID: &str = "mq.node";

/// Metadata key: numbers of all nodes of the cluster, separated by commas, dead ones included. Clients place dedup keys
/// among these nodes.
pub const NODES: &str = "mq.nodes";

/// The key in a node's metadata that says where it serves HTTP.
pub const HTTP_ADDRESS: &str = "mq.http";

/// The key in a node's metadata that names its directory.
pub const STORE_ID: &str = "mq.store";
