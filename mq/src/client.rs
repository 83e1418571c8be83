//! A client of all nodes of a cluster: finds them through the registry, spreads pushes, pops from all in turn, and brings
//! receipts back to where they are from.

mod consumer;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ms_register::{Instance, MsRegister};
use ms_rpc::{Balancer, Balancing, CallError, CallOptions, ClientProxy, ConfigError, Status, TypedClient};

use crate::{
    Answer, Delivery, Extensions, MessageId, MqError, MqNodeClient as Stub, NODE_ID, NodeId, Pop, Push, Receipt,
    SERVICE, Settings, TopicStats,
};

pub use consumer::{Consumer, ConsumerOptions};

/// How a call to the queue fails.
pub type QueueError = CallError<MqError>;

/// Which node gets a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// One after the other.
    #[default]
    Average,
    /// One after the other, in proportion to the nodes' weights.
    Weight,
    /// Any.
    Random,
}

impl From<Selection> for Balancing {
    fn from(selection: Selection) -> Self {
        match selection {
            Selection::Average => Balancer::RoundRobin.into(),
            Selection::Weight => Balancer::WeightedRoundRobin.into(),
            Selection::Random => Balancer::Random.into(),
        }
    }
}

/// A client of the queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MqClient {
    /// Says which nodes there are.
    proxy: ClientProxy,
    /// Pushes, acks and all that is short; to any node.
    any: Stub,
    /// Pops that wait have connections of their own: they hold nobody back.
    waiting: Stub,
    turn: Arc<AtomicUsize>,
}

impl MqClient {
    /// The nodes that `registry` lists under `mq`, in turn.
    ///
    /// # Errors
    /// A setting of the proxy is out of its range.
    pub fn new(registry: Arc<dyn MsRegister>) -> Result<Self, ConfigError> {
        Self::with_selection(registry, Selection::default())
    }

    /// The same with another choice of nodes: a [`Selection`], or any balancer of the proxy.
    ///
    /// # Errors
    /// A setting of the proxy is out of its range.
    pub fn with_selection(registry: Arc<dyn MsRegister>, selection: impl Into<Balancing>) -> Result<Self, ConfigError> {
        let balancing = selection.into();
        let proxy = || {
            ClientProxy::builder(registry.clone()).balancer(balancing.clone()).deadline(Duration::from_secs(5)).build()
        };
        let short = proxy()?;
        Ok(Self { any: Stub::new(&short), proxy: short, waiting: Stub::new(proxy()?), turn: Arc::default() })
    }

    fn at(&self, node: &Instance) -> Stub {
        self.any.with(CallOptions::new().instance(node.id()))
    }

    /// Makes a call to every node; the first error after all of them.
    async fn everywhere<F>(&self, call: impl Fn(Stub) -> F + Send + Sync) -> Result<(), QueueError>
    where
        F: Future<Output = Result<(), QueueError>> + Send,
    {
        let results = self.any.broadcast(call).await?;
        results.into_iter().try_for_each(|(_, result)| result)
    }

    /// The nodes that are listed, sorted by id.
    fn nodes(&self) -> Result<Vec<Instance>, Status> {
        self.proxy.instances(SERVICE)
    }

    /// Waits until the registry has said which nodes there are.
    async fn known_nodes(&self) -> Result<Vec<Instance>, QueueError> {
        let nodes = self.nodes()?;
        if !nodes.is_empty() {
            return Ok(nodes);
        }
        // Any call waits for the registry's first answer, and says what is wrong if there is none.
        self.any.stats(None, Extensions::default()).await?;
        Ok(self.nodes()?)
    }

    /// The node of this number.
    async fn node(&self, id: NodeId) -> Result<Stub, QueueError> {
        match &self.known_by(id).await?[..] {
            [node] => Ok(self.at(node)),
            [] => Err(not_listed(id)),
            _ => {
                let text = format!("node {id} of the queue cannot be told from others: the list has no numbers");
                Err(Status::new(ms_rpc::Code::Unavailable, text).into())
            }
        }
    }

    /// The node of this number; or, if the list does not tell, those that may be it: lists that are written by hand have no
    /// metadata.
    async fn known_by(&self, id: NodeId) -> Result<Vec<Instance>, QueueError> {
        let mut nodes = self.known_nodes().await?;
        let wanted = id.to_string();
        match nodes.iter().position(|node| node.metadata().get(NODE_ID) == Some(&wanted)) {
            Some(found) => Ok(vec![nodes.swap_remove(found)]),
            None => {
                nodes.retain(|node| !node.metadata().contains_key(NODE_ID));
                Ok(nodes)
            }
        }
    }

    /// Makes a call to the node that a receipt is from. Where the list does not tell which that is, the others say that
    /// they are not, and do nothing.
    async fn at_origin<F>(&self, receipt: &Receipt, call: impl Fn(Stub) -> F) -> Result<(), QueueError>
    where
        F: Future<Output = Result<Answer<()>, QueueError>>,
    {
        let mut result = Err(not_listed(receipt.node()));
        for node in self.known_by(receipt.node()).await? {
            result = call(self.at(&node)).await.map(drop);
            if !matches!(&result, Err(CallError::Service(MqError::OtherNode { .. }))) {
                break;
            }
        }
        result
    }

    /// Makes a queue on every node. Where it is already, that is fine.
    ///
    /// # Errors
    /// Of the first node that refuses or cannot be reached; the others have it.
    pub async fn declare(&self, topic: &str, queue: &str) -> Result<(), QueueError> {
        self.everywhere(|node| async move {
            match node.declare(topic.to_owned(), queue.to_owned(), Extensions::default()).await {
                Ok(_) | Err(CallError::Service(MqError::QueueExists(_))) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Changes a topic on every node.
    ///
    /// # Errors
    /// As for [`declare`](Self::declare).
    pub async fn configure(&self, topic: &str, settings: &Settings) -> Result<(), QueueError> {
        self.everywhere(|node| async move { node.configure(topic.to_owned(), settings.clone()).await.map(drop) }).await
    }

    /// Pushes to one node. With a dedup key always to the same, which is chosen by the key; else to another if that one
    /// cannot be reached. Never again when nobody knows whether it was taken.
    ///
    /// # Errors
    /// The node's, or of the call.
    pub async fn push(&self, push: Push) -> Result<MessageId, QueueError> {
        let Some(key) = push.dedup.clone() else {
            return Ok(self.any.push(push).await?.value);
        };
        let nodes = self.known_nodes().await?;
        let Some(node) = nodes.iter().max_by_key(|node| rendezvous(node.id(), &push.topic, &key)) else {
            return Ok(self.any.push(push).await?.value);
        };
        // There a second try is the first message again, so it does no harm.
        let stub = self.any.with(CallOptions::new().instance(node.id()).idempotent());
        Ok(stub.push(push).await?.value)
    }

    /// Pushes all to one node: all of them or none.
    ///
    /// # Errors
    /// The node's, or of the call.
    pub async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, QueueError> {
        Ok(self.any.push_batch(pushes, Extensions::default()).await?.value)
    }

    /// Takes the next messages of any node: each is asked in its turn, and then one is waited for. None if none comes in the
    /// time that the wish gives.
    ///
    /// # Errors
    /// When no node can be asked.
    pub async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, QueueError> {
        let nodes = self.known_nodes().await?;
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let at_once = Pop { wait_ms: 0, ..pop.clone() };
        let (mut answering, mut error) = (Vec::new(), None);
        // Of a single one it is enough to wait for it.
        let asked = if nodes.len() == 1 && pop.wait_ms > 0 { 0 } else { nodes.len() };
        answering.extend(&nodes[asked..]);
        for node in (0..asked).map(|at| &nodes[(first + at) % nodes.len()]) {
            match self.at(node).pop(at_once.clone()).await {
                Ok(answer) if !answer.value.is_empty() => return Ok(answer.value),
                Ok(_) => answering.push(node),
                Err(failed) => error = Some(failed),
            }
        }
        let Some(node) = answering.first() else { return error.map_or(Ok(Vec::new()), Err) };
        if pop.wait_ms == 0 {
            return Ok(Vec::new());
        }
        // Short waits, so that no node is left alone for long.
        let share = (pop.wait_ms / answering.len() as u64).clamp(1, 1000);
        let deadline = Duration::from_millis(share) + Duration::from_secs(5);
        let options = CallOptions::new().deadline(deadline).instance(node.id());
        let waiting = self.waiting.with(options);
        let answer = waiting.pop(Pop { wait_ms: share, ..pop.clone() }).await?;
        match pop.wait_ms.saturating_sub(share) {
            0 => Ok(answer.value),
            _ if !answer.value.is_empty() => Ok(answer.value),
            left => Box::pin(self.pop(&Pop { wait_ms: left, ..pop.clone() })).await,
        }
    }

    /// The message is done with.
    ///
    /// # Errors
    /// [`MqError::NotLeased`] if the delivery has ended, or of the call.
    pub async fn ack(&self, receipt: Receipt) -> Result<(), QueueError> {
        self.at_origin(&receipt, |node| async move { node.ack(receipt, Extensions::default()).await }).await
    }

    /// The messages are done with: those of them whose deliveries have not ended. One result each, in their order.
    ///
    /// # Errors
    /// Of the call to one of the nodes that delivered them; the others have been told.
    pub async fn ack_batch(&self, receipts: &[Receipt]) -> Result<Vec<Result<(), MqError>>, QueueError> {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        receipts.iter().enumerate().for_each(|(at, receipt)| by_node.entry(receipt.node()).or_default().push(at));
        let (mut results, mut failure) = (vec![Ok(()); receipts.len()], None);
        for (node, places) in by_node {
            let theirs = places.iter().map(|at| receipts[*at]).collect();
            let answer = match self.node(node).await {
                Ok(node) => node.ack_batch(theirs, Extensions::default()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => places.into_iter().zip(answer.value).for_each(|(at, result)| results[at] = result),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(results), Err)
    }

    /// The message could not be handled: it comes again after `delay`, or is dead.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn nack(&self, receipt: Receipt, delay: Duration, reason: &str) -> Result<(), QueueError> {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let nack =
            |node: Stub| async move { node.nack(receipt, delay, reason.to_owned(), Extensions::default()).await };
        self.at_origin(&receipt, nack).await
    }

    /// The delivery has its time anew.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn touch(&self, receipt: Receipt) -> Result<(), QueueError> {
        self.at_origin(&receipt, |node| async move { node.touch(receipt, None, Extensions::default()).await }).await
    }

    /// How the topics of all nodes stand; without a name all topics. One list for each node that answers.
    ///
    /// # Errors
    /// When none answers.
    pub async fn stats(&self, topic: Option<&str>) -> Result<Vec<(Instance, Vec<TopicStats>)>, QueueError> {
        let (mut found, mut error) = (Vec::new(), None);
        let ask = |node: Stub| async move { node.stats(topic.map(str::to_owned), Extensions::default()).await };
        for (node, answer) in self.any.broadcast(ask).await? {
            match answer {
                Ok(answer) => found.push((node, answer.value)),
                Err(failed) => error = Some(failed),
            }
        }
        match error {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The typed client of one node, for all that is not here; without an id, of any.
    ///
    /// # Errors
    /// The node is not listed.
    pub async fn one(&self, node: Option<NodeId>) -> Result<Stub, QueueError> {
        match node {
            Some(node) => self.node(node).await,
            None => Ok(self.any.clone()),
        }
    }
}

fn not_listed(id: NodeId) -> QueueError {
    Status::new(ms_rpc::Code::Unavailable, format!("node {id} of the queue is not listed")).into()
}

/// The node of the greatest number gets the key: when a node comes or goes, only its own keys move (rendezvous hashing,
/// Thaler and Ravishankar 1998).
fn rendezvous(node: &str, topic: &str, key: &str) -> u64 {
    // FNV-1a, and a finish that spreads its last bytes: the same on every machine, which the standard hasher is not.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in [node, "\0", topic, "\0", key].iter().flat_map(|part| part.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_and_only_those_of_a_node_that_goes_move() {
        let nodes = ["10.0.0.1:9503", "10.0.0.2:9503", "10.0.0.3:9503"];
        let owner = |nodes: &[&'static str], key: usize| {
            *nodes.iter().max_by_key(|node| rendezvous(node, "t", &key.to_string())).unwrap()
        };
        let mut counts = [0; 3];
        for key in 0..3000 {
            let before = owner(&nodes, key);
            counts[nodes.iter().position(|node| *node == before).unwrap()] += 1;
            let after = owner(&nodes[..2], key);
            assert!(before == nodes[2] || before == after);
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
