//! Loss of durable bytes.

use std::fmt;

use crate::MessageId;

/// Bytes that were durable and cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's number.
    pub segment: u32,
    /// Place in the file.
    pub offset: u64,
    /// The messages that are lost; `None` where nobody can tell. What is done with may come back.
    pub lost: Option<Vec<MessageId>>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} is damaged at byte {}: ", self.segment, self.offset)?;
        match &self.lost {
            Some(ids) if ids.is_empty() => f.write_str("no message is lost; what is done with may come back"),
            Some(ids) => write!(f, "lost are the messages {ids:?}; what is done with may come back"),
            None => f.write_str("nobody can tell which messages are lost"),
        }
    }
}
