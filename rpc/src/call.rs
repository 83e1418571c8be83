//! One call as both sides know it: its context, what travels with it, and how it ended.

mod context;
mod extensions;
mod metadata;
mod peer;
mod status;

pub use crate::code::Code;
pub use context::Context;
pub use extensions::Extensions;
pub use metadata::Metadata;
pub use peer::Peer;
pub use status::{CallError, NoInstance, Outcome, ServiceError, Status};
