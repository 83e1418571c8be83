//! Random operations.

use proptest::prelude::*;

use crate::{Mode, Push, Rate, Settings, message::Millis};

pub(super) const TOPICS: [&str; 2] = ["a", "b"];
pub(super) const QUEUES: [&str; 3] = ["default", "x1", "x2"];
const ROUTES: [&str; 6] = ["x1", "x2", "default", "x", "^x[12]$", "("];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
const GROUPS: [&str; 2] = ["g1", "g2"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Declare(Queue),
    Configure(usize, Settings),
    Push(Vec<Push>),
    Pop(Queue, u32),
    /// Receipts are chosen among all that were ever given, the newest first.
    Ack(usize),
    AckBatch(Vec<usize>),
    Nack(usize, Millis),
    Touch(usize, Option<Millis>),
    Bury(usize),
    Begin(usize),
    AckById(Queue, usize),
    Cancel(Queue, usize),
    Advance(Millis),
    Purge(Queue),
    Pause(Queue, bool),
    DeleteQueue(Queue),
    DeleteTopic(usize),
    PopDead(Queue, u32),
    PurgeDead(Queue),
    /// The due time is relative, and may be in the past.
    Reschedule(Queue, usize, i64),
    Reprioritize(Queue, usize, u8),
    Return(usize),
    Redrive(Queue, Option<Vec<usize>>),
    /// From a queue to another one: a copy, if so; what is waiting or dead, if so, or some ids.
    Transfer(Queue, Queue, bool, Option<bool>, Vec<usize>),
    Look(Queue),
    Reopen,
    Crash(u64),
}

pub(super) type Queue = (usize, usize);

fn queue() -> impl Strategy<Value = Queue> {
    (0..TOPICS.len(), 0..QUEUES.len())
}

fn settings() -> impl Strategy<Value = Settings> {
    let mode = prop::option::of(prop_oneof![Just(Mode::Exact), Just(Mode::Fuzzy)]);
    let auto_ack = prop::option::weighted(0.3, prop::bool::weighted(0.3));
    let ttr = prop::option::of(1..20_000u64);
    let retries = prop::option::of(0..4u16);
    let length = prop::option::weighted(0.3, prop_oneof![0..6u64, Just(u64::MAX)]);
    let window = prop::option::of(prop_oneof![Just(0), 1..30_000u64]);
    let ttl = prop::option::weighted(0.2, prop_oneof![1..60_000u64, Just(u64::MAX)]);
    let backoff = prop::option::weighted(0.3, prop::collection::vec(0..10_000u64, 0..3));
    let leased = prop::option::weighted(0.2, prop_oneof![1..4u64, Just(u64::MAX)]);
    let rate = (1..5u32, 1..20_000u32).prop_map(|(messages, per_ms)| Rate { messages, per_ms });
    let rate = prop::option::weighted(0.2, prop_oneof![rate, Just(Rate::UNLIMITED)]);
    (mode, auto_ack, ttr, retries, length, window, ttl, (backoff, leased, rate)).prop_map(
        |(mode, auto_ack, ttr_ms, max_retries, max_length, dedup_window_ms, ttl_ms, (backoff_ms, max_leased, rate))| {
            Settings {
                mode,
                auto_ack,
                ttr_ms,
                max_retries,
                max_length,
                dedup_window_ms,
                ttl_ms,
                backoff_ms,
                max_leased,
                rate,
                ..Settings::default()
            }
        },
    )
}

fn push() -> impl Strategy<Value = Push> {
    let route = prop::option::of(prop::sample::select(&ROUTES[..]));
    let delay = prop_oneof![3 => Just(0), 1 => 1..30_000u64];
    let dedup = prop::option::weighted(0.3, prop::sample::select(&KEYS[..]));
    let ttr = prop::option::weighted(0.2, 1..20_000u32);
    let ttl = prop::option::weighted(0.2, 1..40_000u64);
    let group = prop::option::weighted(0.4, prop::sample::select(&GROUPS[..]));
    (0..TOPICS.len(), route, delay, 0..3u8, dedup, ttr, ttl, (0..60usize, group)).prop_map(
        |(topic, route, delay_ms, priority, dedup, ttr_ms, ttl, (size, group))| {
            let mut push = Push {
                route_key: route.map(str::to_owned),
                delay_ms,
                priority,
                ttr_ms,
                dedup: dedup.map(str::to_owned),
                ..Push::new(TOPICS[topic], vec![b'x'; size])
            };
            if let Some(ttl) = ttl {
                push = push.with_ttl_ms(ttl);
            }
            match group {
                Some(group) => push.with_group(group),
                None => push,
            }
        },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let receipt = || 0..8usize;
    prop_oneof![
        3 => queue().prop_map(Step::Declare),
        2 => (0..TOPICS.len(), settings()).prop_map(|(topic, settings)| Step::Configure(topic, settings)),
        12 => push().prop_map(|push| Step::Push(vec![push])),
        5 => prop::collection::vec(push(), 1..5).prop_map(Step::Push),
        14 => (queue(), 1..5u32).prop_map(|(queue, most)| Step::Pop(queue, most)),
        6 => receipt().prop_map(Step::Ack),
        2 => prop::collection::vec(receipt(), 0..4).prop_map(Step::AckBatch),
        5 => (receipt(), prop_oneof![Just(0), 0..20_000u64]).prop_map(|(which, delay)| Step::Nack(which, delay)),
        3 => (receipt(), prop::option::of(1..30_000u64)).prop_map(|(which, ttr)| Step::Touch(which, ttr)),
        1 => receipt().prop_map(Step::Bury),
        3 => receipt().prop_map(Step::Begin),
        2 => (queue(), 0..8usize).prop_map(|(queue, which)| Step::AckById(queue, which)),
        2 => (queue(), 0..8usize).prop_map(|(queue, which)| Step::Cancel(queue, which)),
        12 => prop_oneof![0..200u64, 0..30_000u64].prop_map(Step::Advance),
        1 => queue().prop_map(Step::Purge),
        2 => (queue(), any::<bool>()).prop_map(|(queue, paused)| Step::Pause(queue, paused)),
        1 => queue().prop_map(Step::DeleteQueue),
        1 => (0..TOPICS.len()).prop_map(Step::DeleteTopic),
        3 => (queue(), 1..4u32).prop_map(|(queue, most)| Step::PopDead(queue, most)),
        1 => queue().prop_map(Step::PurgeDead),
        2 => (queue(), 0..8usize, -1000..30_000i64).prop_map(|(queue, which, due)| Step::Reschedule(queue, which, due)),
        2 => (queue(), 0..8usize, 0..4u8).prop_map(|(queue, which, priority)| Step::Reprioritize(queue, which, priority)),
        2 => receipt().prop_map(Step::Return),
        2 => (queue(), prop::option::of(prop::collection::vec(0..8usize, 0..3)))
            .prop_map(|(queue, which)| Step::Redrive(queue, which)),
        5 => (queue(), queue(), any::<bool>(), any::<Option<bool>>(), prop::collection::vec(0..8usize, 0..4))
            .prop_map(|(from, to, copy, all, which)| Step::Transfer(from, to, copy, all, which)),
        3 => queue().prop_map(Step::Look),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}
