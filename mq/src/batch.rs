//! Records on their way to the log. Pure.

use crate::{
    message::MessageId,
    record::{MessageRecord, Record, Unreadable},
    varint::{Reader, put, put_bytes},
};

/// Where a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// Records that are written, and become certain, together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) content: Vec<u8>,
    /// Ids of the messages.
    pub(crate) ids: Vec<u64>,
    /// Notes of the segment's footer, one for each record.
    notes: Vec<Note>,
    /// The notes of the messages, one behind the other.
    entries: Vec<u8>,
}

const FULL: usize = 3 << 20;

#[derive(Clone, Copy, Debug)]
struct Note {
    at: u32,
    length: u32,
    /// For a message: how long its part of `entries` is.
    entry: Option<u32>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Empties it; its room is kept.
    pub(crate) fn clear(&mut self) {
        self.content.clear();
        self.ids.clear();
        self.notes.clear();
        self.entries.clear();
    }

    /// Returns true if no more should be added: a batch must fit into the smallest segment, also with a batch of pushes on top.
    pub(crate) fn is_full(&self) -> bool {
        self.content.len() > FULL
    }

    /// Adds a record; returns where it is in the content, as if the content began at 0 of segment 0.
    pub(crate) fn add(&mut self, record: &Record) -> Place {
        if let Record::Message(message) = record {
            return self.add_message(message);
        }
        let at = self.content.len();
        record.write(&mut self.content);
        self.note(at, None)
    }

    /// The same for a message.
    pub(crate) fn add_message(&mut self, message: &MessageRecord) -> Place {
        let (at, before) = (self.content.len(), self.entries.len());
        self.ids.push(message.id.0);
        message.write_entry(&mut self.entries);
        message.write(&self.entries[before..], &mut self.content);
        message.write_extensions(&mut self.entries);
        let length = (self.entries.len() - before) as u32;
        self.note(at, Some(length))
    }

    fn note(&mut self, at: usize, entry: Option<u32>) -> Place {
        let (at, length) = (at as u32, (self.content.len() - at) as u32);
        self.notes.push(Note { at, length, entry });
        Place { segment: 0, offset: at, length }
    }

    /// How long its part of a footer is, at most.
    pub(crate) fn footer_bound(&self) -> usize {
        let others: u32 = self.notes.iter().filter(|note| note.entry.is_none()).map(|note| note.length).sum();
        self.entries.len() + others as usize + 16 * self.notes.len()
    }

    /// Appends its part of the footer; the content begins at `start` in the segment.
    pub(crate) fn write_footer(&self, start: u32, footer: &mut Vec<u8>) {
        let mut entries = Reader(&self.entries);
        let mut before = None;
        for note in &self.notes {
            let Some(entry) = note.entry.and_then(|length| entries.take(length as usize)) else {
                footer.push(noted::RECORD);
                footer.extend_from_slice(&self.content[note.at as usize..(note.at + note.length) as usize]);
                continue;
            };
            let mut rest = Reader(entry);
            let message = Noted { id: rest.number().unwrap_or(0), end: note.at + note.length, rest: rest.0 };
            match before.replace(message) {
                Some(before) if before.rest == message.rest => {
                    footer.push(noted::ALIKE);
                    put(u64::from(note.at - before.end), footer);
                    put(u64::from(note.length), footer);
                    put(message.id.wrapping_sub(before.id), footer);
                }
                _ => {
                    footer.push(noted::MESSAGE);
                    put(u64::from(start + note.at), footer);
                    put(u64::from(note.length), footer);
                    put_bytes(entry, footer);
                }
            }
        }
    }
}

/// First bytes of a footer's notes.
mod noted {
    /// A record as it is.
    pub(super) const RECORD: u8 = 0;
    /// A message: where it is, and its entry.
    pub(super) const MESSAGE: u8 = 1;
    /// Another with the same entry as the one before but for the id: how far it is from there, and how much its id is higher.
    pub(super) const ALIKE: u8 = 2;
}

/// A message of a footer.
#[derive(Clone, Copy)]
struct Noted<'a> {
    id: u64,
    /// Where it ends.
    end: u32,
    /// Its entry without the id.
    rest: &'a [u8],
}

/// Reads a footer: the messages without bodies and headers, all other records as they are.
pub(crate) fn read_footer(segment: u32, footer: &[u8], visit: &mut dyn FnMut(Record, Place)) -> Result<(), Unreadable> {
    let mut reader = Reader(footer);
    let mut before = None;
    while let Some(kind) = reader.byte() {
        if kind == noted::RECORD {
            if let Some(record) = Record::read(&mut reader)? {
                visit(record, Place { segment, ..Place::default() });
            }
            continue;
        }
        let read = read_note(kind, segment, before, &mut reader);
        let (message, place, noted) = read.ok_or(Unreadable { kind })?;
        before = Some(noted);
        visit(Record::Message(message), place);
    }
    Ok(())
}

/// A message's note; also what the next one may refer to.
fn read_note<'a>(
    kind: u8,
    segment: u32,
    before: Option<Noted<'a>>,
    reader: &mut Reader<'a>,
) -> Option<(MessageRecord, Place, Noted<'a>)> {
    let (at, length): (u32, u32) = (reader.small()?, reader.small()?);
    let (offset, id, rest) = match kind {
        noted::MESSAGE => {
            let mut entry = Reader(reader.bytes()?);
            (at, entry.number()?, entry.0)
        }
        noted::ALIKE => {
            let before = before?;
            (before.end.checked_add(at)?, before.id.wrapping_add(reader.number()?), before.rest)
        }
        _ => return None,
    };
    let mut rest_of_it = Reader(rest);
    let mut message = MessageRecord::read_entry(MessageId(id), &mut rest_of_it)?;
    message.read_extensions(&mut rest_of_it)?;
    let noted = Noted { id, end: offset.checked_add(length)?, rest };
    Some((message, Place { segment, offset, length }, noted))
}

/// All records of a batch's content, which begins at `start` in the segment.
pub(crate) fn read_content(
    segment: u32,
    start: u32,
    content: &[u8],
    visit: &mut dyn FnMut(Record, Place),
) -> Result<(), Unreadable> {
    let mut reader = Reader(content);
    while !reader.is_empty() {
        let before = reader.0.len();
        let record = Record::read(&mut reader)?;
        let length = (before - reader.0.len()) as u32;
        let offset = start + (content.len() - before) as u32;
        if let Some(record) = record {
            visit(record, Place { segment, offset, length });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::CopyState;

    #[test]
    fn a_footer_says_what_the_content_says_but_for_the_bodies() {
        let message = |id, priority, body: &[u8]| MessageRecord {
            id: MessageId(id),
            topic: 3,
            copies: vec![(4, CopyState { due: 5, retries: 6, dead: None })],
            priority,
            ttr: 8,
            end: Some(1 << 41 | id),
            group: (priority > 7).then(|| "g".to_owned()),
            headers: vec![("k".to_owned(), Bytes::from_static(b"v"))],
            body: Bytes::copy_from_slice(body),
        };
        let records = [
            Record::Message(message(1 << 40, 7, b"one")),
            Record::Purged { queue: 9 },
            Record::Message(message(1 << 40 | 1, 7, &[7; 1000])),
            Record::Message(message(2, 7, &[7; 2])),
            Record::Message(message(3, 7, &[7; 2])),
            Record::Gone { queue: 4, id: MessageId(1) },
            Record::Message(message(4, 8, &[7; 2])),
        ];
        let mut batch = Batch::default();
        let places: Vec<_> = records.iter().map(|record| batch.add(record)).collect();
        assert_eq!(batch.ids, [1 << 40, 1 << 40 | 1, 2, 3, 4]);

        let (mut content, mut noted) = (Vec::new(), Vec::new());
        read_content(5, 100, &batch.content, &mut |record, place| content.push((record, place))).unwrap();
        let mut footer = Vec::new();
        batch.write_footer(100, &mut footer);
        assert!(footer.len() <= batch.footer_bound());
        read_footer(5, &footer, &mut |record, place| noted.push((record, place))).unwrap();
        for (at, record) in records.into_iter().enumerate() {
            let place = Place { segment: 5, offset: 100 + places[at].offset, length: places[at].length };
            assert_eq!(content[at], (record.clone(), place));
            let (without_body, noted_place) = match record {
                Record::Message(message) => {
                    (Record::Message(MessageRecord { headers: Vec::new(), body: Bytes::new(), ..message }), place)
                }
                record => (record, Place { segment: 5, ..Place::default() }),
            };
            assert_eq!(noted[at], (without_body, noted_place));
        }
    }

    #[test]
    fn many_that_are_alike_take_little_of_a_footer() {
        let copies = vec![(4, CopyState { due: 1_800_000_000_000, retries: 0, dead: None })];
        let bare = MessageRecord::bare((1_800_000_000_000 - 1_483_228_800_000) << 22, 3);
        let message = MessageRecord { copies, body: vec![7; 256].into(), ..bare };
        let mut batch = Batch::default();
        for number in 0..100 {
            batch.add_message(&MessageRecord { id: MessageId(message.id.0 + number), ..message.clone() });
        }
        let mut footer = Vec::new();
        batch.write_footer(4096, &mut footer);
        assert!(footer.len() < 600, "{}", footer.len());
    }
}
