//! Nodes of a cluster: which are listed, and calls to one, to the origin of a receipt, or to all of them.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ms_register::Instance;
use ms_rpc::{CallError, CallOptions, ClientProxy, Code, Outcome, Status, TypedClient};

use super::{
    QueueError,
    placement::{Home, Members},
};
use crate::{Extensions, MqError, MqNodeClient as Stub, NODE_ID, NodeId, Receipt, SERVICE};

/// Typed clients of the nodes that the registry lists. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    /// Follows the registry.
    proxy: ClientProxy,
    /// Short calls, to any node.
    any: Stub,
    /// Pops that wait: on connections of their own, so that bodies do not hold back acks.
    waiting: Stub,
    /// The proxy of `waiting`, until it follows the registry too.
    unfollowed: Arc<Mutex<Option<ClientProxy>>>,
    members: Arc<Mutex<Members>>,
    /// Ids of nodes that are listed without a number, by the numbers in their receipts.
    learned: Arc<Mutex<BTreeMap<NodeId, String>>>,
}

impl Nodes {
    pub(super) fn new(short: ClientProxy, waiting: ClientProxy) -> Self {
        Self {
            any: Stub::new(&short),
            proxy: short,
            waiting: Stub::new(&waiting),
            unfollowed: Arc::new(Mutex::new(Some(waiting))),
            members: Arc::default(),
            learned: Arc::default(),
        }
    }

    /// The same nodes with options for all calls.
    pub(super) fn with(&self, options: &CallOptions) -> Self {
        let (any, waiting) = (self.any.with(options.clone()), self.waiting.with(options.clone()));
        Self { any, waiting, ..self.clone() }
    }

    /// Lets both proxies follow the registry from the first call on: a registry that fails between the first short call and
    /// the first pop that waits does no harm.
    fn follow(&self) {
        let mut unfollowed = self.unfollowed.lock().unwrap_or_else(PoisonError::into_inner);
        if unfollowed.as_ref().is_some_and(|proxy| proxy.instances(SERVICE).is_ok()) {
            *unfollowed = None;
        }
    }

    /// Calls to the node that the balancer picks.
    pub(super) fn any(&self) -> &Stub {
        self.follow();
        &self.any
    }

    /// Short calls to one node.
    pub(super) fn at(&self, node: &Instance) -> Stub {
        self.any.with(CallOptions::new().instance(node.id()))
    }

    /// Waiting pops at one node.
    pub(super) fn waiting_at(&self, node: &Instance, options: CallOptions) -> Stub {
        self.waiting.with(options.instance(node.id()))
    }

    /// Listed nodes, sorted by id. Waits for the registry's first list.
    ///
    /// # Errors
    /// No node is listed, or the registry has not answered in time.
    pub(super) async fn listed(&self) -> Result<Vec<Instance>, QueueError> {
        self.follow();
        let mut nodes = self.proxy.instances(SERVICE)?;
        if nodes.is_empty() {
            let all = self.any.broadcast(|_| std::future::ready(())).await?;
            nodes = all.into_iter().map(|(node, ())| node).collect();
        }
        self.members.lock().unwrap_or_else(PoisonError::into_inner).listed(&nodes);
        Ok(nodes)
    }

    /// Calls to the node that has the group or the dedup key.
    ///
    /// # Errors
    /// `Unavailable`: that node is not listed.
    pub(super) async fn home(&self, topic: &str, key: &str) -> Result<(Home, Stub), QueueError> {
        let nodes = self.listed().await?;
        let home = self.members.lock().unwrap_or_else(PoisonError::into_inner).home(&nodes, topic, key);
        let node = nodes.iter().find(|node| home.is(node)).ok_or_else(|| {
            let text = format!(
                "{home} has the key {key:?} of topic {topic:?} and is not listed: start it again, or push without a dedup key or group"
            );
            Status::new(Code::Unavailable, text).not_executed()
        })?;
        let stub = self.at(node);
        Ok((home, stub))
    }

    /// Notes the number of a node that is listed without one.
    pub(super) fn learn(&self, node: &Instance, receipt: &Receipt) {
        if !node.metadata().contains_key(NODE_ID) {
            self.learned().insert(receipt.node(), node.id().to_owned());
        }
    }

    fn learned(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls to the node of this number.
    ///
    /// # Errors
    /// `Unavailable`: it is not listed, or the list has no numbers and the node has delivered nothing yet.
    pub(super) async fn node(&self, id: NodeId) -> Result<Stub, QueueError> {
        let mut nodes = self.candidates(id).await?;
        match (nodes.pop(), nodes.len()) {
            (Some(node), 0) => Ok(self.at(&node)),
            (None, _) => Err(not_listed(id)),
            _ => {
                let text = format!("node {id} of the queue cannot be told from others: the list has no numbers");
                Err(Status::new(Code::Unavailable, text).not_executed().into())
            }
        }
    }

    /// The node of this number; or, where neither the list nor a receipt has told which that is, all nodes that may be it:
    /// lists that are written by hand have no metadata.
    async fn candidates(&self, id: NodeId) -> Result<Vec<Instance>, QueueError> {
        let mut nodes = self.listed().await?;
        let wanted = id.to_string();
        match nodes.iter().position(|node| node.metadata().get(NODE_ID) == Some(&wanted)) {
            Some(found) => nodes = vec![nodes.swap_remove(found)],
            None => {
                nodes.retain(|node| !node.metadata().contains_key(NODE_ID));
                let learned = self.learned().get(&id).cloned();
                if let Some(found) = nodes.iter().position(|node| Some(node.id()) == learned.as_deref()) {
                    nodes = vec![nodes.swap_remove(found)];
                }
            }
        }
        Ok(nodes)
    }

    /// Makes a call over the connection for short calls, or if that one is down, over the one for pops: a node that
    /// messages are popped from can be told of their ends.
    async fn call<T, F>(&self, node: &Instance, call: impl Fn(Stub) -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        match call(self.at(node)).await {
            Err(CallError::Status(status)) if status.outcome() == Outcome::NotSent => {
                call(self.waiting_at(node, CallOptions::new())).await
            }
            result => result,
        }
    }

    /// Calls the node of this number. Where it is not known which that is, calls nodes one after the other until one returns
    /// something of which `is_other` returns false.
    ///
    /// # Errors
    /// Of the call; `Unavailable` if no node may be it.
    pub(super) async fn at_number<T, F>(
        &self,
        id: NodeId,
        call: impl Fn(Stub) -> F,
        is_other: impl Fn(&Result<T, QueueError>) -> bool,
    ) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut result = Err(not_listed(id));
        for node in self.candidates(id).await? {
            result = self.call(&node, &call).await;
            if !is_other(&result) {
                return result;
            }
        }
        // Another node may be at the address by now.
        self.learned().remove(&id);
        result
    }

    /// Calls the node that made a receipt; other nodes answer that they are not, and do nothing.
    pub(super) async fn at_origin<T, F>(&self, receipt: &Receipt, call: impl Fn(Stub) -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let is_other = |result: &Result<T, _>| matches!(result, Err(CallError::Service(MqError::OtherNode { .. })));
        self.at_number(receipt.node(), call, is_other).await
    }

    /// Acknowledges deliveries of one node; returns one result each.
    pub(super) async fn ack_batch(
        &self,
        id: NodeId,
        receipts: Vec<Receipt>,
        options: CallOptions,
    ) -> Result<Vec<Result<(), MqError>>, QueueError> {
        let ack = |node: Stub| {
            let (node, receipts) = (node.with(options.clone()), receipts.clone());
            async move { Ok(node.ack_batch(receipts, Extensions::default()).await?.value) }
        };
        let is_other = |result: &Result<Vec<_>, _>| {
            let foreign = |result: &Result<(), MqError>| matches!(result, Err(MqError::OtherNode { .. }));
            result.as_ref().is_ok_and(|results| results.iter().all(foreign))
        };
        self.at_number(id, ack, is_other).await
    }

    /// Gives deliveries of one node back. Other nodes leave foreign receipts alone, so every node that may be it is called.
    pub(super) async fn give_back(
        &self,
        id: NodeId,
        receipts: Vec<Receipt>,
        options: CallOptions,
    ) -> Result<(), QueueError> {
        let mut result = Err(not_listed(id));
        for node in self.candidates(id).await? {
            let give_back = |node: Stub| {
                let (node, receipts) = (node.with(options.clone()), receipts.clone());
                async move { node.give_back(receipts, Extensions::default()).await.map(drop) }
            };
            result = self.call(&node, give_back).await;
        }
        result
    }

    /// Calls every node; returns all results with their nodes.
    ///
    /// # Errors
    /// No node is listed.
    pub(super) async fn everywhere<T, F>(
        &self,
        call: impl Fn(Stub) -> F + Send + Sync,
    ) -> Result<Vec<(Instance, Result<T, QueueError>)>, QueueError>
    where
        T: Send,
        F: Future<Output = Result<T, QueueError>> + Send,
    {
        Ok(self.any().broadcast(call).await?)
    }
}

fn not_listed(id: NodeId) -> QueueError {
    Status::new(Code::Unavailable, format!("node {id} of the queue is not listed")).not_executed().into()
}
