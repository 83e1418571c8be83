//! Outcomes that are there, whose callers tell each other. One of them may be held up: so the writer tells them in the end.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::node::completion::Completion;

/// Outcomes whose callers may not be notified yet, the oldest first.
#[derive(Debug, Default)]
pub(in crate::node) struct Answered(VecDeque<(Instant, Arc<Completion>)>);

/// How long a task may hold up a runtime's thread, and be no hindrance to others.
const LONG: Duration = Duration::from_millis(20);

impl Answered {
    pub(super) fn extend(&mut self, completion: Option<Arc<Completion>>) {
        self.0.extend(completion.map(|completion| (Instant::now(), completion)));
    }

    /// When [`tell_due`](Self::tell_due) has something to do.
    pub(super) fn is_due_in(&mut self) -> Option<Duration> {
        self.0.retain(|(_, completion)| !completion.is_told());
        self.0.front().map(|(since, _)| LONG.saturating_sub(since.elapsed()))
    }

    /// Tells those that had their time.
    pub(super) fn tell_due(&mut self) {
        while let Some((_, completion)) = self.0.pop_front_if(|(since, it)| it.is_told() || since.elapsed() >= LONG) {
            completion.tell();
        }
    }

    pub(super) fn tell_all(&mut self) {
        self.0.drain(..).for_each(|(_, completion)| completion.tell());
    }
}
