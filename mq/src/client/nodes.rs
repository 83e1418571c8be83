//! Nodes of a cluster: which are listed, and calls to one, to the origin of a receipt, or to all of them.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use ms_register::Instance;
use ms_rpc::{CallError, CallOptions, ClientProxy, Code, Status, TypedClient};

use super::{
    QueueError,
    placement::{Home, Members},
};
use crate::{MqError, MqNodeClient as Stub, NODE_ID, NodeId, Receipt, SERVICE};

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
}

impl Nodes {
    pub(super) fn new(short: ClientProxy, waiting: ClientProxy) -> Self {
        Self {
            any: Stub::new(&short),
            proxy: short,
            waiting: Stub::new(&waiting),
            unfollowed: Arc::new(Mutex::new(Some(waiting))),
            members: Arc::default(),
        }
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

    /// Calls to the node that has the dedup key.
    ///
    /// # Errors
    /// `Unavailable`: that node is not listed.
    pub(super) async fn home(&self, topic: &str, key: &str) -> Result<(Home, Stub), QueueError> {
        let nodes = self.listed().await?;
        let home = self.members.lock().unwrap_or_else(PoisonError::into_inner).home(&nodes, topic, key);
        let node = nodes.iter().find(|node| home.is(node)).ok_or_else(|| {
            let text = format!(
                "{home} has the dedup key {key:?} of topic {topic:?} and is not listed: start it again, or push without a key"
            );
            Status::new(Code::Unavailable, text).not_executed()
        })?;
        let stub = self.at(node);
        Ok((home, stub))
    }

    /// Calls to the node of this number.
    ///
    /// # Errors
    /// `Unavailable`: it is not listed, or the list has no numbers.
    pub(super) async fn node(&self, id: NodeId) -> Result<Stub, QueueError> {
        match &self.candidates(id).await?[..] {
            [node] => Ok(self.at(node)),
            [] => Err(not_listed(id)),
            _ => {
                let text = format!("node {id} of the queue cannot be told from others: the list has no numbers");
                Err(Status::new(Code::Unavailable, text).into())
            }
        }
    }

    /// The node of this number; or, where the list does not tell, all nodes that may be it: lists that are written by hand
    /// have no metadata.
    async fn candidates(&self, id: NodeId) -> Result<Vec<Instance>, QueueError> {
        let mut nodes = self.listed().await?;
        let wanted = id.to_string();
        match nodes.iter().position(|node| node.metadata().get(NODE_ID) == Some(&wanted)) {
            Some(found) => Ok(vec![nodes.swap_remove(found)]),
            None => {
                nodes.retain(|node| !node.metadata().contains_key(NODE_ID));
                Ok(nodes)
            }
        }
    }

    /// Calls the node that made a receipt. Where the list does not tell which that is, other nodes answer that they are not,
    /// and do nothing.
    pub(super) async fn at_origin<T, F>(&self, receipt: &Receipt, call: impl Fn(Stub) -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let is_other = |error: &QueueError| matches!(error, CallError::Service(MqError::OtherNode { .. }));
        self.at_number(receipt.node(), call, is_other).await
    }

    /// Calls the node of this number; where the list does not tell which that is, one after the other until the result is no
    /// error of which `is_other` returns true.
    pub(super) async fn at_number<T, F>(
        &self,
        id: NodeId,
        call: impl Fn(Stub) -> F,
        is_other: impl Fn(&QueueError) -> bool,
    ) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut result = Err(not_listed(id));
        for node in self.candidates(id).await? {
            result = call(self.at(&node)).await;
            if !result.as_ref().is_err_and(&is_other) {
                break;
            }
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
