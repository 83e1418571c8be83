//! Waiters for a change of one candidate's rank: each is notified of its candidate alone.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::{elections::Key, state::State};

/// Waiters, by candidate. All candidates are in the queue when [`tell`](Self::tell) returns, so they end with their leases.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: HashMap<Key, Vec<oneshot::Sender<()>>>,
    /// Since they were last told, with the place that they know of.
    new: Vec<(Key, Option<u64>, oneshot::Sender<()>)>,
}

impl Turns {
    /// To be told when the candidate is not in the queue with this token, or without one.
    pub(crate) fn add(&mut self, seat: Key, token: Option<u64>, told: oneshot::Sender<()>) {
        self.new.push((seat, token, told));
    }

    /// Notifies the waiters of changes that are on the disk.
    pub(crate) fn tell(&mut self, state: &mut State) {
        for seat in state.take_turned() {
            self.waiting.remove(&seat).into_iter().flatten().for_each(tell);
        }
        for (seat, token, told) in self.new.drain(..) {
            if state.is_at(&seat, token) {
                let waiting = self.waiting.entry(seat).or_default();
                waiting.retain(|told| !told.is_closed());
                waiting.push(told);
            } else {
                tell(told);
            }
        }
    }
}

fn tell(told: oneshot::Sender<()>) {
    // An error: nobody waits any more.
    let _ = told.send(());
}
