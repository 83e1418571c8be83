//! Rules that say which callers of an engine may do what, whichever door they come by.

use std::{borrow::Cow, fmt, sync::Arc};

use ms_security::{RuleError, Rules, Seldom};
use tracing::warn;

use crate::{Change, Delivery, End, Engine, Look, MessageId, MqError, Pop, Push, QueueName, Receipt, Seen, Verb};

/// Engine that refuses what its rules do not let a caller do: [`MqError::Denied`], which is `PermissionDenied` over RPC.
///
/// A rule is a principal and `VERB` or `VERB/TOPIC`, each exact or with `*` at its begin or end: `order push/orders`,
/// `shipping take/orders*`, `operator *`. What concerns all topics at once - statistics of all, backups - needs the verb for `*`. Without rules everyone may do everything; with one, what none
/// allows is denied. Denials are logged, one a second at most, under the target `ms_mq::audit`.
#[derive(Clone)]
pub struct Ruled<E> {
    engine: E,
    rules: Arc<Rules>,
    audit: Arc<Seldom>,
    /// The caller's name; empty if it has none.
    who: Arc<str>,
}

impl<E: fmt::Debug> fmt::Debug for Ruled<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruled").field("engine", &self.engine).field("who", &self.who).finish_non_exhaustive()
    }
}

impl<E> Ruled<E> {
    /// The engine under these rules.
    ///
    /// # Errors
    /// A rule names no verb, or has an illegal pattern.
    pub fn new(engine: E, rules: Rules) -> Result<Self, RuleError> {
        rules.check(|rule| match Verb::ALL.iter().any(|verb| rule.group().matches(verb.name())) {
            true => Ok(()),
            false => Err(format!("`{}` is unknown: write push, take, look, change or *", rule.group())),
        })?;
        Ok(Self { engine, rules: Arc::new(rules), audit: Arc::default(), who: Arc::default() })
    }

    fn check(&self, verb: Verb, topic: &str) -> Result<(), MqError> {
        if self.rules.allows(&self.who, verb.name(), topic) {
            return Ok(());
        }
        let who = if self.who.is_empty() { "an anonymous caller" } else { &self.who };
        let topic = if topic == EVERY { "*" } else { topic };
        let denied = format!("{}/{topic} is not allowed to {who}", verb.name());
        if self.audit.is_due() {
            warn!(target: "ms_mq::audit", "{denied}");
        }
        Err(MqError::Denied(denied))
    }
}

/// Topic of what concerns all topics: no name of a topic, and matched by `*` alone.
const EVERY: &str = "";

impl<E: Engine> Engine for Ruled<E> {
    async fn push(&self, push: Push) -> Result<MessageId, MqError> {
        self.check(Verb::Push, &push.topic)?;
        self.engine.push(push).await
    }

    async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, MqError> {
        pushes.iter().try_for_each(|push| self.check(Verb::Push, &push.topic))?;
        self.engine.push_batch(pushes).await
    }

    async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.check(Verb::Take, &pop.topic)?;
        self.engine.pop(pop).await
    }

    async fn pop_dead(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.check(Verb::Take, &pop.topic)?;
        self.engine.pop_dead(pop).await
    }

    async fn end_all(&self, receipts: &[Receipt], end: &End) -> Result<Vec<Result<(), MqError>>, MqError> {
        if !self.rules.is_empty() {
            let queues = receipts.iter().filter_map(|receipt| self.engine.queue_of(receipt));
            queues.into_iter().try_for_each(|queue| self.check(Verb::Take, &queue.topic))?;
        }
        self.engine.end_all(receipts, end).await
    }

    fn give_back(&self, receipts: Vec<Receipt>) -> impl FnOnce() + Send + Sync + 'static {
        self.engine.give_back(receipts)
    }

    async fn change(&self, change: Change) -> Result<u64, MqError> {
        match &change {
            Change::AckById(queue, _) => self.check(Verb::Take, &queue.topic)?,
            Change::Declare(queue)
            | Change::Pause(queue, _)
            | Change::Purge(queue)
            | Change::PurgeDead(queue)
            | Change::DeleteQueue(queue)
            | Change::Cancel(queue, _)
            | Change::Reschedule(queue, ..)
            | Change::Reprioritize(queue, ..)
            | Change::Redrive(queue, _) => self.check(Verb::Change, &queue.topic)?,
            Change::Configure(topic, _) | Change::DeleteTopic(topic) => self.check(Verb::Change, topic)?,
            Change::Move(from, to, _) | Change::Copy(from, to, _) => {
                self.check(Verb::Change, &from.topic)?;
                self.check(Verb::Change, &to.topic)?;
            }
            Change::Backup(_) => self.check(Verb::Change, EVERY)?,
        }
        self.engine.change(change).await
    }

    async fn look(&self, look: Look) -> Result<Seen, MqError> {
        let topic = match &look {
            Look::Get(queue, _) | Look::Peek(queue, _) | Look::List { queue, .. } => Some(&queue.topic),
            Look::Stats { topic, .. } => topic.as_ref(),
        };
        self.check(Verb::Look, topic.map_or(EVERY, String::as_str))?;
        self.engine.look(look).await
    }

    fn queue_of(&self, receipt: &Receipt) -> Option<QueueName> {
        self.engine.queue_of(receipt)
    }

    fn for_caller(&self, name: impl FnOnce() -> String) -> Cow<'_, Self> {
        if self.rules.is_empty() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { who: name().into(), ..self.clone() })
    }

    fn permits(&self, verb: Verb, topic: &str) -> Result<(), MqError> {
        self.check(verb, topic)
    }
}
