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

/// A copy of a message: its queue, by its place in [`QUEUES`], and the number in its body.
pub(super) type Copied = (usize, u64);

/// What the node has said about each copy of each message.
#[derive(Debug, Default)]
pub(super) struct Told {
    next: u64,
    /// Pushes that were answered well.
    pub(super) pushed: HashSet<Copied>,
    /// Acks of which nobody knows whether they count.
    open: HashMap<Copied, u32>,
    /// When an ack, or a purge, was answered well, by `time`.
    pub(super) acked: HashMap<Copied, u64>,
    /// Rises with every ack that was answered.
    time: u64,
    pub(super) deliveries: u64,
    /// Delivered by a pop that began after the ack or the purge was answered.
    pub(super) again: Vec<Copied>,
    /// Bodies that are not as they were pushed.
    pub(super) altered: Vec<Copied>,
    /// Dead letters that were made ready again.
    pub(super) redriven: u64,
    /// Messages that were purged.
    pub(super) purged: u64,
    /// What nobody expects.
    pub(super) errors: Vec<String>,
}

impl Told {
    /// Pushes that were answered well, and that no ack can have ended.
    pub(super) fn not_ended(&self) -> Vec<Copied> {
        let ended = |copy: &Copied| self.acked.contains_key(copy) || self.open.get(copy).is_some_and(|open| *open > 0);
        let mut left: Vec<_> = self.pushed.iter().filter(|copy| !ended(copy)).copied().collect();
        left.sort_unstable();
        left
    }

    fn ack_sent(&mut self, copy: Copied) {
        *self.open.entry(copy).or_default() += 1;
    }

    fn ack_answered(&mut self, copy: Copied, well: bool) {
        self.time += 1;
        *self.open.entry(copy).or_default() -= 1;
        if well {
            self.acked.insert(copy, self.time);
        }
    }

    fn delivered(&mut self, queue: usize, bytes: &[u8], began: u64) -> Option<Copied> {
        self.deliveries += 1;
        let number = bytes.first_chunk().map(|number| u64::from_be_bytes(*number));
        let Some(number) = number.filter(|number| body(*number) == bytes) else {
            self.altered.push((queue, number.unwrap_or_default()));
            return None;
        };
        let copy = (queue, number);
        if self.acked.get(&copy).is_some_and(|acked| *acked <= began) {
            self.again.push(copy);
        }
        Some(copy)
    }

    /// Numbers of so many new messages.
    fn numbers(&mut self, count: u64) -> std::ops::Range<u64> {
        self.next += count;
        self.next - count..self.next
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
/// Queues of the topic. Every push goes to the first two; the third one is purged again and again.
pub(super) const QUEUES: [&str; 3] = [DEFAULT_QUEUE, "twin", "purged"];
const PURGED: usize = 2;
/// Route key of the first two, as a regular expression.
const BOTH: &str = "^(default|twin)$";

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

    async fn push_some(&self, node: &MqNodeClient) -> Result<Vec<Copied>, QueueError> {
        let numbers = self.told().numbers(if fastrand::u8(..4) == 0 { fastrand::u64(2..20) } else { 1 });
        let durability = if fastrand::bool() { Durability::Synced } else { Durability::Written };
        let push = |number| {
            let push = Push { durability, priority: fastrand::u8(..4), ..Push::new(TOPIC, body(number)) }.to(BOTH);
            match number % 8 {
                0 => push.with_group(format!("group {}", number % 400 / 8)),
                1..4 => Push { dedup: Some(format!("{number}")), ..push },
                _ => push,
            }
        };
        if numbers.end - numbers.start == 1 {
            let id = node.push(push(numbers.start)).await?.value;
            // A key that is known pushes nothing.
            if push(numbers.start).dedup.is_some() && node.push(push(numbers.start)).await?.value != id {
                self.told().errors.push(format!("a dedup key of message {id} was taken for a new one"));
            }
        } else {
            node.push_batch(numbers.clone().map(push).collect(), Extensions::default()).await?;
        }
        Ok(numbers.flat_map(|number| [(0, number), (1, number)]).collect())
    }

    /// Makes dead letters ready again, and fills a queue of its own and purges it.
    pub(super) async fn operate(mut self) {
        let mut life = None;
        while let Some(node) = self.next_life(&mut life).await {
            while self.noted(self.operate_once(&node).await).is_some() {}
        }
    }

    async fn operate_once(&self, node: &MqNodeClient) -> Result<(), QueueError> {
        self.redrive(node).await?;
        let numbers = self.told().numbers(10);
        let push = |number| Push::new(TOPIC, body(number)).to(QUEUES[PURGED]);
        node.push_batch(numbers.clone().map(push).collect(), Extensions::default()).await?;
        self.take_some(node, PURGED, 0, true).await?;
        let name = || (TOPIC.to_owned(), QUEUES[PURGED].to_owned());
        let ((topic, queue), (dead_topic, dead_queue)) = (name(), name());
        let purged = node.purge(topic, queue, Extensions::default()).await?.value
            + node.purge_dead(dead_topic, dead_queue, Extensions::default()).await?.value;
        let mut told = self.told();
        (told.time, told.purged) = (told.time + 1, told.purged + purged);
        let time = told.time;
        told.acked.extend(numbers.map(|number| ((PURGED, number), time)));
        Ok(())
    }

    /// Makes the dead letters of all queues ready again.
    pub(super) async fn redrive(&self, node: &MqNodeClient) -> Result<(), QueueError> {
        for queue in QUEUES {
            let redriven = node.redrive(TOPIC.to_owned(), queue.to_owned(), None, Extensions::default()).await?.value;
            self.told().redriven += redriven;
        }
        Ok(())
    }

    /// Pops, waiting so long, and acks most of what comes. The rest comes again.
    pub(super) async fn consume(mut self, queue: usize, wait_ms: u64) {
        let mut life = None;
        while let Some(node) = self.next_life(&mut life).await {
            while self.noted(self.take_some(&node, queue, wait_ms, true).await).is_some() {}
        }
    }

    /// One pop and its acks, one by one or all at once.
    pub(super) async fn take_some(
        &self,
        node: &MqNodeClient,
        queue: usize,
        wait_ms: u64,
        careless: bool,
    ) -> Result<(), QueueError> {
        let began = self.told().time;
        let most = if careless { fastrand::u32(1..30) } else { 1_000 };
        let wish = Pop { wait_ms, max_messages: most, ..Pop::new(TOPIC, QUEUES[queue]) };
        let mut ending = Vec::new();
        for delivery in node.pop(wish).await?.value {
            let copy = self.told().delivered(queue, &delivery.body, began);
            let (Some(copy), Some(receipt)) = (copy, delivery.receipt) else { continue };
            match if careless { fastrand::u8(..20) } else { 20 } {
                // Left alone: its time runs out.
                0 => {}
                1 | 2 => still(node.nack(receipt, 0, "again".to_owned(), Extensions::default()).await)?,
                3 => still(node.bury(receipt, "dead".to_owned(), Extensions::default()).await)?,
                _ => ending.push((copy, receipt)),
            }
        }
        if fastrand::bool() {
            ending.iter().for_each(|(copy, _)| self.told().ack_sent(*copy));
            let receipts: Vec<Receipt> = ending.iter().map(|(_, receipt)| *receipt).collect();
            let results = node.ack_batch(receipts, Extensions::default()).await?.value;
            for ((copy, _), result) in ending.into_iter().zip(results) {
                self.told().ack_answered(copy, result.is_ok());
            }
            return Ok(());
        }
        for (copy, receipt) in ending {
            self.told().ack_sent(copy);
            match node.ack(receipt, Extensions::default()).await {
                Ok(_) => self.told().ack_answered(copy, true),
                Err(QueueError::Service(MqError::NotLeased(_))) => self.told().ack_answered(copy, false),
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

/// A lease that has ended meanwhile is no error.
fn still<T>(ended: Result<T, QueueError>) -> Result<(), QueueError> {
    match ended {
        Err(QueueError::Service(MqError::NotLeased(_))) => Ok(()),
        ended => ended.map(drop),
    }
}

/// A body that tells its number, and whether it is whole.
fn body(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize_with(8 + random.usize(..2000), || random.u8(..));
    bytes
}
