use ms_rpc::{Code, ServiceError};
use serde::{Deserialize, Serialize};

/// Why the queue did not do as asked. What is not here is a [`Status`](ms_rpc::Status) of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum MqError {
    /// Something that was given is wrong; the text names it and the rule.
    #[error("{0}")]
    Invalid(String),
    /// No topic of this name.
    #[error("topic is not exist")]
    NoTopic(String),
    /// The topic has no such queue, or none that the route key leads to.
    #[error("bindKey:{0} can't match queue")]
    NoQueue(String),
    /// The queue is there already.
    #[error("bindKey {0} has exist.")]
    QueueExists(String),
    /// No message of this id in the queue.
    #[error("msgId:{0} is not exist.")]
    NoMessage(u64),
    /// The lease has ended: the message was delivered again, acked, or dropped.
    #[error("message {0} is not leased under this receipt any more")]
    NotLeased(u64),
    /// The receipt is another node's, or another store's.
    #[error("this receipt is from node {node}, store {store}")]
    OtherNode {
        /// Where it is from.
        node: u16,
        /// The store's id, in hexadecimal.
        store: String,
    },
    /// The queue has as many messages as it may.
    #[error("queue {queue:?} is full: it has {length} messages, at most {most} are allowed")]
    Full {
        /// The full one.
        queue: String,
        /// Ready, delayed and leased ones.
        length: u64,
        /// The topic's limit.
        most: u64,
    },
    /// The node has as many messages, or dedup keys, as it may keep in memory.
    #[error("the node is full: {0}")]
    NodeFull(String),
    /// The disk is full. What is there can be popped and acked; pushing resumes by itself when there is space.
    #[error(
        "the disk is full: pushes are refused until messages are acked or purged, or there is more space on the disk"
    )]
    DiskFull,
    /// The disk failed: nothing more is taken.
    #[error("the disk failed: {0}")]
    DiskFailed(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
    /// No backup was made; the node goes on.
    #[error("no backup was made: {0}")]
    NoBackup(String),
    /// The node's rules do not let this caller do so.
    #[error("{0}")]
    Denied(String),
}

impl ServiceError for MqError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NoTopic(_) | Self::NoQueue(_) | Self::NoMessage(_) => Code::NotFound,
            Self::QueueExists(_) => Code::AlreadyExists,
            Self::NotLeased(_) | Self::OtherNode { .. } | Self::NoBackup(_) => Code::FailedPrecondition,
            Self::Full { .. } | Self::NodeFull(_) | Self::DiskFull => Code::ResourceExhausted,
            Self::DiskFailed(_) => Code::DataLoss,
            Self::Closed => Code::Unavailable,
            Self::Denied(_) => Code::PermissionDenied,
        }
    }
}
