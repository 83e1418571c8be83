//! RPC between services that find each other through a registry.
//!
//! - [`service`]: one trait gives the typed client, the server, and a description for callers by names.
//! - [`Server`] serves named services over TCP, lists them in registries, and limits their rate.
//! - [`ClientProxy`] finds a service through the registry before each call; [`Client`] is one connection to one address.
//! - [`Codec`] and [`Compression`] are the caller's choice.
//!
//! PROTOCOL.md in the repository is the text of the wire format, ARCHITECTURE.md the map of the code.

// The services in here are defined by the same macro as the user's.
extern crate self as ms_rpc;

mod blob;
mod buffer;
mod client;
mod codec;
mod compress;
mod context;
mod describe;
mod frame;
mod health;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod meter;
mod reply;
mod server;
mod service;
mod shard;
mod status;
mod transport;

pub use blob::Blob;
pub use client::{
    Arguments, Balancer, Balancing, CallOptions, Channel, Client, ClientBuilder, ClientProxy, Dial, Local, Outgoing,
    ProxyBuilder, Stub, TypedClient,
};
pub use codec::Codec;
pub use compress::Compression;
pub use context::{Context, Peer};
pub use describe::{DescribeClient, MethodDescription, ServiceDescription};
pub use health::{HealthClient, HealthState, ServiceHealth};
pub use ms_rpc_macros::service;
pub use server::{Incoming, NextSignal, RateLimit, RunningServer, SecondSignal, Server, ServerError, shutdown_signal};
pub use service::{Descriptor, Method, Reply, Request, Service};
pub use status::{CallError, Code, NoInstance, Outcome, ServiceError, Status};
pub use transport::Transport;

/// What generated code refers to.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::shard::Sharded;
}
