//! The contract of an [`Engine`], as a test: random operations, done by an engine and by a model that is as simple as can be.
//! Both must always say the same.
#![allow(clippy::unwrap_used, reason = "a test")]

mod model;
mod steps;

use std::{fmt, mem::discriminant, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};

use crate::{
    Change, Delivery, End, Engine, Look, MessageId, MqError, Pop, Push, QueueName, Receipt, Seen, Settings, TopicStats,
    Which,
};
use model::{At, Model};
use steps::{QUEUES, Queue, Step, TOPICS, step};

/// An engine under test, and the world around it.
pub trait Subject {
    /// The engine.
    type Engine: Engine;

    /// The engine that is open now. Clones are dropped before [`reopen`](Self::reopen).
    fn engine(&self) -> Self::Engine;

    /// The engine's time, in milliseconds since 1970. It stands still but for [`advance`](Self::advance).
    fn now(&self) -> u64;

    /// Moves the engine's time on.
    fn advance(&mut self, milliseconds: u64);

    /// Ends the engine and opens it again. With a seed it ends by a crash, after which any part of the bytes that were not durable is
    /// there.
    fn reopen(&mut self, crash: Option<u64>);
}

/// Compares `cases` sequences of up to 200 random operations on new engines with the model. Blocks; not for a runtime's thread.
///
/// # Panics
/// The engine differs from the model; the message has the shortest sequence that was found.
pub fn check<S: Subject>(make: impl Fn() -> S, cases: u32) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        panic!("no runtime for the test")
    };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(), 1..200);
    let found = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut world = World::new(make());
            for step in steps {
                world.step(step).await;
            }
            world.compare().await;
        });
        Ok(())
    });
    match found {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("{why}; the steps: {steps:?}"),
        Err(error) => panic!("{error}"),
    }
}

struct World<S> {
    subject: S,
    model: Model,
    receipts: Vec<Receipt>,
    ids: Vec<MessageId>,
    pushed: u64,
}

/// Both did it, or both refused it for the same reason.
fn same<T: PartialEq + fmt::Debug>(found: Result<T, MqError>, expected: Result<T, MqError>) {
    match (&found, &expected) {
        (Err(found), Err(expected)) if discriminant(found) == discriminant(expected) => {}
        _ => assert_eq!(found, expected),
    }
}

impl<S: Subject> World<S> {
    fn new(subject: S) -> Self {
        let model = Model::new(subject.now());
        Self { subject, model, receipts: Vec::new(), ids: Vec::new(), pushed: 0 }
    }

    /// One of the newest.
    fn receipt(&self, which: usize) -> Option<Receipt> {
        self.receipts.iter().rev().nth(which).copied()
    }

    fn id(&self, which: usize) -> MessageId {
        self.ids.iter().rev().nth(which).copied().unwrap_or(MessageId(1))
    }

    async fn step(&mut self, step: Step) {
        let name = |(topic, queue): Queue| (TOPICS[topic], QUEUES[queue]);
        let node = self.subject.engine();
        match step {
            Step::Declare(of) => {
                let (topic, queue) = name(of);
                let declared = node.change(Change::Declare(QueueName::new(topic, queue))).await;
                same(declared.map(drop), self.model.declare(topic, queue));
            }
            Step::Configure(topic, settings) => {
                node.change(Change::Configure(TOPICS[topic].to_owned(), settings.clone())).await.unwrap();
                self.model.configure(TOPICS[topic], &settings);
            }
            Step::Push(pushes) => self.push(&node, pushes).await,
            Step::Pop(of, most) => {
                let (topic, queue) = name(of);
                match node.pop(&Pop { max_messages: most, ..Pop::new(topic, queue) }).await {
                    Ok(deliveries) => {
                        self.model.popped(topic, queue, most as usize, &deliveries);
                        self.receipts.extend(deliveries.iter().filter_map(|delivery: &Delivery| delivery.receipt));
                    }
                    Err(error) => same(Err(error), self.model.queue(topic, queue).map(drop)),
                }
            }
            Step::Ack(which) => {
                if let Some(receipt) = self.receipt(which) {
                    assert_eq!(node.end(&receipt, &End::Ack).await, self.model.ack(&receipt));
                }
            }
            Step::AckBatch(which) => {
                let receipts: Vec<_> = which.into_iter().filter_map(|which| self.receipt(which)).collect();
                let expected: Vec<_> = receipts.iter().map(|receipt| self.model.ack(receipt)).collect();
                assert_eq!(node.end_all(&receipts, &End::Ack).await, Ok(expected));
            }
            Step::Nack(which, delay) => {
                if let Some(receipt) = self.receipt(which) {
                    let done = node.end(&receipt, &End::nack(Duration::from_millis(delay), "no")).await;
                    assert_eq!(done, self.model.nack(&receipt, delay));
                }
            }
            Step::Touch(which, ttr) => {
                if let Some(receipt) = self.receipt(which) {
                    let done = node.end(&receipt, &End::Touch(ttr.map(Duration::from_millis))).await;
                    assert_eq!(done, self.model.touch(&receipt, ttr));
                }
            }
            Step::Bury(which) => {
                if let Some(receipt) = self.receipt(which) {
                    assert_eq!(node.end(&receipt, &End::Bury("no".to_owned())).await, self.model.bury(&receipt));
                }
            }
            Step::Begin(which) => {
                if let Some(receipt) = self.receipt(which) {
                    assert_eq!(node.end(&receipt, &End::Begin).await, self.model.begin(&receipt));
                }
            }
            Step::AckById(of, which) => {
                let ((topic, queue), id) = (name(of), self.id(which));
                same(
                    node.change(Change::AckById(QueueName::new(topic, queue), id)).await.map(drop),
                    self.model.ack_by_id(topic, queue, id),
                );
            }
            Step::Cancel(of, which) => {
                let ((topic, queue), id) = (name(of), self.id(which));
                same(
                    node.change(Change::Cancel(QueueName::new(topic, queue), id)).await.map(drop),
                    self.model.cancel(topic, queue, id),
                );
            }
            Step::Advance(milliseconds) => {
                self.subject.advance(milliseconds);
                self.model.advance(milliseconds);
            }
            Step::Purge(of) => {
                let (topic, queue) = name(of);
                same(node.change(Change::Purge(QueueName::new(topic, queue))).await, self.model.purge(topic, queue));
            }
            Step::Pause(of, paused) => {
                let (topic, queue) = name(of);
                same(
                    node.change(Change::Pause(QueueName::new(topic, queue), paused)).await.map(drop),
                    self.model.pause(topic, queue, paused),
                );
            }
            Step::DeleteQueue(of) => {
                let (topic, queue) = name(of);
                same(
                    node.change(Change::DeleteQueue(QueueName::new(topic, queue))).await.map(drop),
                    self.model.delete_queue(topic, queue),
                );
            }
            Step::DeleteTopic(topic) => {
                same(
                    node.change(Change::DeleteTopic(TOPICS[topic].to_owned())).await.map(drop),
                    self.model.delete_topic(TOPICS[topic]),
                );
            }
            Step::PopDead(of, most) => {
                let (topic, queue) = name(of);
                match node.pop_dead(&Pop { max_messages: most, ..Pop::new(topic, queue) }).await {
                    Ok(deliveries) => {
                        self.model.popped_dead(topic, queue, most as usize, &deliveries);
                        self.receipts.extend(deliveries.iter().filter_map(|delivery: &Delivery| delivery.receipt));
                    }
                    Err(error) => same(Err(error), self.model.queue(topic, queue).map(drop)),
                }
            }
            Step::PurgeDead(of) => {
                let (topic, queue) = name(of);
                let purged = node.change(Change::PurgeDead(QueueName::new(topic, queue))).await;
                same(purged, self.model.purge_dead(topic, queue));
            }
            Step::Redrive(of, which) => {
                let (topic, queue) = name(of);
                let ids: Option<Vec<_>> = which.map(|which| which.into_iter().map(|which| self.id(which)).collect());
                let redriven = node.change(Change::Redrive(QueueName::new(topic, queue), ids.clone())).await;
                same(redriven, self.model.redrive(topic, queue, ids.as_deref()));
            }
            Step::Transfer(from, to, copy, all, which) => {
                let which = match all {
                    Some(true) => Which::Waiting,
                    Some(false) => Which::Dead,
                    None => Which::Ids(which.into_iter().map(|which| self.id(which)).collect()),
                };
                self.transfer(&node, (name(from), name(to)), which, copy).await;
            }
            Step::Reschedule(of, which, due) => {
                let ((topic, queue), id) = (name(of), self.id(which));
                let due = self.model.now.saturating_add_signed(due);
                let done = node.change(Change::Reschedule(QueueName::new(topic, queue), id, due)).await;
                same(done.map(drop), self.model.reschedule(topic, queue, id, due));
            }
            Step::Reprioritize(of, which, priority) => {
                let ((topic, queue), id) = (name(of), self.id(which));
                let done = node.change(Change::Reprioritize(QueueName::new(topic, queue), id, priority)).await;
                same(done.map(drop), self.model.reprioritize(topic, queue, id, priority));
            }
            Step::Return(which) => {
                if let Some(receipt) = self.receipt(which) {
                    assert_eq!(node.end(&receipt, &End::Return).await, self.model.give_back(&receipt));
                }
            }
            Step::Look(of) => {
                let (topic, queue) = name(of);
                self.bodies(&node, topic, queue).await;
            }
            Step::Reopen => {
                drop(node);
                self.subject.reopen(None);
                self.model.restarted();
                self.compare().await;
            }
            Step::Crash(seed) => {
                // A lease alone may be lost: with this change, all before it is durable.
                node.change(Change::Configure("certain".to_owned(), Settings::default())).await.unwrap();
                drop(node);
                self.subject.reopen(Some(seed));
                self.model.restarted();
                self.compare().await;
            }
        }
    }

    async fn transfer(&mut self, node: &S::Engine, way: ((&str, &str), (&str, &str)), which: Which, copy: bool) {
        let [from, to] = [way.0, way.1].map(|(topic, queue)| QueueName::new(topic, queue));
        let last = self.ids.last().copied().unwrap_or(MessageId(0));
        let (done, mut copies): (_, Vec<MessageId>) = if copy {
            let done = node.change(Change::Copy(from, to.clone(), which.clone())).await;
            let list = Look::List { queue: to, after: last, most: 1000, dead: false };
            let made = node.look(list).await.map_or_else(|_| Vec::new(), Seen::messages);
            (done, made.into_iter().map(|message| message.id).collect())
        } else {
            (node.change(Change::Move(from, to, which.clone())).await, Vec::new())
        };
        same(done, self.model.transfer(way, &which, copy, &copies));
        self.ids.append(&mut copies);
    }

    async fn push(&mut self, node: &S::Engine, mut pushes: Vec<Push>) {
        for push in &mut pushes {
            self.pushed += 1;
            push.body = format!("{} {}", self.pushed, "x".repeat(push.body.len())).into_bytes().into();
        }
        let planned = self.model.plan(&pushes);
        match (node.push_batch(pushes.clone()).await, planned) {
            (Ok(ids), Ok(planned)) => {
                self.model.pushed(&pushes, &planned, &ids);
                for id in ids {
                    if !self.ids.contains(&id) {
                        assert!(self.ids.last().is_none_or(|last| *last < id), "ids rise");
                        self.ids.push(id);
                    }
                }
            }
            (found, expected) => same(found.map(drop), expected.map(drop)),
        }
    }

    /// All queues, message by message.
    async fn compare(&self) {
        let node = self.subject.engine();
        let names: Vec<_> = self.model.queues().map(|(topic, queue, _)| format!("{topic}/{queue}")).collect();
        let found = topics(&node, None).await;
        let found = found.iter().flat_map(|topic| topic.queues.iter().map(|q| format!("{}/{}", topic.topic, q.queue)));
        assert_eq!(found.collect::<Vec<_>>(), names);
        for (topic, queue, expected) in self.model.queues() {
            let mut told: Vec<_> = expected.messages.clone();
            told.sort_by_key(|message| message.id);
            let told = told.into_iter().map(|m| {
                let state = match m.at {
                    At::Waiting if expected.is_held(&m) => "held",
                    At::Waiting if m.due <= self.model.now => "ready",
                    At::Waiting => "delayed",
                    At::Leased { .. } => "leased",
                    At::Dead | At::DeadLeased { .. } => "dead",
                };
                (m.id, state.to_owned(), m.due, m.retries, m.priority, state == "dead", m.group)
            });
            let listed = node
                .look(Look::List { queue: QueueName::new(topic, queue), after: MessageId(0), most: 1000, dead: false })
                .await
                .unwrap()
                .messages()
                .into_iter();
            let listed = listed.map(|m| (m.id, m.state, m.due_ms, m.retries, m.priority, m.reason.is_some(), m.group));
            assert_eq!(listed.collect::<Vec<_>>(), told.collect::<Vec<_>>(), "queue {topic}/{queue}");
            let stats = topics(&node, Some(topic))
                .await
                .remove(0)
                .queues
                .into_iter()
                .find(|stats| stats.queue == queue)
                .unwrap();
            let sum = stats.ready + stats.delayed + stats.held + stats.leased + stats.dead;
            assert_eq!((sum as usize, stats.paused), (expected.messages.len(), expected.paused));
            let oldest =
                expected.messages.iter().filter(|message| !message.is_dead()).map(|message| message.pushed).min();
            assert_eq!(stats.oldest_ms, oldest.map(|pushed| self.model.now.saturating_sub(pushed)), "the oldest");
        }
    }

    async fn bodies(&mut self, node: &S::Engine, topic: &str, queue: &str) {
        let now = self.model.now;
        let Ok(expected) = self.model.queue(topic, queue) else { return };
        let ready: Vec<_> = expected.ready(now).iter().take(3).map(|message| message.id).collect();
        let peeked = node.look(Look::Peek(QueueName::new(topic, queue), 3)).await.unwrap().messages();
        assert_eq!(peeked.iter().map(|info| info.id).collect::<Vec<_>>(), ready);
        for message in &expected.messages {
            let body = node
                .look(Look::Get(QueueName::new(topic, queue), message.id))
                .await
                .unwrap()
                .messages()
                .remove(0)
                .body
                .unwrap();
            assert_eq!(&body[..], &message.body[..]);
        }
    }
}

/// One topic, or all, with all their queues.
async fn topics(engine: &impl Engine, topic: Option<&str>) -> Vec<TopicStats> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let look = Look::Stats { topic: topic.map(str::to_owned), after };
        let (topics, next) = engine.look(look).await.unwrap().topics();
        all.extend(topics);
        if next.is_none() {
            return all;
        }
        after = next;
    }
}
