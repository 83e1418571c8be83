//! The RPC service `mq`: a node's engine, as others call it. Also what a client generates its calls from.

use std::time::Duration;

use ms_rpc::Context;
use serde::{Deserialize, Serialize};

use crate::{Delivery, Extensions, MessageId, MessageInfo, MqError, Node, Pop, Push, Receipt, Settings, TopicStats};

/// What every answer is: the value, and room to grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// None is known yet.
    pub extensions: Extensions,
}

impl<T> Answer<T> {
    fn of(value: T) -> Self {
        Self { value, extensions: Extensions::default() }
    }
}

/// What a node does for others. Nothing that changes a queue is tried twice by itself: nobody knows whether it happened.
#[ms_rpc::service(name = "mq")]
pub trait MqNode {
    /// See [`Node::declare`].
    async fn declare(&self, topic: String, queue: String, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Node::configure`].
    async fn configure(&self, topic: String, settings: Settings) -> Result<Answer<()>, MqError>;
    /// See [`Node::push`].
    async fn push(&self, push: Push) -> Result<Answer<MessageId>, MqError>;
    /// See [`Node::push_batch`].
    async fn push_batch(&self, pushes: Vec<Push>, extensions: Extensions) -> Result<Answer<Vec<MessageId>>, MqError>;
    /// See [`Node::pop`].
    async fn pop(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError>;
    /// See [`Node::ack`].
    async fn ack(&self, receipt: Receipt, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Node::ack_batch`]: one result for each.
    async fn ack_batch(
        &self,
        receipts: Vec<Receipt>,
        extensions: Extensions,
    ) -> Result<Answer<Vec<Result<(), MqError>>>, MqError>;
    /// See [`Node::nack`].
    async fn nack(
        &self,
        receipt: Receipt,
        delay_ms: u64,
        reason: String,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`Node::touch`].
    async fn touch(&self, receipt: Receipt, ttr_ms: Option<u64>, extensions: Extensions)
    -> Result<Answer<()>, MqError>;
    /// See [`Node::give_back`]. Deliveries that have ended meanwhile stay as they are.
    #[idempotent]
    async fn give_back(&self, receipts: Vec<Receipt>, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Node::peek`].
    #[idempotent]
    async fn peek(
        &self,
        topic: String,
        queue: String,
        most: u32,
        extensions: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError>;
    /// See [`Node::get`].
    #[idempotent]
    async fn get(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        extensions: Extensions,
    ) -> Result<Answer<MessageInfo>, MqError>;
    /// See [`Node::cancel`].
    async fn cancel(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`Node::list`].
    #[idempotent]
    async fn list(
        &self,
        topic: String,
        queue: String,
        after: MessageId,
        most: u32,
        dead: bool,
        extensions: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError>;
    /// See [`Node::pop_dead`].
    async fn pop_dead(
        &self,
        topic: String,
        queue: String,
        most: u32,
        extensions: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError>;
    /// See [`Node::redrive`].
    async fn redrive(
        &self,
        topic: String,
        queue: String,
        ids: Option<Vec<MessageId>>,
        extensions: Extensions,
    ) -> Result<Answer<u64>, MqError>;
    /// See [`Node::purge`].
    async fn purge(&self, topic: String, queue: String, extensions: Extensions) -> Result<Answer<u64>, MqError>;
    /// See [`Node::pause`].
    async fn pause(
        &self,
        topic: String,
        queue: String,
        paused: bool,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// A queue with all its messages, or without a queue the whole topic.
    async fn delete(&self, topic: String, queue: Option<String>, extensions: Extensions)
    -> Result<Answer<()>, MqError>;
    /// One topic's, or without a name all topics'.
    #[idempotent]
    async fn stats(&self, topic: Option<String>, extensions: Extensions) -> Result<Answer<Vec<TopicStats>>, MqError>;
}

impl MqNode for Node {
    async fn declare(&self, topic: String, queue: String, _: Extensions) -> Result<Answer<()>, MqError> {
        self.declare(&topic, &queue).await.map(Answer::of)
    }

    async fn configure(&self, topic: String, settings: Settings) -> Result<Answer<()>, MqError> {
        self.configure(&topic, &settings).await.map(Answer::of)
    }

    async fn push(&self, push: Push) -> Result<Answer<MessageId>, MqError> {
        self.push(push).await.map(Answer::of)
    }

    async fn push_batch(&self, pushes: Vec<Push>, _: Extensions) -> Result<Answer<Vec<MessageId>>, MqError> {
        self.push_batch(pushes).await.map(Answer::of)
    }

    async fn pop(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError> {
        let deliveries = self.pop(&pop).await?;
        if !deliveries.is_empty() {
            Context::if_unanswered(self.undo(&deliveries));
        }
        Ok(Answer::of(deliveries))
    }

    async fn ack(&self, receipt: Receipt, _: Extensions) -> Result<Answer<()>, MqError> {
        self.ack(&receipt).await.map(Answer::of)
    }

    async fn ack_batch(
        &self,
        receipts: Vec<Receipt>,
        _: Extensions,
    ) -> Result<Answer<Vec<Result<(), MqError>>>, MqError> {
        self.ack_batch(&receipts).await.map(Answer::of)
    }

    async fn nack(
        &self,
        receipt: Receipt,
        delay_ms: u64,
        reason: String,
        _: Extensions,
    ) -> Result<Answer<()>, MqError> {
        self.nack(&receipt, Duration::from_millis(delay_ms), &reason).await.map(Answer::of)
    }

    async fn touch(&self, receipt: Receipt, ttr_ms: Option<u64>, _: Extensions) -> Result<Answer<()>, MqError> {
        self.touch(&receipt, ttr_ms.map(Duration::from_millis)).await.map(Answer::of)
    }

    async fn give_back(&self, receipts: Vec<Receipt>, _: Extensions) -> Result<Answer<()>, MqError> {
        self.give_back(&receipts);
        Ok(Answer::of(()))
    }

    async fn peek(
        &self,
        topic: String,
        queue: String,
        most: u32,
        _: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError> {
        self.peek(&topic, &queue, most).await.map(Answer::of)
    }

    async fn get(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        _: Extensions,
    ) -> Result<Answer<MessageInfo>, MqError> {
        self.get(&topic, &queue, id).await.map(Answer::of)
    }

    async fn cancel(&self, topic: String, queue: String, id: MessageId, _: Extensions) -> Result<Answer<()>, MqError> {
        self.cancel(&topic, &queue, id).await.map(Answer::of)
    }

    async fn list(
        &self,
        topic: String,
        queue: String,
        after: MessageId,
        most: u32,
        dead: bool,
        _: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError> {
        self.list(&topic, &queue, after, most, dead).map(Answer::of)
    }

    async fn pop_dead(
        &self,
        topic: String,
        queue: String,
        most: u32,
        _: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError> {
        self.pop_dead(&topic, &queue, most).await.map(Answer::of)
    }

    async fn redrive(
        &self,
        topic: String,
        queue: String,
        ids: Option<Vec<MessageId>>,
        _: Extensions,
    ) -> Result<Answer<u64>, MqError> {
        self.redrive(&topic, &queue, ids.as_deref()).await.map(Answer::of)
    }

    async fn purge(&self, topic: String, queue: String, _: Extensions) -> Result<Answer<u64>, MqError> {
        self.purge(&topic, &queue).await.map(Answer::of)
    }

    async fn pause(&self, topic: String, queue: String, paused: bool, _: Extensions) -> Result<Answer<()>, MqError> {
        self.pause(&topic, &queue, paused).await.map(Answer::of)
    }

    async fn delete(&self, topic: String, queue: Option<String>, _: Extensions) -> Result<Answer<()>, MqError> {
        match queue {
            Some(queue) => self.delete_queue(&topic, &queue).await,
            None => self.delete_topic(&topic).await,
        }
        .map(Answer::of)
    }

    async fn stats(&self, topic: Option<String>, _: Extensions) -> Result<Answer<Vec<TopicStats>>, MqError> {
        Ok(Answer::of(match topic {
            Some(topic) => vec![self.stats(&topic)?],
            None => self.all_stats(),
        }))
    }
}
