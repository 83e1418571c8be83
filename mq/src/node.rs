//! A node's engine: the state, the log behind it, and who waits for either.

mod cache;
mod writer;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::error;

use crate::{
    Damage, Delivery, Disk, Durability, Extensions, MessageId, MessageInfo, MqError, NodeId, OpenError, Pop, Push,
    Receipt, Settings, TopicStats,
    batch::{Batch, Place},
    clock::{Clock, SystemClock},
    log::{Files, Layout, Log},
    message::Millis,
    queue::Standing,
    record::{MessageRecord, QueueNumber},
    state::{Copied, Handed, Leased, Limits, Pending, Pushed, State},
    store::{File, Store},
};
use cache::Cache;
use writer::{Stage, Writer, stage};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// 1 to 1,023, another one for each node of a cluster.
    pub node: NodeId,
    /// Messages in memory, counted once for each queue that holds them; more are refused. About 130 bytes each. Default
    /// 5,000,000.
    pub max_live_messages: u64,
    /// Dedup keys in memory; more are refused. Default 1,000,000.
    pub max_dedup_keys: usize,
    /// Bodies of messages that were pushed lately. Default 16 MiB.
    pub cache_bytes: usize,
    /// Of each file of the log. Default 64 MiB, at least 16 MiB.
    pub segment_bytes: u64,
}

impl NodeConfig {
    /// The defaults.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            max_live_messages: 5_000_000,
            max_dedup_keys: 1_000_000,
            cache_bytes: 16 << 20,
            segment_bytes: 64 << 20,
        }
    }
}

/// A queue node. Cheap to clone; the last clone that is dropped ends it, and [`close`](Self::close) waits for that.
pub struct Node<F: File = std::fs::File> {
    shared: Arc<Shared<F>>,
    owner: Arc<Owner<F>>,
}

impl<F: File> Clone for Node<F> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), owner: self.owner.clone() }
    }
}

struct Owner<F: File> {
    shared: Arc<Shared<F>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<F> {
    inner: Mutex<Inner>,
    /// For the writer: there is something to write.
    work: Condvar,
    files: Arc<Files<F>>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    store: u128,
    segment_bytes: u64,
    failed: Notify,
    damage: Vec<Damage>,
}

struct Inner {
    state: State,
    groups: VecDeque<Group>,
    cache: Cache,
    /// Who waits for messages.
    waiting: HashMap<QueueNumber, Arc<Notify>>,
    /// Bytes that the log can take without asking the disk.
    reserved: u64,
    written: u64,
    closing: bool,
    failure: Option<MqError>,
    /// Found to be damaged when they were read.
    lost: Vec<MessageId>,
}

/// What becomes certain together.
#[derive(Debug, Default)]
struct Group {
    batch: Batch,
    time: Millis,
    must_sync: bool,
    synced: Stage,
    written: Stage,
    copied: Vec<Copied>,
    copied_dedup: Option<(u32, Vec<(u32, String)>)>,
}

/// The largest batch fits into it.
const SMALLEST_SEGMENT: u64 = 16 << 20;

/// What ending one message takes in the log, with room to spare.
const PER_COPY: u64 = 64;

/// A group of more bytes than this is followed by another.
const GROUP: usize = 4 << 20;

impl Group {
    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.synced.waiters.is_empty() && self.written.waiters.is_empty()
    }
}

/// The group that the next record goes to.
fn group(groups: &mut VecDeque<Group>, now: Millis) -> &mut Group {
    if groups.back().is_none_or(|last| last.batch.content.len() > GROUP) {
        groups.push_back(Group::default());
    }
    let last = groups.len() - 1;
    let group = &mut groups[last];
    group.time = group.time.max(now);
    group
}

impl Node {
    /// Opens the queue in `directory`, or begins one there. Reads the disk: not for a runtime's thread.
    ///
    /// # Errors
    /// The directory belongs to another node, is open in another process, is none of a queue, or cannot be used.
    pub fn open(directory: &Path, config: &NodeConfig) -> Result<Self, OpenError> {
        let config = NodeConfig { segment_bytes: config.segment_bytes.max(SMALLEST_SEGMENT), ..config.clone() };
        Self::open_store(Disk::open(directory)?, &config, |after| Arc::new(SystemClock::after(after)))
    }
}

impl<F: File> Node<F> {
    pub(crate) fn open_store<S: Store<File = F>>(
        store: S,
        config: &NodeConfig,
        clock: impl FnOnce(Millis) -> Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let limits = Limits { live: config.max_live_messages, dedup: config.max_dedup_keys };
        let mut state = State::new(config.node, limits);
        let layout = Layout { segment_size: config.segment_bytes };
        // What became due since the log's end is found out below.
        let (log, recovered) =
            Log::open(store, layout, config.node, &mut |record, place| state.apply(record, place, 0))?;
        let clock = clock(recovered.time);
        let mut groups = VecDeque::new();
        let now = clock.now();
        let first = &mut group(&mut groups, now).batch;
        state.write_configuration(first);
        state.recovered(config.node, now, first);
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                state,
                groups,
                cache: Cache::new(config.cache_bytes),
                waiting: HashMap::new(),
                reserved: log.reserved(),
                written: 0,
                closing: false,
                failure: None,
                lost: Vec::new(),
            }),
            work: Condvar::new(),
            files: log.files().clone(),
            clock,
            node: config.node,
            store: log.id(),
            segment_bytes: config.segment_bytes,
            failed: Notify::new(),
            damage: recovered.damage,
        });
        let mut writer = Writer {
            shared: shared.clone(),
            log,
            segment_size: config.segment_bytes,
            cleaning: None,
            disk_full: false,
            groups: Vec::new(),
        };
        writer.prepare()?;
        let writer = std::thread::Builder::new().name("mq-log".to_owned()).spawn(move || writer.run())?;
        let owner = Arc::new(Owner { shared: shared.clone(), writer: Mutex::new(Some(writer)) });
        Ok(Self { shared, owner })
    }

    /// Its number.
    pub fn id(&self) -> NodeId {
        self.shared.node
    }

    /// Names the directory for ever.
    pub fn store_id(&self) -> u128 {
        self.shared.store
    }

    /// What of the log could not be read when it was opened, and the messages that were found to be damaged since.
    pub fn damage(&self) -> (Vec<Damage>, Vec<MessageId>) {
        (self.shared.damage.clone(), self.shared.lock().lost.clone())
    }

    /// Bytes written to the log since it was opened.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Waits until the disk fails: from then on nothing is taken.
    pub async fn failed(&self) -> MqError {
        loop {
            let failed = self.shared.failed.notified();
            if let Some(failure) = self.shared.lock().failure.clone() {
                return failure;
            }
            failed.await;
        }
    }

    /// Makes a queue, and its topic if need be.
    ///
    /// # Errors
    /// [`MqError::QueueExists`], an illegal name, or the disk.
    pub async fn declare(&self, topic: &str, queue: &str) -> Result<(), MqError> {
        self.certain(|state, now, batch| state.declare(topic, queue, now, batch)).await
    }

    /// Changes a topic, and makes it if need be. Deliveries that are out keep their time.
    ///
    /// # Errors
    /// An illegal value, or the disk.
    pub async fn configure(&self, topic: &str, settings: &Settings) -> Result<(), MqError> {
        self.certain(|state, now, batch| state.configure(topic, settings, now, batch)).await
    }

    /// Stops, or resumes, the handing out of a queue's messages.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn pause(&self, topic: &str, queue: &str, paused: bool) -> Result<(), MqError> {
        self.certain(|state, _, batch| state.pause(topic, queue, paused, batch)).await?;
        self.shared.wake(topic, queue);
        Ok(())
    }

    /// Drops the messages of a queue that are ready, delayed or leased; returns how many.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn purge(&self, topic: &str, queue: &str) -> Result<u64, MqError> {
        self.certain(|state, _, batch| state.purge(topic, queue, batch)).await
    }

    /// Deletes a queue with all its messages and dead letters.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn delete_queue(&self, topic: &str, queue: &str) -> Result<(), MqError> {
        self.certain(|state, _, batch| state.delete_queue(topic, queue, batch)).await
    }

    /// Deletes a topic with all its queues.
    ///
    /// # Errors
    /// No such topic, or the disk.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), MqError> {
        self.certain(|state, _, batch| state.delete_topic(topic, batch)).await
    }

    /// Pushes a message; returns its id when it is as certain as it asks for.
    ///
    /// # Errors
    /// It is refused whole: something is wrong with it, no queue matches, one is full, the node or the disk is full.
    pub async fn push(&self, push: Push) -> Result<MessageId, MqError> {
        self.push_batch(vec![push]).await.map(|ids| ids[0])
    }

    /// Pushes messages: all of them or none. At most 1,000 and 3 MiB.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, MqError> {
        State::check_batch(&pushes)?;
        let Some(durability) = pushes.iter().map(|push| push.durability).min() else {
            return Ok(Vec::new());
        };
        let (ids, waiter) = {
            let mut inner = self.shared.lock();
            inner.check_open()?;
            inner.check_space(self.shared.segment_bytes)?;
            let now = self.shared.clock.now();
            let Inner { state, groups, .. } = &mut *inner;
            state.check_all(&pushes, now)?;
            let group = group(groups, now);
            let mut ids = Vec::with_capacity(pushes.len());
            for push in pushes {
                match state.push(push, now, &mut group.batch)? {
                    Pushed::Duplicate(id) => ids.push(id),
                    Pushed::New(pending) => {
                        ids.push(pending.id);
                        stage(group, durability).pushes.push(pending);
                    }
                }
            }
            let waiter = (durability != Durability::Queued).then(|| stage(group, durability).reached());
            (ids, waiter)
        };
        self.shared.work.notify_one();
        if let Some(waiter) = waiter {
            waiter.wait().await?;
        }
        Ok(ids)
    }

    /// Takes the next messages; none if none comes in the time that the wish gives.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        let most = pop.max_messages.clamp(1, 1000) as usize;
        let deadline = Instant::now() + Duration::from_millis(pop.wait_ms.min(24 * 3600 * 1000));
        loop {
            let (handed, news, next) = {
                let mut inner = self.shared.lock();
                inner.check_open()?;
                let number = inner.state.queue_number(&pop.topic, &pop.queue)?;
                let now = self.shared.clock.now();
                let Inner { state, groups, waiting, .. } = &mut *inner;
                let group = group(groups, now);
                let handed = state.pop(number, most, pop.max_bytes as usize, now, &mut group.batch);
                let news = waiting.entry(number).or_default().clone();
                let next = state.queue(number).and_then(crate::queue::Queue::next_change);
                (handed, news, next.map(|next| Duration::from_millis(next.saturating_sub(now))))
            };
            if !handed.is_empty() {
                self.shared.work.notify_one();
                let delivered = self.deliver(handed).await?;
                if !delivered.is_empty() {
                    return Ok(delivered);
                }
                continue;
            }
            let news = news.notified();
            let until = next.map_or(deadline, |next| deadline.min(Instant::now() + next));
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            // What came between the look and the wait left its permit.
            tokio::select! {
                () = news => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Adds the bodies. Cancelled, it gives the messages back.
    async fn deliver(&self, handed: Vec<Handed>) -> Result<Vec<Delivery>, MqError> {
        let mut guard = Undelivered { shared: &self.shared, handed };
        let (cached, by_itself): (Vec<_>, bool) = {
            let inner = self.shared.lock();
            let by_itself = guard.handed.first().is_some_and(|first| inner.state.acks_by_itself(first.queue));
            (guard.handed.iter().map(|handed| inner.cache.get(handed.id)).collect(), by_itself)
        };
        let missing: Vec<_> = guard.handed.iter().zip(&cached).filter(|(_, cached)| cached.is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|(handed, _)| *handed).collect();
        let mut read = self.read(missing).await?.into_iter();
        if by_itself {
            let acks: Vec<_> = guard.handed.iter().map(leased).collect();
            self.ack_all(&acks).await?;
        }
        let mut deliveries = Vec::with_capacity(guard.handed.len());
        for (handed, cached) in guard.handed.iter().zip(cached) {
            let found = match cached {
                Some(cached) => Some((cached.body, cached.headers)),
                None => read.next().flatten().map(|message| (message.body, message.headers)),
            };
            let Some((body, headers)) = found else { continue };
            let receipt = Receipt {
                node: self.shared.node,
                store: self.shared.store,
                queue: handed.queue,
                id: handed.id,
                lease: handed.lease,
            };
            deliveries.push(Delivery {
                id: handed.id,
                receipt: (!by_itself).then_some(receipt),
                body: body.into(),
                headers: headers.into_iter().map(|(key, value)| (key, value.into())).collect(),
                retries: handed.retries,
                extensions: Extensions::default(),
            });
        }
        guard.handed.clear();
        Ok(deliveries)
    }

    /// Reads messages from the disk; none for those that are damaged, which are dropped and remembered.
    async fn read(&self, handed: Vec<Handed>) -> Result<Vec<Option<MessageRecord>>, MqError> {
        if handed.is_empty() {
            return Ok(Vec::new());
        }
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || handed.iter().map(|handed| shared.read(handed)).collect());
        reading.await.map_err(|_| MqError::Closed)?
    }

    /// The message is done with.
    ///
    /// # Errors
    /// [`MqError::NotLeased`], [`MqError::OtherNode`], or the disk.
    pub async fn ack(&self, receipt: &Receipt) -> Result<(), MqError> {
        self.ack_batch(std::slice::from_ref(receipt)).await?.remove(0)
    }

    /// The messages are done with: those of them that are leased. One result each.
    ///
    /// # Errors
    /// The disk.
    pub async fn ack_batch(&self, receipts: &[Receipt]) -> Result<Vec<Result<(), MqError>>, MqError> {
        let checked: Vec<_> = receipts.iter().map(|receipt| self.own(receipt)).collect();
        let leased: Vec<_> = receipts.iter().map(Leased::from).collect();
        self.certain(|state, now, batch| {
            let ack = |(leased, checked): (&Leased, Result<(), MqError>)| {
                checked.and_then(|()| state.ack(*leased, now, batch))
            };
            Ok(leased.iter().zip(checked).map(ack).collect())
        })
        .await
    }

    async fn ack_all(&self, leased: &[Leased]) -> Result<(), MqError> {
        self.certain(|state, now, batch| leased.iter().try_for_each(|leased| state.ack(*leased, now, batch))).await
    }

    /// The message could not be handled: it comes again after `delay`, or is dead.
    ///
    /// # Errors
    /// [`MqError::NotLeased`], [`MqError::OtherNode`], or the disk.
    pub async fn nack(&self, receipt: &Receipt, delay: Duration, reason: &str) -> Result<(), MqError> {
        self.own(receipt)?;
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.certain(|state, now, batch| state.nack(receipt.into(), delay, reason, now, batch)).await?;
        self.shared.wake_number(receipt.queue);
        Ok(())
    }

    /// The delivery has `ttr` from now on; none: as long as at first.
    ///
    /// # Errors
    /// [`MqError::NotLeased`], [`MqError::OtherNode`], or the disk.
    pub async fn touch(&self, receipt: &Receipt, ttr: Option<Duration>) -> Result<(), MqError> {
        self.own(receipt)?;
        let ttr = ttr.map_or(0, |ttr| u64::try_from(ttr.as_millis()).unwrap_or(u64::MAX));
        let done = self.shared.change(|state, now, batch| state.touch(receipt.into(), ttr, now, batch));
        self.shared.work.notify_one();
        done
    }

    /// Ends the current delivery of a message: for who has no receipt.
    ///
    /// # Errors
    /// [`MqError::NoMessage`]: it is not out at the moment.
    pub async fn ack_by_id(&self, topic: &str, queue: &str, id: MessageId) -> Result<(), MqError> {
        self.certain(|state, now, batch| {
            let number = state.queue_number(topic, queue)?;
            let lease = state.queue(number).and_then(|queue| queue.lease(id)).ok_or(MqError::NoMessage(id.0))?;
            let leased = Leased { queue: number, id, lease: lease.number };
            state.ack(leased, now, batch).map_err(|_| MqError::NoMessage(id.0))
        })
        .await
    }

    /// Takes a message out of a queue, wherever it stands there.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or the disk.
    pub async fn cancel(&self, topic: &str, queue: &str, id: MessageId) -> Result<(), MqError> {
        self.certain(|state, _, batch| {
            let number = state.queue_number(topic, queue)?;
            if state.queue(number).is_none_or(|queue| queue.get(id).is_none()) {
                return Err(MqError::NoMessage(id.0));
            }
            state.finish(number, id, batch);
            Ok(())
        })
        .await
    }

    /// One message, with its body.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or the disk.
    pub async fn get(&self, topic: &str, queue: &str, id: MessageId) -> Result<MessageInfo, MqError> {
        let (mut info, place) = {
            let mut inner = self.shared.lock();
            let number = inner.current(topic, queue, &*self.shared.clock)?;
            inner.info(number, id).ok_or(MqError::NoMessage(id.0))?
        };
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || shared.files.read(place));
        let message = reading.await.map_err(|_| MqError::Closed)?;
        let message = message.map_err(|error| MqError::DiskFailed(error.to_string()))?;
        info.body = Some(message.body.into());
        info.headers = message.headers.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(info)
    }

    /// The messages that would be handed out next, with their bodies; they stay where they are.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn peek(&self, topic: &str, queue: &str, most: u32) -> Result<Vec<MessageInfo>, MqError> {
        let ids: Vec<_> = {
            let mut inner = self.shared.lock();
            let number = inner.current(topic, queue, &*self.shared.clock)?;
            let queue = inner.state.queue(number);
            queue.into_iter().flat_map(|queue| queue.next_ready()).take(most.min(1000) as usize).collect()
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self.get(topic, queue, id).await {
                Ok(info) => found.push(info),
                Err(MqError::NoMessage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// A page of a queue's messages whose ids are above `after`, without bodies; only the dead ones if `dead`.
    ///
    /// # Errors
    /// No such queue.
    pub fn list(
        &self,
        topic: &str,
        queue: &str,
        after: MessageId,
        most: u32,
        dead: bool,
    ) -> Result<Vec<MessageInfo>, MqError> {
        let mut inner = self.shared.lock();
        let number = inner.current(topic, queue, &*self.shared.clock)?;
        let Some(queue) = inner.state.queue(number) else { return Ok(Vec::new()) };
        let most = most.clamp(1, 1000) as usize;
        let ids: Vec<_> = if dead {
            queue.dead_after(after).map(|(id, _)| id).take(most).collect()
        } else {
            queue.ids_after(after).take(most).collect()
        };
        Ok(ids.into_iter().filter_map(|id| inner.info(number, id)).map(|(info, _)| info).collect())
    }

    /// Takes dead letters out, with their bodies.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn pop_dead(&self, topic: &str, queue: &str, most: u32) -> Result<Vec<MessageInfo>, MqError> {
        let mut taken = Vec::new();
        for info in self.list(topic, queue, MessageId(0), most, true)? {
            taken.push(self.get(topic, queue, info.id).await?);
        }
        self.certain(|state, _, batch| {
            let number = state.queue_number(topic, queue)?;
            taken.iter().for_each(|info| state.finish(number, info.id, batch));
            Ok(())
        })
        .await?;
        Ok(taken)
    }

    /// Makes dead letters ready again, all or these; they keep their ids, and their counts begin at 0. Returns how many.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn redrive(&self, topic: &str, queue: &str, ids: Option<&[MessageId]>) -> Result<u64, MqError> {
        let redriven = self
            .certain(|state, now, batch| Ok(state.redrive(state.queue_number(topic, queue)?, ids, now, batch)))
            .await?;
        self.shared.wake(topic, queue);
        Ok(redriven)
    }

    /// How a topic stands.
    ///
    /// # Errors
    /// No such topic.
    pub fn stats(&self, topic: &str) -> Result<TopicStats, MqError> {
        let mut inner = self.shared.lock();
        inner.advance(&*self.shared.clock);
        inner.state.stats(topic)
    }

    /// How all topics stand, by name.
    pub fn all_stats(&self) -> Vec<TopicStats> {
        let mut inner = self.shared.lock();
        inner.advance(&*self.shared.clock);
        let names = inner.state.topic_names();
        names.iter().filter_map(|name| inner.state.stats(name).ok()).collect()
    }

    /// Takes nothing more, and waits until all is on the disk. Blocks: not for a runtime's thread.
    pub fn close(&self) {
        self.owner.close();
    }

    fn own(&self, receipt: &Receipt) -> Result<(), MqError> {
        if (receipt.node, receipt.store) == (self.shared.node, self.shared.store) {
            return Ok(());
        }
        Err(MqError::OtherNode { node: receipt.node.get(), store: format!("{:x}", receipt.store) })
    }

    /// Makes a change, and waits until it is certain.
    async fn certain<T>(
        &self,
        change: impl FnOnce(&mut State, Millis, &mut Batch) -> Result<T, MqError>,
    ) -> Result<T, MqError> {
        let (value, waiter) = self.shared.add(|state, now, group| {
            let value = change(state, now, &mut group.batch)?;
            Ok((value, stage(group, Durability::Synced).reached()))
        })?;
        self.shared.work.notify_one();
        waiter.wait().await?;
        Ok(value)
    }
}

fn leased(handed: &Handed) -> Leased {
    Leased { queue: handed.queue, id: handed.id, lease: handed.lease }
}

/// Messages that were taken and have not reached anybody.
struct Undelivered<'a, F: File> {
    shared: &'a Arc<Shared<F>>,
    handed: Vec<Handed>,
}

impl<F: File> Drop for Undelivered<'_, F> {
    fn drop(&mut self) {
        if self.handed.is_empty() {
            return;
        }
        // An error: the node has ended, and with it the leases.
        let _ = self.shared.change(|state, now, batch| {
            self.handed.iter().for_each(|handed| state.undelivered(leased(handed), now, batch));
            Ok(())
        });
        self.handed.iter().for_each(|handed| self.shared.wake_number(handed.queue));
        self.shared.work.notify_one();
    }
}

impl<F: File> Shared<F> {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change that nobody waits for.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State, Millis, &mut Batch) -> Result<T, MqError>,
    ) -> Result<T, MqError> {
        self.add(|state, now, group| change(state, now, &mut group.batch))
    }

    /// Adds to the group that is written next.
    fn add<T>(&self, change: impl FnOnce(&mut State, Millis, &mut Group) -> Result<T, MqError>) -> Result<T, MqError> {
        let mut inner = self.lock();
        inner.check_open()?;
        let now = self.clock.now();
        let Inner { state, groups, .. } = &mut *inner;
        change(state, now, group(groups, now))
    }

    fn read(&self, handed: &Handed) -> Result<Option<MessageRecord>, MqError> {
        let mut place = handed.place;
        loop {
            match self.files.read(place) {
                Ok(message) => return Ok(Some(message)),
                Err(error) => {
                    let mut inner = self.lock();
                    // It may have been copied forward in between.
                    let now_at =
                        inner.state.queue(handed.queue).and_then(|queue| queue.get(handed.id)).map(|live| live.place);
                    match now_at {
                        Some(moved) if moved != place => place = moved,
                        Some(_) if error.kind() == std::io::ErrorKind::InvalidData => {
                            inner.lose_one(handed.queue, handed.id);
                            return Ok(None);
                        }
                        Some(_) => return Err(MqError::DiskFailed(error.to_string())),
                        None => return Ok(None),
                    }
                }
            }
        }
    }

    fn wake(&self, topic: &str, queue: &str) {
        let inner = self.lock();
        if let Ok(number) = inner.state.queue_number(topic, queue)
            && let Some(news) = inner.waiting.get(&number)
        {
            news.notify_waiters();
            news.notify_one();
        }
    }

    fn wake_number(&self, number: QueueNumber) {
        if let Some(news) = self.lock().waiting.get(&number) {
            news.notify_one();
        }
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), MqError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.closing => Err(MqError::Closed),
            None => Ok(()),
        }
    }

    /// Pushes leave the last of the space to acks and cleaning.
    fn check_space(&self, segment_bytes: u64) -> Result<(), MqError> {
        let waiting: u64 = self.groups.iter().map(|group| group.batch.content.len() as u64).sum();
        let needed = 2 * segment_bytes + PER_COPY * self.state.live() + waiting;
        if self.reserved < needed { Err(MqError::DiskFull) } else { Ok(()) }
    }

    /// These pushes are where they should be: they can be handed out.
    fn show<F: File>(&mut self, pushes: &[Pending], segment: u32, start: u32, shared: &Shared<F>) {
        let now = shared.clock.now();
        for pending in pushes {
            self.state.commit(pending, segment, start, now);
            self.cache.insert(pending.id, &pending.body, &pending.headers);
            for queue in &pending.queues {
                if let Some(news) = self.waiting.get(queue) {
                    news.notify_one();
                }
            }
        }
    }

    fn advance(&mut self, clock: &dyn Clock) {
        let now = clock.now();
        self.state.advance_all(now, &mut group(&mut self.groups, now).batch);
    }

    /// The number of a queue, which is brought up to the present.
    fn current(&mut self, topic: &str, queue: &str, clock: &dyn Clock) -> Result<QueueNumber, MqError> {
        let number = self.state.queue_number(topic, queue)?;
        let now = clock.now();
        self.state.advance(number, now, &mut group(&mut self.groups, now).batch);
        Ok(number)
    }

    fn info(&self, number: QueueNumber, id: MessageId) -> Option<(MessageInfo, Place)> {
        let queue = self.state.queue(number)?;
        let (live, standing) = (queue.get(id)?, queue.standing(id)?);
        let (state, reason) = match standing {
            Standing::Ready => ("ready", None),
            Standing::Delayed => ("delayed", None),
            Standing::Leased(_) => ("leased", None),
            Standing::Dead(reason) => ("dead", Some(reason)),
        };
        let info = MessageInfo {
            id,
            state: state.to_owned(),
            due_ms: live.due,
            retries: live.retries,
            priority: live.priority,
            reason,
            body: None,
            headers: Vec::new(),
            extensions: Extensions::default(),
        };
        Some((info, live.place))
    }

    /// A message's bytes are damaged: it is dropped, and remembered as lost.
    fn lose(&mut self, message: &MessageRecord, place: Place) {
        for (number, _) in &message.copies {
            let here = self.state.queue(*number).and_then(|queue| queue.get(message.id));
            if here.is_some_and(|live| live.place == place) {
                self.lose_one(*number, message.id);
            }
        }
    }

    fn lose_one(&mut self, number: QueueNumber, id: MessageId) {
        error!("message {id} is lost: its bytes on the disk are damaged");
        self.lost.push(id);
        let time = self.groups.back().map_or(0, |group| group.time);
        self.state.finish(number, id, &mut group(&mut self.groups, time).batch);
    }

    fn wake_all(&self) {
        self.waiting.values().for_each(|news| news.notify_waiters());
    }
}

impl<F: File> Owner<F> {
    fn close(&self) {
        let mut inner = self.shared.lock();
        inner.closing = true;
        inner.wake_all();
        drop(inner);
        self.shared.work.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            error!("the thread of the queue's log panicked");
        }
    }
}

impl<F: File> Drop for Owner<F> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<F: File> fmt::Debug for Node<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.shared.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
