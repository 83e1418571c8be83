//! Producers and consumers that note what they were told, across every end of the node.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ms_mq::{DEFAULT_QUEUE, Durability, Extensions, MqError, MqNodeClient, Pop, Push, QueueError, Receipt};
use ms_rpc::{CallOptions, Client, Code};
use tokio::sync::watch;

/// How long a call to a node may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the node has said about each message, by the number in its body.
#[derive(Debug, Default)]
pub(super) struct Told {
    next: u64,
    /// Pushes that were answered well.
    pub(super) pushed: HashSet<u64>,
    /// Acks of which nobody knows whether they count.
    open: HashMap<u64, u32>,
    /// When an ack was answered well, by `time`.
    pub(super) acked: HashMap<u64, u64>,
    /// Rises with every ack that was answered.
    time: u64,
    pub(super) deliveries: u64,
    /// Delivered by a pop that began after the ack was answered.
    pub(super) again: Vec<u64>,
    /// Bodies that are not as they were pushed.
    pub(super) altered: Vec<u64>,
    /// What nobody expects.
    pub(super) errors: Vec<String>,
}

impl Told {
    /// Pushes that were answered well, and that no ack can have ended.
    pub(super) fn not_ended(&self) -> Vec<u64> {
        let ended =
            |number: &u64| self.acked.contains_key(number) || self.open.get(number).is_some_and(|open| *open > 0);
        let mut left: Vec<_> = self.pushed.iter().filter(|number| !ended(number)).copied().collect();
        left.sort_unstable();
        left
    }

    fn ack_sent(&mut self, number: u64) {
        *self.open.entry(number).or_default() += 1;
    }

    fn ack_answered(&mut self, number: u64, well: bool) {
        self.time += 1;
        *self.open.entry(number).or_default() -= 1;
        if well {
            self.acked.insert(number, self.time);
        }
    }

    fn delivered(&mut self, bytes: &[u8], began: u64) -> Option<u64> {
        self.deliveries += 1;
        let number = bytes.first_chunk().map(|number| u64::from_be_bytes(*number));
        let Some(number) = number.filter(|number| body(*number) == bytes) else {
            self.altered.push(number.unwrap_or_default());
            return None;
        };
        if self.acked.get(&number).is_some_and(|acked| *acked <= began) {
            self.again.push(number);
        }
        Some(number)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    told: Arc<Mutex<Told>>,
    /// Which of its lives the node has; none while it is down.
    lives: watch::Receiver<Option<usize>>,
    address: SocketAddr,
}

pub(super) const TOPIC: &str = "t";

impl Load {
    pub(super) fn new(lives: watch::Receiver<Option<usize>>, address: SocketAddr) -> Self {
        Self { told: Arc::default(), lives, address }
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the node as it is now.
    pub(super) async fn node(&self) -> Result<MqNodeClient, ms_rpc::Status> {
        let client = Client::connect(&self.address.to_string()).await?;
        Ok(MqNodeClient::new(client).with(CallOptions::new().deadline(DEADLINE)))
    }

    /// A connection to a life of the node that was not worked in yet; none after the last one.
    async fn next_life(&mut self, last: &mut Option<usize>) -> Option<MqNodeClient> {
        loop {
            *last = *self.lives.wait_for(|life| life.is_some() && life != last).await.ok()?;
            if let Ok(node) = self.node().await {
                return Some(node);
            }
        }
    }

    /// Pushes one by one and in batches, with every durability that survives the process.
    pub(super) async fn push(mut self) {
        let mut life = None;
        while let Some(node) = self.next_life(&mut life).await {
            while let Some(pushed) = self.noted(self.push_some(&node).await) {
                self.told().pushed.extend(pushed);
            }
        }
    }

    async fn push_some(&self, node: &MqNodeClient) -> Result<std::ops::Range<u64>, QueueError> {
        let count = if fastrand::u8(..4) == 0 { fastrand::u64(2..20) } else { 1 };
        let first = {
            let mut told = self.told();
            told.next += count;
            told.next - count
        };
        let durability = if fastrand::bool() { Durability::Synced } else { Durability::Written };
        let push = |number| Push { durability, ..Push::new(TOPIC, body(number)) };
        if count == 1 {
            node.push(push(first)).await?;
        } else {
            node.push_batch((first..first + count).map(push).collect(), Extensions::default()).await?;
        }
        Ok(first..first + count)
    }

    /// Pops, waiting so long, and acks most of what comes. The rest comes again.
    pub(super) async fn consume(mut self, wait_ms: u64) {
        let mut life = None;
        while let Some(node) = self.next_life(&mut life).await {
            while self.noted(self.take_some(&node, wait_ms, true).await).is_some() {}
        }
    }

    /// One pop and its acks, one by one or all at once.
    pub(super) async fn take_some(&self, node: &MqNodeClient, wait_ms: u64, careless: bool) -> Result<(), QueueError> {
        let began = self.told().time;
        let wish = Pop { wait_ms, max_messages: fastrand::u32(1..30), ..Pop::new(TOPIC, DEFAULT_QUEUE) };
        let mut ending = Vec::new();
        for delivery in node.pop(wish).await?.value {
            let number = self.told().delivered(&delivery.body, began);
            let (Some(number), Some(receipt)) = (number, delivery.receipt) else { continue };
            match if careless { fastrand::u8(..20) } else { 20 } {
                // Left alone: its time runs out.
                0 => {}
                1 | 2 => {
                    let nacked = node.nack(receipt, 0, "again".to_owned(), Extensions::default()).await;
                    if !matches!(nacked, Err(QueueError::Service(MqError::NotLeased(_)))) {
                        nacked?;
                    }
                }
                _ => ending.push((number, receipt)),
            }
        }
        if fastrand::bool() {
            ending.iter().for_each(|(number, _)| self.told().ack_sent(*number));
            let receipts: Vec<Receipt> = ending.iter().map(|(_, receipt)| *receipt).collect();
            let results = node.ack_batch(receipts, Extensions::default()).await?.value;
            for ((number, _), result) in ending.into_iter().zip(results) {
                self.told().ack_answered(number, result.is_ok());
            }
            return Ok(());
        }
        for (number, receipt) in ending {
            self.told().ack_sent(number);
            match node.ack(receipt, Extensions::default()).await {
                Ok(_) => self.told().ack_answered(number, true),
                Err(QueueError::Service(MqError::NotLeased(_))) => self.told().ack_answered(number, false),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The node's death is no news; any other error is.
    fn noted<T>(&self, result: Result<T, QueueError>) -> Option<T> {
        result
            .inspect_err(|error| {
                if !matches!(error, QueueError::Status(status) if status.code() == Code::Unavailable) {
                    self.told().errors.push(error.to_string());
                }
            })
            .ok()
    }
}

/// A body that tells its number, and whether it is whole.
fn body(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize_with(8 + random.usize(..2000), || random.u8(..));
    bytes
}
