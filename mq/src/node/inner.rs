//! State that a node's callers and its log's thread share, and the groups of records between the two.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::error;

use super::{backup::Wish, cache::Cache, stage::Stage};
use crate::{
    Damage, MessageId, MqError, NodeId,
    batch::{Batch, Place},
    clock::Clock,
    dedup::Key,
    log::Files,
    message::Millis,
    record::{MessageRecord, QueueNumber},
    state::{Copied, Pending, State},
    store::File,
};

pub(super) struct Shared<F> {
    pub(super) inner: Mutex<Inner>,
    /// For the writer: there is something to write.
    pub(super) work: Condvar,
    /// The callers that the writer looks out for have come.
    pub(super) come: AtomicBool,
    pub(super) files: Arc<Files<F>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: NodeId,
    pub(super) store: u128,
    pub(super) segment_bytes: u64,
    /// Some topic has, or had, route keys that are patterns.
    pub(super) patterns: AtomicBool,
    pub(super) failed: Notify,
    /// For pushes: there may be more space.
    pub(super) space: Notify,
    pub(super) damage: Vec<Damage>,
}

pub(super) struct Inner {
    pub(super) state: State,
    pub(super) groups: VecDeque<Group>,
    /// A batch that was written, to be used again.
    pub(super) spare: Batch,
    pub(super) cache: Cache,
    /// Wakers of waiting pops, by queue.
    pub(super) waiting: BTreeMap<QueueNumber, Arc<Notify>>,
    /// How many they are.
    pub(super) poppers: usize,
    /// Bytes that the log can take without asking the disk.
    pub(super) reserved: u64,
    /// The disk has no more to reserve.
    pub(super) disk_full: bool,
    /// Cleaning makes room on a full disk.
    pub(super) reclaiming: bool,
    pub(super) segment_bytes: u64,
    pub(super) written: u64,
    pub(super) prepared: u64,
    /// Backups that the thread of the log is to make.
    pub(super) backups: Vec<Wish>,
    pub(super) closing: bool,
    /// When the writer wants to be woken.
    pub(super) wanted: Wanted,
    pub(super) failure: Option<MqError>,
    /// Found to be damaged when they were read.
    pub(super) lost: Vec<MessageId>,
}

/// The writer looks out for callers for so long before it sleeps.
const AWAKE: Duration = Duration::from_micros(100);
/// Looks, some 2 us, before other threads may have the writer's CPU.
const LOOKS: u32 = 64;

/// How much must gather for the writer to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The writer is awake, or looks by itself soon enough.
    Nothing,
    Anything,
    /// Records that a caller waits for: leases are no hurry.
    Urgent,
    /// At least this number of waiting callers.
    Callers(usize),
    /// The same, and it is awake to see them come.
    CallersAtOnce(usize),
}

/// Records that become durable together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) batch: Batch,
    pub(super) time: Millis,
    pub(super) must_sync: bool,
    pub(super) synced: Stage,
    pub(super) written: Stage,
    pub(super) copied: Vec<Copied>,
    /// Dedup keys that were copied forward, and from where.
    pub(super) copied_keys: Vec<(u32, Vec<Key>)>,
}

/// Messages that became ready, for their queues' waiters.
#[derive(Debug, Default)]
pub(super) struct News(Vec<(QueueNumber, Arc<Notify>, usize)>);

impl News {
    fn add(&mut self, queue: QueueNumber, waiting: &BTreeMap<QueueNumber, Arc<Notify>>) {
        match self.0.last_mut() {
            Some((last, _, messages)) if *last == queue => *messages += 1,
            _ => self.0.extend(waiting.get(&queue).map(|who| (queue, who.clone(), 1))),
        }
    }

    /// Wakes one for each message. Not under the lock, which is the first thing that they want.
    pub(super) fn tell(&mut self) {
        for (_, who, messages) in self.0.drain(..) {
            (0..messages).for_each(|_| who.notify_one());
        }
    }
}

/// Purpose for which space in the log is asked. While the disk is full, purposes that grow the log stop first: pushes, then
/// leases. Ends of messages have a reserve of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Push,
    /// Leases, failed deliveries, settings.
    Lease,
    /// Acks and other ends of messages, which free more than they take.
    End,
}

impl Need {
    /// Segments that must be left besides the reserve: one in which cleaning copies, one for the next start, and one more for
    /// what is not pushed.
    fn segments(self) -> u64 {
        match self {
            Self::Push => 3,
            Self::Lease => 2,
            Self::End => 0,
        }
    }
}

/// Callers wait for this long until cleaning has made room for a lease.
const RECLAIMED_WITHIN: Duration = Duration::from_secs(5);

impl Group {
    pub(super) fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.callers() == 0
    }

    /// How many wait for it.
    pub(super) fn callers(&self) -> usize {
        self.synced.callers() + self.written.callers()
    }
}

impl<F: File> Shared<F> {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change that nobody waits for.
    pub(super) fn change<T>(
        &self,
        inner: MutexGuard<'_, Inner>,
        change: impl FnOnce(&mut State, Millis, &mut Batch) -> Result<T, MqError>,
    ) -> Result<T, MqError> {
        self.add(inner, |state, now, group| change(state, now, &mut group.batch))
    }

    /// Adds to the group that is written next.
    pub(super) fn add<T>(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        change: impl FnOnce(&mut State, Millis, &mut Group) -> Result<T, MqError>,
    ) -> Result<T, MqError> {
        inner.check_open()?;
        let now = self.clock.now();
        let (state, group) = inner.state_and_group(now);
        let changed = change(state, now, group);
        self.unlock_and_wake(inner);
        changed
    }

    /// The writer's waiting; true if it took as long as it may.
    pub(super) fn wait<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        wanted: Wanted,
        longest: Duration,
    ) -> (MutexGuard<'a, Inner>, bool) {
        inner.wanted = wanted;
        let (mut inner, waited) = self.work.wait_timeout(inner, longest).unwrap_or_else(PoisonError::into_inner);
        inner.wanted = Wanted::Nothing;
        (inner, waited.timed_out())
    }

    /// The same for callers. Those that are answered come back within microseconds, if they do: to wake a thread takes as long.
    pub(super) fn wait_for_callers<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        callers: usize,
        longest: Duration,
    ) -> (MutexGuard<'a, Inner>, bool) {
        let begin = Instant::now();
        self.come.store(false, Ordering::Relaxed);
        inner.wanted = Wanted::CallersAtOnce(callers);
        drop(inner);
        let has_come = |_| {
            std::hint::spin_loop();
            self.come.load(Ordering::Relaxed)
        };
        while !(0..LOOKS).any(has_come) && begin.elapsed() < longest.min(AWAKE) {
            // Their thread may need this CPU.
            std::thread::yield_now();
        }
        inner = self.lock();
        let left = longest.saturating_sub(begin.elapsed());
        match inner.wanted {
            Wanted::Nothing => (inner, false),
            _ => self.wait(inner, Wanted::Callers(callers), left),
        }
    }

    /// Lets go, and wakes the writer if it waits for what is there now.
    pub(super) fn unlock_and_wake(&self, mut inner: MutexGuard<'_, Inner>) {
        let wake = match inner.wanted {
            Wanted::Nothing => false,
            Wanted::Anything => !inner.is_idle(),
            Wanted::Urgent => inner.is_urgent(),
            Wanted::Callers(wanted) => inner.callers() >= wanted,
            Wanted::CallersAtOnce(wanted) => {
                if inner.callers() >= wanted {
                    inner.wanted = Wanted::Nothing;
                    self.come.store(true, Ordering::Relaxed);
                }
                false
            }
        };
        if wake {
            inner.wanted = Wanted::Nothing;
            drop(inner);
            self.work.notify_one();
        }
    }

    /// Locks the shared state when there is room for this purpose.
    pub(super) async fn space(&self, need: Need) -> Result<MutexGuard<'_, Inner>, MqError> {
        let mut deadline = None;
        loop {
            let mut more = pin!(self.space.notified());
            {
                let inner = self.lock();
                inner.check_open()?;
                if inner.check_space(need, self.segment_bytes)? {
                    return Ok(inner);
                }
                more.as_mut().enable();
            }
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + RECLAIMED_WITHIN);
            if tokio::time::timeout_at(deadline, more).await.is_err() {
                return Err(MqError::DiskFull);
            }
        }
    }

    /// Wakes the waiters of queues that are gone: the name may be another queue's by now.
    pub(super) fn forget_waiting(&self) {
        let mut inner = self.lock();
        let Inner { waiting, state, .. } = &mut *inner;
        waiting.retain(|number, news| {
            let there = state.queue(*number).is_some();
            if !there {
                news.notify_waiters();
            }
            there
        });
    }

    pub(super) fn wake(&self, topic: &str, queue: &str) {
        let inner = self.lock();
        if let Ok(number) = inner.state.queue_number(topic, queue)
            && let Some(news) = inner.waiting.get(&number)
        {
            news.notify_waiters();
            news.notify_one();
        }
    }

    /// Wakes all waiters of a topic.
    pub(super) fn wake_topic(&self, topic: &str) {
        let inner = self.lock();
        for number in inner.state.queues_of(topic) {
            inner.waiting.get(&number).into_iter().for_each(|news| news.notify_waiters());
        }
    }

    /// A message of the queue has ended: wakes a waiter if that lets another message go on.
    pub(super) fn wake_freed(&self, topic: &str, queue: &str) {
        let number = self.lock().state.queue_number(topic, queue);
        self.wake_bounded(number.into_iter());
    }

    /// Wakes a waiter of each of those queues in which the end of a message lets another one go on.
    pub(super) fn wake_bounded(&self, numbers: impl Iterator<Item = QueueNumber>) {
        let inner = self.lock();
        for number in numbers.filter(|number| inner.state.is_bounded(*number)) {
            inner.waiting.get(&number).into_iter().for_each(|news| news.notify_one());
        }
    }

    /// Wakes a waiter of each of these queues.
    pub(super) fn wake_numbers(&self, numbers: impl Iterator<Item = QueueNumber>) {
        let inner = self.lock();
        for news in numbers.filter_map(|number| inner.waiting.get(&number)) {
            news.notify_one();
        }
    }
}

impl Inner {
    /// The group that the next record goes to, beside the state that makes it.
    pub(super) fn state_and_group(&mut self, now: Millis) -> (&mut State, &mut Group) {
        if self.groups.back().is_none_or(|last| last.batch.is_full()) {
            let batch = std::mem::take(&mut self.spare);
            self.groups.push_back(Group { batch, ..Group::default() });
        }
        self.state.frozen = self.disk_full && !self.has_space(Need::Lease, self.segment_bytes);
        let last = self.groups.len() - 1;
        let group = &mut self.groups[last];
        group.time = group.time.max(now);
        (&mut self.state, group)
    }

    /// Returns true if there is nothing to write.
    pub(super) fn is_idle(&self) -> bool {
        self.groups.iter().all(Group::is_idle) && self.backups.is_empty()
    }

    /// Returns true if a caller waits for records that are not written yet, or pushes wait to be shown.
    pub(super) fn is_urgent(&self) -> bool {
        !self.backups.is_empty()
            || self.groups.iter().any(|group| !group.synced.is_empty() || !group.written.is_empty())
    }

    /// How many wait for what has gathered.
    pub(super) fn callers(&self) -> usize {
        self.groups.iter().map(Group::callers).sum()
    }

    pub(super) fn check_open(&self) -> Result<(), MqError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.closing => Err(MqError::Closed),
            None => Ok(()),
        }
    }

    /// Returns true if there is room, and false if the caller must wait until more is reserved or cleaned.
    pub(super) fn check_space(&self, need: Need, segment_bytes: u64) -> Result<bool, MqError> {
        if need == Need::End || self.has_space(need, segment_bytes) {
            Ok(true)
        } else if self.disk_full && (need == Need::Push || !self.reclaiming) {
            Err(MqError::DiskFull)
        } else {
            Ok(false)
        }
    }

    fn has_space(&self, need: Need, segment_bytes: u64) -> bool {
        let waiting: u64 = self.groups.iter().map(|group| group.batch.content.len() as u64).sum();
        // Waiting records are written twice: in a batch and in the footer.
        self.reserved >= need.segments() * segment_bytes + self.state.reserve() + 2 * waiting
    }

    /// Makes pushes visible whose records are written. The waiters for them are notified with `news`.
    pub(super) fn show<F: File>(
        &mut self,
        pushes: &[Pending],
        segment: u32,
        start: u32,
        shared: &Shared<F>,
        news: &mut News,
    ) {
        let now = shared.clock.now();
        for pending in pushes {
            self.state.commit(pending, segment, start, now);
            for queue in &pending.queues {
                news.add(*queue, &self.waiting);
            }
        }
    }

    /// Keeps a batch with pushes in the cache, for the pops that follow.
    pub(super) fn keep(&mut self, batch: &mut Batch, segment: u32, start: u32) {
        if batch.ids.is_empty() || batch.content.is_empty() {
            return;
        }
        let room = batch.content.capacity();
        let content = if batch.content.len() < room / 2 {
            // The room is worth more than what it holds.
            batch.content.as_slice().to_vec()
        } else {
            std::mem::take(&mut batch.content)
        };
        let room = self.cache.insert(segment, start, content);
        if batch.content.capacity() == 0 {
            batch.content = room.unwrap_or_default();
        }
        batch.content.clear();
    }

    /// A message's bytes are damaged: it is dropped, and remembered as lost.
    pub(super) fn lose(&mut self, message: &MessageRecord, place: Place) {
        for (number, _) in &message.copies {
            let here = self.state.queue(*number).and_then(|queue| queue.get(message.id));
            if here.is_some_and(|live| live.place == place) {
                self.lose_one(*number, message.id);
            }
        }
    }

    pub(super) fn lose_one(&mut self, number: QueueNumber, id: MessageId) {
        error!("message {id} is lost: its bytes on the disk are damaged");
        self.lost.push(id);
        let time = self.groups.back().map_or(0, |group| group.time);
        let (state, group) = self.state_and_group(time);
        state.finish(number, id, &mut group.batch);
    }

    /// Brings a queue to the present, one step of it. Returns true if nothing is left to do, and if nothing is taken any more.
    pub(super) fn advance(&mut self, number: QueueNumber, clock: &dyn Clock) -> bool {
        if self.check_open().is_err() {
            return true;
        }
        let now = clock.now();
        let (state, group) = self.state_and_group(now);
        state.advance(number, now, &mut group.batch)
    }

    pub(super) fn wake_all(&self) {
        self.waiting.values().for_each(|news| news.notify_waiters());
    }
}
