//! A node's engine: the state, the log behind it, and who waits for either.

mod cache;
mod completion;
mod deliver;
mod give_back;
mod inner;
mod look;
mod meter;
mod owner;
mod stage;
mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Condvar, Mutex, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    Damage, Disk, Durability, MessageId, MessageInfo, MqError, NodeId, OpenError, Push, Receipt, Settings,
    batch::Batch,
    clock::{Clock, SteadyClock, System},
    log::{Layout, Log},
    message::Millis,
    state::{Leased, Limits, State},
    store::{File, Store},
};
use cache::Cache;
use completion::Waiter;
use inner::{Group, Inner, Shared, Wanted};
pub use meter::Meter;
use owner::Owner;
use writer::{Gathering, Writer, stage};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// 1 to 1,023, another one for each node of a cluster.
    pub node: NodeId,
    /// Messages in memory, counted once for each queue that holds them; more are refused. About 60 bytes each. Default
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

/// So many acks are written at once.
const ACKS: usize = 50_000;

/// The largest batch fits into it.
const SMALLEST_SEGMENT: u64 = 16 << 20;

impl Node {
    /// Opens the queue in `directory`, or begins one there. Reads the disk: not for a runtime's thread.
    ///
    /// # Errors
    /// The directory belongs to another node, is open in another process, is none of a queue, or cannot be used.
    pub fn open(directory: &Path, config: &NodeConfig) -> Result<Self, OpenError> {
        let config = NodeConfig { segment_bytes: config.segment_bytes.max(SMALLEST_SEGMENT), ..config.clone() };
        Self::open_store(Disk::open(directory)?, &config, |logged| Arc::new(SteadyClock::after(logged, System::new())))
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
        let now = clock.now();
        let mut groups = vec![Group { must_sync: true, time: now, ..Group::default() }];
        state.recovered(config.node, now, &mut groups[0].batch);
        // A lease that ran out in between counts as a delivery.
        while let Some(last) = groups.last_mut()
            && !state.advance_all(now, &mut last.batch)
        {
            groups.push(Group { time: now, ..Group::default() });
        }
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                state,
                groups: groups.into(),
                spare: Batch::default(),
                cache: Cache::new(config.cache_bytes),
                waiting: BTreeMap::new(),
                poppers: 0,
                reserved: log.reserved(),
                disk_full: false,
                written: 0,
                prepared: 0,
                closing: false,
                wanted: Wanted::Nothing,
                failure: None,
                lost: Vec::new(),
            }),
            work: Condvar::new(),
            come: AtomicBool::new(false),
            files: log.files().clone(),
            clock,
            node: config.node,
            store: log.id(),
            segment_bytes: config.segment_bytes,
            failed: Notify::new(),
            space: Notify::new(),
            damage: recovered.damage,
        });
        let mut writer = Writer {
            shared: shared.clone(),
            log,
            segment_size: config.segment_bytes,
            cleaning: None,
            cleaned_at: 0,
            groups: Vec::new(),
            gathering: Gathering::default(),
            lately: false,
            answered: Default::default(),
        };
        writer.prepare()?;
        let owner = Arc::new(Owner::start(writer)?);
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

    /// Bytes written to the log since it was opened, without what was prepared.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Bytes of zeros written ahead of the log since it was opened, so that small batches find blocks in use.
    pub fn prepared(&self) -> u64 {
        self.shared.lock().prepared
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
        self.certain(|state, now, batch| state.purge(topic, queue, now, batch)).await
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
        State::check_batch(std::slice::from_ref(&push))?;
        let durability = push.durability;
        let begun = self.begin_push(durability, |state, now, group| {
            let pushed = state.push_one(push, now, &mut group.batch)?;
            Ok(stage(group, durability).add(pushed))
        });
        let (id, certain) = begun.await?;
        if let Some(certain) = certain {
            certain.await?;
        }
        Ok(id)
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
        let begun = self.begin_push(durability, |state, now, group| {
            let pushed = state.push_all(pushes, now, &mut group.batch)?;
            let stage = stage(group, durability);
            Ok(pushed.into_iter().map(|pushed| stage.add(pushed)).collect())
        });
        let (ids, certain) = begun.await?;
        if let Some(certain) = certain {
            certain.await?;
        }
        Ok(ids)
    }

    /// Also what ends when the messages are as certain as they ask for.
    async fn begin_push<T>(
        &self,
        durability: Durability,
        push: impl FnOnce(&mut State, Millis, &mut Group) -> Result<T, MqError>,
    ) -> Result<(T, Option<Waiter>), MqError> {
        let mut inner = self.shared.space().await?;
        let now = self.shared.clock.now();
        let (state, group) = inner.state_and_group(now);
        let pushed = push(state, now, group)?;
        let waiter = (durability != Durability::Queued).then(|| stage(group, durability).reached());
        self.shared.unlock_and_wake(inner);
        Ok((pushed, waiter))
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
        let mut acked = Vec::with_capacity(receipts.len());
        for receipts in receipts.chunks(ACKS) {
            let done = self.certain(|state, now, batch| {
                let ack = |receipt| self.own(receipt).and_then(|()| state.ack(receipt.into(), now, batch));
                Ok(receipts.iter().map(ack).collect::<Vec<_>>())
            });
            acked.extend(done.await?);
        }
        Ok(acked)
    }

    /// Acks what is still leased; says which that is.
    async fn ack_all(&self, leased: &[Leased]) -> Result<Vec<bool>, MqError> {
        self.certain(|state, now, batch| {
            Ok(leased.iter().map(|leased| state.ack(*leased, now, batch).is_ok()).collect())
        })
        .await
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
        self.shared.change(|state, now, batch| state.touch(receipt.into(), ttr, now, batch))?;
        self.shared.wake_number(receipt.queue);
        Ok(())
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

    /// Takes dead letters out, with their bodies.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn pop_dead(&self, topic: &str, queue: &str, most: u32) -> Result<Vec<MessageInfo>, MqError> {
        let mut found = Vec::new();
        for info in self.list(topic, queue, MessageId(0), most, true)? {
            match self.get(topic, queue, info.id).await {
                Ok(info) => found.push(info),
                Err(MqError::NoMessage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.certain(|state, _, batch| {
            let number = state.queue_number(topic, queue)?;
            // Others may have taken or redriven some meanwhile.
            found.retain(|info| state.queue(number).is_some_and(|queue| queue.dead_reason(info.id).is_some()));
            found.iter().for_each(|info| state.finish(number, info.id, batch));
            Ok(found)
        })
        .await
    }

    /// Makes dead letters ready again, all or these; they keep their ids, and their counts begin at 0. Returns how many.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn redrive(&self, topic: &str, queue: &str, ids: Option<&[MessageId]>) -> Result<u64, MqError> {
        let mut redriven = 0;
        loop {
            let (more, full) = self
                .certain(|state, now, batch| {
                    let number = state.queue_number(topic, queue)?;
                    Ok((state.redrive(number, ids, now, batch), batch.is_full()))
                })
                .await?;
            redriven += more;
            if !full {
                break;
            }
        }
        self.shared.wake(topic, queue);
        Ok(redriven)
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
        waiter.await?;
        Ok(value)
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
