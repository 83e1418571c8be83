//! Looking without taking: messages, pages of them, and how the topics stand.
use super::{Node, inner::Inner};
use crate::{
    Extensions, MessageId, MessageInfo, MqError, TopicStats, batch::Place, queue::Standing, record::QueueNumber,
    store::File,
};

impl<F: File> Node<F> {
    /// One message, with its body.
    ///
    /// # Errors
    /// [`MqError::NoMessage`], or the disk.
    pub async fn get(&self, topic: &str, queue: &str, id: MessageId) -> Result<MessageInfo, MqError> {
        let (number, mut info, place) = {
            let mut inner = self.shared.lock();
            let number = inner.current(topic, queue, &*self.shared.clock)?;
            let (info, place) = inner.info(number, id).ok_or(MqError::NoMessage(id.0))?;
            (number, info, place)
        };
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || shared.read_one(number, id, place));
        let message = reading.await.map_err(|_| MqError::Closed)??.ok_or(MqError::NoMessage(id.0))?;
        info.body = Some(message.body.into());
        info.headers = message.headers.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(info)
    }

    /// The messages that would be handed out next, with their bodies; they stay where they are.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn peek(&self, topic: &str, queue: &str, most: u32) -> Result<Vec<MessageInfo>, MqError> {
        let ids: Vec<_> = {
            let mut inner = self.shared.lock();
            let number = inner.current(topic, queue, &*self.shared.clock)?;
            let queue = inner.state.queue(number);
            queue.into_iter().flat_map(|queue| queue.next_ready()).take(most.min(1000) as usize).collect()
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self.get(topic, queue, id).await {
                Ok(info) => found.push(info),
                Err(MqError::NoMessage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// A page of a queue's messages whose ids are above `after`, without bodies; only the dead ones if `dead`.
    ///
    /// # Errors
    /// No such queue.
    pub fn list(
        &self,
        topic: &str,
        queue: &str,
        after: MessageId,
        most: u32,
        dead: bool,
    ) -> Result<Vec<MessageInfo>, MqError> {
        let mut inner = self.shared.lock();
        let number = inner.current(topic, queue, &*self.shared.clock)?;
        let Some(queue) = inner.state.queue(number) else { return Ok(Vec::new()) };
        let most = most.clamp(1, 1000) as usize;
        let ids: Vec<_> = if dead {
            queue.dead_after(after).map(|(id, _)| id).take(most).collect()
        } else {
            queue.ids_after(after).take(most).collect()
        };
        Ok(ids.into_iter().filter_map(|id| inner.info(number, id)).map(|(info, _)| info).collect())
    }

    /// How a topic stands.
    ///
    /// # Errors
    /// No such topic.
    pub fn stats(&self, topic: &str) -> Result<TopicStats, MqError> {
        let mut inner = self.shared.lock();
        inner.advance(&*self.shared.clock);
        inner.state.stats(topic)
    }

    /// How all topics stand, by name.
    pub fn all_stats(&self) -> Vec<TopicStats> {
        let mut inner = self.shared.lock();
        inner.advance(&*self.shared.clock);
        let names = inner.state.topic_names();
        names.iter().filter_map(|name| inner.state.stats(name).ok()).collect()
    }
}

impl Inner {
    fn info(&self, number: QueueNumber, id: MessageId) -> Option<(MessageInfo, Place)> {
        let queue = self.state.queue(number)?;
        let (live, standing) = (queue.get(id)?, queue.standing(id)?);
        let (state, reason) = match standing {
            Standing::Ready => ("ready", None),
            Standing::Delayed => ("delayed", None),
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
            body: None,
            headers: Vec::new(),
            extensions: Extensions::default(),
        };
        Some((info, live.place))
    }
}
