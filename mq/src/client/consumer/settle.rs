//! Settler: acknowledges, nacks and gives back. Acks are batched, one batch under way per node, and every call is repeated
//! until the lease ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use ms_rpc::{CallError, CallOptions, Outcome};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use super::shared::Shared;
use crate::{Extensions, MqError, NodeId, Receipt, client::QueueError};

/// Messages that wait for the settler.
pub(super) const ENDINGS: usize = 1024;
/// Acks of one call.
const LARGEST_BATCH: usize = 1000;
/// Pauses between two tries of a call.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// End of a delivery.
#[derive(Clone, Debug)]
pub(super) enum End {
    Ack,
    Nack {
        delay: Duration,
        reason: String,
    },
    /// Given back unhandled.
    Return,
}

#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) receipt: Receipt,
    pub(super) end: End,
}

pub(super) struct Settler {
    shared: Arc<Shared>,
    acks: BTreeMap<NodeId, Vec<Receipt>>,
    returns: BTreeMap<NodeId, Vec<Receipt>>,
    /// Nodes with a batch of acks under way.
    busy: BTreeSet<NodeId>,
    calls: FuturesUnordered<BoxFuture<'static, Option<NodeId>>>,
}

impl Settler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            acks: BTreeMap::new(),
            returns: BTreeMap::new(),
            busy: BTreeSet::new(),
            calls: FuturesUnordered::new(),
        }
    }

    /// Runs until no more endings can come and all are settled.
    pub(super) async fn run(mut self, mut endings: mpsc::Receiver<Ending>) {
        let (mut taken, mut is_open) = (Vec::new(), true);
        while is_open || !self.calls.is_empty() {
            tokio::select! {
                count = endings.recv_many(&mut taken, ENDINGS), if is_open => {
                    is_open = count > 0;
                    taken.drain(..).for_each(|ending| self.sort(ending));
                }
                Some(node) = self.calls.next(), if !self.calls.is_empty() => {
                    node.map(|node| self.busy.remove(&node));
                }
            }
            self.begin();
        }
    }

    fn sort(&mut self, Ending { receipt, end }: Ending) {
        match end {
            End::Ack => self.acks.entry(receipt.node()).or_default().push(receipt),
            End::Return => self.returns.entry(receipt.node()).or_default().push(receipt),
            End::Nack { delay, reason } => {
                let shared = self.shared.clone();
                self.calls.push(Box::pin(async move {
                    nack(&shared, receipt, delay, &reason).await;
                    None
                }));
            }
        }
    }

    fn begin(&mut self) {
        for (node, receipts) in std::mem::take(&mut self.returns) {
            let shared = self.shared.clone();
            self.calls.push(Box::pin(async move {
                give_back(&shared, node, receipts).await;
                None
            }));
        }
        for (node, receipts) in &mut self.acks {
            if receipts.is_empty() || !self.busy.insert(*node) {
                continue;
            }
            let (shared, node) = (self.shared.clone(), *node);
            let batch = receipts.drain(..receipts.len().min(LARGEST_BATCH)).collect();
            self.calls.push(Box::pin(async move {
                ack(&shared, node, batch).await;
                Some(node)
            }));
        }
    }
}

/// Acknowledges until the node has answered for each or the lease has ended.
async fn ack(shared: &Shared, node: NodeId, mut receipts: Vec<Receipt>) {
    let mut pauses = Pauses::default();
    loop {
        let patience = still_leased(shared, &mut receipts, "was handled, and is delivered again");
        if receipts.is_empty() {
            return;
        }
        match shared.nodes.ack_batch(node, receipts.clone(), CallOptions::new().deadline(patience)).await {
            Ok(answer) => {
                let mut held = shared.held();
                for (receipt, result) in receipts.iter().zip(answer) {
                    if let Err(error) = result {
                        pauses.refused(shared, receipt, &error);
                    }
                    held.settled(receipt);
                }
                drop(held);
                shared.freed();
                return;
            }
            Err(error) => pauses.failed(shared, "acks", &error).await,
        }
    }
}

/// Nacks until the node has answered or the lease has ended.
async fn nack(shared: &Shared, receipt: Receipt, delay: Duration, reason: &str) {
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let (mut receipts, mut pauses) = (vec![receipt], Pauses::default());
    loop {
        let patience = still_leased(shared, &mut receipts, "could not be nacked in time");
        if receipts.is_empty() {
            return;
        }
        let nack = |node: crate::MqNodeClient| async move {
            let node = node.with(CallOptions::new().deadline(patience));
            node.nack(receipt, delay_ms, reason.to_owned(), Extensions::default()).await.map(drop)
        };
        match shared.nodes.at_origin(&receipt, nack).await {
            Err(error @ CallError::Status(_)) => {
                pauses.failed(shared, "nacks", &error).await;
                continue;
            }
            Err(CallError::Service(error)) => pauses.refused(shared, &receipt, &error),
            Ok(()) => {}
        }
        shared.held().settled(&receipt);
        shared.freed();
        return;
    }
}

/// Gives back until the node has answered or the leases have ended.
async fn give_back(shared: &Shared, node: NodeId, mut receipts: Vec<Receipt>) {
    let mut pauses = Pauses::default();
    loop {
        let patience = still_leased(shared, &mut receipts, "could not be given back in time");
        if receipts.is_empty() {
            return;
        }
        match shared.nodes.give_back(node, receipts.clone(), CallOptions::new().deadline(patience)).await {
            Ok(()) => break,
            Err(error) => pauses.failed(shared, "returns", &error).await,
        }
    }
    let mut held = shared.held();
    receipts.iter().for_each(|receipt| held.settled(receipt));
    drop(held);
    shared.freed();
}

/// Drops the receipts whose leases have ended. Returns the time for a call about the others.
fn still_leased(shared: &Shared, receipts: &mut Vec<Receipt>, what: &str) -> Duration {
    let (mut held, now) = (shared.held(), Instant::now());
    receipts.retain(|receipt| {
        let is_leased = held.is_leased(receipt, now);
        if !is_leased {
            warn!("message {} of topic {:?} {what}: its lease has ended", receipt.id(), shared.topic);
            held.settled(receipt);
        }
        is_leased
    });
    held.patience(receipts)
}

/// Tries of one call.
#[derive(Debug, Default)]
struct Pauses {
    tries: u32,
    /// The node may have done what an earlier try asked for.
    is_unknown: bool,
}

impl Pauses {
    async fn failed(&mut self, shared: &Shared, what: &str, error: &QueueError) {
        self.is_unknown |= error.status().is_none_or(|status| status.outcome() == Outcome::Unknown);
        debug!("{what} of topic {:?} are repeated: {error}", shared.topic);
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.tries.min(10)).min(LONGEST_PAUSE);
        self.tries += 1;
        sleep(pause).await;
    }

    /// Logs that a delivery had ended, unless an earlier try may have ended it.
    fn refused(&self, shared: &Shared, receipt: &Receipt, error: &MqError) {
        if !(self.is_unknown && matches!(error, MqError::NotLeased(_))) {
            warn!(
                "message {} of topic {:?} was handled, and may be delivered again: {error}",
                receipt.id(),
                shared.topic
            );
        }
    }
}
