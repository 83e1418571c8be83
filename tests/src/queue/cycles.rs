//! A node that is killed again and again while it is worked with.

use std::{
    fmt,
    time::{Duration, Instant},
};

use ms_mq::{Extensions, Mode, QueueStats, Settings};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    QueueNode,
    load::{Load, QUEUES, TOPIC},
};
use crate::Failure;

/// What came of it all when the last message was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// How often it was killed.
    pub kills: usize,
    /// Pushes that were answered well.
    pub pushed: usize,
    /// Acks that were answered well.
    pub acked: usize,
    /// How often a message was handed out.
    pub deliveries: u64,
    /// Dead letters that were made ready again.
    pub redriven: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Copies whose push was answered well, that no ack can have ended, and that were not there at the end: queue and number.
    pub lost: Vec<(usize, u64)>,
    /// Copies that were handed out after their ack or purge was answered.
    pub again: Vec<(usize, u64)>,
    /// Copies whose bodies are not as they were pushed.
    pub altered: Vec<(usize, u64)>,
    /// Errors that a death does not explain, and damage that a node reports.
    pub errors: Vec<String>,
    /// How long all of it took.
    pub took: Duration,
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, pushed, acked, deliveries, took, .. } = self;
        write!(f, "{kills} kills in {took:.1?}: {pushed} copies pushed, {acked} ended, {deliveries} deliveries, ")?;
        write!(f, "{} redriven, {} purged; ", self.redriven, self.purged)?;
        let Self { lost, again, altered, errors, .. } = self;
        write!(f, "lost {lost:?}, after their acks {again:?}, altered {altered:?}, errors {errors:?}")
    }
}

/// How long a delivery may take: what was out in the last life is there again soon.
const TTR_MS: u64 = 2_000;
const PUSHERS: usize = 6;
const CONSUMERS: usize = 6;
/// All that is left is taken within this time.
const DRAIN: Duration = Duration::from_secs(60);

/// Kills `node` so often, at random points of its work and of its start, with producers and consumers at work; then takes
/// what is left.
///
/// # Errors
/// What broke in the harness.
pub async fn killed_under_load(mut node: QueueNode, kills: usize) -> Result<Survived, Failure> {
    let began = Instant::now();
    let (lives, watched) = watch::channel(None);
    let load = Load::new(watched, node.address());
    let mut workers = JoinSet::new();
    let mut errors = Vec::new();
    for kill in 0..kills {
        if kill % 4 == 3 {
            // Before it is ready: while it reads the log, or mends it.
            node.spawn()?;
            sleep(Duration::from_micros(fastrand::u64(..30_000))).await;
            node.kill().await?;
            continue;
        }
        node.start().await?;
        errors.extend(
            node.log().lines().find(|line| line.contains("damage") || line.contains("ERROR")).map(str::to_owned),
        );
        if kill == 0 {
            prepare(&load).await?;
            (0..PUSHERS).for_each(|_| drop(workers.spawn(load.clone().push())));
            (0..CONSUMERS).for_each(|n| drop(workers.spawn(load.clone().consume(n % 2, 50 * n as u64))));
            workers.spawn(load.clone().operate());
        }
        lives.send_replace(Some(kill));
        sleep(Duration::from_millis(fastrand::u64(5..250))).await;
        lives.send_replace(None);
        node.kill().await?;
    }
    drop(lives);
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    node.start().await?;
    drain(&load).await?;
    let told = load.told();
    errors.extend(told.errors.iter().cloned());
    Ok(Survived {
        kills,
        pushed: told.pushed.len(),
        acked: told.acked.len(),
        deliveries: told.deliveries,
        redriven: told.redriven,
        purged: told.purged,
        lost: told.not_ended(),
        again: told.again.clone(),
        altered: told.altered.clone(),
        errors,
        took: began.elapsed(),
    })
}

/// Deliveries that fail make dead letters soon, and these are redriven.
async fn prepare(load: &Load) -> Result<(), Failure> {
    let node = load.node().await?;
    let settings =
        Settings { ttr_ms: Some(TTR_MS), max_retries: Some(3), mode: Some(Mode::Fuzzy), ..Settings::default() };
    node.configure(TOPIC.to_owned(), settings).await?;
    for queue in QUEUES {
        node.declare(TOPIC.to_owned(), queue.to_owned(), Extensions::default()).await?;
    }
    Ok(())
}

/// Takes all that is left, also what is out until its time has run out.
async fn drain(load: &Load) -> Result<(), Failure> {
    let node = load.node().await?;
    let end = Instant::now() + DRAIN;
    loop {
        load.redrive(&node).await?;
        let stats = node.stats(Some(TOPIC.to_owned()), Extensions::default()).await?.value;
        let queues = &stats.first().ok_or("the topic is gone")?.queues;
        let left = |queue: &QueueStats| queue.ready + queue.delayed + queue.held + queue.leased + queue.dead;
        match queues.iter().map(left).sum() {
            0_u64 => return Ok(()),
            left if Instant::now() > end => return Err(format!("{left} messages are left after {DRAIN:?}").into()),
            _ => {}
        }
        for queue in 0..QUEUES.len() {
            load.take_some(&node, queue, 20, false).await?;
        }
    }
}
