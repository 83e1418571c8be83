//! State that the tasks of one consumer share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{ConsumerOptions, held::Held, report::Report};
use crate::client::{nodes::Nodes, waits::Waits};

/// Life of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Pops messages.
    Running,
    /// Pops no more, and waits for its handlers.
    Stopping,
    /// Handlers are cancelled.
    CutOff,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) nodes: Nodes,
    pub(super) waits: Waits,
    pub(super) topic: String,
    pub(super) queue: String,
    pub(super) options: ConsumerOptions,
    pub(super) report: Report,
    pub(super) phase: watch::Sender<Phase>,
    /// Wakes the fetchers: there may be room for more messages.
    pub(super) room: watch::Sender<()>,
    /// Wakes the dispatcher: there may be a handler to start, or none left to wait for.
    pub(super) work: Notify,
    /// Wakes the keeper: there are new leases.
    pub(super) leases: Notify,
    held: Mutex<Held>,
}

impl Shared {
    pub(super) fn new(nodes: &Nodes, waits: &Waits, topic: &str, queue: &str, options: ConsumerOptions) -> Self {
        Self {
            nodes: nodes.clone(),
            waits: waits.clone(),
            topic: topic.to_owned(),
            queue: queue.to_owned(),
            held: Mutex::new(Held::new(&options)),
            options,
            report: Report::new(topic, queue),
            phase: watch::Sender::new(Phase::Running),
            room: watch::Sender::new(()),
            work: Notify::new(),
            leases: Notify::new(),
        }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
        self.work.notify_one();
    }

    pub(super) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Waits until the consumer has reached this phase.
    pub(super) async fn reached(&self, phase: Phase) {
        // An error is impossible: the sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Wakes whatever waits for room or for a free slot.
    pub(super) fn freed(&self) {
        self.room.send_replace(());
        self.work.notify_one();
    }
}
