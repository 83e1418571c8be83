//! The thread that owns the log: all disk work but the reading of messages happens here.

use std::{
    io,
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use tracing::{debug, error, warn};

use super::{
    inner::{Group, Inner, News, PER_COPY, Shared, Wanted},
    stage::Stage,
};
use crate::{
    Durability, MqError,
    batch::{Batch, Place},
    log::Log,
    record::MessageRecord,
    store::Store,
};

mod answered;
mod gathering;

use answered::Answered;
pub(super) use gathering::Gathering;

/// How much is copied forward between two groups: twice what was written meanwhile, but no more than one of so many parts
/// of a segment, and no less than one of so many.
const STEPS: (u64, u64) = (8, 32);
/// So many files more than are needed are kept to be used again.
const KEPT: usize = 2;
/// A lease is in the log this long after it was given at the latest. Most often an ack comes first, and takes it along.
const UNHURRIED: Duration = Duration::from_millis(1);
/// So many pushes are answered after those who wait for messages are told.
const FEW: usize = 8;
/// How often it looks after the log when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Writer<S: Store> {
    pub(super) shared: Arc<Shared<S::File>>,
    pub(super) log: Log<S>,
    pub(super) segment_size: u64,
    /// The oldest segment's messages that have yet to be looked at.
    pub(super) cleaning: Option<Vec<(MessageRecord, Place)>>,
    /// What the log had written at the last step of that.
    pub(super) cleaned_at: u64,
    /// What is on its way to the disk.
    pub(super) groups: Vec<Group>,
    pub(super) gathering: Gathering,
    /// Something was written since it last had nothing to do.
    pub(super) lately: bool,
    /// Some who wait for these may not know yet.
    pub(super) answered: Answered,
}

impl<S: Store> Writer<S> {
    /// Before anything is taken.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.groups = std::mem::take(&mut self.shared.lock().groups).into();
        let full = !self.reserve()?;
        self.shared.lock().disk_full = full;
        self.write()
    }

    pub(super) fn run(mut self) {
        while let Some(groups) = self.gathered() {
            self.lately = !groups.is_empty();
            self.groups = groups;
            if let Err(error) = self.write().and_then(|()| self.look_after()) {
                self.fail(&error);
                return;
            }
        }
        if let Err(error) = self.log.seal() {
            self.fail(&error);
        }
    }

    /// Waits for something to write; returns with nothing to look after the log now and then. `None`: it is the end.
    fn gathered(&mut self) -> Option<Vec<Group>> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        if std::mem::take(&mut self.lately) && !inner.is_urgent() && !inner.closing && self.cleaning.is_none() {
            (inner, _) = shared.wait(inner, Wanted::Urgent, UNHURRIED);
        }
        while inner.is_idle() && !inner.closing && self.cleaning.is_none() {
            let longest = self.answered.is_due_in().unwrap_or(IDLE);
            let timed_out;
            (inner, timed_out) = shared.wait(inner, Wanted::Anything, longest);
            if timed_out && longest == IDLE {
                break;
            }
            if timed_out {
                drop(inner);
                self.answered.tell_due();
                inner = shared.lock();
            }
        }
        if inner.closing && inner.is_idle() {
            drop(inner);
            self.answered.tell_all();
            return None;
        }
        if let Some((callers, longest)) = self.gathering.worth_waiting_for(inner.callers())
            && !inner.closing
        {
            let timed_out;
            (inner, timed_out) = shared.wait_for_callers(inner, callers, longest);
            self.gathering.waited(!timed_out);
        }
        Some(std::mem::take(&mut inner.groups).into())
    }

    /// Writes what has gathered, with one sync for all of it.
    fn write(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        let must_sync = self.groups.iter().any(|group| group.must_sync);
        // Who waits for less does not wait for a sync.
        let some_for_less = self.groups.iter().any(|group| !group.written.is_empty());
        let mut places = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let last = at + 1 == self.groups.len();
            let synced = last && must_sync && !some_for_less;
            let place = || append(&self.shared, &mut self.log, group, synced);
            places.push((!group.batch.is_empty()).then(place).transpose()?);
        }
        let mut news = News::default();
        if some_for_less {
            let mut inner = self.shared.lock();
            for (group, place) in self.groups.iter_mut().zip(&places) {
                if let Some((segment, start)) = place {
                    inner.show(&group.written.pushes, *segment, *start, &self.shared, &mut news);
                    inner.keep(&mut group.batch, *segment, *start);
                }
            }
            drop(inner);
            news.tell();
            self.groups.iter_mut().for_each(|group| self.answered.extend(group.written.answer(&Ok(()))));
        }
        if must_sync {
            self.log.sync()?;
            self.gathering.synced(begin.elapsed());
        }
        let callers: usize = self.groups.iter().map(Group::callers).sum();
        let mut inner = self.shared.lock();
        // Who waits for messages has done so for longer than who pushed them; but many who pushed would wait for each other.
        if inner.poppers == 0 || callers > FEW {
            // Under the lock: whoever comes back sees what follows, and is on the way meanwhile.
            answer_synced(&mut self.groups, &mut self.answered);
        }
        for (group, place) in self.groups.iter_mut().zip(&places) {
            let Some((segment, start)) = *place else { continue };
            inner.show(&group.synced.pushes, segment, start, &self.shared, &mut news);
            inner.keep(&mut group.batch, segment, start);
            group.copied.iter().for_each(|copied| inner.state.copied(copied, segment, start));
            if let Some((from, keys)) = &group.copied_dedup {
                inner.state.copied_dedup(keys, *from, segment);
            }
        }
        self.tell_space(&mut inner);
        self.gathering.answered(callers, inner.callers());
        drop(inner);
        news.tell();
        answer_synced(&mut self.groups, &mut self.answered);
        self.answered.tell_due();
        if let Some(Group { batch, .. }) = self.groups.pop() {
            self.give_back(batch);
        }
        self.groups.clear();
        if must_sync { self.log.prepare() } else { Ok(()) }
    }

    /// A batch's room is for another.
    fn give_back(&self, mut batch: Batch) {
        batch.clear();
        self.shared.lock().spare = batch;
    }

    fn tell_space(&self, inner: &mut MutexGuard<'_, Inner>) {
        inner.reserved = self.log.reserved();
        inner.written = self.log.written();
        inner.prepared = self.log.prepared();
    }

    /// Reserves space, and frees what is not needed: one step of it.
    fn look_after(&mut self) -> io::Result<()> {
        let full = !self.reserve()?;
        let before = std::mem::replace(&mut self.shared.lock().disk_full, full);
        if full != before {
            if full {
                warn!("the disk is full: pushes are refused when the reserve is used up");
            } else {
                warn!("there is space on the disk again");
            }
        }
        if let Some(messages) = self.cleaning.take() {
            self.clean(messages)?;
        }
        if self.cleaning.is_none() {
            self.begin_cleaning()?;
        }
        let mut inner = self.shared.lock();
        self.tell_space(&mut inner);
        drop(inner);
        self.shared.space.notify_waiters();
        Ok(())
    }

    /// Space for what pushes must leave free, and a segment more.
    fn reserve(&mut self) -> io::Result<bool> {
        let spares = self.spares();
        self.log.reserve(spares)
    }

    fn spares(&self) -> usize {
        let live = self.shared.lock().state.live();
        3 + (PER_COPY * live).div_ceil(self.segment_size) as usize
    }

    fn begin_cleaning(&mut self) -> io::Result<()> {
        let Some(oldest) = self.log.oldest() else { return Ok(()) };
        let (free, live_bytes) = {
            let inner = self.shared.lock();
            (inner.state.is_free(oldest), inner.state.live_bytes())
        };
        if free {
            self.cleaning = Some(Vec::new());
            return Ok(());
        }
        let enough = (2 * live_bytes).max(2 * self.segment_size) + 2 * self.segment_size;
        if self.log.size() > enough || self.log.has_damage() {
            debug!("segment {oldest} is cleaned");
            let mut messages = self.log.messages_of_oldest()?;
            messages.reverse();
            self.cleaning = Some(messages);
        }
        Ok(())
    }

    /// Copies what is still needed of the oldest segment, a part of it; at its end the segment is freed.
    fn clean(&mut self, mut messages: Vec<(MessageRecord, Place)>) -> io::Result<()> {
        let mut chosen = Vec::new();
        let meanwhile = self.log.written() - std::mem::replace(&mut self.cleaned_at, self.log.written());
        let step = (2 * meanwhile).clamp(self.segment_size / STEPS.1, self.segment_size / STEPS.0);
        {
            let inner = self.shared.lock();
            let mut size = 0;
            while size < step as usize
                && let Some((message, place)) = messages.pop()
            {
                if inner.state.is_needed(&message, place) {
                    size += place.length as usize;
                    chosen.push((message, place));
                }
            }
        }
        let mut read = Vec::with_capacity(chosen.len());
        for (message, place) in chosen {
            match self.shared.files.read(message.id, place) {
                Ok(whole) => read.push((MessageRecord { copies: message.copies, ..whole }, place)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let mut inner = self.shared.lock();
                    inner.lose(&message, place);
                }
                Err(error) => return Err(error),
            }
        }
        let done = messages.is_empty();
        let oldest = self.log.oldest();
        {
            let mut inner = self.shared.lock();
            let now = self.shared.clock.now();
            let (state, group) = inner.state_and_group(now);
            group.must_sync = true;
            for (message, place) in read {
                let copied = state.copy(message, place, &mut group.batch);
                group.copied.extend(copied);
            }
            if let (true, Some(oldest)) = (done, oldest) {
                let keys = state.copy_dedup(oldest, now, &mut group.batch);
                group.copied_dedup = Some((oldest, keys));
            }
        }
        if !done {
            self.cleaning = Some(messages);
            return Ok(());
        }
        self.groups = std::mem::take(&mut self.shared.lock().groups).into();
        self.write()?;
        let free = oldest.is_some_and(|oldest| self.shared.lock().state.is_free(oldest));
        if free {
            let enough = self.spares() + KEPT;
            self.log.free_oldest(enough)?;
        } else {
            warn!("a segment that was cleaned is still needed: it is cleaned again");
        }
        Ok(())
    }

    /// Nothing is taken any more: what the disk holds is not known.
    fn fail(&mut self, error: &io::Error) {
        error!("the queue's disk failed, nothing more is taken: {error}");
        let failure = MqError::DiskFailed(error.to_string());
        let mut inner = self.shared.lock();
        inner.failure = Some(failure.clone());
        self.groups.extend(std::mem::take(&mut inner.groups));
        inner.wake_all();
        drop(inner);
        self.shared.space.notify_waiters();
        for mut group in self.groups.drain(..) {
            let answered = [&mut group.written, &mut group.synced].map(|stage| stage.answer(&Err(failure.clone())));
            answered.into_iter().for_each(|answered| self.answered.extend(answered));
        }
        self.answered.tell_all();
        self.shared.failed.notify_waiters();
    }
}

/// Ends the waiting for the sync, for those whose has not ended yet.
fn answer_synced(groups: &mut [Group], answered: &mut Answered) {
    groups.iter_mut().for_each(|group| answered.extend(group.synced.answer(&Ok(()))));
}

/// Every segment begins with the configuration: so whatever was freed, what the messages in the rest refer to is known.
fn append<S: Store>(shared: &Shared<S::File>, log: &mut Log<S>, group: &Group, synced: bool) -> io::Result<(u32, u32)> {
    if !log.has_room(&group.batch) {
        log.roll()?;
        let mut configuration = Batch::default();
        shared.lock().state.write_configuration(&mut configuration);
        log.append(&configuration, group.time)?;
    }
    if synced { log.append_synced(&group.batch, group.time) } else { log.append(&group.batch, group.time) }
}

/// Which stage a push belongs to.
pub(super) fn stage(group: &mut Group, durability: Durability) -> &mut Stage {
    match durability {
        Durability::Synced => {
            group.must_sync = true;
            &mut group.synced
        }
        Durability::Written | Durability::Queued => &mut group.written,
    }
}
