//! One call as both sides know it: how it ended, and what it is served in.

mod code;
mod context;
mod status;

pub use code::Code;
pub(crate) use context::Unanswered;
pub use context::{Context, Peer};
pub use status::{CallError, NoInstance, Outcome, ServiceError, Status};
