//! Layout of a segment of the log. Pure.
//!
//! ```text
//! segment = header (4 KiB) | batch* | ... | footer | trailer (64 bytes, at the end)
//! batch   = u32 CRC of the head | u32 length of the head | u32 length of the content | u64 sequence | u64 synced | u64 time
//!           | ids | content | u32 CRC of the content
//! ```
//! Both CRCs cover the segment's salt and number and the batch's offset too, so neither what is left of a recycled segment
//! nor a body that looks like a batch can pass for one. The ids stand in the head and in the content: if one of the two is
//! damaged, the other names what is lost. Numbers are little-endian.

use crate::{
    message::{Millis, NodeId},
    varint::{Reader, put},
};

pub(crate) const HEADER: usize = 4096;
pub(crate) const TRAILER: usize = 64;
/// Bytes of a batch beside its ids and content.
pub(crate) const BATCH: usize = HEAD + 4;
const HEAD: usize = 36;
/// Version of the format.
pub(crate) const FORMAT: u8 = 2;
const MAGIC: [u8; 8] = [b'm', b's', b'-', b'm', b'q', 0, 0, FORMAT];
const TRAILER_MAGIC: [u8; 8] = *b"ms-mq\0\0F";
/// Nothing that is longer is a batch.
const LONGEST: usize = 32 << 20;

/// Identity of a segment, which every checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) number: u64,
    pub(crate) salt: u64,
}

impl Origin {
    fn crc(self, offset: u64, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
}

/// First block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) origin: Origin,
    pub(crate) store: u128,
    pub(crate) node: NodeId,
    /// Where the segment before it was cut, after an end that was not clean: its number and the offset.
    pub(crate) cut: Option<(u64, u64)>,
}

impl SegmentHeader {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.origin.number.to_le_bytes());
        bytes.extend_from_slice(&self.origin.salt.to_le_bytes());
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.node.get().to_le_bytes());
        let (cut, at) = self.cut.unwrap_or_default();
        bytes.extend_from_slice(&cut.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(HEADER / 2, 0);
        // Twice: without its salt nothing of a segment can be read.
        bytes.repeat(2)
    }

    /// `None`: this is no header.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [first, second] = Self::copies(bytes);
        first.or(second)
    }

    /// Both copies of a header, each if it is whole.
    pub(crate) fn copies(bytes: &[u8]) -> [Option<Self>; 2] {
        let (first, second) = bytes.split_at_checked(HEADER / 2).unwrap_or_default();
        [Self::parse(first), Self::parse(second)]
    }

    /// The version of the format that both copies of a header name, whether it is known or not.
    pub(crate) fn version(bytes: &[u8]) -> Option<u8> {
        let version = |copy: &[u8]| {
            let (version, magic) = copy.get(..MAGIC.len())?.split_last()?;
            (*magic == MAGIC[..MAGIC.len() - 1]).then_some(*version)
        };
        let (first, second) = bytes.split_at_checked(HEADER / 2)?;
        version(first).filter(|found| version(second) == Some(*found))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let fields = Reader(bytes).take(58)?;
        if *reader.take(8)? != MAGIC {
            return None;
        }
        let (number, salt) = (fixed(&mut reader)?, fixed(&mut reader)?);
        let store = u128::from_le_bytes(reader.take(16)?.try_into().ok()?);
        let node = NodeId::new(u16::from_le_bytes(reader.take(2)?.try_into().ok()?))?;
        let (cut, at) = (fixed(&mut reader)?, fixed(&mut reader)?);
        if reader.take(4)? != crc32fast::hash(fields).to_le_bytes() {
            return None;
        }
        Some(Self { origin: Origin { number, salt }, store, node, cut: (at > 0).then_some((cut, at)) })
    }
}

fn fixed(reader: &mut Reader<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(reader.take(8)?.try_into().ok()?))
}

/// Head of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) sequence: u64,
    /// All batches up to this one had been synced when it was written.
    pub(crate) synced: u64,
    pub(crate) time: Millis,
    /// Ids of the messages in it, rising.
    pub(crate) ids: Vec<u64>,
}

/// A batch that was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) head: BatchHead,
    /// Where the content is in the segment.
    pub(crate) content: std::ops::Range<usize>,
    /// Where the next batch is.
    pub(crate) end: usize,
}

/// Why there is no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadBatch {
    /// The head is not whole: nothing is known.
    Head,
    /// The content is not; this is what the head says of it.
    Content(Batch),
}

/// Appends a batch that will be at `offset`.
pub(crate) fn write_batch(origin: Origin, offset: u64, head: &BatchHead, content: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    for number in [head.sequence, head.synced, head.time] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put(head.ids.len() as u64, out);
    let mut last = 0;
    for id in &head.ids {
        put(id.wrapping_sub(last), out);
        last = *id;
    }
    let length = (out.len() - start) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = origin.crc(offset, &[&out[start + 4..]]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(content);
    let crc = origin.crc(offset, &[content]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The batch at `offset` of `segment`.
pub(crate) fn read_batch(origin: Origin, segment: &[u8], offset: usize) -> Result<Batch, BadBatch> {
    let batch = read_head(origin, segment, offset).ok_or(BadBatch::Head)?;
    let content = &segment[batch.content.clone()];
    if origin.crc(offset as u64, &[content]).to_le_bytes() == segment[batch.content.end..batch.end] {
        Ok(batch)
    } else {
        Err(BadBatch::Content(batch))
    }
}

fn read_head(origin: Origin, segment: &[u8], offset: usize) -> Option<Batch> {
    let mut reader = Reader(segment.get(offset..)?);
    let (crc, lengths) = (reader.take(4)?, reader.take(8)?);
    let head_length = u32::from_le_bytes(lengths[..4].try_into().ok()?) as usize;
    let content_length = u32::from_le_bytes(lengths[4..].try_into().ok()?) as usize;
    if !(HEAD..LONGEST).contains(&head_length) || content_length > LONGEST {
        return None;
    }
    let start = offset + head_length;
    let end = start + content_length + 4;
    if end > segment.len() || origin.crc(offset as u64, &[&segment[offset + 4..start]]).to_le_bytes() != *crc {
        return None;
    }
    let mut reader = Reader(&segment[offset + 12..start]);
    let (sequence, synced, time) = (fixed(&mut reader)?, fixed(&mut reader)?, fixed(&mut reader)?);
    let count: usize = reader.small()?;
    let (mut ids, mut last) = (Vec::new(), 0u64);
    for _ in 0..count {
        last = last.wrapping_add(reader.number()?);
        ids.push(last);
    }
    Some(Batch { head: BatchHead { sequence, synced, time, ids }, content: start..start + content_length, end })
}

/// The content of a batch at `offset` whose head is damaged, and behind which the next one begins at `next`. One of the two
/// lengths may be what is damaged.
pub(crate) fn salvage_content(
    origin: Origin,
    segment: &[u8],
    offset: usize,
    next: usize,
) -> Option<std::ops::Range<usize>> {
    let length = |at: usize| {
        let bytes = segment.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    };
    let end = next.checked_sub(4)?;
    let starts = [offset.checked_add(length(offset + 4)?), end.checked_sub(length(offset + 8)?)];
    let whole = |start: &usize| {
        *start <= end && origin.crc(offset as u64, &[&segment[*start..end]]).to_le_bytes() == segment[end..next]
    };
    starts.into_iter().flatten().find(whole).map(|start| start..end)
}

/// The first whole head of a batch at `from` or behind: what is between is lost.
pub(crate) fn find_batch(origin: Origin, segment: &[u8], from: usize) -> Option<usize> {
    const EMPTY: [u8; 4096] = [0; 4096];
    let (mut at, end) = (from, segment.len().saturating_sub(BATCH));
    while at < end {
        // Nearly everywhere the lengths are absurd; where nothing was ever written they are 0.
        let length = u32::from_le_bytes([segment[at + 4], segment[at + 5], segment[at + 6], segment[at + 7]]);
        if length == 0 && segment[at..].starts_with(&EMPTY) {
            // The last of these places whose length is known to be 0, and the next.
            at += EMPTY.len() - 7;
            continue;
        }
        let lengths = (HEAD..LONGEST).contains(&(length as usize));
        if lengths && are_plausible(&segment[at + 12..at + HEAD]) && read_head(origin, segment, at).is_some() {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Returns true if sequence, synced and time are below 2^48, as they are for some thousand years. In remains of random bodies
/// plausible lengths are found every 16,000 bytes, each with megabytes to check.
fn are_plausible(numbers: &[u8]) -> bool {
    numbers.chunks_exact(8).all(|number| number[6..] == [0, 0])
}

/// End of a sealed segment: the part of its records that recovery needs, without their bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Where the footer begins.
    pub(crate) footer: u64,
    pub(crate) length: u64,
    pub(crate) last_sequence: u64,
    pub(crate) time: Millis,
    /// The last that was synced when it was sealed.
    pub(crate) synced: u64,
}

impl Trailer {
    pub(crate) fn to_bytes(&self, origin: Origin, footer: &[u8]) -> [u8; TRAILER] {
        let mut bytes = Vec::with_capacity(TRAILER);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        for number in [self.footer, self.length, self.last_sequence, self.time, self.synced] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = origin.crc(self.footer, &[&bytes, footer]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(TRAILER, 0);
        bytes.try_into().unwrap_or([0; TRAILER])
    }

    /// The trailer and the footer of a segment of this size, if it is sealed and both are whole. `read` reads from the
    /// segment.
    pub(crate) fn find<E>(
        origin: Origin,
        size: u64,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<(Self, Vec<u8>)>, E> {
        let bytes = read(size - TRAILER as u64, TRAILER)?;
        let Some(trailer) = Self::parse(&bytes) else { return Ok(None) };
        if trailer.footer < HEADER as u64 || trailer.footer.saturating_add(trailer.length) > size - TRAILER as u64 {
            return Ok(None);
        }
        let footer = read(trailer.footer, trailer.length as usize)?;
        Ok((trailer.to_bytes(origin, &footer)[..] == bytes[..]).then_some((trailer, footer)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let magic = bytes.get(..TRAILER_MAGIC.len())?;
        if *magic == TRAILER_MAGIC { Self::fields(bytes) } else { None }
    }

    /// The fields of a trailer, whole or not.
    pub(crate) fn fields(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes.get(TRAILER_MAGIC.len()..)?);
        Some(Self {
            footer: fixed(&mut reader)?,
            length: fixed(&mut reader)?,
            last_sequence: fixed(&mut reader)?,
            time: fixed(&mut reader)?,
            synced: fixed(&mut reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: Origin = Origin { number: 7, salt: 0x1234_5678_9abc_def0 };

    fn head(sequence: u64, ids: Vec<u64>) -> BatchHead {
        BatchHead { sequence, synced: sequence - 1, time: 99, ids }
    }

    /// A segment of so many batches, and where they begin.
    fn segment(batches: &[(Vec<u64>, Vec<u8>)]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (vec![0; HEADER], Vec::new());
        for (sequence, (ids, content)) in (1..).zip(batches) {
            starts.push(bytes.len());
            write_batch(ORIGIN, bytes.len() as u64, &head(sequence, ids.clone()), content, &mut bytes);
        }
        starts.push(bytes.len());
        bytes.resize(bytes.len() + 500, 0);
        (bytes, starts)
    }

    fn batches() -> impl Strategy<Value = Vec<(Vec<u64>, Vec<u8>)>> {
        let ids = prop::collection::btree_set(any::<u64>(), 0..5).prop_map(|ids| ids.into_iter().collect());
        prop::collection::vec((ids, prop::collection::vec(any::<u8>(), 0..300)), 1..8)
    }

    proptest! {
        #[test]
        fn batches_come_back(batches in batches()) {
            let (bytes, starts) = segment(&batches);
            for (at, (ids, content)) in batches.iter().enumerate() {
                let batch = read_batch(ORIGIN, &bytes, starts[at]).unwrap();
                prop_assert_eq!(batch.head, head(at as u64 + 1, ids.clone()));
                prop_assert_eq!(&bytes[batch.content], &content[..]);
                prop_assert_eq!(batch.end, starts[at + 1]);
            }
            prop_assert_eq!(read_batch(ORIGIN, &bytes, *starts.last().unwrap()), Err(BadBatch::Head));
        }

        /// One flipped bit is seen, and the next batch is found again; the ids are known unless the head is hit.
        #[test]
        fn a_flipped_bit_is_one_lost_batch(batches in batches(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (mut bytes, starts) = segment(&batches);
            let hit = HEADER + at.index(starts.last().unwrap() - HEADER);
            bytes[hit] ^= 1 << bit;
            let lost = starts.partition_point(|start| *start <= hit) - 1;
            for at in 0..batches.len() {
                match read_batch(ORIGIN, &bytes, starts[at]) {
                    Ok(batch) => {
                        prop_assert_ne!(at, lost);
                        prop_assert_eq!(&bytes[batch.content], &batches[at].1[..]);
                    }
                    Err(BadBatch::Content(batch)) => {
                        prop_assert_eq!(at, lost);
                        prop_assert_eq!(&batch.head.ids, &batches[at].0);
                        prop_assert_eq!(batch.end, starts[at + 1]);
                    }
                    Err(BadBatch::Head) => {
                        prop_assert_eq!(at, lost);
                        let content = salvage_content(ORIGIN, &bytes, starts[at], starts[at + 1]).unwrap();
                        prop_assert_eq!(&bytes[content], &batches[at].1[..]);
                    }
                }
            }
            if lost + 1 < batches.len() {
                prop_assert_eq!(find_batch(ORIGIN, &bytes, starts[lost] + 1), Some(starts[lost + 1]));
            }
        }

        #[test]
        fn headers_come_back(number in any::<u64>(), salt in any::<u64>(), store in any::<u128>(), node in 1..1024u16,
            cut in any::<Option<(u64, std::num::NonZeroU64)>>(), bit in 0..58usize * 8) {
            let cut = cut.map(|(segment, at)| (segment, at.get()));
            let header =
                SegmentHeader { origin: Origin { number, salt }, store, node: NodeId::new(node).unwrap(), cut };
            let mut bytes = header.to_bytes();
            prop_assert_eq!(bytes.len(), HEADER);
            prop_assert_eq!(SegmentHeader::from_bytes(&bytes), Some(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::from_bytes(&bytes), Some(header), "it is there twice");
            bytes[HEADER / 2 + bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::from_bytes(&bytes), None);
        }
    }

    #[test]
    fn what_is_left_of_a_recycled_segment_is_nothing() {
        let (bytes, starts) = segment(&[(vec![1], b"a".to_vec())]);
        for other in [Origin { number: 8, ..ORIGIN }, Origin { salt: 5, ..ORIGIN }] {
            assert_eq!(read_batch(other, &bytes, starts[0]), Err(BadBatch::Head));
        }
        let moved = [&[0; HEADER + 1], &bytes[HEADER..]].concat();
        assert_eq!(read_batch(ORIGIN, &moved, starts[0] + 1), Err(BadBatch::Head));
    }

    #[test]
    fn a_footer_is_found_if_it_is_whole() {
        let footer = b"entries".to_vec();
        let trailer = Trailer { footer: 5000, length: 7, last_sequence: 3, time: 4, synced: 2 };
        let mut bytes = vec![0; 10_000];
        bytes[5000..5007].copy_from_slice(&footer);
        bytes[10_000 - TRAILER..].copy_from_slice(&trailer.to_bytes(ORIGIN, &footer));
        let find = |bytes: &[u8]| {
            let read = |at: u64, length: usize| Ok::<_, ()>(bytes[at as usize..at as usize + length].to_vec());
            Trailer::find(ORIGIN, bytes.len() as u64, read).unwrap()
        };
        assert_eq!(find(&bytes), Some((trailer, footer)));
        bytes[5003] ^= 1;
        assert_eq!(find(&bytes), None);
    }
}
