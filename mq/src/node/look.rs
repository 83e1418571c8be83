//! Looking without taking: messages, pages of them, and how the topics stand.

use super::{
    Node,
    inner::{Inner, Shared},
};
use crate::{
    Look, MessageId, MessageInfo, MqError, QueueName, Seen, batch::Place, queue::Standing, record::QueueNumber,
    store::File,
};

/// Bytes of the bodies in one answer.
const BODIES: u64 = 3 << 20;
/// Messages or queues of one page.
const PAGE: u32 = 1000;

impl<F: File> Node<F> {
    /// See [`Engine::look`](crate::Engine::look).
    pub(super) async fn seen(&self, look: Look) -> Result<Seen, MqError> {
        Ok(match look {
            Look::Get(queue, id) => {
                let number = self.present(&queue).await?;
                let found = self.whole(number, id).await?.ok_or(MqError::NoMessage(id.0))?;
                Seen::Messages(vec![found])
            }
            Look::Peek(queue, most) => Seen::Messages(self.peek(&queue, most.min(PAGE) as usize).await?),
            Look::List { queue, after, most, dead } => {
                let number = self.present(&queue).await?;
                let inner = self.shared.lock();
                let Some(queue) = inner.state.queue(number) else { return Ok(Seen::Messages(Vec::new())) };
                let most = most.clamp(1, PAGE) as usize;
                let ids: Vec<_> = if dead {
                    queue.dead_after(after).take(most).collect()
                } else {
                    queue.ids_after(after).take(most).collect()
                };
                Seen::Messages(ids.into_iter().filter_map(|id| inner.info(number, id)).map(|(info, _)| info).collect())
            }
            Look::Stats { topic, after } => {
                let (page, next) = self.shared.lock().state.page(topic.as_deref(), after.as_ref(), PAGE as usize)?;
                for number in page.iter().flat_map(|(_, queues)| queues) {
                    self.advance(*number).await;
                }
                let now = self.shared.clock.now();
                Seen::Topics { topics: self.shared.lock().state.stats(&page, now), next }
            }
        })
    }

    /// The number of a queue, which is brought to the present.
    pub(super) async fn present(&self, queue: &QueueName) -> Result<QueueNumber, MqError> {
        let number = self.shared.lock().state.queue_number(&queue.topic, &queue.queue)?;
        self.advance(number).await;
        Ok(number)
    }

    /// Brings a queue to the present. Lets others go between steps.
    pub(super) async fn advance(&self, number: QueueNumber) {
        while !self.shared.advance(number) {
            tokio::task::yield_now().await;
        }
    }

    /// The messages that are handed out next, as far as their bodies fit into one answer.
    async fn peek(&self, queue: &QueueName, most: usize) -> Result<Vec<MessageInfo>, MqError> {
        let (number, ids) = {
            let number = self.present(queue).await?;
            let inner = self.shared.lock();
            let Some(queue) = inner.state.queue(number) else { return Ok(Vec::new()) };
            let mut left = BODIES;
            let fits = |id: &MessageId| {
                let length = queue.get(*id).map_or(0, |live| u64::from(live.place.length));
                let fits = length <= left || left == BODIES;
                left = left.saturating_sub(length);
                fits
            };
            (number, queue.next_ready().take(most).take_while(fits).collect::<Vec<_>>())
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(self.whole(number, id).await?);
        }
        Ok(found)
    }

    /// One message with its body; `None` if it is gone or damaged.
    async fn whole(&self, number: QueueNumber, id: MessageId) -> Result<Option<MessageInfo>, MqError> {
        let Some((mut info, place)) = self.shared.lock().info(number, id) else { return Ok(None) };
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || shared.read_one(number, id, place));
        let Some(message) = reading.await.map_err(|_| MqError::Closed)?? else { return Ok(None) };
        info.body = Some(message.body.into());
        info.headers = message.headers.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(Some(info))
    }
}

impl<F: File> Shared<F> {
    /// Brings a queue to the present, one step of it. Returns true if nothing is left to do.
    pub(super) fn advance(&self, number: QueueNumber) -> bool {
        let mut inner = self.lock();
        let done = inner.advance(number, &*self.clock);
        self.unlock_and_wake(inner);
        done
    }
}

impl Inner {
    fn info(&self, number: QueueNumber, id: MessageId) -> Option<(MessageInfo, Place)> {
        let queue = self.state.queue(number)?;
        let (live, standing) = (queue.get(id)?, queue.standing(id)?);
        let (state, reason) = match standing {
            Standing::Ready => ("ready", None),
            Standing::Delayed => ("delayed", None),
            Standing::Held => ("held", None),
            Standing::Leased(_) => ("leased", None),
            Standing::Dead(reason) => ("dead", Some(reason)),
        };
        let info = MessageInfo {
            id,
            state: state.to_owned(),
            due_ms: live.due,
            retries: live.retries,
            priority: live.priority,
            reason,
            group: queue.group(id).map(str::to_owned),
            body: None,
            headers: Vec::new(),
            extensions: MessageInfo::extensions(queue.end(id), (live.ttr > 0).then_some(live.ttr.into())),
        };
        Some((info, live.place))
    }
}
