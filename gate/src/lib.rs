//! A gate: many clients on one side, over TCP and WebSocket, and back ends that are found through a registry on the other.
//!
//! - [`Gate`] takes the frames of clients, which are zinx's, and sends each message to a back end of the group that its id belongs to.
//! - [`GateBackend`] is what a back end implements, and [`backend`] the service to serve it by.
//! - [`GateClient`] is how back ends reach clients: one, many, a user, a group, or all, at whatever gate they are connected.
//! - [`RouteFile`] reads zinx-cluster's `route.json`; its `dinx.json` is a registry: `file:///dinx.json`.
//!
//! Several gates share nothing but the registry: each knows its own members, and whoever must ask all of them does so by RPC.

mod backend;
mod client;
mod clock;
mod directory;
mod door;
mod error;
mod follow;
mod frame;
mod gate;
mod limits;
mod member;
mod meter;
mod node;
mod outbox;
mod refusal;
mod route_file;
mod routes;
mod session;
mod shared;
mod wire;

pub use backend::{GateBackend, backend};
pub use client::{GateClient, Pushed};
pub use error::{ConfigError, GateError};
pub use follow::Following;
pub use frame::{Frame, FrameTooLong, HEAD};
pub use gate::{GATES, Gate, RunningGate};
pub use limits::GateLimits;
pub use member::{Member, MemberId, MemberIdError};
pub use refusal::Refusal;
pub use route_file::{FollowedRoutes, RouteFile};
pub use routes::Routes;

/// The page for users, whose example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/gate.md")]
struct Page;
