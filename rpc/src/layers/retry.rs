use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{Answer, Code, Invocation, Layer, Next, Outcome, Status};

/// Makes calls again that failed, where that does no harm: those that were not executed, and idempotent ones of which nobody
/// knows. For channels that do not retry by themselves, such as a single connection or a fake; a
/// [`ClientProxy`](crate::ClientProxy) does, on other instances and within a budget.
///
/// Pauses are drawn at random from a span that doubles with each attempt (full jitter), from `pause` up to a second, and are
/// never shorter than the retry-after of a refusal. No attempt begins after the deadline.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    attempts: u32,
    pause: Duration,
}

impl Retry {
    /// Up to `attempts` in all, at least 1; the first pause takes up to `pause`.
    pub fn new(attempts: u32, pause: Duration) -> Self {
        Self { attempts: attempts.max(1), pause }
    }

    fn pause(&self, attempt: u32, status: &Status) -> Duration {
        let most = self.pause.saturating_mul(1 << attempt.min(10)).min(Duration::from_secs(1));
        most.mul_f64(fastrand::f64()).max(status.retry_after().unwrap_or_default())
    }
}

fn may_repeat(status: &Status, idempotent: bool) -> bool {
    match (status.outcome(), status.code()) {
        (Outcome::NotSent | Outcome::Refused, Code::Unavailable) => true,
        (Outcome::Unknown, Code::Unavailable) => idempotent,
        _ => false,
    }
}

#[async_trait]
impl Layer for Retry {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let mut attempt = 0;
        loop {
            let status = match next.run(call).await {
                Err(status) if may_repeat(&status, call.is_idempotent()) => status,
                result => return result,
            };
            let pause = self.pause(attempt, &status);
            attempt += 1;
            if attempt == self.attempts || Instant::now() + pause >= call.context().deadline() {
                return Err(status);
            }
            sleep(pause).await;
        }
    }
}
