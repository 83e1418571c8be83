use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{AcquireError, Semaphore};

use crate::{Answer, Code, Invocation, Layer, Next, Outcome, Status};

/// Bounds the calls that are within this layer at a time; others wait in the order in which they came, each until its
/// deadline.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    permits: Arc<Semaphore>,
    most: usize,
}

impl ConcurrencyLimit {
    /// At most `calls` at a time; 0 counts as 1. Clones share the bound.
    pub fn new(calls: usize) -> Self {
        let most = calls.clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(most)), most }
    }
}

#[async_trait]
impl Layer for ConcurrencyLimit {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let refused = |message: String| Status::new(Code::Unavailable, message).with_outcome(Outcome::Refused);
        let deadline = call.context().deadline();
        let _permit = match tokio::time::timeout_at(deadline, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(AcquireError { .. })) => return Err(refused("the concurrency limit is closed".to_owned())),
            Err(_) => {
                let message = format!("{} waited in vain: {} calls are within its limit", call.name(), self.most);
                return Err(refused(message));
            }
        };
        next.run(call).await
    }
}
