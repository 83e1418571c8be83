//! What is asked of every queue in the same way.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::broker::{Broker, Consumer, Producer};
use crate::peer::Failure;

/// Messages that one pop takes at most.
const MOST: usize = 128;
/// Tasks that fill a queue.
const PUSHING: usize = 1024;
/// Messages of a full queue, for each millisecond of a round.
const MESSAGES_PER_MS: usize = 60;
/// Tasks that pop.
const CONSUMERS: usize = 4;

/// Messages per second that `outstanding` tasks push, each of which waits for its own.
pub(crate) async fn push<B: Broker>(
    broker: &B,
    outstanding: usize,
    body: usize,
    length: Duration,
) -> Result<f64, Failure> {
    let body = Bytes::from(vec![b'x'; body]);
    let producers = producers(broker, outstanding).await?;
    let counted = Counted::new(length);
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let (body, counted) = (body.clone(), counted.clone());
        tasks.spawn(async move {
            while counted.goes_on() {
                producer.push(body.clone()).await?;
                counted.one();
            }
            Ok::<_, Failure>(())
        });
    }
    ended(tasks).await?;
    Ok(counted.rate())
}

/// Messages per second that `outstanding` tasks pop and ack, each one at a time, until as many are gone as could be pushed meanwhile.
pub(crate) async fn take<B: Broker>(
    broker: &B,
    outstanding: usize,
    body: usize,
    length: Duration,
) -> Result<f64, Failure> {
    // They are there before the time begins.
    let count = (length.as_millis() as usize * MESSAGES_PER_MS).max(outstanding);
    let body = Bytes::from(vec![b'x'; body]);
    let mut tasks = JoinSet::new();
    let left = Arc::new(AtomicUsize::new(count));
    let is_one_left = |left: &AtomicUsize| {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    };
    for mut producer in producers(broker, PUSHING).await? {
        let (body, left) = (body.clone(), left.clone());
        tasks.spawn(async move {
            while is_one_left(&left) {
                producer.push(body.clone()).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    ended(tasks).await?;
    left.store(count, Ordering::Relaxed);
    let mut tasks = JoinSet::new();
    for _ in 0..outstanding {
        let (mut consumer, left) = (broker.consumer().await?, left.clone());
        tasks.spawn(async move {
            while is_one_left(&left) {
                let mut popped = Vec::new();
                while popped.is_empty() {
                    popped = consumer.pop(1).await?;
                }
                consumer.ack(popped.into_iter().map(|(_, receipt)| receipt).collect()).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    let begin = Instant::now();
    ended(tasks).await?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Messages per second that go all the way: pushed, popped and acked, with so many on their way at most.
pub(crate) async fn cycle<B: Broker>(
    broker: &B,
    outstanding: usize,
    body: usize,
    length: Duration,
) -> Result<f64, Failure> {
    let body = Bytes::from(vec![b'x'; body]);
    let producers = producers(broker, outstanding).await?;
    let counted = Counted::new(length);
    let free = Arc::new(Semaphore::new(outstanding));
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let (body, counted, free) = (body.clone(), counted.clone(), free.clone());
        tasks.spawn(async move {
            while counted.goes_on() {
                let Ok(place) = tokio::time::timeout(length, free.acquire()).await else { continue };
                place?.forget();
                producer.push(body.clone()).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    for _ in 0..CONSUMERS {
        let (mut consumer, counted, free) = (broker.consumer().await?, counted.clone(), free.clone());
        tasks.spawn(async move {
            while counted.goes_on() {
                let popped = consumer.pop(MOST).await?;
                let count = popped.len();
                if count == 0 {
                    continue;
                }
                consumer.ack(popped.into_iter().map(|(_, receipt)| receipt).collect()).await?;
                counted.more(count);
                free.add_permits(count);
            }
            // Those who wait for a place are to see the end.
            free.add_permits(1 << 16);
            Ok(())
        });
    }
    ended(tasks).await?;
    Ok(counted.rate())
}

/// How long messages take from the push to the consumer's hands, in nanoseconds; one begun every `interval`.
pub(crate) async fn paced<B: Broker>(
    broker: &B,
    body: usize,
    count: u32,
    interval: Duration,
) -> Result<Vec<u64>, Failure> {
    let begin = Instant::now();
    let mut consumer = broker.consumer().await?;
    let receiving = tokio::spawn(async move {
        let mut taken = Vec::new();
        while taken.len() < count as usize {
            let popped = consumer.pop(MOST).await?;
            let now = begin.elapsed();
            for (body, _) in &popped {
                let sent = body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or("a body without a time")?;
                taken.push((now.as_nanos() as u64).saturating_sub(sent));
            }
            if !popped.is_empty() {
                consumer.ack(popped.into_iter().map(|(_, receipt)| receipt).collect()).await?;
            }
        }
        Ok::<_, Failure>(taken)
    });
    // Those that are free are used again: some have a connection each.
    let idle = Arc::new(Mutex::new(Vec::new()));
    let free = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut tasks = JoinSet::new();
    let mut due = pace(count, interval);
    while let Some(due) = due.recv().await {
        let mut bytes = BytesMut::zeroed(body);
        bytes[..8].copy_from_slice(&((due - begin).as_nanos() as u64).to_le_bytes());
        let mut producer = match free() {
            Some(producer) => producer,
            None => broker.producer().await?,
        };
        let idle = idle.clone();
        tasks.spawn(async move {
            producer.push(bytes.freeze()).await?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(producer);
            Ok::<_, Failure>(())
        });
    }
    ended(tasks).await?;
    receiving.await?
}

/// So many moments, one every `interval`, each told when it has come. From a thread of its own: a runtime's timer knows
/// milliseconds only, and would be late by up to one.
fn pace(count: u32, interval: Duration) -> mpsc::Receiver<Instant> {
    let (tell, told) = mpsc::channel(1024);
    std::thread::spawn(move || {
        // By default Linux wakes a thread up to 50 us late, to save power (prctl(2), PR_SET_TIMERSLACK): no queue's doing.
        if let Err(error) = nix::sys::prctl::set_timerslack(1) {
            eprintln!("the moments of pushes are up to 50 us late: {error}");
        }
        let first = Instant::now() + Duration::from_millis(100);
        for due in (0..count).map(|number| first + interval * number) {
            #[expect(clippy::disallowed_methods, reason = "no runtime has this thread")]
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.blocking_send(due).is_err() {
                break;
            }
        }
    });
    told
}

async fn producers<B: Broker>(broker: &B, count: usize) -> Result<Vec<B::Producer>, Failure> {
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        producers.push(broker.producer().await?);
    }
    Ok(producers)
}

async fn ended(mut tasks: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

/// Counts in a window that begins after a quarter of its length.
#[derive(Clone, Debug)]
struct Counted {
    begin: Instant,
    length: Duration,
    count: Arc<AtomicU64>,
}

impl Counted {
    fn new(length: Duration) -> Self {
        Self { begin: Instant::now() + length / 4, length, count: Arc::default() }
    }

    fn goes_on(&self) -> bool {
        self.begin.elapsed() < self.length
    }

    fn one(&self) {
        self.more(1);
    }

    fn more(&self, count: usize) {
        let now = Instant::now();
        if now >= self.begin && now < self.begin + self.length {
            self.count.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    fn rate(&self) -> f64 {
        self.count.load(Ordering::Relaxed) as f64 / self.length.as_secs_f64()
    }
}
