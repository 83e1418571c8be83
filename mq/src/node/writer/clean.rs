//! Cleaning: what is still needed of the oldest segment is copied forward, and the segment is freed.

use std::io;

use tracing::{debug, warn};

use super::Writer;
use crate::{
    batch::Place,
    dedup::Ending,
    record::MessageRecord,
    store::{Store, is_unreadable},
};

/// How much is copied forward between two groups: twice the bytes written meanwhile, but no more than one of so many parts
/// of a segment, and no less than one of so many.
const STEPS: (u64, u64) = (8, 32);
/// Bytes that one step copies at most: readers accept no longer batches than 32 MiB.
const LARGEST_STEP: u64 = 8 << 20;
/// Files that are kept to be used again, besides those that are needed.
const KEPT: usize = 2;
/// A round through a log on a full disk is worth one of so many parts of a segment.
const ROUND: u64 = 2;

/// Dedup keys that one step looks at.
const KEYS: usize = 4_000;

/// The oldest segment on its way to be freed.
#[derive(Debug, Default)]
pub(in crate::node) struct Cleaning {
    /// Its messages that have yet to be looked at, the last one first.
    messages: Vec<(MessageRecord, Place)>,
    /// The last dedup key that was looked at.
    after: Option<Ending>,
}

impl<S: Store> Writer<S> {
    /// Chooses the oldest segment for cleaning, if that is worth it.
    pub(super) fn begin_cleaning(&mut self, full: bool) -> io::Result<()> {
        let Some(oldest) = self.log.oldest() else { return Ok(()) };
        let mut inner = self.shared.lock();
        if inner.state.is_free(oldest) {
            self.cleaning = Some(Cleaning::default());
            return Ok(());
        }
        if !full {
            self.reclaim.end();
        }
        let reclaimable = self.log.written().saturating_sub(self.copied) + inner.state.dropped_bytes();
        let enough = (2 * inner.state.live_bytes()).max(2 * self.segment_size) + 2 * self.segment_size;
        let reclaims =
            full && self.reclaim.is_worth(oldest, self.log.current(), reclaimable, self.segment_size / ROUND);
        inner.reclaiming = reclaims;
        drop(inner);
        if reclaims || self.log.size() > enough || self.log.has_damage() {
            debug!("segment {oldest} is cleaned");
            let mut messages = self.log.messages_of_oldest()?;
            messages.reverse();
            self.cleaning = Some(Cleaning { messages, after: None });
        }
        Ok(())
    }

    /// Copies a part of what is still needed of the oldest segment: messages, and then dedup keys; at its end the segment is
    /// freed.
    pub(super) fn clean(&mut self, mut cleaning: Cleaning) -> io::Result<()> {
        let Some(oldest) = self.log.oldest() else { return Ok(()) };
        if !cleaning.messages.is_empty() {
            self.copy_messages(&mut cleaning.messages)?;
            self.cleaning = Some(cleaning);
            return Ok(());
        }
        if !self.shared.lock().state.is_free(oldest) && self.copy_keys(oldest, &mut cleaning.after) {
            self.cleaning = Some(cleaning);
            return Ok(());
        }
        self.groups = std::mem::take(&mut self.shared.lock().groups).into();
        self.write()?;
        // Removed messages hold the segment until they are released.
        while !self.shared.release_some() {}
        if self.shared.lock().state.is_free(oldest) {
            let enough = self.spares() + KEPT;
            self.log.free_oldest(enough)?;
        } else {
            warn!("a segment that was cleaned is still needed: it is cleaned again");
        }
        Ok(())
    }

    /// Copies dedup keys; returns true if more may be left.
    fn copy_keys(&mut self, oldest: u32, after: &mut Option<Ending>) -> bool {
        let most = (KEYS, (self.segment_size / STEPS.1).min(LARGEST_STEP));
        let mut inner = self.shared.lock();
        let now = self.shared.clock.now();
        let (state, group) = inner.state_and_group(now);
        let (keys, last) = state.copy_keys(oldest, after.as_ref(), most, &mut group.batch);
        if !keys.is_empty() {
            group.must_sync = true;
            group.copied_keys.push((oldest, keys));
        }
        *after = last;
        after.is_some()
    }

    fn copy_messages(&mut self, messages: &mut Vec<(MessageRecord, Place)>) -> io::Result<()> {
        let mut chosen = Vec::new();
        let meanwhile = self.log.written() - std::mem::replace(&mut self.cleaned_at, self.log.written());
        let step = (2 * meanwhile).clamp(self.segment_size / STEPS.1, self.segment_size / STEPS.0).min(LARGEST_STEP);
        // Only messages that fit into the current segment: its end is not wasted.
        let step = self.log.room().max(self.segment_size / 256).min(step);
        {
            let inner = self.shared.lock();
            let mut size = 0;
            while let Some((message, place)) = messages.last() {
                let bytes = inner.state.copy_bytes(message, *place);
                if size > 0 && size + bytes > step {
                    break;
                }
                size += bytes;
                let message = messages.pop();
                chosen.extend(message.filter(|_| bytes > 0));
            }
        }
        let mut read = Vec::with_capacity(chosen.len());
        for (message, place) in chosen {
            match self.shared.files.read(message.id, place) {
                Ok(whole) => read.push((MessageRecord { copies: message.copies, ..whole }, place)),
                Err(error) if is_unreadable(&error) => self.shared.lock().lose(&message, place),
                Err(error) => return Err(error),
            }
        }
        let mut inner = self.shared.lock();
        let now = self.shared.clock.now();
        let (state, group) = inner.state_and_group(now);
        group.must_sync = true;
        for (message, place) in read {
            self.copied += u64::from(place.length);
            let copied = state.copy(message, place, &mut group.batch);
            group.copied.extend(copied);
        }
        Ok(())
    }
}
