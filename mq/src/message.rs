//! Ids, names, and what a message is. Pure: time comes in as an argument.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::MqError;

/// Names a message for ever, within all nodes of a cluster: `milliseconds since 2017-01-01 << 22 | node id << 12 |
/// sequence`. Later messages of one node have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The node that took the message.
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> SEQUENCE_BITS & 0x3ff) as u16)
    }

    /// When it was given, or a little later.
    pub(crate) fn time(self) -> Millis {
        EPOCH + (self.0 >> TIME_SHIFT)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Tells the nodes of a cluster apart: 1 to 1,023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u16);

impl NodeId {
    /// The smallest number.
    pub(crate) const MIN: Self = Self(1);

    /// `None` outside 1 to 1,023.
    pub fn new(id: u16) -> Option<Self> {
        (1..=1023).contains(&id).then_some(Self(id))
    }

    /// As a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970.
pub(crate) type Millis = u64;

/// 2017-01-01T00:00:00Z.
const EPOCH: Millis = 1_483_228_800_000;
const SEQUENCE_BITS: u32 = 12;
const TIME_SHIFT: u32 = 22;

/// Gives ids: they rise, whatever the clock does. In a millisecond that has used up its 4,096, they borrow from the next.
#[derive(Debug)]
pub(crate) struct Ids {
    node: NodeId,
    last: u64,
}

impl Ids {
    /// All ids will be above `above`.
    pub(crate) fn new(node: NodeId, above: u64) -> Self {
        Self { node, last: above }
    }

    pub(crate) fn next(&mut self, now: Millis) -> MessageId {
        let tick = now.saturating_sub(EPOCH);
        let (last_tick, last_sequence) = (self.last >> TIME_SHIFT, self.last & ((1 << SEQUENCE_BITS) - 1));
        let (tick, sequence) = if tick > last_tick {
            (tick, 0)
        } else if last_sequence + 1 < 1 << SEQUENCE_BITS {
            (last_tick, last_sequence + 1)
        } else {
            (last_tick + 1, 0)
        };
        self.last = tick << TIME_SHIFT | u64::from(self.node.0) << SEQUENCE_BITS | sequence;
        MessageId(self.last)
    }

    /// The greatest id given so far.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// An id that no message gets before `now`.
    pub(crate) fn bound(now: Millis) -> u64 {
        now.saturating_sub(EPOCH) << TIME_SHIFT
    }
}

/// Checks a topic, a bind key or a route key: up to 255 bytes, without control characters, and nothing that means
/// something in a path.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), MqError> {
    let problem = if name.is_empty() {
        return Err(MqError::Invalid(format!("{what} is empty")));
    } else if name.len() > LONGEST_NAME {
        format!("it has {} bytes, at most {LONGEST_NAME} are allowed", name.len())
    } else if name.contains(['/', '\\']) || name == "." || name == ".." {
        "`/`, `\\`, `.` and `..` are not allowed".to_owned()
    } else if name.chars().any(char::is_control) {
        "control characters are not allowed".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(40).collect();
    Err(MqError::Invalid(format!("{what} {shown:?}: {problem}")))
}

/// Bytes of a name.
pub(crate) const LONGEST_NAME: usize = 255;
/// Bytes of a body.
pub(crate) const LARGEST_BODY: usize = 1 << 20;
/// Messages of a batch.
pub(crate) const LARGEST_BATCH: usize = 1000;
/// Bytes of all bodies and headers of a batch.
pub(crate) const LARGEST_BATCH_BYTES: usize = 3 << 20;
/// 366 days.
pub(crate) const LONGEST_DELAY: Millis = 366 * 24 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_rise_whatever_the_clock_does(steps in prop::collection::vec((0..3u8, 0..5000u64), 1..200)) {
            let node = NodeId::new(1023).unwrap();
            let (mut ids, mut now, mut last) = (Ids::new(node, 0), EPOCH + 10_000_000, 0);
            for (kind, amount) in steps {
                match kind {
                    0 => now += amount,
                    1 => now -= amount,
                    _ => {
                        for _ in 0..amount * 2 {
                            let id = ids.next(now);
                            prop_assert!(id.0 > last);
                            prop_assert_eq!(id.node(), node);
                            last = id.0;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_id_tells_its_time() {
        let id = Ids::new(NodeId::new(1).unwrap(), 0).next(EPOCH + 5);
        assert_eq!(id.0, 5 << 22 | 1 << 12);
        assert!(id.0 > Ids::bound(EPOCH + 5) && id.0 < Ids::bound(EPOCH + 6));
        assert_eq!(id.time(), EPOCH + 5);
    }

    #[test]
    fn names_have_no_path_meaning() {
        for bad in ["", "a/b", "../x", "..", "a\\b", "a\nb", &"x".repeat(300)] {
            let error = check_name("topic", bad).unwrap_err().to_string();
            assert!(error.starts_with("topic "), "{error}");
        }
        assert!(check_name("topic", "game_1.é*^$").is_ok());
        assert_eq!(check_name("topic", "").unwrap_err().to_string(), "topic is empty");
    }

    #[test]
    fn node_ids_are_1_to_1023() {
        assert_eq!([0, 1, 1023, 1024].map(|id| NodeId::new(id).is_some()), [false, true, true, false]);
    }
}
