//! A bound on what an engine takes in a second, whichever door it comes by.

use std::{borrow::Cow, fmt, num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::{Change, Delivery, End, Engine, Look, MessageId, MqError, Pop, Push, QueueName, Receipt, Seen, Verb};

/// Engine that refuses messages pushed, and pops, beyond a rate: [`MqError::NodeFull`], which is `ResourceExhausted` over RPC.
/// What ends leases, and what looks at queues or changes them, is never refused.
#[derive(Clone)]
pub struct Limited<E> {
    engine: E,
    bucket: Option<Arc<Bucket>>,
}

impl<E: fmt::Debug> fmt::Debug for Limited<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("engine", &self.engine).finish_non_exhaustive()
    }
}

struct Bucket {
    limiter: DefaultDirectRateLimiter,
    per_second: NonZeroU32,
}

impl<E> Limited<E> {
    /// The engine with at most so many messages pushed, and pops, in a second, a second's worth of them at once; `None`: all.
    pub fn new(engine: E, per_second: Option<NonZeroU32>) -> Self {
        let bucket = |per_second| Bucket { limiter: RateLimiter::direct(Quota::per_second(per_second)), per_second };
        Self { engine, bucket: per_second.map(bucket).map(Arc::new) }
    }

    fn take(&self, count: usize) -> Result<(), MqError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        // A batch of more than a second's worth takes a full bucket.
        let taken = bucket.limiter.check_n(count.min(bucket.per_second));
        if matches!(taken, Ok(Ok(()))) {
            return Ok(());
        }
        Err(MqError::NodeFull(format!("it takes {} pushes and pops in a second: try again later", bucket.per_second)))
    }
}

impl<E: Engine> Engine for Limited<E> {
    async fn push(&self, push: Push) -> Result<MessageId, MqError> {
        self.take(1)?;
        self.engine.push(push).await
    }

    async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, MqError> {
        self.take(pushes.len())?;
        self.engine.push_batch(pushes).await
    }

    async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.take(1)?;
        self.engine.pop(pop).await
    }

    async fn pop_dead(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.take(1)?;
        self.engine.pop_dead(pop).await
    }

    async fn end_all(&self, receipts: &[Receipt], end: &End) -> Result<Vec<Result<(), MqError>>, MqError> {
        self.engine.end_all(receipts, end).await
    }

    fn give_back(&self, receipts: Vec<Receipt>) -> impl FnOnce() + Send + Sync + 'static {
        self.engine.give_back(receipts)
    }

    async fn change(&self, change: Change) -> Result<u64, MqError> {
        self.engine.change(change).await
    }

    async fn look(&self, look: Look) -> Result<Seen, MqError> {
        self.engine.look(look).await
    }

    fn queue_of(&self, receipt: &Receipt) -> Option<QueueName> {
        self.engine.queue_of(receipt)
    }

    fn for_caller(&self, name: impl FnOnce() -> String) -> Cow<'_, Self> {
        match self.engine.for_caller(name) {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(engine) => Cow::Owned(Self { engine, bucket: self.bucket.clone() }),
        }
    }

    fn permits(&self, verb: Verb, topic: &str) -> Result<(), MqError> {
        self.engine.permits(verb, topic)
    }
}
