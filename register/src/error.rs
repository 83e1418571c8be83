//! Errors of registries.

use std::time::Duration;

/// Reason for which a registry did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A service name that breaks the rule of [`ServiceName`](crate::ServiceName).
    #[error("service name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// The broken rule.
        reason: String,
    },
    /// An instance that cannot be published.
    #[error("instance `{instance}` cannot be registered: {reason}")]
    InvalidInstance {
        /// Its id.
        instance: String,
        /// The broken rule, and what to do.
        reason: String,
    },
    /// A registry URL that does not parse.
    #[error("registry URL {url:?}: {reason}")]
    InvalidUrl {
        /// The URL, without credentials.
        url: String,
        /// The broken rule.
        reason: String,
    },
    /// A URL scheme that no back end answers to.
    #[error("registry URL scheme `{scheme}` is unknown: use one of {known}")]
    UnknownScheme {
        /// The scheme as given.
        scheme: String,
        /// All known schemes.
        known: &'static str,
    },
    /// A back end that exists but was left out of this build.
    #[error("the {scheme} back end is not compiled in: turn on the cargo feature `{scheme}` of ms-register")]
    NotCompiled {
        /// The scheme, which is also the feature's name.
        scheme: &'static str,
    },
    /// The registry did not answer, or answered that it cannot serve.
    #[error("registry {registry} is unreachable: {reason}")]
    Unreachable {
        /// Its URL.
        registry: String,
        /// Observation that shows it.
        reason: String,
    },
    /// The registry took longer than allowed.
    #[error("registry {registry} did not {operation} within {after:?}")]
    Timeout {
        /// Its URL.
        registry: String,
        /// Request that was made.
        operation: &'static str,
        /// The time allowed.
        after: Duration,
    },
    /// The registry answered with a refusal.
    #[error("registry {registry} refused: {reason}")]
    Rejected {
        /// Its URL.
        registry: String,
        /// Its words.
        reason: String,
    },
    /// The operation does not exist in this kind of registry.
    #[error("registry {registry} has no {what}: {instead}")]
    Unsupported {
        /// Its URL.
        registry: String,
        /// Operation asked for.
        what: &'static str,
        /// Alternative to use.
        instead: &'static str,
    },
    /// Nobody leads at the moment.
    #[error("`{service}` has no master in registry {registry}: nobody campaigns, or the next one is not elected yet")]
    NoMaster {
        /// The registry's URL.
        registry: String,
        /// Election whose master was asked for.
        service: String,
    },
    /// The registry was closed by this process.
    #[error("registry {registry} is closed")]
    Closed {
        /// Its URL.
        registry: String,
    },
    /// Called outside a tokio runtime, which the background work needs.
    #[error("registry {registry} needs a tokio runtime: call it from within one")]
    NoRuntime {
        /// Its URL.
        registry: String,
    },
}

impl RegisterError {
    /// Returns true if the same request may succeed later without a change on the caller's side.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}
