//! The connection to etcd: every call bounded in time, every error named.

use std::{error::Error as _, fmt, future::Future, sync::Arc, time::Duration};

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper,
    PutOptions, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use super::EtcdConfig;
use crate::RegisterError;

/// gRPC's canonical codes; the client crate gives them without names.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// Cheap to clone; all clones share one channel, which reconnects by itself.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    url: Arc<str>,
    timeout: Duration,
    /// How often a call is tried at once: the channel may pick a dead endpoint although another one lives.
    attempts: usize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Link {
    /// TCP alone does not notice a peer that is paused or cut off. etcd takes pings more often than every 5 s for abuse.
    const PING_EVERY: Duration = Duration::from_secs(6);
    const PONG_WITHIN: Duration = Duration::from_secs(3);

    /// Prepares the channel. Only logging in speaks to etcd: without a user this succeeds while etcd is away.
    pub(super) async fn connect(config: &EtcdConfig, url: String) -> Result<Self, RegisterError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(config.timeout.min(Duration::from_secs(2)))
            .with_keep_alive(Self::PING_EVERY, Self::PONG_WITHIN)
            .with_keep_alive_while_idle(true);
        if let (Some(username), Some(password)) = (&config.username, &config.password) {
            options = options.with_user(username, password).with_auto_token_refresh(true);
        }
        let url: Arc<str> = url.into();
        let client = match timeout(config.timeout, Client::connect(&config.endpoints, Some(options))).await {
            Ok(connected) => connected.map_err(|error| named(&url, &error))?,
            Err(_) => return Err(late(&url, "log in", config.timeout)),
        };
        Ok(Self { client, url, timeout: config.timeout, attempts: config.endpoints.len() + 1 })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn get(
        &self,
        operation: &'static str,
        key: &str,
        options: &GetOptions,
    ) -> Result<GetResponse, RegisterError> {
        let get = |mut client: Client| async move { client.get(key, Some(options.clone())).await };
        self.call(operation, get).await
    }

    /// Puts under a lease.
    pub(super) async fn put(&self, key: &str, value: &[u8], lease: i64) -> Result<(), RegisterError> {
        let options = || PutOptions::new().with_lease(lease);
        let put = |mut client: Client| async move { client.put(key, value, Some(options())).await };
        self.call("write the instance", put).await.map(drop)
    }

    /// Makes sure that the lease exists; its id is the caller's choice.
    pub(super) async fn grant(&self, lease: i64, ttl: i64) -> Result<(), RegisterError> {
        let grant = |mut client: Client| async move {
            match client.lease_grant(ttl, Some(LeaseGrantOptions::new().with_id(lease))).await {
                Err(Error::GRpcStatus(status)) if status.message().contains("lease already exists") => Ok(()),
                granted => granted.map(drop),
            }
        };
        self.call("grant a lease", grant).await
    }

    /// Revokes a lease, and with it what is written under it. One that etcd does not know has ended before.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), RegisterError> {
        let revoke = |mut client: Client| async move {
            match client.lease_revoke(lease).await {
                Err(error) if is_lease_gone(&error) => Ok(()),
                revoked => revoked.map(drop),
            }
        };
        self.call("revoke a lease", revoke).await
    }

    /// Opens a keep-alive stream, which has renewed the lease once by then. `None`: etcd does not know the lease.
    pub(super) async fn keep_alive(
        &self,
        lease: i64,
    ) -> Result<Option<(LeaseKeeper, LeaseKeepAliveStream)>, RegisterError> {
        let open = |mut client: Client| async move {
            match client.lease_keep_alive(lease).await {
                Err(error) if is_lease_gone(&error) => Ok(None),
                opened => opened.map(Some),
            }
        };
        self.call("renew a lease", open).await
    }

    pub(super) async fn watch(&self, key: &str, options: &WatchOptions) -> Result<WatchStream, RegisterError> {
        let open = |mut client: Client| async move { client.watch(key, Some(options.clone())).await };
        self.call("open a watch", open).await
    }

    pub(super) fn named(&self, error: &Error) -> RegisterError {
        named(&self.url, error)
    }

    pub(super) fn late(&self, operation: &'static str) -> RegisterError {
        late(&self.url, operation, self.timeout)
    }

    pub(super) fn unreachable(&self, reason: String) -> RegisterError {
        RegisterError::Unreachable { registry: self.url().to_owned(), reason }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Every request here may be repeated: what it asks for is a state, not a step.
    async fn call<T, F, C>(&self, operation: &'static str, request: C) -> Result<T, RegisterError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        let attempts = async {
            let mut attempt = 1;
            loop {
                match request(self.client.clone()).await {
                    Err(error) if attempt < self.attempts && status_code(&error) == Some(code::UNAVAILABLE) => {
                        attempt += 1;
                    }
                    outcome => return outcome,
                }
            }
        };
        match timeout(self.timeout, attempts).await {
            Ok(outcome) => outcome.map_err(|error| self.named(&error)),
            Err(_) => Err(self.late(operation)),
        }
    }
}

fn is_lease_gone(error: &Error) -> bool {
    match error {
        Error::LeaseKeepAliveError(text) => text.contains("lease not found"),
        error => status_code(error) == Some(code::NOT_FOUND),
    }
}

fn status_code(error: &Error) -> Option<i32> {
    match error {
        Error::GRpcStatus(status) => Some(status.code() as i32),
        _ => None,
    }
}

fn late(url: &str, operation: &'static str, after: Duration) -> RegisterError {
    RegisterError::Timeout { registry: url.to_owned(), operation, after }
}

fn named(url: &str, error: &Error) -> RegisterError {
    let registry = url.to_owned();
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::InvalidArgs(_) | Error::InvalidUri(_) => {
                RegisterError::InvalidUrl { url: registry, reason: error.to_string() }
            }
            _ => RegisterError::Unreachable { registry, reason: error.to_string() },
        };
    };
    let mut reason = status.message().to_owned();
    let mut source = status.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    match status.code() as i32 {
        code::CANCELLED | code::UNKNOWN | code::DEADLINE_EXCEEDED | code::INTERNAL | code::UNAVAILABLE => {
            RegisterError::Unreachable { registry, reason }
        }
        _ => RegisterError::Rejected { registry, reason },
    }
}
