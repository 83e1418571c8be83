//! Topics, settings and queues that a node learns when it joins a cluster.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use ms_rpc::CallError;

use super::{MqClient, QueueError};
use crate::{Change, Engine, Look, MqError, QueueName, TopicStats};

/// Changes that a node makes at a time.
const AT_ONCE: usize = 64;

impl MqClient {
    /// Brings topics, their settings and queues of the listed nodes to a node that was not there when they were made: settings
    /// if they were changed later than the node's own, queues that the node does not have, paused if they are paused
    /// elsewhere. Nothing is removed. Returns how many changes it took.
    ///
    /// # Errors
    /// No listed node answers, or of the first change that the node refuses.
    pub async fn catch_up(&self, node: &impl Engine) -> Result<usize, QueueError> {
        let mut topics: BTreeMap<String, TopicStats> = BTreeMap::new();
        for topic in self.stats(None).await?.into_iter().flat_map(|(_, topics)| topics) {
            let Some(known) = topics.get_mut(&topic.topic) else {
                topics.insert(topic.topic.clone(), topic);
                continue;
            };
            if topic.changed_ms > known.changed_ms {
                (known.changed_ms, known.settings) = (topic.changed_ms, topic.settings);
            }
            for queue in topic.queues {
                match known.queues.iter_mut().find(|other| other.queue == queue.queue) {
                    Some(other) => other.paused |= queue.paused,
                    None => known.queues.push(queue),
                }
            }
        }
        let changes = stream::iter(topics.into_values().map(|topic| learn(node, topic)));
        changes.buffer_unordered(AT_ONCE).try_fold(0, async |sum, changes| Ok(sum + changes)).await
    }
}

/// Makes the changes of one topic.
async fn learn(node: &impl Engine, theirs: TopicStats) -> Result<usize, QueueError> {
    let own = own(node, &theirs.topic).await.map_err(CallError::Service)?;
    let mut changes = Vec::new();
    if own.as_ref().is_none_or(|own| own.changed_ms < theirs.changed_ms) {
        changes.push(Change::Configure(theirs.topic.clone(), theirs.settings.whole(theirs.changed_ms)));
    }
    for queue in theirs.queues {
        if own.as_ref().is_some_and(|own| own.queues.iter().any(|other| other.queue == queue.queue)) {
            continue;
        }
        let name = QueueName::new(theirs.topic.clone(), queue.queue);
        changes.push(Change::Declare(name.clone()));
        if queue.paused {
            changes.push(Change::Pause(name, true));
        }
    }
    let count = changes.len();
    for change in changes {
        match node.change(change).await {
            Ok(_) | Err(MqError::QueueExists(_)) => {}
            Err(error) => return Err(CallError::Service(error)),
        }
    }
    Ok(count)
}

async fn own(node: &impl Engine, topic: &str) -> Result<Option<TopicStats>, MqError> {
    let (mut found, mut after) = (None::<TopicStats>, None);
    loop {
        let (topics, next) = match node.look(Look::Stats { topic: Some(topic.to_owned()), after }).await {
            Ok(seen) => seen.topics(),
            Err(MqError::NoTopic(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        for more in topics {
            match &mut found {
                Some(found) => found.queues.extend(more.queues),
                None => found = Some(more),
            }
        }
        if next.is_none() {
            return Ok(found);
        }
        after = next;
    }
}
