//! A durable work queue that is just another registered RPC service.

mod api;
mod batch;
mod clock;
mod dedup;
mod error;
mod log;
mod message;
mod node;
mod queue;
mod record;
mod route;
mod segment;
mod state;
mod store;
mod varint;

pub use api::{
    Delivery, Durability, Extensions, MessageInfo, NoReceipt, Pop, Push, QueueStats, Receipt, Settings, TopicStats,
};
pub use error::MqError;
pub use log::{Damage, OpenError};
pub use message::{MessageId, NodeId};
pub use node::{Node, NodeConfig};
pub use route::{DEFAULT_QUEUE, Mode};
pub use store::{Disk, File, Store};
