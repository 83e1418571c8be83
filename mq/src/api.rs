//! Requests of producers and consumers, and the answers of a node.

use std::{fmt, time::Duration};

use ms_rpc::Blob;
use serde::{Deserialize, Serialize};

use crate::{MessageId, Mode, MqError, NodeId, message::LONGEST_NAME};

/// Room to grow: positional codecs could not take another field otherwise. Tags that are not known are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extensions(pub Vec<(u16, Blob)>);

impl Extensions {
    /// The extension of a delivery under a lease of `ms`.
    pub(crate) fn lease(ms: u64) -> Self {
        Self(vec![(Delivery::LEASE, ms.to_le_bytes().to_vec().into())])
    }

    /// The value of a tag, if it is a number in 8 bytes.
    fn number(&self, tag: u16) -> Option<u64> {
        let (_, value) = self.0.iter().find(|(other, _)| *other == tag)?;
        Some(u64::from_le_bytes((&value[..]).try_into().ok()?))
    }
}

/// When a push is answered; the strongest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Durability {
    /// When it is synced to the disk: it survives a crash of the machine.
    #[default]
    Synced,
    /// When it is written: it survives a crash of the process.
    Written,
    /// At once: it may be lost in any crash.
    Queued,
}

/// A message to be pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Made if it is not there and the push has no route key.
    pub topic: String,
    /// Which queues it goes to: all that match, by the topic's mode. None: the queue `default`, which is made if need be.
    pub route_key: Option<String>,
    /// At most 1 MiB.
    pub body: Blob,
    /// After how many milliseconds it is delivered, at most 366 days.
    pub delay_ms: u64,
    /// Higher ones are delivered first.
    pub priority: u8,
    /// How long a delivery may take; the topic's TTR if not given.
    pub ttr_ms: Option<u32>,
    /// A second push of the topic with this key, within the topic's window, is the first one.
    pub dedup: Option<String>,
    /// When the push is answered.
    pub durability: Durability,
    /// Headers, such as `traceparent`.
    pub headers: Vec<(String, Blob)>,
    /// Tag 1: the time to live, and tag 2: when it is due, both in milliseconds, little-endian in 8 bytes. Tag 3: the key of the
    /// FIFO group. See [`with_ttl_ms`](Self::with_ttl_ms), [`with_due_ms`](Self::with_due_ms) and
    /// [`with_group`](Self::with_group).
    pub extensions: Extensions,
}

impl Push {
    const TTL: u16 = 1;
    const DUE: u16 = 2;
    const GROUP: u16 = 3;

    /// A time to live in milliseconds, from the push on: a message that is not handled by then is a dead letter. While it is
    /// leased it lives on. Default: the topic's.
    #[must_use]
    pub fn with_ttl_ms(self, milliseconds: u64) -> Self {
        self.with(Self::TTL, milliseconds)
    }

    /// When it is delivered, in milliseconds since 1970, within 366 days; in the past: at once. If a delay is given too, the
    /// later of both counts.
    #[must_use]
    pub fn with_due_ms(self, milliseconds: u64) -> Self {
        self.with(Self::DUE, milliseconds)
    }

    /// The FIFO group, by a key of up to 255 bytes. In each queue the messages of a group are handed out one at a time, in the
    /// order of their ids: the next one when the previous one was acknowledged, removed, or is dead. A message that failed, or is
    /// delayed, holds up its group. Its priority counts among the first messages of other groups.
    #[must_use]
    pub fn with_group(self, key: impl Into<String>) -> Self {
        self.with_bytes(Self::GROUP, key.into().into_bytes())
    }

    fn with(self, tag: u16, value: u64) -> Self {
        self.with_bytes(tag, value.to_le_bytes().to_vec())
    }

    fn with_bytes(mut self, tag: u16, value: Vec<u8>) -> Self {
        self.extensions.0.retain(|(other, _)| *other != tag);
        self.extensions.0.push((tag, value.into()));
        self
    }

    /// The group's key; an error if it is none.
    pub(crate) fn group(&self) -> Result<Option<&str>, MqError> {
        let Some((_, key)) = self.extensions.0.iter().find(|(tag, _)| *tag == Self::GROUP) else { return Ok(None) };
        match std::str::from_utf8(key) {
            Ok(text) if (1..=LONGEST_NAME).contains(&text.len()) => Ok(Some(text)),
            _ => {
                Err(MqError::Invalid(format!("the group key is empty, longer than {LONGEST_NAME} bytes, or no UTF-8")))
            }
        }
    }

    pub(crate) fn ttl_ms(&self) -> Option<u64> {
        self.extensions.number(Self::TTL)
    }

    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.extensions.number(Self::DUE)
    }

    /// A message for the queue `default` of a topic.
    pub fn new(topic: impl Into<String>, body: impl Into<Blob>) -> Self {
        Self { topic: topic.into(), body: body.into(), ..Self::default() }
    }

    /// The same for the queues that `route_key` leads to.
    #[must_use]
    pub fn to(mut self, route_key: impl Into<String>) -> Self {
        self.route_key = Some(route_key.into());
        self
    }
}

/// A wish for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pop {
    /// The topic.
    pub topic: String,
    /// The queue's bind key.
    pub queue: String,
    /// How many at most; 1 to 1,000.
    pub max_messages: u32,
    /// How many bytes of bodies at most; one message comes whatever its size.
    pub max_bytes: u32,
    /// How long to wait for the first one.
    pub wait_ms: u64,
    /// No tag is known yet.
    pub extensions: Extensions,
}

impl Pop {
    /// For one message, without waiting.
    pub fn new(topic: impl Into<String>, queue: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            queue: queue.into(),
            max_messages: 1,
            max_bytes: 3 << 20,
            wait_ms: 0,
            extensions: Extensions::default(),
        }
    }
}

/// The right to end one delivery. Opaque: hand it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    pub(crate) node: NodeId,
    pub(crate) store: u128,
    pub(crate) queue: u32,
    pub(crate) id: MessageId,
    pub(crate) lease: u64,
}

impl Receipt {
    /// The message.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The node that delivered it: only that one knows the receipt.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

impl Delivery {
    /// The tag of an extension that says why a dead letter is dead.
    pub(crate) const REASON: u16 = 1;
    /// The tag of an extension with the length of the lease.
    const LEASE: u16 = 2;

    /// Why the message is dead; `None` if it is no dead letter.
    pub fn reason(&self) -> Option<&str> {
        let (_, reason) = self.extensions.0.iter().find(|(tag, _)| *tag == Self::REASON)?;
        std::str::from_utf8(reason).ok()
    }

    /// Length of the lease, from when the node handed the message out. `None` if the topic acks by itself, or the node is of
    /// a version that does not tell.
    pub fn lease(&self) -> Option<Duration> {
        self.extensions.number(Self::LEASE).map(Duration::from_millis)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}-{}-{}", self.node, self.store, self.queue, self.id, self.lease)
    }
}

/// The text is none that a receipt's `Display` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no receipt")]
pub struct NoReceipt;

impl std::str::FromStr for Receipt {
    type Err = NoReceipt;

    fn from_str(text: &str) -> Result<Self, NoReceipt> {
        let parts: Vec<_> = text.split('-').collect();
        let [node, store, queue, id, lease] = parts[..] else { return Err(NoReceipt) };
        Ok(Self {
            node: node.parse().ok().and_then(NodeId::new).ok_or(NoReceipt)?,
            store: u128::from_str_radix(store, 16).map_err(|_| NoReceipt)?,
            queue: queue.parse().map_err(|_| NoReceipt)?,
            id: id.parse().map_err(|_| NoReceipt)?,
            lease: lease.parse().map_err(|_| NoReceipt)?,
        })
    }
}

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The message's id.
    pub id: MessageId,
    /// To ack, nack or touch it; none if the topic acks by itself.
    pub receipt: Option<Receipt>,
    /// As it was pushed.
    pub body: Blob,
    /// As it was pushed.
    pub headers: Vec<(String, Blob)>,
    /// Deliveries before this one that came to nothing.
    pub retries: u16,
    /// Tag 1: why a dead letter is dead, as [`reason`](Self::reason) tells. Tag 2: the length of the lease in milliseconds,
    /// little-endian in 8 bytes, as [`lease`](Self::lease) tells.
    pub extensions: Extensions,
}

/// Settings of a topic. A field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How route keys are held against bind keys. Default: exact.
    pub mode: Option<Mode>,
    /// Messages are done with when they are handed out: at most once. Default: no.
    pub auto_ack: Option<bool>,
    /// How long a delivery may take. Default 30 s.
    pub ttr_ms: Option<u64>,
    /// Deliveries that may follow a failed one; after the last the message is dead. Default 5.
    pub max_retries: Option<u16>,
    /// Ready, delayed and leased messages of one queue. Default: no limit.
    pub max_length: Option<u64>,
    /// For how long a dedup key counts, at most 24 h. Default 10 minutes.
    pub dedup_window_ms: Option<u64>,
    /// Dead letters of one queue; when there are more, the oldest are dropped. Default 100,000.
    pub max_dead: Option<u64>,
    /// Dead letters that have been dead for longer are dropped. Default: none.
    pub dead_age_ms: Option<u64>,
    /// The time to live of messages that are pushed without one. Default: without end.
    pub ttl_ms: Option<u64>,
    /// Least time between a failed delivery and the next one, in milliseconds: after the first failure, the second, and so on;
    /// the last step is repeated. A nack may ask for more. At most 32 steps of 366 days. Default: none, no time.
    pub backoff_ms: Option<Vec<u64>>,
    /// Messages of one queue that are leased at the same time, dead letters aside. Default: no limit.
    pub max_leased: Option<u64>,
    /// Deliveries of one queue. Default: no limit.
    pub rate: Option<Rate>,
    /// Tag 1: when they were changed at the node that they come from, in milliseconds since 1970, little-endian in 8 bytes.
    pub extensions: Extensions,
}

impl Settings {
    const CHANGED: u16 = 1;

    /// Settings that say everything, what is without limit too, as of this time.
    pub(crate) fn whole(self, changed_ms: u64) -> Self {
        let limit = |limit: Option<u64>| Some(limit.unwrap_or(u64::MAX));
        Self {
            max_length: limit(self.max_length),
            max_dead: limit(self.max_dead),
            dead_age_ms: limit(self.dead_age_ms),
            ttl_ms: limit(self.ttl_ms),
            max_leased: limit(self.max_leased),
            backoff_ms: Some(self.backoff_ms.unwrap_or_default()),
            rate: Some(self.rate.unwrap_or(Rate::UNLIMITED)),
            extensions: Extensions(vec![(Self::CHANGED, changed_ms.to_le_bytes().to_vec().into())]),
            ..self
        }
    }

    /// When these settings were given to another node.
    pub(crate) fn changed_ms(&self) -> Option<u64> {
        self.extensions.number(Self::CHANGED)
    }
}

/// Rate of deliveries: on average at most `messages` in `per_ms`, evenly spread; after a pause up to `messages` at once. A
/// delivery that is given back does not count. A start of the node begins with the full number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Messages; 0 with a time of 0: no limit.
    pub messages: u32,
    /// In so many milliseconds, at most a day.
    pub per_ms: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { messages: 0, per_ms: 0 };

    /// A number of messages a second.
    pub fn per_second(messages: u32) -> Self {
        Self { messages, per_ms: 1000 }
    }
}

/// Where a message stands in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageInfo {
    /// The message's id.
    pub id: MessageId,
    /// `ready`, `delayed`, `leased` or `dead`; `held` if it waits for another message of its group.
    pub state: String,
    /// When it is or was due, in milliseconds since 1970.
    pub due_ms: u64,
    /// Deliveries that came to nothing.
    pub retries: u16,
    /// Higher ones are delivered first.
    pub priority: u8,
    /// Why it is dead.
    pub reason: Option<String>,
    /// The key of its FIFO group.
    pub group: Option<String>,
    /// As it was pushed; not in lists.
    pub body: Option<Blob>,
    /// As they were pushed; not in lists.
    pub headers: Vec<(String, Blob)>,
    /// Tag 1: when its time to live ends, as [`expires_ms`](Self::expires_ms) tells. Tag 2: the length of its leases, as
    /// [`ttr_ms`](Self::ttr_ms) tells. Both in milliseconds, little-endian in 8 bytes.
    pub extensions: Extensions,
}

impl MessageInfo {
    const EXPIRES: u16 = 1;
    const TTR: u16 = 2;

    /// When its time to live ends, in milliseconds since 1970; `None` if it has no end.
    pub fn expires_ms(&self) -> Option<u64> {
        self.extensions.number(Self::EXPIRES)
    }

    /// Length of its leases in milliseconds; `None` for that of the topic.
    pub fn ttr_ms(&self) -> Option<u64> {
        self.extensions.number(Self::TTR)
    }

    /// Extensions with these values, where they are given.
    pub(crate) fn extensions(expires_ms: Option<u64>, ttr_ms: Option<u64>) -> Extensions {
        let of = |(tag, value): (u16, Option<u64>)| Some((tag, value?.to_le_bytes().to_vec().into()));
        Extensions([(Self::EXPIRES, expires_ms), (Self::TTR, ttr_ms)].into_iter().filter_map(of).collect())
    }
}

/// How a queue stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Its bind key.
    pub queue: String,
    /// Messages that can be handed out.
    pub ready: u64,
    /// Messages that are not due yet.
    pub delayed: u64,
    /// Messages that wait for another one of their group.
    pub held: u64,
    /// Messages that are out.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Pushed since the node started.
    pub pushed: u64,
    /// Handed out since the node started.
    pub popped: u64,
    /// Nothing is handed out.
    pub paused: bool,
    /// Acked since the node started.
    pub acked: u64,
    /// Deliveries that failed since the node started: nacked, or out of time.
    pub failed: u64,
    /// Messages that died since the node started.
    pub died: u64,
    /// Messages among them whose time to live ended.
    pub outlived: u64,
    /// Dead letters that were dropped since the node started, because of their number or age.
    pub dropped: u64,
    /// The age of the oldest message that is no dead letter, in milliseconds since it was pushed; `None` without messages.
    pub oldest_ms: Option<u64>,
}

/// How a topic stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStats {
    /// Its name.
    pub topic: String,
    /// How route keys are held against bind keys.
    pub mode: Mode,
    /// Messages are done with when they are handed out.
    pub auto_ack: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When its settings were changed last, on this node or on the one that it learned them from; 0: never.
    pub changed_ms: u64,
    /// Its settings; what is without limit is `None`.
    pub settings: Settings,
    /// Its queues, by bind key.
    pub queues: Vec<QueueStats>,
    /// No tag is known yet.
    pub extensions: Extensions,
}

impl TopicStats {
    /// Its settings as JSON, under the names of HTTP and of the command line.
    pub fn settings_as_json(&self) -> serde_json::Value {
        let Self { settings, auto_ack, .. } = self;
        serde_json::json!({
            "mode": match self.mode { Mode::Exact => "exact", Mode::Fuzzy => "fuzzy" },
            "auto_ack": auto_ack,
            "ttr_ms": settings.ttr_ms,
            "max_retries": settings.max_retries,
            "max_length": settings.max_length,
            "dedup_window_ms": settings.dedup_window_ms,
            "max_dead": settings.max_dead,
            "dead_age_ms": settings.dead_age_ms,
            "ttl_ms": settings.ttl_ms,
            "backoff_ms": settings.backoff_ms.as_deref().unwrap_or_default(),
            "max_leased": settings.max_leased,
            "rate": settings.rate.map(|rate| serde_json::json!({ "messages": rate.messages, "per_ms": rate.per_ms })),
        })
    }
}
