//! The RPC service `mq` of an engine. A client's calls are generated from it, too.

use std::{borrow::Cow, time::Duration};

use ms_rpc::Context;
use serde::{Deserialize, Serialize};

use crate::{
    Change, Delivery, End, Engine, Extensions, Look, MessageId, MessageInfo, MqError, Pop, Push, QueueName, Receipt,
    Settings, TopicStats, Which,
};

/// Every answer: the value, and room to grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// No tag is known, but for statistics.
    pub extensions: Extensions,
}

impl<T> Answer<T> {
    fn of(value: T) -> Self {
        Self { value, extensions: Extensions::default() }
    }
}

/// The service of a node. Calls that change a queue are never retried by themselves: their outcome may be unknown.
#[ms_rpc::service(name = "mq")]
pub trait MqNode {
    /// See [`Change::Declare`].
    async fn declare(&self, topic: String, queue: String, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Change::Configure`].
    async fn configure(&self, topic: String, settings: Settings) -> Result<Answer<()>, MqError>;
    /// See [`Engine::push`].
    async fn push(&self, push: Push) -> Result<Answer<MessageId>, MqError>;
    /// See [`Engine::push_batch`].
    async fn push_batch(&self, pushes: Vec<Push>, extensions: Extensions) -> Result<Answer<Vec<MessageId>>, MqError>;
    /// See [`Engine::pop`].
    async fn pop(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError>;
    /// See [`End::Ack`].
    async fn ack(&self, receipt: Receipt, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Engine::end_all`]: one result for each.
    async fn ack_batch(
        &self,
        receipts: Vec<Receipt>,
        extensions: Extensions,
    ) -> Result<Answer<Vec<Result<(), MqError>>>, MqError>;
    /// See [`End::Nack`].
    async fn nack(
        &self,
        receipt: Receipt,
        delay_ms: u64,
        reason: String,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`End::Bury`].
    async fn bury(&self, receipt: Receipt, reason: String, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`End::Begin`].
    async fn begin(&self, receipt: Receipt, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`End::Touch`].
    async fn touch(&self, receipt: Receipt, ttr_ms: Option<u64>, extensions: Extensions)
    -> Result<Answer<()>, MqError>;
    /// See [`End::Return`]. Leases that have ended meanwhile stay as they are.
    #[idempotent]
    async fn give_back(&self, receipts: Vec<Receipt>, extensions: Extensions) -> Result<Answer<()>, MqError>;
    /// See [`Look::Peek`].
    #[idempotent]
    async fn peek(
        &self,
        topic: String,
        queue: String,
        most: u32,
        extensions: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError>;
    /// See [`Look::Get`].
    #[idempotent]
    async fn get(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        extensions: Extensions,
    ) -> Result<Answer<MessageInfo>, MqError>;
    /// See [`Change::Cancel`].
    async fn cancel(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`Change::Reschedule`].
    async fn reschedule(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        due_ms: u64,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`Change::Reprioritize`].
    async fn reprioritize(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        priority: u8,
        extensions: Extensions,
    ) -> Result<Answer<()>, MqError>;
    /// See [`Look::List`].
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
    /// See [`Engine::pop_dead`].
    async fn pop_dead(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError>;
    /// See [`Change::Redrive`].
    async fn redrive(
        &self,
        topic: String,
        queue: String,
        ids: Option<Vec<MessageId>>,
        extensions: Extensions,
    ) -> Result<Answer<u64>, MqError>;
    /// See [`Change::Move`], or with `copy` [`Change::Copy`].
    async fn transfer(
        &self,
        from: QueueName,
        to: QueueName,
        which: Which,
        copy: bool,
        extensions: Extensions,
    ) -> Result<Answer<u64>, MqError>;
    /// See [`Change::Purge`].
    async fn purge(&self, topic: String, queue: String, extensions: Extensions) -> Result<Answer<u64>, MqError>;
    /// See [`Change::PurgeDead`].
    async fn purge_dead(&self, topic: String, queue: String, extensions: Extensions) -> Result<Answer<u64>, MqError>;
    /// See [`Change::Backup`].
    async fn backup(&self, name: String, extensions: Extensions) -> Result<Answer<u64>, MqError>;
    /// See [`Change::Pause`].
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
    /// Statistics of one topic, or without a name of all topics: a page of at most 1,000 queues. If more follow, the answer's
    /// extensions say so ([`QueueName::from_extensions`]); given as the extensions of another call, they bring the next page.
    #[idempotent]
    async fn stats(&self, topic: Option<String>, extensions: Extensions) -> Result<Answer<Vec<TopicStats>>, MqError>;
}

impl<E: Engine> MqNode for E {
    async fn declare(&self, topic: String, queue: String, _: Extensions) -> Result<Answer<()>, MqError> {
        changed(self, Change::Declare(QueueName { topic, queue })).await
    }

    async fn configure(&self, topic: String, settings: Settings) -> Result<Answer<()>, MqError> {
        changed(self, Change::Configure(topic, settings)).await
    }

    async fn push(&self, push: Push) -> Result<Answer<MessageId>, MqError> {
        Engine::push(&*called(self), push).await.map(Answer::of)
    }

    async fn push_batch(&self, pushes: Vec<Push>, _: Extensions) -> Result<Answer<Vec<MessageId>>, MqError> {
        Engine::push_batch(&*called(self), pushes).await.map(Answer::of)
    }

    async fn pop(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError> {
        Engine::pop(&*called(self), &pop).await.map(|deliveries| handed_out(self, deliveries))
    }

    async fn pop_dead(&self, pop: Pop) -> Result<Answer<Vec<Delivery>>, MqError> {
        Engine::pop_dead(&*called(self), &pop).await.map(|deliveries| handed_out(self, deliveries))
    }

    async fn ack(&self, receipt: Receipt, _: Extensions) -> Result<Answer<()>, MqError> {
        called(self).end(&receipt, &End::Ack).await.map(Answer::of)
    }

    async fn ack_batch(
        &self,
        receipts: Vec<Receipt>,
        _: Extensions,
    ) -> Result<Answer<Vec<Result<(), MqError>>>, MqError> {
        called(self).end_all(&receipts, &End::Ack).await.map(Answer::of)
    }

    async fn nack(
        &self,
        receipt: Receipt,
        delay_ms: u64,
        reason: String,
        _: Extensions,
    ) -> Result<Answer<()>, MqError> {
        called(self).end(&receipt, &End::Nack { delay: Duration::from_millis(delay_ms), reason }).await.map(Answer::of)
    }

    async fn bury(&self, receipt: Receipt, reason: String, _: Extensions) -> Result<Answer<()>, MqError> {
        called(self).end(&receipt, &End::Bury(reason)).await.map(Answer::of)
    }

    async fn begin(&self, receipt: Receipt, _: Extensions) -> Result<Answer<()>, MqError> {
        called(self).end(&receipt, &End::Begin).await.map(Answer::of)
    }

    async fn touch(&self, receipt: Receipt, ttr_ms: Option<u64>, _: Extensions) -> Result<Answer<()>, MqError> {
        called(self).end(&receipt, &End::Touch(ttr_ms.map(Duration::from_millis))).await.map(Answer::of)
    }

    async fn give_back(&self, receipts: Vec<Receipt>, _: Extensions) -> Result<Answer<()>, MqError> {
        called(self).end_all(&receipts, &End::Return).await.map(|_| Answer::of(()))
    }

    async fn peek(
        &self,
        topic: String,
        queue: String,
        most: u32,
        _: Extensions,
    ) -> Result<Answer<Vec<MessageInfo>>, MqError> {
        seen(self, Look::Peek(QueueName { topic, queue }, most)).await
    }

    async fn get(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        _: Extensions,
    ) -> Result<Answer<MessageInfo>, MqError> {
        let mut found = seen(self, Look::Get(QueueName { topic, queue }, id)).await?.value;
        found.pop().map(Answer::of).ok_or(MqError::NoMessage(id.0))
    }

    async fn cancel(&self, topic: String, queue: String, id: MessageId, _: Extensions) -> Result<Answer<()>, MqError> {
        changed(self, Change::Cancel(QueueName { topic, queue }, id)).await
    }

    async fn reschedule(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        due_ms: u64,
        _: Extensions,
    ) -> Result<Answer<()>, MqError> {
        changed(self, Change::Reschedule(QueueName { topic, queue }, id, due_ms)).await
    }

    async fn reprioritize(
        &self,
        topic: String,
        queue: String,
        id: MessageId,
        priority: u8,
        _: Extensions,
    ) -> Result<Answer<()>, MqError> {
        changed(self, Change::Reprioritize(QueueName { topic, queue }, id, priority)).await
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
        seen(self, Look::List { queue: QueueName { topic, queue }, after, most, dead }).await
    }

    async fn redrive(
        &self,
        topic: String,
        queue: String,
        ids: Option<Vec<MessageId>>,
        _: Extensions,
    ) -> Result<Answer<u64>, MqError> {
        called(self).change(Change::Redrive(QueueName { topic, queue }, ids)).await.map(Answer::of)
    }

    async fn transfer(
        &self,
        from: QueueName,
        to: QueueName,
        which: Which,
        copy: bool,
        _: Extensions,
    ) -> Result<Answer<u64>, MqError> {
        let change = if copy { Change::Copy(from, to, which) } else { Change::Move(from, to, which) };
        called(self).change(change).await.map(Answer::of)
    }

    async fn purge(&self, topic: String, queue: String, _: Extensions) -> Result<Answer<u64>, MqError> {
        called(self).change(Change::Purge(QueueName { topic, queue })).await.map(Answer::of)
    }

    async fn purge_dead(&self, topic: String, queue: String, _: Extensions) -> Result<Answer<u64>, MqError> {
        called(self).change(Change::PurgeDead(QueueName { topic, queue })).await.map(Answer::of)
    }

    async fn backup(&self, name: String, _: Extensions) -> Result<Answer<u64>, MqError> {
        called(self).change(Change::Backup(name)).await.map(Answer::of)
    }

    async fn pause(&self, topic: String, queue: String, paused: bool, _: Extensions) -> Result<Answer<()>, MqError> {
        changed(self, Change::Pause(QueueName { topic, queue }, paused)).await
    }

    async fn delete(&self, topic: String, queue: Option<String>, _: Extensions) -> Result<Answer<()>, MqError> {
        changed(
            self,
            match queue {
                Some(queue) => Change::DeleteQueue(QueueName { topic, queue }),
                None => Change::DeleteTopic(topic),
            },
        )
        .await
    }

    async fn stats(&self, topic: Option<String>, extensions: Extensions) -> Result<Answer<Vec<TopicStats>>, MqError> {
        let after = QueueName::from_extensions(&extensions);
        let (value, next) = called(self).look(Look::Stats { topic, after }).await?.topics();
        Ok(Answer { value, extensions: next.map(QueueName::into_extensions).unwrap_or_default() })
    }
}

/// The engine as it serves the caller of the method that runs here.
fn called<E: Engine>(engine: &E) -> Cow<'_, E> {
    engine.for_caller(|| Context::current().map(|context| context.peer().principal().to_owned()).unwrap_or_default())
}

async fn changed(engine: &impl Engine, change: Change) -> Result<Answer<()>, MqError> {
    called(engine).change(change).await.map(|_| Answer::of(()))
}

async fn seen(engine: &impl Engine, look: Look) -> Result<Answer<Vec<MessageInfo>>, MqError> {
    called(engine).look(look).await.map(|seen| Answer::of(seen.messages()))
}

/// Leases go back if the answer does not go out.
fn handed_out(engine: &impl Engine, deliveries: Vec<Delivery>) -> Answer<Vec<Delivery>> {
    let receipts: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.receipt).collect();
    if !receipts.is_empty() {
        Context::if_unanswered(Engine::give_back(engine, receipts));
    }
    Answer::of(deliveries)
}
