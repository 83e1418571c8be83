//! One call as both sides know it: its context, what travels with it, and how it ended.

mod answer;
mod context;
mod extensions;
mod invocation;
mod layer;
mod metadata;
mod peer;
mod status;

pub use crate::code::Code;
pub use answer::Answer;
pub use context::Context;
pub use extensions::Extensions;
pub use invocation::Invocation;
pub(crate) use layer::Innermost;
pub use layer::{Layer, Next};
pub use metadata::{InvalidMetadata, Metadata};
pub use peer::Peer;
pub use status::{CallError, NoInstance, Outcome, ServiceError, Status};
