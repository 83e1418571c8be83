use std::sync::Arc;

use tokio::time::Instant;

use crate::{Code, server::dispatch::Route};

/// Measured calls of a batch that were answered in place: counted together, with one reading of the clock.
#[derive(Default)]
pub(super) struct Batch {
    /// Calls in a row of one method that ended with one code.
    runs: Vec<(Arc<Route>, Code, u64)>,
}

impl Batch {
    /// Notes an answered call; a call of a route that is not measured costs one comparison.
    #[inline]
    pub(super) fn answered(&mut self, route: &Arc<Route>, code: Code) {
        if route.stats.is_none() {
            return;
        }
        match self.runs.last_mut() {
            Some((last, last_code, calls)) if Arc::ptr_eq(last, route) && *last_code == code => *calls += 1,
            _ => self.runs.push((route.clone(), code, 1)),
        }
    }

    /// Counts the calls of a batch that began at `began`.
    #[inline]
    pub(super) fn end(&mut self, began: Instant) {
        if self.runs.is_empty() {
            return;
        }
        let took = began.elapsed();
        for (route, code, calls) in self.runs.drain(..) {
            if let Some(stats) = &route.stats {
                stats.add(code, took, calls);
            }
        }
    }
}
