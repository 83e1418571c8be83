//! Many callers that take turns, as one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

use crate::peer::{Caller, Ends, Failure};

/// Each call goes to the next of the callers; clones have their own, and take turns together.
#[derive(Clone, Debug)]
pub(super) struct Turns<C> {
    callers: Vec<C>,
    turn: Arc<AtomicUsize>,
}

impl<C> Turns<C> {
    /// Over these, of which there is at least one.
    pub(super) fn over(callers: Vec<C>) -> Self {
        Self { callers, turn: Arc::default() }
    }

    fn next(&mut self) -> &mut C {
        let turn = self.turn.fetch_add(1, Relaxed) % self.callers.len();
        &mut self.callers[turn]
    }
}

impl<C: Caller> Caller for Turns<C> {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        self.next().find(id).await
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        self.next().echo(body).await
    }

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        self.next().compute(number).await
    }
}
