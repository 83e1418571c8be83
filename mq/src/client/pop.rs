//! Pops from all nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use ms_register::Instance;
use tokio::time::{Instant, sleep, timeout_at};

use super::{MqClient, QueueError};
use crate::{Delivery, Pop};

/// Time for an answer of a node, beyond the wait that was asked for: of the only node, and of one of several.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// Longest wait of a pop.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Pause before a node that failed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

impl MqClient {
    /// Pops the next messages of any node: each is asked in its turn, then all are waited for at once, and what comes from
    /// other nodes than the first is given back. Empty if none comes in the time that the wish gives. A pop that is dropped gives
    /// back what comes.
    ///
    /// # Errors
    /// No node can be asked.
    pub async fn pop(&self, wish: &Pop) -> Result<Vec<Delivery>, QueueError> {
        let wait = Duration::from_millis(wish.wait_ms).min(LONGEST);
        let deadline = Instant::now() + wait;
        let nodes = self.nodes.listed().await?;
        // The only node is waited for at once.
        if (nodes.len() > 1 || wait.is_zero())
            && let Some(popped) = self.pop_in_turn(&nodes, wish, wait.is_zero()).await?
        {
            return Ok(popped);
        }
        self.pop_waiting(nodes, wish, deadline).await
    }

    /// Asks each node once; `None` if no node has a message, and there is time to wait for one.
    async fn pop_in_turn(
        &self,
        nodes: &[Instance],
        wish: &Pop,
        last: bool,
    ) -> Result<Option<Vec<Delivery>>, QueueError> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let patience = if nodes.len() > 1 { SHORT_PATIENCE } else { PATIENCE };
        let (mut is_answered, mut failure) = (false, None);
        for node in (0..nodes.len()).map(|at| &nodes[(first + at) % nodes.len()]) {
            match self.waits.pop(&self.nodes, node, wish, Duration::ZERO, patience).await {
                Ok(popped) if !popped.is_empty() => return Ok(Some(popped)),
                Ok(_) => is_answered = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !is_answered => Err(error),
            _ => Ok(last.then(Vec::new)),
        }
    }

    /// Waits at all nodes at once.
    async fn pop_waiting(
        &self,
        mut nodes: Vec<Instance>,
        wish: &Pop,
        deadline: Instant,
    ) -> Result<Vec<Delivery>, QueueError> {
        let (mut asked, mut failures) = (BTreeSet::new(), BTreeMap::new());
        let mut waiting = FuturesUnordered::new();
        let mut is_answered = false;
        loop {
            for node in &nodes {
                if asked.insert(node.id().to_owned()) {
                    let pause = if failures.contains_key(node.id()) { PAUSE } else { Duration::ZERO };
                    waiting.push(self.pop_at(node.clone(), wish, deadline, pause));
                }
            }
            // A node that is silent is not waited for beyond the deadline.
            let Ok(Some((node, popped))) = timeout_at(deadline + SHORT_PATIENCE, waiting.next()).await else { break };
            asked.remove(node.id());
            match popped {
                Ok(popped) if !popped.is_empty() => return Ok(popped),
                Ok(_) => {
                    is_answered = true;
                    failures.remove(node.id());
                }
                Err(error) => drop(failures.insert(node.id().to_owned(), error)),
            }
            if Instant::now() >= deadline {
                break;
            }
            nodes = self.nodes.listed().await?;
            if nodes.iter().all(|node| failures.contains_key(node.id())) {
                break;
            }
        }
        match failures.into_values().next() {
            Some(error) if !is_answered => Err(error),
            _ => Ok(Vec::new()),
        }
    }

    async fn pop_at(
        &self,
        node: Instance,
        wish: &Pop,
        deadline: Instant,
        pause: Duration,
    ) -> (Instance, Result<Vec<Delivery>, QueueError>) {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let popped = self.waits.pop(&self.nodes, &node, wish, left, PATIENCE).await;
        (node, popped)
    }
}
