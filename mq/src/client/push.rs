//! Pushes: to the node that has the dedup key, else to any that has room.

use std::{collections::BTreeMap, future::Future, sync::atomic::Ordering};

use futures_util::future::join_all;
use ms_rpc::{CallError, CallOptions, Outcome};

use super::{MqClient, QueueError};
use crate::{Extensions, MessageId, MqError, MqNodeClient as Stub, Push};

impl MqClient {
    /// Pushes to one node. With a group or a dedup key always to the same one, chosen by the group, or else by the key, among
    /// the nodes that exist: while that node is dead the push fails, since another node would not know the key, or keep the
    /// order. Without either, nodes that cannot be reached
    /// or refuse as full are passed over; but the push is never repeated when nobody knows whether it was taken.
    ///
    /// # Errors
    /// The node's, or of the call. `Unavailable` if the node that has the key is not listed.
    pub async fn push(&self, push: Push) -> Result<MessageId, QueueError> {
        let Some(key) = placed_by(&push).map_err(CallError::Service)? else {
            return self.push_anywhere(push, one).await;
        };
        let (_, node) = self.nodes.home(&push.topic, key).await?;
        let repeats = repeats(std::iter::once(&push));
        one(node.with(repeats), push).await
    }

    /// Pushes a batch; returns the ids in its order. A batch whose groups and dedup keys belong to one node, or that has none,
    /// goes to one node, which takes all of it or nothing. A batch whose keys belong to several nodes is divided among them, and each
    /// node takes all of its part or nothing; messages without either follow when all those parts are taken.
    ///
    /// # Errors
    /// The node's, or of the call. Then the whole batch may be pushed again: keys that were taken are not taken twice, and
    /// messages without a key may be there twice only if the outcome of their own part is unknown. `Unavailable` if a node
    /// that has a key is not listed: nothing was pushed.
    pub async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, QueueError> {
        let (mut parts, mut without) = (BTreeMap::new(), Vec::new());
        for (at, push) in pushes.iter().enumerate() {
            match placed_by(push).map_err(CallError::Service)? {
                Some(key) => {
                    let (home, node) = self.nodes.home(&push.topic, key).await?;
                    parts.entry(home).or_insert_with(|| (node, Vec::new())).1.push(at);
                }
                None => without.push(at),
            }
        }
        let Some((_, (node, _))) = parts.first_key_value() else { return self.push_anywhere(pushes, batch).await };
        if parts.len() == 1 {
            return batch(node.with(repeats(pushes.iter())), pushes).await;
        }
        let chosen = |places: &[usize]| places.iter().map(|at| pushes[*at].clone()).collect::<Vec<_>>();
        let mut ids = vec![MessageId(0); pushes.len()];
        let mut fill = |places: &[usize], taken: Vec<MessageId>| {
            places.iter().zip(taken).for_each(|(at, id)| ids[*at] = id);
        };
        let calls = parts.into_values().map(|(node, places)| {
            let part = chosen(&places);
            let call = batch(node.with(repeats(part.iter())), part);
            async move { call.await.map(|taken| (places, taken)) }
        });
        for part in join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()? {
            fill(&part.0, part.1);
        }
        if !without.is_empty() {
            fill(&without, self.push_anywhere(chosen(&without), batch).await?);
        }
        Ok(ids)
    }

    /// Pushes to the node that the balancer picks; if it refuses as full, to the other nodes in turn.
    async fn push_anywhere<P: Clone, T, F>(&self, push: P, call: impl Fn(Stub, P) -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut refusal = match call(self.nodes.any().clone(), push.clone()).await {
            Err(error) if is_full(&error) => error,
            result => return result,
        };
        let nodes = self.nodes.listed().await?;
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for node in (0..nodes.len()).map(|at| &nodes[(first + at) % nodes.len()]) {
            match call(self.nodes.at(node), push.clone()).await {
                Err(error) if is_full(&error) => refusal = error,
                Err(CallError::Status(status)) if matches!(status.outcome(), Outcome::NotSent | Outcome::Refused) => {}
                result => return result,
            }
        }
        Err(refusal)
    }
}

/// Key that decides the node of a push: its group, or else its dedup key.
fn placed_by(push: &Push) -> Result<Option<&str>, MqError> {
    Ok(push.group()?.or(push.dedup.as_deref()))
}

/// With a dedup key a second try is the first message again, so repeating does no harm.
fn repeats<'a>(mut pushes: impl Iterator<Item = &'a Push>) -> CallOptions {
    let options = CallOptions::new();
    if pushes.all(|push| push.dedup.is_some()) { options.idempotent() } else { options }
}

async fn one(node: Stub, push: Push) -> Result<MessageId, QueueError> {
    Ok(node.push(push).await?.value)
}

async fn batch(node: Stub, pushes: Vec<Push>) -> Result<Vec<MessageId>, QueueError> {
    Ok(node.push_batch(pushes, Extensions::default()).await?.value)
}

/// Returns true if another node may have room.
fn is_full(error: &QueueError) -> bool {
    matches!(error, CallError::Service(MqError::Full { .. } | MqError::NodeFull(_) | MqError::DiskFull))
}
