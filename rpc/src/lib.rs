//! RPC between services that find each other through a registry.
//!
//! - [`service`]: one trait gives the typed client, the server, and a description for callers by names.
//! - [`Server`] serves named services over TCP, lists them in registries, and limits their rate.
//! - [`ClientProxy`] finds a service through the registry before each call; [`Client`] is one connection to one address.
//! - [`Codec`] and [`Compression`] are the caller's choice, the user's own included.
//!
//! PROTOCOL.md in the repository is the text of the wire format, ARCHITECTURE.md the map of the code.

// The services in here are defined by the same macro as the user's.
extern crate self as ms_rpc;

#[cfg(feature = "axum")]
pub mod axum;
mod blob;
mod body;
mod buffer;
mod call;
mod client;
mod code;
mod codec;
mod compress;
mod custom;
mod encodings;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod layers;
mod local;
mod measure;
mod meter;
mod net;
mod proto;
mod recycle;
mod server;
mod service;
mod shard;
mod sync;
#[cfg(feature = "tls")]
pub mod tls;
mod unanswered;

pub use blob::Blob;
pub use call::{
    Answer, CallError, Code, Context, Extensions, InvalidMetadata, Invocation, Layer, Metadata, Next, NoInstance,
    Outcome, Peer, ServiceError, Status,
};
pub use client::{
    AnyChannel, Arguments, Balance, Balancer, Balancing, CallInfo, CallOptions, Candidate, Candidates, Channel, Client,
    ClientBuilder, ClientProxy, ConfigError, DiscoveryConfig, EjectionConfig, HoldConfig, InProcess, KeepaliveConfig,
    Outgoing, Pick, PickContext, Picker, ProxyBuilder, RedialConfig, RetryConfig, Stub, TypedClient,
};
pub use codec::{Codec, CustomCodec, ReadValue};
pub use compress::{Compression, CustomCompression};
pub use custom::{Custom, CustomError, NumberError};
/// Serde's traits as trait objects, for [`CustomCodec`].
pub use erased_serde;
pub use local::Local;
pub use ms_rpc_macros::service;
pub use ms_security::Principal;
pub use net::{Accept, Dial, Target, Transport};
pub use server::{
    Ending, Guest, Incoming, NextSignal, Protocol, RateLimit, RunningServer, SecondSignal, Server, ServerError,
    ServerLimits, shutdown_signal,
};
pub use service::{
    Descriptor, Execution, Method, Reply, Request, Service, Signature,
    describe::{Describe, DescribeClient, MethodDescription, ServiceDescription},
    health::{Health, HealthClient, HealthState, ServiceHealth},
};

/// Tokens of callers: see [`Server::tokens`] and [`Server::authenticate`].
pub mod auth {
    pub use ms_security::{Principal, Rule, RuleError, Rules, Tokens, TokensError};
}

/// Items that generated code refers to.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::{
        service::signature::{Carried, Fallback, IsStatus, Probe, Sent, Shape, Value, hash},
        shard::Sharded,
    };
}
