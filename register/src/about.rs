use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{RegisterError, ServiceName};

/// Facts of one registry client that need no answer of the registry, and the errors that name it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct About {
    url: Arc<str>,
    scope: Option<Arc<str>>,
    expiry: Duration,
    propagation: Duration,
    shares_addresses: bool,
}

impl About {
    /// A registry with this URL (without credentials: messages show it), no scope, and zero for both times.
    pub fn new(url: impl AsRef<str>) -> Self {
        Self {
            url: url.as_ref().into(),
            scope: None,
            expiry: Duration::ZERO,
            propagation: Duration::ZERO,
            shares_addresses: false,
        }
    }

    /// Sets what [`MsRegister::scope`](crate::MsRegister::scope) returns.
    #[must_use]
    pub fn with_scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope = Some(scope.as_ref().into());
        self
    }

    /// Sets what [`MsRegister::expiry`](crate::MsRegister::expiry) returns. Default zero.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Duration) -> Self {
        self.expiry = expiry;
        self
    }

    /// Sets what [`MsRegister::propagation`](crate::MsRegister::propagation) returns. Default zero.
    #[must_use]
    pub fn with_propagation(mut self, propagation: Duration) -> Self {
        self.propagation = propagation;
        self
    }

    /// Instances of one service may have one address, such as that of a message broker, and are told apart by their ids alone. By default
    /// the second one with an address is skipped.
    #[must_use]
    pub fn with_shared_addresses(mut self) -> Self {
        self.shares_addresses = true;
        self
    }

    pub(crate) fn shares_addresses(&self) -> bool {
        self.shares_addresses
    }

    /// The URL without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// See [`MsRegister::scope`](crate::MsRegister::scope).
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// See [`MsRegister::expiry`](crate::MsRegister::expiry).
    pub fn expiry(&self) -> Duration {
        self.expiry
    }

    /// See [`MsRegister::propagation`](crate::MsRegister::propagation).
    pub fn propagation(&self) -> Duration {
        self.propagation
    }

    /// The registry did not answer, or cannot serve: the request may succeed later.
    pub fn unreachable(&self, reason: impl Display) -> RegisterError {
        RegisterError::Unreachable { registry: self.registry(), reason: reason.to_string() }
    }

    /// The registry refused: repeating the request changes nothing.
    pub fn rejected(&self, reason: impl Display) -> RegisterError {
        RegisterError::Rejected { registry: self.registry(), reason: reason.to_string() }
    }

    /// The registry did not do `operation` ("list the instances") within `after`.
    pub fn late(&self, operation: &'static str, after: Duration) -> RegisterError {
        RegisterError::Timeout { registry: self.registry(), operation, after }
    }

    /// The configuration cannot work.
    pub fn invalid(&self, reason: impl Display) -> RegisterError {
        RegisterError::InvalidUrl { url: self.registry(), reason: reason.to_string() }
    }

    /// There is no `what` in this kind of registry; `instead` is the remedy.
    pub fn unsupported(&self, what: &'static str, instead: &'static str) -> RegisterError {
        RegisterError::Unsupported { registry: self.registry(), what, instead }
    }

    pub(crate) fn unnamed_services(&self) -> RegisterError {
        self.unsupported("list of services", "name the services that you ask for")
    }

    pub(crate) fn closed(&self) -> RegisterError {
        RegisterError::Closed { registry: self.registry() }
    }

    pub(crate) fn no_runtime(&self) -> RegisterError {
        RegisterError::NoRuntime { registry: self.registry() }
    }

    pub(crate) fn no_master(&self, service: &ServiceName) -> RegisterError {
        RegisterError::NoMaster { registry: self.registry(), service: service.to_string() }
    }

    /// Awaits a request, at most for `limit`; [`late`](Self::late) after it.
    ///
    /// # Errors
    /// The request's own, and [`RegisterError::Timeout`].
    pub async fn within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        request: impl Future<Output = Result<T, RegisterError>>,
    ) -> Result<T, RegisterError> {
        timeout(limit, request).await.unwrap_or_else(|_| Err(self.late(operation, limit)))
    }

    fn registry(&self) -> String {
        self.url.to_string()
    }
}
