use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::{Answer, Code, Invocation, Layer, Next, Outcome, Status};

/// Ends calls that take longer than a time, though their callers gave them more.
///
/// The shorter deadline is the context's, so that nested calls inherit it. A call that it ends is `DeadlineExceeded`, and may
/// have been executed.
#[derive(Clone, Copy, Debug)]
pub struct Timeout(Duration);

impl Timeout {
    /// At most `time` for what is within this layer.
    pub fn new(time: Duration) -> Self {
        Self(time)
    }
}

#[async_trait]
impl Layer for Timeout {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let deadline = Instant::now() + self.0;
        call.context_mut().shorten_deadline(deadline);
        timeout_at(deadline, next.run(call)).await.unwrap_or_else(|_| {
            let message = format!("{} took longer than {:?}", call.name(), self.0);
            Err(Status::new(Code::DeadlineExceeded, message).with_outcome(Outcome::Unknown))
        })
    }
}
