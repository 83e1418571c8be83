//! Records of the log: one for each thing that must survive. Pure.
//!
//! ```text
//! record = varint length of the rest | u8 kind | fields | extensions: (varint tag, varint length, value)*
//! ```
//! A message has a CRC of its own, between kind and fields: it is read by itself when it is delivered.
//!
//! Readers may skip kinds from 128 on that they do not know. STORAGE.md lists the fields.

mod config;

use bytes::Bytes;

use crate::{
    message::{MessageId, Millis},
    varint::{self, Reader, put, put_bytes, put_signed},
};
pub(crate) use config::TopicConfig;

/// Numbers of topics and queues are never given again.
pub(crate) type TopicNumber = u32;
pub(crate) type QueueNumber = u32;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A message, with the body once and its state in every queue that holds it. Also as a copy that replaces an earlier
    /// one.
    Message(MessageRecord),
    /// The message is done with, in one queue.
    Gone {
        queue: QueueNumber,
        id: MessageId,
    },
    /// The message is ready again at `due`, or dead.
    State {
        queue: QueueNumber,
        id: MessageId,
        state: CopyState,
    },
    /// The message is leased until `expires`; without an end by then it has been tried once more.
    Lease {
        queue: QueueNumber,
        id: MessageId,
        number: u64,
        retries: u16,
        expires: Millis,
        /// If it ends by itself, the message is dead at once.
        is_begun: bool,
    },
    /// A topic as it is from here on.
    Topic {
        number: TopicNumber,
        name: String,
        config: TopicConfig,
    },
    /// A queue as it is from here on.
    Queue {
        number: QueueNumber,
        topic: TopicNumber,
        bind_key: String,
        paused: bool,
    },
    /// The topic and all its queues are deleted.
    TopicGone {
        number: TopicNumber,
    },
    QueueGone {
        number: QueueNumber,
    },
    /// All messages of the queue that are not dead are dropped.
    Purged {
        queue: QueueNumber,
    },
    /// Until `expires`, a push to the topic with this key is the message `id`.
    Dedup {
        topic: TopicNumber,
        key: String,
        id: MessageId,
        expires: Millis,
    },
    /// The message has this priority from here on.
    Priority {
        queue: QueueNumber,
        id: MessageId,
        priority: u8,
    },
    /// No number, id or lease up to these was given to anything that is gone.
    Marks {
        topics: u32,
        queues: u32,
        ids: u64,
        leases: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MessageRecord {
    pub(crate) id: MessageId,
    pub(crate) topic: TopicNumber,
    pub(crate) copies: Vec<(QueueNumber, CopyState)>,
    pub(crate) priority: u8,
    /// In milliseconds; 0: the topic's.
    pub(crate) ttr: u32,
    /// The end of its time to live.
    pub(crate) end: Option<Millis>,
    /// The key of its FIFO group.
    pub(crate) group: Option<String>,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) body: Bytes,
}

/// How a message stands in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyState {
    pub(crate) due: Millis,
    pub(crate) retries: u16,
    /// Why it is dead, if it is.
    pub(crate) dead: Option<String>,
}

mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const GONE: u8 = 2;
    pub(super) const STATE: u8 = 3;
    pub(super) const LEASE: u8 = 4;
    pub(super) const TOPIC: u8 = 5;
    pub(super) const QUEUE: u8 = 6;
    pub(super) const TOPIC_GONE: u8 = 7;
    pub(super) const QUEUE_GONE: u8 = 8;
    pub(super) const PURGED: u8 = 9;
    pub(super) const DEDUP: u8 = 10;
    pub(super) const MARKS: u8 = 11;
    pub(super) const PRIORITY: u8 = 12;
    pub(super) const SKIPPABLE: u8 = 128;
}

/// Kind and CRC of a message.
const FIXED: usize = 5;

/// Tags of extensions.
mod tag {
    pub(super) const HEADERS: u64 = 1;
    pub(super) const END: u64 = 2;
    pub(super) const GROUP: u64 = 3;
    pub(super) const MAX_DEAD: u64 = 4;
    pub(super) const DEAD_AGE: u64 = 5;
    pub(super) const TTL: u64 = 6;
    pub(super) const BACKOFF: u64 = 7;
    pub(super) const MAX_LEASED: u64 = 8;
    pub(super) const RATE: u64 = 9;
    pub(super) const CHANGED: u64 = 10;
    pub(super) const BEGUN: u64 = 11;
}

/// A record that cannot be read: the log was written by another version, or is damaged in a way that its checksum does not
/// show.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of kind {kind} cannot be read: it is from another version, or damaged")]
pub(crate) struct Unreadable {
    pub(crate) kind: u8,
}

impl Record {
    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Message(message) => {
                let mut entry = Vec::new();
                message.write_entry(&mut entry);
                return message.write(&entry, out);
            }
            Self::Gone { queue, id } => {
                out.push(kind::GONE);
                put_numbers(&[u64::from(*queue), id.0], out);
            }
            Self::State { queue, id, state } => {
                out.push(kind::STATE);
                put_numbers(&[u64::from(*queue), id.0], out);
                state.write(*id, out);
            }
            Self::Lease { queue, id, number, retries, expires, is_begun } => {
                out.push(kind::LEASE);
                put_numbers(&[u64::from(*queue), id.0, *number, u64::from(*retries), *expires], out);
                if *is_begun {
                    put_numbers(&[tag::BEGUN, 0], out);
                }
            }
            Self::Topic { number, name, config } => {
                out.push(kind::TOPIC);
                put(u64::from(*number), out);
                put_bytes(name.as_bytes(), out);
                config.write(out);
            }
            Self::Queue { number, topic, bind_key, paused } => {
                out.push(kind::QUEUE);
                put_numbers(&[u64::from(*number), u64::from(*topic)], out);
                put_bytes(bind_key.as_bytes(), out);
                out.push(u8::from(*paused));
            }
            Self::TopicGone { number } => put_one(kind::TOPIC_GONE, *number, out),
            Self::QueueGone { number } => put_one(kind::QUEUE_GONE, *number, out),
            Self::Purged { queue } => put_one(kind::PURGED, *queue, out),
            Self::Dedup { topic, key, id, expires } => {
                out.push(kind::DEDUP);
                put(u64::from(*topic), out);
                put_bytes(key.as_bytes(), out);
                put_numbers(&[id.0, *expires], out);
            }
            Self::Priority { queue, id, priority } => {
                out.push(kind::PRIORITY);
                put_numbers(&[u64::from(*queue), id.0, u64::from(*priority)], out);
            }
            Self::Marks { topics, queues, ids, leases } => {
                out.push(kind::MARKS);
                put_numbers(&[u64::from(*topics), u64::from(*queues), *ids, *leases], out);
            }
        }
        prefix_length(start, out);
    }

    /// Reads the next record; `None` for a kind that may be skipped.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Unreadable> {
        let broken = |kind| Unreadable { kind };
        let mut fields = Reader(reader.bytes().ok_or_else(|| broken(0))?);
        let kind = fields.byte().ok_or_else(|| broken(0))?;
        if kind >= kind::SKIPPABLE {
            return Ok(None);
        }
        Self::fields(kind, &mut fields).map(Some).ok_or_else(|| broken(kind))
    }

    fn fields(kind: u8, from: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            kind::MESSAGE => Self::Message(MessageRecord::read(from)?),
            kind::GONE => Self::Gone { queue: from.small()?, id: MessageId(from.number()?) },
            kind::STATE => {
                let (queue, id) = (from.small()?, MessageId(from.number()?));
                Self::State { queue, id, state: CopyState::read(id, from)? }
            }
            kind::LEASE => Self::Lease {
                queue: from.small()?,
                id: MessageId(from.number()?),
                number: from.number()?,
                retries: from.small()?,
                expires: from.number()?,
                is_begun: has_tag(tag::BEGUN, from)?,
            },
            kind::TOPIC => {
                Self::Topic { number: from.small()?, name: from.text()?.to_owned(), config: TopicConfig::read(from)? }
            }
            kind::QUEUE => Self::Queue {
                number: from.small()?,
                topic: from.small()?,
                bind_key: from.text()?.to_owned(),
                paused: from.byte()? != 0,
            },
            kind::TOPIC_GONE => Self::TopicGone { number: from.small()? },
            kind::QUEUE_GONE => Self::QueueGone { number: from.small()? },
            kind::PURGED => Self::Purged { queue: from.small()? },
            kind::DEDUP => Self::Dedup {
                topic: from.small()?,
                key: from.text()?.to_owned(),
                id: MessageId(from.number()?),
                expires: from.number()?,
            },
            kind::MARKS => Self::Marks {
                topics: from.small()?,
                queues: from.small()?,
                ids: from.number()?,
                leases: from.number()?,
            },
            kind::PRIORITY => {
                Self::Priority { queue: from.small()?, id: MessageId(from.number()?), priority: from.small()? }
            }
            _ => return None,
        })
    }
}

impl MessageRecord {
    /// A message with nothing but an id and a topic.
    #[cfg(test)]
    pub(crate) fn bare(id: u64, topic: TopicNumber) -> Self {
        let (id, headers, body) = (MessageId(id), Vec::new(), Bytes::new());
        Self { id, topic, copies: Vec::new(), priority: 0, ttr: 0, end: None, group: None, headers, body }
    }

    /// Appends the record, whose entry has been written already.
    pub(crate) fn write(&self, entry: &[u8], out: &mut Vec<u8>) {
        let mut headers = Vec::new();
        for (key, value) in &self.headers {
            put_bytes(key.as_bytes(), &mut headers);
            put_bytes(value, &mut headers);
        }
        let mut length = FIXED + entry.len() + varint::length(self.body.len() as u64) + self.body.len();
        if !headers.is_empty() {
            length += varint::length(tag::HEADERS) + varint::length(headers.len() as u64) + headers.len();
        }
        let mut extensions = Vec::new();
        self.write_extensions(&mut extensions);
        length += extensions.len();
        put(length as u64, out);
        out.push(kind::MESSAGE);
        let crc = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(entry);
        put_bytes(&self.body, out);
        if !headers.is_empty() {
            put(tag::HEADERS, out);
            put_bytes(&headers, out);
        }
        out.extend_from_slice(&extensions);
        let checksum = crc32fast::hash(&out[crc + 4..]);
        out[crc..crc + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// All but body and headers, the id first: what a segment's footer repeats.
    pub(crate) fn write_entry(&self, out: &mut Vec<u8>) {
        put_numbers(&[self.id.0, u64::from(self.topic), u64::from(self.priority), u64::from(self.ttr)], out);
        put(self.copies.len() as u64, out);
        for (queue, state) in &self.copies {
            put(u64::from(*queue), out);
            state.write(self.id, out);
        }
    }

    /// Appends the extensions with the end of the time to live and the group, if there are any. In a footer they follow the
    /// entry.
    pub(crate) fn write_extensions(&self, out: &mut Vec<u8>) {
        if let Some(end) = self.end {
            put_numbers(&[tag::END, varint::length(end) as u64, end], out);
        }
        if let Some(group) = &self.group {
            put(tag::GROUP, out);
            put_bytes(group.as_bytes(), out);
        }
    }

    /// Reads what [`write_entry`](Self::write_entry) wrote behind the id, with an empty body.
    pub(crate) fn read_entry(id: MessageId, from: &mut Reader<'_>) -> Option<Self> {
        let (topic, priority, ttr) = (from.small()?, from.small()?, from.small()?);
        let count: usize = from.small()?;
        let mut copies = Vec::new();
        for _ in 0..count {
            copies.push((from.small()?, CopyState::read(id, from)?));
        }
        Some(Self { id, topic, copies, priority, ttr, end: None, group: None, headers: Vec::new(), body: Bytes::new() })
    }

    /// The extensions that follow an entry, or a body.
    pub(crate) fn read_extensions(&mut self, from: &mut Reader<'_>) -> Option<()> {
        while !from.is_empty() {
            let (tag, value) = (from.number()?, from.bytes()?);
            match tag {
                tag::HEADERS => {
                    let mut headers = Reader(value);
                    while !headers.is_empty() {
                        let key = headers.text()?.to_owned();
                        self.headers.push((key, Bytes::copy_from_slice(headers.bytes()?)));
                    }
                }
                tag::END => self.end = Some(Reader(value).number()?),
                tag::GROUP => self.group = Some(std::str::from_utf8(value).ok()?.to_owned()),
                _ => {}
            }
        }
        Some(())
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        if *from.take(4)? != crc32fast::hash(from.0).to_le_bytes() {
            return None;
        }
        Self::read_checked(from)
    }

    /// The message of a record that was written by this process, and has been in its memory since.
    pub(crate) fn trusted(record: &[u8]) -> Option<Self> {
        let mut fields = Reader(Reader(record).bytes()?);
        fields.take(FIXED)?;
        Self::read_checked(&mut fields)
    }

    fn read_checked(from: &mut Reader<'_>) -> Option<Self> {
        let id = MessageId(from.number()?);
        let mut message = Self::read_entry(id, from)?;
        message.body = Bytes::copy_from_slice(from.bytes()?);
        message.read_extensions(from)?;
        Some(message)
    }
}

impl CopyState {
    fn write(&self, id: MessageId, out: &mut Vec<u8>) {
        put_signed(self.due.wrapping_sub(id.time()) as i64, out);
        put(u64::from(self.retries), out);
        match &self.dead {
            None => out.push(0),
            Some(reason) => {
                out.push(1);
                put_bytes(reason.as_bytes(), out);
            }
        }
    }

    fn read(id: MessageId, from: &mut Reader<'_>) -> Option<Self> {
        let (due, retries) = (id.time().wrapping_add(from.signed()? as u64), from.small()?);
        let dead = match from.byte()? {
            0 => None,
            1 => Some(from.text()?.to_owned()),
            _ => return None,
        };
        Some(Self { due, retries, dead })
    }
}

/// Returns true if an extension with this tag follows.
fn has_tag(wanted: u64, from: &mut Reader<'_>) -> Option<bool> {
    let mut found = false;
    while !from.is_empty() {
        found |= from.number()? == wanted;
        from.bytes()?;
    }
    Some(found)
}

fn put_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| put(*number, out));
}

fn put_one(kind: u8, number: u32, out: &mut Vec<u8>) {
    out.push(kind);
    put(u64::from(number), out);
}

/// Inserts the length of the bytes since `start` before them.
fn prefix_length(start: usize, out: &mut Vec<u8>) {
    let mut length = Vec::with_capacity(4);
    put((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
}

#[cfg(test)]
mod tests;
