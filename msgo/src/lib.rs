//! msgo's version-1 frames on the port of a server, and a client for its servers.
//!
//! - [`Version1`] is a [`Protocol`](ms_rpc::Protocol): `Server::protocol(Version1)` lets msgo's clients call the services of a
//!   server, which serves its own clients on the same port.
//! - [`MsgoClient`] is a [`Channel`](ms_rpc::Channel): typed clients, layers and calls by names reach servers of msgo.
//!
//! Values are those of `google.protobuf.Value`: numbers are doubles, so integers beyond 2^53 are refused, and not rounded. Of
//! msgo's serializers protobuf is spoken; to gob the answer is, in gob, that it is not.

mod client;
mod frame;
mod frames;
mod gob;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod message;
mod names;
mod server;

pub use client::MsgoClient;
pub use server::Version1;
