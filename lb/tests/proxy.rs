//! The HTTP load balancer before back ends in Python.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "proxy/requests.rs"]
mod requests;
#[path = "proxy/streams.rs"]
mod streams;
#[path = "proxy/support/mod.rs"]
mod support;
#[path = "proxy/tls.rs"]
mod tls;
