//! Pushes that become visible together.

use std::sync::Arc;

use super::completion::{Completion, Waiter};
use crate::{
    MessageId, MqError,
    state::{Pending, Pushed},
};

/// Pushes that become visible together, and the waiters for it.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) pushes: Vec<Pending>,
    completion: Option<Arc<Completion>>,
    callers: usize,
}

impl Stage {
    /// Adds a push to those that are shown, unless it is an earlier one again.
    pub(super) fn add(&mut self, pushed: Pushed) -> MessageId {
        match pushed {
            Pushed::Duplicate(id) => id,
            Pushed::New(pending) => {
                let id = pending.id;
                self.pushes.push(pending);
                id
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pushes.is_empty() && self.callers == 0
    }

    pub(super) fn callers(&self) -> usize {
        self.callers
    }

    /// Ends when the stage is reached.
    pub(super) fn reached(&mut self) -> Waiter {
        self.callers += 1;
        self.completion.get_or_insert_default().wait()
    }

    /// Ends the waiting; returns what is to be told a little later.
    pub(super) fn answer(&mut self, outcome: &Result<(), MqError>) -> Option<Arc<Completion>> {
        let completion = self.completion.take()?;
        completion.complete(outcome.clone());
        Some(completion)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(lost) = self.answer(&Err(MqError::Closed)) {
            lost.tell();
        }
    }
}
