//! The thread that owns the log: all disk work but the reading of messages happens here.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use tracing::{error, warn};

use super::{
    inner::{Group, Inner, News, Shared, Wanted},
    stage::Stage,
};
use crate::{Durability, MqError, batch::Batch, log::Log, message::Millis, store::Store};

mod answered;
mod back_up;
mod clean;
mod gathering;
mod reclaim;

use answered::Answered;
use clean::Cleaning;
pub(super) use gathering::Gathering;
pub(super) use reclaim::Reclaim;

/// Segments that are reserved, besides what the state needs: the reserve of pushes, and the segment that they write.
pub(super) const SPARES: usize = 4;
/// The pause between two tries to begin a segment on a full disk.
const RETRY: Duration = Duration::from_millis(50);
/// A lease is in the log this long after it was given at the latest. Most often an ack comes first, and takes it along.
const UNHURRIED: Duration = Duration::from_millis(1);
/// Up to this number of producers are answered after the waiting consumers are notified.
const FEW: usize = 8;
/// How often it looks after the log when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Writer<S: Store> {
    pub(super) shared: Arc<Shared<S::File>>,
    pub(super) log: Log<S>,
    pub(super) segment_size: u64,
    /// The cleaning of the oldest segment, if that is under way.
    pub(super) cleaning: Option<Cleaning>,
    /// Bytes that the log had written at the last step of cleaning.
    pub(super) cleaned_at: u64,
    pub(super) reclaim: Reclaim,
    /// Bytes of messages that were copied forward since the log was opened.
    pub(super) copied: u64,
    /// Groups on their way to the disk.
    pub(super) groups: Vec<Group>,
    pub(super) gathering: Gathering,
    /// Something was written since it last had nothing to do.
    pub(super) lately: bool,
    /// Outcomes whose callers may not be notified yet.
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
            if let Err(error) = self.write().and_then(|()| self.back_up()).and_then(|()| self.look_after()) {
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
        // Callers that wait for less do not wait for a sync.
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
        // Wake consumers before producers, unless more than `FEW` producers wait: many producers would wait for each other.
        if inner.poppers == 0 || callers > FEW {
            // Under the lock: a caller that comes back sees the changes below, and is on its way meanwhile.
            answer_synced(&mut self.groups, &mut self.answered);
        }
        for (group, place) in self.groups.iter_mut().zip(&places) {
            let Some((segment, start)) = *place else { continue };
            inner.show(&group.synced.pushes, segment, start, &self.shared, &mut news);
            inner.keep(&mut group.batch, segment, start);
            group.copied.iter().for_each(|copied| inner.state.copied(copied, segment, start));
            group.copied_keys.iter().for_each(|(from, keys)| inner.state.copied_keys(keys, *from, segment));
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
        if let Some(cleaning) = self.cleaning.take() {
            self.clean(cleaning)?;
        }
        if self.cleaning.is_none() {
            self.begin_cleaning(full)?;
        }
        let mut inner = self.shared.lock();
        self.tell_space(&mut inner);
        let released = inner.state.release_some();
        drop(inner);
        drop(released);
        self.shared.space.notify_waiters();
        Ok(())
    }

    /// Space for what pushes must leave free, and a segment more.
    fn reserve(&mut self) -> io::Result<bool> {
        let spares = self.spares();
        self.log.reserve(spares)
    }

    fn spares(&self) -> usize {
        let reserve = self.shared.lock().state.reserve();
        SPARES + reserve.div_ceil(self.segment_size) as usize
    }

    /// Nothing is taken any more: what the disk holds is not known.
    fn fail(&mut self, error: &io::Error) {
        error!("the queue's disk failed, nothing more is taken: {error}");
        let failure = MqError::DiskFailed(error.to_string());
        let mut inner = self.shared.lock();
        inner.failure = Some(failure.clone());
        self.groups.extend(std::mem::take(&mut inner.groups));
        let backups = std::mem::take(&mut inner.backups);
        inner.wake_all();
        drop(inner);
        self.shared.space.notify_waiters();
        for mut group in self.groups.drain(..) {
            let answered = [&mut group.written, &mut group.synced].map(|stage| stage.answer(&Err(failure.clone())));
            answered.into_iter().for_each(|answered| self.answered.extend(answered));
        }
        self.answered.tell_all();
        backups.into_iter().for_each(|wish| wish.answer(Err(failure.clone())));
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
        begin_segment(shared, log, group.time)?;
    }
    if synced { log.append_synced(&group.batch, group.time) } else { log.append(&group.batch, group.time) }
}

fn begin_segment<S: Store>(shared: &Shared<S::File>, log: &mut Log<S>, time: Millis) -> io::Result<()> {
    roll(shared, log)?;
    let configuration = shared.lock().state.configuration();
    for batch in configuration {
        if !log.has_room(&batch) {
            roll(shared, log)?;
        }
        log.append(&batch, time)?;
    }
    Ok(())
}

/// Begins a segment. What is written was accepted because there was space for it; if there is none all the same, it waits until
/// somebody makes room.
fn roll<S: Store>(shared: &Shared<S::File>, log: &mut Log<S>) -> io::Result<()> {
    let mut warned = false;
    loop {
        match log.roll() {
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                let mut inner = shared.lock();
                inner.disk_full = true;
                if inner.closing {
                    return Err(error);
                }
                if !std::mem::replace(&mut warned, true) {
                    error!("the disk is full, and nothing is left for the log to go on: make room on it");
                }
                // The end of the node ends the pause.
                drop(shared.wait(inner, Wanted::Nothing, RETRY));
            }
            done => return done,
        }
    }
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
