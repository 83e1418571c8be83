//! Certificates and tokens of a process, for every door that it opens: RPC, HTTP, registries.
//!
//! - [`tls`] (feature `tls`): TLS 1.3 with the identity of the service.
//! - [`Tokens`]: tokens with the name of their holder, from a file that is read again when it changes.
//! - [`Rules`]: who may do what.
//! - [`Seldom`]: a bound on log lines that strangers can cause.

mod rules;
mod seldom;
#[cfg(feature = "tls")]
pub mod tls;
mod tokens;

pub use rules::{Pattern, Rule, RuleError, Rules};
pub use seldom::Seldom;
pub use tokens::{Principal, Tokens, TokensError};
