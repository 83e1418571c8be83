//! Statistics, in pages.

use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{State, Topic};
use crate::{
    Extensions, MqError, QueueName, QueueStats, TopicStats,
    message::{Millis, check_name},
    record::{QueueNumber, TopicNumber},
};

/// Topics of a page, in order, each with those of its queues that are on the page.
pub(crate) type Page = Vec<(TopicNumber, Vec<QueueNumber>)>;

impl State {
    /// The queues of one topic, or of all, that come after a queue: at most `most` topics and queues together. Also the last
    /// one, if more follow.
    pub(crate) fn page(
        &self,
        topic: Option<&str>,
        after: Option<&QueueName>,
        most: usize,
    ) -> Result<(Page, Option<QueueName>), MqError> {
        if let Some(name) = topic {
            check_name("topic", name)?;
            self.topic(name)?;
        }
        let first = topic.or_else(|| after.map(|after| after.topic.as_str())).unwrap_or_default();
        let (mut page, mut left) = (Page::new(), most);
        for (name, number) in self.names.range::<str, _>((Included(first), Unbounded)) {
            if topic.is_some_and(|topic| topic != name) {
                break;
            }
            let Some(Topic { queues, .. }) = self.topics.get(number) else { continue };
            let after = after.filter(|after| after.topic == *name);
            let begin = after.map_or(Unbounded, |after| Excluded(after.queue.as_str()));
            let mut rest = queues.range::<str, _>((begin, Unbounded)).peekable();
            // A topic that ended on the page before.
            if after.is_some() && rest.peek().is_none() {
                continue;
            }
            left = left.saturating_sub(1);
            let (mut numbers, mut last) = (Vec::new(), "");
            while left > 0
                && let Some((key, number)) = rest.next()
            {
                numbers.push(*number);
                last = key;
                left -= 1;
            }
            page.push((*number, numbers));
            if left == 0 {
                let next = QueueName::new(name.clone(), last);
                return Ok((page, Some(next)));
            }
        }
        Ok((page, None))
    }

    /// The statistics of a page. What is gone since is left out.
    pub(crate) fn stats(&self, page: &Page, now: Millis) -> Vec<TopicStats> {
        let topic = |(number, queues): &(TopicNumber, Vec<QueueNumber>)| {
            let topic = self.topics.get(number)?;
            Some(TopicStats {
                topic: topic.name.clone(),
                mode: topic.config.mode,
                auto_ack: topic.config.auto_ack,
                created_ms: topic.config.created,
                changed_ms: topic.config.changed,
                settings: topic.config.settings(),
                queues: queues.iter().filter_map(|queue| self.queue_stats(*queue, now)).collect(),
                extensions: Extensions::default(),
            })
        };
        page.iter().filter_map(topic).collect()
    }

    fn queue_stats(&self, number: QueueNumber, now: Millis) -> Option<QueueStats> {
        let queue = self.queues.get(&number)?;
        let counts = queue.counts();
        Some(QueueStats {
            queue: queue.bind_key.clone(),
            ready: counts.ready,
            delayed: counts.delayed,
            held: counts.held,
            leased: counts.leased,
            dead: counts.dead,
            pushed: queue.pushed,
            popped: queue.popped,
            paused: queue.paused,
            acked: queue.acked,
            failed: queue.failed,
            died: queue.died,
            outlived: queue.outlived,
            dropped: queue.dropped,
            oldest_ms: queue.oldest().map(|id| now.saturating_sub(id.time())),
        })
    }
}
