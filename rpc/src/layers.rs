//! Ready-made [layers](crate::Layer).

mod concurrency;
mod retry;
mod timeout;
mod trace;

pub use concurrency::ConcurrencyLimit;
pub use retry::Retry;
pub use timeout::Timeout;
pub use trace::{Propagate, Trace, TraceContext};
