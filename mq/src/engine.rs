//! A queue node's operations as values: the one trait that the RPC service, HTTP and every other door stand on.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Delivery, Extensions, MessageId, MessageInfo, MqError, Pop, Push, Receipt, Settings, TopicStats};

/// Engine of one queue node.
///
/// Results are durable when a method returns, unless a push asks for less. Every error of the node as a whole (disk, shutdown)
/// is the method's error; what concerns one message of several is in the result of that message.
pub trait Engine: Clone + Send + Sync + 'static {
    /// Pushes a message; returns its id when it is as durable as it asks for. With a dedup key that is known, the id of the
    /// first push.
    ///
    /// # Errors
    /// The push is refused whole: it is invalid, no queue matches, a queue, the node or the disk is full.
    fn push(&self, push: Push) -> impl Future<Output = Result<MessageId, MqError>> + Send;

    /// Pushes all of the messages or none: at most 1,000 and 3 MiB.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    fn push_batch(&self, pushes: Vec<Push>) -> impl Future<Output = Result<Vec<MessageId>, MqError>> + Send;

    /// Leases the next messages of a queue; none if none comes within the time that the request gives.
    ///
    /// # Errors
    /// No such queue, or the disk is full or failed.
    fn pop(&self, pop: &Pop) -> impl Future<Output = Result<Vec<Delivery>, MqError>> + Send;

    /// Leases the oldest dead letters of a queue, without waiting. An ack removes them; a nack, or the end of the lease, leaves
    /// them where they were. [`Delivery::reason`] says why each is dead.
    ///
    /// # Errors
    /// As for [`pop`](Self::pop).
    fn pop_dead(&self, pop: &Pop) -> impl Future<Output = Result<Vec<Delivery>, MqError>> + Send;

    /// Ends, or extends, the leases of these receipts in the same way. One result each, in their order.
    ///
    /// # Errors
    /// Of one receipt: [`MqError::NotLeased`], [`MqError::OtherNode`]. Of the call: the disk is full (never for
    /// [`End::Ack`] and [`End::Return`]) or failed.
    fn end_all(
        &self,
        receipts: &[Receipt],
        end: &End,
    ) -> impl Future<Output = Result<Vec<Result<(), MqError>>, MqError>> + Send;

    /// The same for one receipt.
    ///
    /// # Errors
    /// As for [`end_all`](Self::end_all).
    fn end(&self, receipt: &Receipt, end: &End) -> impl Future<Output = Result<(), MqError>> + Send {
        async move { self.end_all(std::slice::from_ref(receipt), end).await?.pop().unwrap_or(Ok(())) }
    }

    /// A function that gives leases back, for the case that an answer is not delivered: the messages are ready at once, and it
    /// does not count as a retry. The function is short, does not block, and does not keep the engine open.
    fn give_back(&self, receipts: Vec<Receipt>) -> impl FnOnce() + Send + Sync + 'static;

    /// Changes topics, queues or messages; returns how many messages were changed.
    ///
    /// # Errors
    /// No such topic, queue or message; an illegal value; a bound of the node; the disk is full (never for what removes
    /// messages) or failed.
    fn change(&self, change: Change) -> impl Future<Output = Result<u64, MqError>> + Send;

    /// Looks without taking. The bodies of one answer have at most 3 MiB together, or belong to one message.
    ///
    /// # Errors
    /// No such topic, queue or message, or the disk.
    fn look(&self, look: Look) -> impl Future<Output = Result<Seen, MqError>> + Send;

    /// The queue of a receipt; `None` if it has none here, so that no lease stands.
    fn queue_of(&self, receipt: &Receipt) -> Option<QueueName>;

    /// The engine as it serves this caller, whose name is asked for only if that makes a difference: every door asks for it with
    /// the principal that it knows, or an empty name. Default: everyone may do everything.
    fn for_caller(&self, _name: impl FnOnce() -> String) -> Cow<'_, Self> {
        Cow::Borrowed(self)
    }

    /// Checks whether the caller may do such a thing, where it is no operation of the engine: channels of gmq. Default: yes.
    ///
    /// # Errors
    /// [`MqError::Denied`].
    fn permits(&self, _verb: Verb, _topic: &str) -> Result<(), MqError> {
        Ok(())
    }
}

/// Kind of operation, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `push`: pushes messages to a topic.
    Push,
    /// `take`: leases messages and dead letters of a topic, and ends leases.
    Take,
    /// `look`: reads messages and statistics, and takes nothing.
    Look,
    /// `change`: everything else, such as declaring, configuring, purging, moving.
    Change,
}

impl Verb {
    pub(crate) const ALL: [Self; 4] = [Self::Push, Self::Take, Self::Look, Self::Change];

    /// The name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Take => "take",
            Self::Look => "look",
            Self::Change => "change",
        }
    }
}

/// A queue, by its topic and bind key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueName {
    /// The topic.
    pub topic: String,
    /// The bind key.
    pub queue: String,
}

impl QueueName {
    /// The queue of a topic with this bind key.
    pub fn new(topic: impl Into<String>, queue: impl Into<String>) -> Self {
        Self { topic: topic.into(), queue: queue.into() }
    }
}

impl QueueName {
    /// Tags of the extensions that name a queue: the topic, and the bind key.
    const TAGS: [u16; 2] = [1, 2];

    /// The queue that these extensions name, as those of an answer with statistics do if more follow.
    pub fn from_extensions(extensions: &Extensions) -> Option<Self> {
        let text = |tag| {
            let (_, value) = extensions.0.iter().find(|(found, _)| *found == tag)?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let [topic, queue] = Self::TAGS.map(text);
        Some(Self { topic: topic?, queue: queue? })
    }

    /// Extensions that name the queue.
    pub fn into_extensions(self) -> Extensions {
        let [topic, queue] = Self::TAGS;
        Extensions(vec![(topic, self.topic.into_bytes().into()), (queue, self.queue.into_bytes().into())])
    }
}

/// How a lease ends, or goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The message is done with.
    Ack,
    /// The message could not be handled: it comes again after the delay, or is dead if it has no retries left.
    Nack {
        /// Until it is ready again.
        delay: Duration,
        /// Kept with a dead letter: up to 1 KiB of it, or 64 bytes while all reasons of the node have more than 64 MiB.
        reason: String,
    },
    /// The lease ends after this time from now; `None`: after the message's TTR.
    Touch(Option<Duration>),
    /// The message cannot be handled ever: it is dead at once, for this reason, which is kept as that of a nack.
    Bury(String),
    /// The lease goes on, and the message must not be handled twice: if the lease ends by itself - its holder, or the node, ended
    /// - the message is dead at once instead of coming again. Durable, so to be awaited before the work begins.
    Begin,
    /// The message reached nobody: it is ready at once, and the delivery does not count.
    Return,
}

impl End {
    /// A nack.
    pub fn nack(delay: Duration, reason: impl Into<String>) -> Self {
        Self::Nack { delay, reason: reason.into() }
    }
}

/// A change of topics, queues or messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// Makes a queue, and its topic if need be.
    Declare(QueueName),
    /// Changes a topic's settings, and makes the topic if need be. Leases keep their time.
    Configure(String, Settings),
    /// Stops (`true`) or resumes the handing out of a queue's messages.
    Pause(QueueName, bool),
    /// Removes the messages of a queue that are ready, delayed or leased.
    Purge(QueueName),
    /// Removes the dead letters of a queue that are not leased.
    PurgeDead(QueueName),
    /// Removes a queue with all its messages and dead letters.
    DeleteQueue(QueueName),
    /// Removes a topic with all its queues.
    DeleteTopic(String),
    /// Removes one message, wherever it is in the queue.
    Cancel(QueueName, MessageId),
    /// Makes a message that is ready or delayed due at this time, in milliseconds since 1970 and within 366 days. In the past
    /// means at once.
    Reschedule(QueueName, MessageId, u64),
    /// Gives a message another priority.
    Reprioritize(QueueName, MessageId, u8),
    /// Ends the current lease of a message with an ack, for a caller without the receipt.
    AckById(QueueName, MessageId),
    /// Makes dead letters ready again, all or these. They keep their ids, and their retries begin at 0.
    Redrive(QueueName, Option<Vec<MessageId>>),
    /// Moves messages from the first queue to the second one, under their ids. Dead letters are ready there, as if redriven;
    /// other messages keep due time, retries, end, priority and group. What is leased stays, and so does a message that is in the
    /// second queue already. It ends at a full queue: with its error if nothing was moved, else with the number of messages that
    /// were.
    Move(QueueName, QueueName, Which),
    /// The same, but the messages stay too, and their copies are new messages with ids of their own.
    Copy(QueueName, QueueName, Which),
    /// Keeps a consistent copy of everything that is durable by now as `backups/{name}` in the node's directory, by hard links.
    /// The name has up to 100 letters, digits, `.`, `-` and `_`, and begins with a letter or digit. Returns the number of
    /// segments. Space that a backup holds is freed when it is removed.
    Backup(String),
}

/// Messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// Messages that are ready, delayed or held.
    Waiting,
    /// Dead letters.
    Dead,
    /// Messages of these ids, dead letters or not.
    Ids(Vec<MessageId>),
}

/// A question about messages or topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Look {
    /// One message with its body. Answer: [`Seen::Messages`] with one element.
    Get(QueueName, MessageId),
    /// At most so many (1,000) of the messages that are handed out next, with their bodies.
    Peek(QueueName, u32),
    /// A page of a queue's messages by id, without bodies.
    List {
        /// The queue.
        queue: QueueName,
        /// Only ids above this one.
        after: MessageId,
        /// At most so many, up to 1,000.
        most: u32,
        /// Only dead letters.
        dead: bool,
    },
    /// Statistics of one topic, or of all: a page of at most 1,000 queues, by topic and bind key. A topic may continue on the
    /// next page.
    Stats {
        /// Only this topic.
        topic: Option<String>,
        /// Only what comes after this queue.
        after: Option<QueueName>,
    },
}

/// Answer of [`Engine::look`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// Messages.
    Messages(Vec<MessageInfo>),
    /// Topics with their queues.
    Topics {
        /// By name.
        topics: Vec<TopicStats>,
        /// The queue to ask after for the next page; `None` on the last page.
        next: Option<QueueName>,
    },
}

impl Seen {
    /// The messages; none if topics were asked for.
    pub fn messages(self) -> Vec<MessageInfo> {
        match self {
            Self::Messages(messages) => messages,
            Self::Topics { .. } => Vec::new(),
        }
    }

    /// The topics and the queue to ask after; none if messages were asked for.
    pub fn topics(self) -> (Vec<TopicStats>, Option<QueueName>) {
        match self {
            Self::Topics { topics, next } => (topics, next),
            Self::Messages(_) => (Vec::new(), None),
        }
    }
}
