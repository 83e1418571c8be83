//! The protocol without I/O: bytes to frames and back, and the state of one connection. The text of record is PROTOCOL.md.
//!
//! Nothing in here reads a clock, holds a socket, spawns a task or takes a lock: time is an argument.

mod arrival;
mod client_side;
mod frame;
mod head;
mod hello;
mod in_flight;
mod inbound;
mod keepalive;
mod server_side;

pub(crate) use client_side::{ClientEvent, ClientSide, read_hello};
pub(crate) use frame::*;
pub(crate) use head::{BadHead, KnownHead, RequestHead, ResponseHead, append_pair, flag, read_pairs};
pub(crate) use hello::{ClientHello, ServerHello};
pub(crate) use in_flight::{InFlight, Settled};
pub(crate) use inbound::{Frame, Inbound, Space};
pub use keepalive::KeepaliveConfig;
pub(crate) use keepalive::{Due, Output};
pub(crate) use server_side::{ServerEvent, ServerSide, ServerTimes};
