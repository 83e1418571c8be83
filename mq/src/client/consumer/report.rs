//! Log lines and metrics of a consumer's pops and handlers.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics::counter;
use ms_rpc::CallError;
use tracing::{info, warn};

use crate::{MqError, client::QueueError};

/// Reasons that were logged already: each is logged once until pops succeed again.
#[derive(Debug)]
pub(super) struct Report {
    topic: String,
    queue: String,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Node and reason.
    reasons: BTreeSet<(String, String)>,
    /// Nodes that do not have the queue.
    missing: BTreeSet<String>,
    is_missing: bool,
}

impl Report {
    pub(super) fn new(topic: &str, queue: &str) -> Self {
        Self { topic: topic.to_owned(), queue: queue.to_owned(), said: Mutex::default() }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler ended.
    pub(super) fn handled(&self, result: &'static str) {
        let (topic, queue) = (self.topic.clone(), self.queue.clone());
        counter!("ms_mq_consumer_messages_total", "topic" => topic, "queue" => queue, "result" => result).increment(1);
    }

    /// A pop at a node went well.
    pub(super) fn popped(&self, node: &str) {
        let mut said = self.said();
        if said.reasons.is_empty() && said.missing.is_empty() {
            return;
        }
        let before = said.reasons.len();
        said.reasons.retain(|(of, _)| of != node);
        let is_back = said.reasons.len() < before;
        said.missing.remove(node);
        let is_made = std::mem::take(&mut said.is_missing);
        drop(said);
        if is_back {
            info!("queue {:?} of topic {:?} can be popped from node {node} again", self.queue, self.topic);
        }
        if is_made {
            info!("queue {:?} of topic {:?} exists now, on node {node}", self.queue, self.topic);
        }
    }

    /// A pop at one of `nodes` failed; an empty name is that of the registry.
    pub(super) fn failed(&self, node: &str, nodes: usize, error: &QueueError) {
        let reason = reason(error);
        let (topic, queue) = (self.topic.clone(), self.queue.clone());
        counter!("ms_mq_consumer_errors_total", "topic" => topic, "queue" => queue, "reason" => reason.clone())
            .increment(1);
        let (Self { topic, queue, .. }, mut said) = (self, self.said());
        if matches!(error, CallError::Service(MqError::NoTopic(_) | MqError::NoQueue(_))) {
            said.missing.insert(node.to_owned());
            // A topic may be on one node alone.
            if said.missing.len() >= nodes && !std::mem::replace(&mut said.is_missing, true) {
                warn!(
                    "queue {queue:?} of topic {topic:?} does not exist yet: it is waited for; declare it, or push to it"
                );
            }
        } else if said.reasons.insert((node.to_owned(), reason)) {
            match node {
                "" => warn!("queue {queue:?} of topic {topic:?} cannot be popped: {error}"),
                _ => warn!("queue {queue:?} of topic {topic:?} cannot be popped from node {node}: {error}"),
            }
        }
    }
}

/// Label of an error: few values, whatever its text.
fn reason(error: &QueueError) -> String {
    match error {
        CallError::Service(MqError::NoTopic(_)) => "no_topic".to_owned(),
        CallError::Service(MqError::NoQueue(_)) => "no_queue".to_owned(),
        CallError::Service(MqError::DiskFailed(_)) => "disk_failed".to_owned(),
        CallError::Service(MqError::Closed) => "closed".to_owned(),
        error => error.code().to_string(),
    }
}
