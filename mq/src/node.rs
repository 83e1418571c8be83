//! A node's engine: the state, the log behind it, and the waiters for either.

mod backup;
mod cache;
mod completion;
mod deliver;
mod inner;
mod look;
mod meter;
mod operations;
mod owner;
mod stage;
mod transfer;
mod writer;

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Condvar, Mutex, atomic::AtomicBool},
};

use tokio::sync::Notify;

use crate::{
    Damage, Disk, MessageId, MqError, NodeId, OpenError, Settings,
    batch::Batch,
    clock::{Clock, SteadyClock, System},
    log::{Layout, Log},
    message::Millis,
    state::{Limits, State},
    store::{File, Store},
};
use cache::Cache;
use inner::{Group, Inner, Shared, Wanted};
pub use meter::Meter;
use owner::Owner;
use writer::{Gathering, Reclaim, SPARES, Writer};

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
    /// Size of each file of the log. Default 64 MiB; a value below 16 MiB or above 128 MiB is taken as that.
    pub segment_bytes: u64,
    /// Topics; more are refused. Default 50,000.
    pub max_topics: usize,
    /// Queues of all topics together; more are refused. Default 50,000.
    pub max_queues: usize,
    /// Dead letters of all queues together; beyond them a queue whose message dies drops its oldest one. Default 1,000,000.
    pub max_dead_letters: u64,
    /// Settings of topics that are made from now on, where those of [`Settings`] are to be others. Default: none.
    pub new_topics: Settings,
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
            max_topics: 50_000,
            max_queues: 50_000,
            max_dead_letters: 1_000_000,
            new_topics: Settings::default(),
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

/// The largest batch fits into the smallest segment, and a segment's offsets and batches stay far below what readers accept.
const SEGMENTS: RangeInclusive<u64> = 16 << 20..=128 << 20;
/// Space for batches in a segment besides the configuration.
const BATCHES: u64 = 14 << 20;

/// Every segment begins with the configuration, so it must fit into one, and leave room for more.
fn check_configuration(groups: &[Group], segment_bytes: u64) -> Result<(), OpenError> {
    let bytes = |group: &Group| (group.batch.content.len() + group.batch.footer_bound()) as u64;
    let configuration: u64 = groups.iter().map(bytes).sum();
    if configuration <= segment_bytes / 4 * 3 {
        return Ok(());
    }
    let text = format!(
        "its topics and queues take {configuration} bytes of each segment, which has {segment_bytes}: open it with \
         `segment_bytes` of at least {}",
        2 * configuration
    );
    Err(OpenError::Io(io::Error::new(io::ErrorKind::InvalidInput, text)))
}

fn clamped(config: &NodeConfig) -> NodeConfig {
    let segment_bytes = config.segment_bytes.clamp(*SEGMENTS.start(), *SEGMENTS.end());
    NodeConfig { segment_bytes, ..config.clone() }
}

/// Bytes that the records of all topics and queues may have.
fn configuration_bytes(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(BATCHES).min(segment_bytes / 4).max(segment_bytes / 8)
}

impl Node {
    /// Opens the queue in `directory`, or begins one there. Reads the disk: not for a runtime's thread.
    ///
    /// # Errors
    /// The directory belongs to another node, is open in another process, is none of a queue, or cannot be used.
    pub fn open(directory: &Path, config: &NodeConfig) -> Result<Self, OpenError> {
        Self::open_store(Disk::open(directory)?, &clamped(config), |logged| {
            Arc::new(SteadyClock::after(logged, System::new()))
        })
    }
}

impl<F: File> Node<F> {
    pub(crate) fn open_store<S: Store<File = F>>(
        store: S,
        config: &NodeConfig,
        clock: impl FnOnce(Millis) -> Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let limits = Limits {
            live: config.max_live_messages,
            dead: config.max_dead_letters,
            dedup: config.max_dedup_keys,
            topics: config.max_topics,
            queues: config.max_queues,
            configuration: configuration_bytes(config.segment_bytes),
        };
        let mut state = State::new(config.node, limits);
        let defaults = state.set_new_topics(config.new_topics.clone());
        defaults.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let layout = Layout { segment_size: config.segment_bytes };
        // The messages that became due since the log's end are found below.
        let (mut log, recovered) =
            Log::open(store, layout, config.node, &mut |record, place| state.apply(record, place, 0))?;
        let clock = clock(recovered.time);
        let now = clock.now();
        let group = |batch| Group { batch, must_sync: true, time: now, ..Group::default() };
        let mut groups: Vec<_> = state.recovered(config.node, now).into_iter().map(group).collect();
        check_configuration(&groups, config.segment_bytes)?;
        // Records that grow the log wait until there is space.
        let full = !log.reserve(SPARES)?;
        state.frozen = full;
        // A lease that ran out in between counts as a delivery.
        while let Some(last) = groups.last_mut()
            && !state.advance_all(now, &mut last.batch)
        {
            groups.push(Group { time: now, ..Group::default() });
        }
        let patterns = AtomicBool::new(state.has_patterns());
        let shared = Arc::new(Shared {
            patterns,
            inner: Mutex::new(Inner {
                state,
                groups: groups.into(),
                spare: Batch::default(),
                cache: Cache::new(config.cache_bytes),
                waiting: BTreeMap::new(),
                poppers: 0,
                reserved: log.reserved(),
                disk_full: full,
                reclaiming: false,
                segment_bytes: config.segment_bytes,
                written: 0,
                prepared: 0,
                backups: Vec::new(),
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
            reclaim: Reclaim::default(),
            copied: 0,
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

    /// Parts of the log that could not be read when it was opened, and the messages that were found to be damaged since.
    pub fn damage(&self) -> (Vec<Damage>, Vec<MessageId>) {
        (self.shared.damage.clone(), self.shared.lock().lost.clone())
    }

    /// Bytes written to the log since it was opened, without prepared blocks.
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

    /// Takes nothing more, and waits until all is on the disk. Blocks: not for a runtime's thread.
    pub fn close(&self) {
        self.owner.close();
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
