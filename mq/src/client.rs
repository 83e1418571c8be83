//! Client of all nodes of a cluster: finds them through the registry, spreads pushes, pops from all of them, and brings
//! receipts back to the nodes that made them.

mod consumer;
mod join;
mod nodes;
mod operate;
mod placement;
mod pop;
mod push;
mod waits;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use ms_register::{Instance, MsRegister};
use ms_rpc::{Balancing, CallError, CallOptions, ClientProxy, ConfigError, ProxyBuilder};

use crate::{Call, Extensions, MessageId, MqError, MqNodeClient as Stub, NodeId, Push, QueueName, Receipt, TopicStats};
use nodes::Nodes;
use waits::Waits;

pub use consumer::{Consumer, ConsumerOptions, Stopped};
pub use placement::Selection;

/// Error of a call to the queue.
pub type QueueError = CallError<MqError>;

/// Client of the queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MqClient {
    nodes: Nodes,
    waits: Waits,
    turn: Arc<AtomicUsize>,
}

impl MqClient {
    /// Client of the nodes that `registry` lists under `mq`; pushes go to them in turn.
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
        Self::configured(registry, selection, |builder| builder)
    }

    /// The same with more settings of its two proxies, such as TLS and credentials.
    ///
    /// ```no_run
    /// # fn example(registry: std::sync::Arc<dyn ms_register::MsRegister>) -> Result<(), ms_rpc::ConfigError> {
    /// use ms_mq::{MqClient, Selection};
    ///
    /// let queue = MqClient::configured(registry, Selection::default(), |proxy| proxy.credentials("a token"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A setting of the proxy is out of its range.
    pub fn configured(
        registry: Arc<dyn MsRegister>,
        selection: impl Into<Balancing>,
        configure: impl Fn(ProxyBuilder) -> ProxyBuilder,
    ) -> Result<Self, ConfigError> {
        let balancing = selection.into();
        let proxy = || {
            let builder = ClientProxy::builder(registry.clone()).balancer(balancing.clone());
            configure(builder.deadline(Duration::from_secs(5))).build()
        };
        Ok(Self { nodes: Nodes::new(proxy()?, proxy()?), waits: Waits::default(), turn: Arc::default() })
    }

    /// The same client with options for each of its calls, such as layers and metadata.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { nodes: self.nodes.with(&options), waits: Waits::default(), turn: self.turn.clone() }
    }

    /// Pushes a call, which a node makes after `delay`. For more than a delay push the call as a message: `Push::from(&call)`.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub async fn call_later(&self, call: &Call, delay: Duration) -> Result<MessageId, QueueError> {
        let push = Push { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..Push::from(call) };
        Call::parse(&push.body).map_err(CallError::Service)?;
        self.push(push).await
    }

    /// Acknowledges a delivery: the message is done.
    ///
    /// # Errors
    /// [`MqError::NotLeased`] if the delivery has ended, or of the call.
    pub async fn ack(&self, receipt: Receipt) -> Result<(), QueueError> {
        let ack = |node: Stub| async move { node.ack(receipt, Extensions::default()).await.map(drop) };
        self.nodes.at_origin(&receipt, ack).await
    }

    /// Acknowledges those of the deliveries that have not ended; returns one result each, in their order.
    ///
    /// # Errors
    /// Of the call to one of the nodes that delivered them; the acks of other nodes were made.
    pub async fn ack_batch(&self, receipts: &[Receipt]) -> Result<Vec<Result<(), MqError>>, QueueError> {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        receipts.iter().enumerate().for_each(|(at, receipt)| by_node.entry(receipt.node()).or_default().push(at));
        let (mut results, mut failure) = (vec![Ok(()); receipts.len()], None);
        for (node, places) in by_node {
            let theirs = places.iter().map(|at| receipts[*at]).collect();
            match self.nodes.ack_batch(node, theirs, CallOptions::new()).await {
                Ok(answer) => places.into_iter().zip(answer).for_each(|(at, result)| results[at] = result),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(results), Err)
    }

    /// Ends a delivery as failed: the message is delivered again after `delay`, or becomes a dead letter if its retries are
    /// used up.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn nack(&self, receipt: Receipt, delay: Duration, reason: &str) -> Result<(), QueueError> {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let nack = |node: Stub| async move {
            node.nack(receipt, delay, reason.to_owned(), Extensions::default()).await.map(drop)
        };
        self.nodes.at_origin(&receipt, nack).await
    }

    /// Ends a delivery as failed for good: the message is a dead letter at once.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn bury(&self, receipt: Receipt, reason: &str) -> Result<(), QueueError> {
        let bury =
            |node: Stub| async move { node.bury(receipt, reason.to_owned(), Extensions::default()).await.map(drop) };
        self.nodes.at_origin(&receipt, bury).await
    }

    /// Says that the handling begins and must not happen twice: if the lease ends by itself, the message is a dead letter
    /// instead of coming again.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack). Then it may have been said or not: do not begin.
    pub async fn begin(&self, receipt: Receipt) -> Result<(), QueueError> {
        let begin = |node: Stub| async move { node.begin(receipt, Extensions::default()).await.map(drop) };
        self.nodes.at_origin(&receipt, begin).await
    }

    /// Renews a lease: it lasts `lease` from now on; `None`: as long as at first.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn touch(&self, receipt: Receipt, lease: Option<Duration>) -> Result<(), QueueError> {
        let lease = lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        let touch = |node: Stub| async move { node.touch(receipt, lease, Extensions::default()).await.map(drop) };
        self.nodes.at_origin(&receipt, touch).await
    }

    /// Gives deliveries back unhandled: their messages are ready at once, and it does not count as a retry. Deliveries that
    /// have ended stay as they are.
    ///
    /// # Errors
    /// Of the call to one of the nodes that delivered them.
    pub async fn give_back(&self, receipts: &[Receipt]) -> Result<(), QueueError> {
        let mut by_node: BTreeMap<NodeId, Vec<Receipt>> = BTreeMap::new();
        receipts.iter().for_each(|receipt| by_node.entry(receipt.node()).or_default().push(*receipt));
        let mut result = Ok(());
        for (node, receipts) in by_node {
            let returned = self.nodes.give_back(node, receipts, CallOptions::new()).await;
            result = result.and(returned);
        }
        result
    }

    /// Statistics of one topic, or of all topics, from each node that answers.
    ///
    /// # Errors
    /// No node answers.
    pub async fn stats(&self, topic: Option<&str>) -> Result<Vec<(Instance, Vec<TopicStats>)>, QueueError> {
        let (mut found, mut error) = (Vec::new(), None);
        let ask = |node: Stub| async move {
            let (mut topics, mut page) = (Vec::<TopicStats>::new(), Extensions::default());
            loop {
                let answer = node.stats(topic.map(str::to_owned), page).await?;
                for found in answer.value {
                    // A topic may go on on the next page.
                    match topics.last_mut() {
                        Some(last) if last.topic == found.topic => last.queues.extend(found.queues),
                        _ => topics.push(found),
                    }
                }
                if QueueName::from_extensions(&answer.extensions).is_none() {
                    return Ok(topics);
                }
                page = answer.extensions;
            }
        };
        for (node, answer) in self.nodes.everywhere(ask).await? {
            match answer {
                Ok(topics) => found.push((node, topics)),
                Err(failed) => error = Some(failed),
            }
        }
        match error {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// Typed client of one node; without a number, of any.
    ///
    /// # Errors
    /// The node is not listed.
    pub async fn one(&self, node: Option<NodeId>) -> Result<Stub, QueueError> {
        match node {
            Some(node) => self.nodes.node(node).await,
            None => Ok(self.nodes.any().clone()),
        }
    }
}
