//! Read-only survey of a log: its segments, and every byte that is not as it should be.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
    io,
};

use bytes::Bytes;

use super::{
    SUPERBLOCK,
    recovery::{Found, OpenError, scan_of, segments, superblock},
    scan::{Scan, Scanned, read_around},
    segment_name,
};
use crate::{
    Damage,
    batch::{Place, read_footer},
    message::{MessageId, Millis, NodeId},
    record::{MessageRecord, Record},
    segment::{HEADER, SegmentHeader, TRAILER, Trailer},
    store::{File, Store, is_unreadable},
};

/// Extent of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The bytes that recovery reads: the footers of sealed segments.
    Recovery,
    /// Every batch, and the footers against the batches.
    Everything,
}

/// Place in a file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the file in the directory.
    pub file: String,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Description of what is wrong there.
    pub problem: String,
    /// Messages that cannot be read any more; `None` where that cannot be told.
    pub lost: Option<Vec<MessageId>>,
    /// True for damage: durable bytes that are wrong, missing or unreadable. False for the trace of a crash, which the next
    /// start of a node clears.
    pub is_damage: bool,
}

impl Finding {
    fn damage(file: &str, offset: u64, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), offset, problem: problem.into(), lost: Some(Vec::new()), is_damage: true }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.file, self.offset, self.problem)
    }
}

impl From<Damage> for Finding {
    fn from(damage: Damage) -> Self {
        let problem = match &damage.lost {
            Some(ids) if ids.is_empty() => "damaged: no message is lost, acknowledgements may be".to_owned(),
            Some(ids) => {
                let ids: Vec<_> = ids.iter().map(MessageId::to_string).collect();
                format!("damaged: lost are the messages {}", ids.join(", "))
            }
            None => "damaged: which messages are lost cannot be told".to_owned(),
        };
        let Damage { segment, offset, lost } = damage;
        Self { file: segment_name(segment), offset, problem, lost, is_damage: true }
    }
}

/// One segment of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentSurvey {
    /// Name of the file in the directory.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// Offset at which its batches end.
    pub used: u64,
    /// True if the segment ends with a footer: nothing is appended any more.
    pub sealed: bool,
    /// Records, of messages and of all else.
    pub records: u64,
    /// Records of messages, copies among them; most may be done.
    pub messages: u64,
    /// Sequence of the last batch.
    pub last_sequence: u64,
    /// Time of the last batch, in milliseconds since 1970.
    pub time_ms: u64,
}

/// Findings of a survey.
#[derive(Debug)]
pub(crate) struct LogSurvey {
    pub(crate) store: u128,
    pub(crate) node: NodeId,
    pub(crate) segments: Vec<SegmentSurvey>,
    /// Names of files that are reserved and not used.
    pub(crate) spares: Vec<String>,
    /// Names of damaged segments that a node has put aside.
    pub(crate) set_aside: Vec<String>,
    pub(crate) findings: Vec<Finding>,
    /// No record is from later.
    pub(crate) time: Millis,
}

/// Surveys a log, and visits every durable record, in order. Changes nothing.
pub(crate) fn survey<S: Store>(
    store: &mut S,
    depth: Depth,
    visit: &mut dyn FnMut(Record, Place),
) -> Result<LogSurvey, OpenError> {
    let names = store.names()?;
    if !names.iter().any(|name| name == SUPERBLOCK) {
        return Err(OpenError::NoQueue(format!("the file `{SUPERBLOCK}` is missing")));
    }
    let block = superblock(store, &names)?;
    let mut findings = headers(SUPERBLOCK, &store.open(SUPERBLOCK)?)?;
    let found = segments(store, &names, block.store)?;
    let (mut surveyed, mut time) = (Vec::new(), 0);
    let mut expected = found.first().map_or(1, |first| first.number);
    for (at, segment) in found.iter().enumerate() {
        for missing in expected..segment.number {
            findings.push(Finding { lost: None, ..Finding::damage(&segment_name(missing), 0, "the file is missing") });
        }
        expected = segment.number + 1;
        let name = segment_name(segment.number);
        let Some(scan) = scan_of(&found, at) else {
            findings.push(without_header(&name, segment, at + 1 == found.len()));
            continue;
        };
        findings.extend(headers(&name, &*segment.file)?);
        let one = Segment { name, file: &*segment.file, size: segment.size, scan };
        let one = one.survey(depth, &mut findings, visit)?;
        time = time.max(one.time_ms);
        surveyed.push(one);
    }
    let starting_with = |start: &str| {
        let mut found: Vec<_> = names.iter().filter(|name| name.starts_with(start)).cloned().collect();
        found.sort();
        found
    };
    let (spares, set_aside) = (starting_with("spare-"), starting_with("damaged-"));
    Ok(LogSurvey { store: block.store, node: block.node, segments: surveyed, spares, set_aside, findings, time })
}

fn without_header<F>(name: &str, segment: &Found<F>, newest: bool) -> Finding {
    if newest && !segment.unreadable {
        let text = "no header: a crash came before the segment was used";
        return Finding { is_damage: false, ..Finding::damage(name, 0, text) };
    }
    let text = "no header can be read: which messages are lost cannot be told";
    Finding { lost: None, ..Finding::damage(name, 0, text) }
}

/// Checks both copies of a header, of which one is enough.
fn headers(name: &str, file: &impl File) -> io::Result<Vec<Finding>> {
    let mut bytes = vec![0; HEADER];
    match file.read_at(&mut bytes, 0) {
        Err(error) if is_unreadable(&error) => {
            return Ok(vec![Finding::damage(name, 0, format!("the header cannot be read: {error}"))]);
        }
        read => read?,
    }
    let copies = SegmentHeader::copies(&bytes);
    let damaged = |(at, copy): (usize, &Option<SegmentHeader>)| {
        let text = "one of the two copies of the header is damaged: nothing is lost";
        copy.is_none().then(|| Finding::damage(name, (at * HEADER / copies.len()) as u64, text))
    };
    Ok(copies.iter().enumerate().filter_map(damaged).collect())
}

/// One segment that has a header.
struct Segment<'a, F> {
    name: String,
    file: &'a F,
    size: u64,
    scan: Scan,
}

impl<F: File> Segment<'_, F> {
    fn survey(
        self,
        depth: Depth,
        findings: &mut Vec<Finding>,
        visit: &mut dyn FnMut(Record, Place),
    ) -> Result<SegmentSurvey, OpenError> {
        let (mut records, mut messages, mut said) = (0, 0, Said::default());
        let mut count = |record: Record, place| {
            records += 1;
            messages += u64::from(matches!(record, Record::Message(_)));
            if depth == Depth::Everything {
                said.add(&record, place);
            }
            visit(record, place);
        };
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            self.file.read_at(&mut bytes, offset).map(|()| bytes)
        };
        let footer = match Trailer::find(self.scan.origin, self.size, read) {
            Err(error) if is_unreadable(&error) => None,
            found => found?.filter(|(trailer, _)| trailer.footer <= self.scan.end),
        };
        let scanned = match (depth, &footer) {
            (Depth::Recovery, _) => self.scan.run(self.file, self.size, &mut count),
            (Depth::Everything, Some((trailer, _))) => {
                self.batches(Scan { end: trailer.footer, lasting: true, ..self.scan }, &mut count)
            }
            (Depth::Everything, None) => self.batches(self.scan, &mut count),
        };
        let Scanned { last_sequence, time, end, damage, torn } = match scanned {
            Err(error) if is_unreadable(&error) => {
                findings.push(Finding { lost: None, ..Finding::damage(&self.name, HEADER as u64, error.to_string()) });
                Scanned::default()
            }
            scanned => scanned?,
        };
        let whole = damage.is_empty();
        findings.extend(damage.into_iter().map(Finding::from));
        if let Some(messages) = torn {
            let text =
                format!("the last batch is torn, with {messages} messages that were never confirmed: a crash cut it");
            findings.push(Finding { is_damage: false, ..Finding::damage(&self.name, end, text) });
        }
        let wrong_footer = match &footer {
            Some((trailer, footer)) if whole && depth == Depth::Everything => {
                let mut repeated = Said::default();
                let repeats = read_footer(self.scan.number, footer, &mut |record, place| repeated.add(&record, place));
                let same = repeats.is_ok() && repeated == said && trailer.last_sequence == last_sequence;
                (!same).then_some((trailer.footer, "the footer does not repeat what the batches say"))
            }
            Some(_) => None,
            None => self
                .missing_footer(end, last_sequence)
                .map(|offset| (offset, "the footer is damaged: the batches say the same")),
        };
        findings.extend(wrong_footer.map(|(offset, text)| Finding::damage(&self.name, offset, text)));
        Ok(SegmentSurvey {
            file: self.name,
            bytes: self.size,
            used: end,
            sealed: footer.is_some(),
            records,
            messages,
            last_sequence,
            time_ms: time,
        })
    }

    fn batches(&self, scan: Scan, visit: &mut dyn FnMut(Record, Place)) -> io::Result<Scanned> {
        let (bytes, holes) = read_around(self.file, scan.end as usize)?;
        scan.batches(&bytes, &holes, visit)
    }

    /// Returns the offset of the footer, or of the trailer, if the segment was sealed and its footer cannot be read. The
    /// batches end at `end`, with this sequence.
    fn missing_footer(&self, end: u64, last_sequence: u64) -> Option<u64> {
        let (trailer, mut bytes) = (self.size - TRAILER as u64, [0; TRAILER]);
        // A segment is followed by another only when it is sealed, or cut at a start of the node.
        if self.scan.lasting && self.scan.end == self.size {
            return Some(trailer);
        }
        self.file.read_at(&mut bytes, trailer).ok()?;
        // In a file that was used before, the trailer of that time has another offset and a lower sequence.
        let of_now =
            |trailer: &Trailer| trailer.footer == end || (last_sequence > 0 && trailer.last_sequence == last_sequence);
        Trailer::fields(&bytes).filter(of_now).map(|_| end)
    }
}

/// Digest of records as a footer repeats them: messages without bodies and headers.
#[derive(Debug, Default)]
struct Said(DefaultHasher);

impl Said {
    fn add(&mut self, record: &Record, place: Place) {
        let mut bytes = Vec::new();
        match record {
            Record::Message(message) => {
                self.0.write_u64(u64::from(place.offset) << 32 | u64::from(place.length));
                let bare = MessageRecord { headers: Vec::new(), body: Bytes::new(), ..message.clone() };
                Record::Message(bare).write(&mut bytes);
            }
            other => other.write(&mut bytes),
        }
        self.0.write(&bytes);
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.0.finish() == other.0.finish()
    }
}
