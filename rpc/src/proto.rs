//! The protocol without I/O: bytes to frames and back, and the state of one connection. The text of record is PROTOCOL.md.
//!
//! Nothing in here reads a clock, holds a socket, spawns a task or takes a lock: time is an argument.

mod frame;
mod head;
mod hello;
mod in_flight;
mod keepalive;
mod patience;

pub(crate) use frame::*;
pub(crate) use head::{BadHead, KnownHead, RequestHead, ResponseHead, append_pair, flag, read_pairs};
pub(crate) use hello::{ClientHello, ServerHello};
pub(crate) use in_flight::{InFlight, Settled};
pub(crate) use keepalive::{Due, Keepalive, Output};
pub(crate) use patience::Patience;
