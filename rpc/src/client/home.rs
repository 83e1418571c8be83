//! Runtime that a caller runs on. A call over a connection whose task lives on another runtime keeps its deadline itself: that
//! runtime may not be driven.

use std::{cell::Cell, time::Duration};

use tokio::{
    runtime::{self, Handle},
    task,
};

use crate::shard::number_of;

/// Time without any progress after which a runtime counts as not driven.
pub(crate) const STALL: Duration = Duration::from_millis(500);

/// Tasks that a thread remembers.
const REMEMBERED: usize = 1024;

thread_local! {
    /// Runtimes of the tasks that made calls on this thread. A task never changes its runtime and ids are never used again, so
    /// an entry is always right; it saves asking tokio, which counts a reference that all threads share.
    static TASKS: [Cell<Option<(task::Id, runtime::Id)>>; REMEMBERED] = const { [const { Cell::new(None) }; REMEMBERED] };
}

/// Returns true if the caller runs on this runtime, or on none.
#[inline]
pub(crate) fn is_on(runtime: runtime::Id) -> bool {
    let Some(task) = task::try_id() else { return current().is_none_or(|current| current == runtime) };
    TASKS.with(|tasks| {
        let entry = &tasks[number_of(&task) as usize % REMEMBERED];
        match entry.get() {
            Some((known, on)) if known == task => on == runtime,
            _ => {
                let Some(current) = current() else { return true };
                entry.set(Some((task, current)));
                current == runtime
            }
        }
    })
}

fn current() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}
