//! The harness: private registry servers that a test starts, freezes, kills and starts again.
//!
//! Each [`Server`] has free ports and a data directory of its own, so tests run side by side, and ends when it is
//! dropped. A server program that is not installed is an error, never a skipped test.

mod http;
mod ports;
mod server;

pub use http::{Response, request};
pub use server::{Data, Server};
