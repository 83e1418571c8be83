//! The connections to etcd's members: every call bounded in time and moved on to another member, every error named.

use std::{
    error::Error as _,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, KeyValue, LeaseGrantOptions, LeaseKeepAliveStream,
    LeaseKeeper, PutOptions, WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::{Instant, timeout_at};

use super::EtcdConfig;
use crate::{About, RegisterError};

/// gRPC's canonical codes; the client crate gives them without names.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// Cheap to clone; all clones share one connection for each member, which reconnects by itself.
#[derive(Clone)]
pub(super) struct Link(Arc<Members>);

struct Members {
    config: EtcdConfig,
    about: About,
    /// One for each endpoint, logged in; made at its first use.
    clients: Vec<Mutex<Option<Client>>>,
    /// Index of the member that answered last.
    preferred: AtomicUsize,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Link {
    /// TCP alone does not notice a peer that is paused or cut off. etcd takes pings more often than every 5 s for abuse.
    const PING_EVERY: Duration = Duration::from_secs(6);
    const PONG_WITHIN: Duration = Duration::from_secs(3);
    /// Keys in one answer, which are read at once.
    const PAGE: i64 = 1_000;
    /// The longest answer that is read, in bytes: etcd's largest values in half a page.
    const LARGEST: usize = 512 << 20;

    /// A link that has spoken to nobody yet.
    pub(super) fn new(config: EtcdConfig) -> Self {
        let (about, count) = (config.about(), config.endpoints.len());
        let clients = (0..count).map(|_| Mutex::default()).collect();
        Self(Arc::new(Members { config, about, clients, preferred: AtomicUsize::new(fastrand::usize(..count.max(1))) }))
    }

    pub(super) fn about(&self) -> &About {
        &self.0.about
    }

    pub(super) async fn get(
        &self,
        operation: &'static str,
        key: impl AsRef<[u8]>,
        options: &GetOptions,
    ) -> Result<GetResponse, RegisterError> {
        let key = key.as_ref();
        let get = |client: Client| async move {
            client.kv_client().max_decoding_message_size(Self::LARGEST).get(key, Some(options.clone())).await
        };
        self.call(operation, get).await
    }

    /// Reads all keys that begin with `prefix`, which ends with a slash, as of one revision; returns that.
    pub(super) async fn each(
        &self,
        operation: &'static str,
        prefix: &str,
        options: GetOptions,
        mut visit: impl FnMut(&KeyValue),
    ) -> Result<i64, RegisterError> {
        // The next character after a slash.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let options = options.with_range(end).with_limit(Self::PAGE);
        let (mut next, mut seen_at) = (prefix.as_bytes().to_vec(), None);
        loop {
            let options = seen_at.map_or_else(|| options.clone(), |revision| options.clone().with_revision(revision));
            let page = self.get(operation, &next, &options).await?;
            let revision = *seen_at.get_or_insert_with(|| page.header().map_or(0, |header| header.revision()));
            page.kvs().iter().for_each(&mut visit);
            match page.kvs().last() {
                Some(last) if page.more() => next = [last.key(), b"\0"].concat(),
                _ => return Ok(revision),
            }
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), RegisterError> {
        let delete = |mut client: Client| async move { client.delete(key, None).await };
        self.call("remove the instance", delete).await.map(drop)
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

    /// Follows changes after this revision. The watch stands when this returns.
    pub(super) async fn watch(&self, key: &str, options: WatchOptions, seen_at: i64) -> Result<Watch, RegisterError> {
        let start = seen_at + 1;
        let options = options.with_start_revision(start);
        let open = |client: Client| {
            let options = options.clone();
            async move {
                let mut watches = client.watch_client().max_decoding_message_size(Self::LARGEST);
                let mut stream = watches.watch(key, Some(options)).await?;
                let created = stream.message().await?;
                Ok((stream, created))
            }
        };
        let (stream, created) = self.call("open a watch", open).await?;
        let watch = Watch { link: self.clone(), stream, start };
        watch.check(created)?;
        Ok(watch)
    }

    /// Every request here may be repeated: it asks for a state, not for a step. Each attempt has a share of the time, so that a
    /// member that is frozen or cut off leaves some for another one.
    async fn call<T, F, C>(&self, operation: &'static str, request: C) -> Result<T, RegisterError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        let Members { config, about, clients, .. } = &*self.0;
        let (end, share) = (Instant::now() + config.timeout, self.share());
        let mut left = clients.len() + 1;
        loop {
            left -= 1;
            let member = self.0.preferred.load(Ordering::Relaxed) % clients.len();
            let limit = (Instant::now() + share).min(end);
            let attempt = async { request(self.client(member).await?).await };
            let error = match timeout_at(limit, attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_stale_login(&error) && left > 0 => {
                    self.forget(member);
                    continue;
                }
                Ok(Err(error)) if status_code(&error) == Some(code::UNAVAILABLE) => named(about, &error),
                Ok(Err(error)) => return Err(named(about, &error)),
                Err(_) => about.late(operation, config.timeout),
            };
            let next = (member + 1) % clients.len();
            // An error: another call has moved on already.
            let _ = self.0.preferred.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
            if left == 0 || Instant::now() >= end {
                return Err(error);
            }
        }
    }

    /// Longest time of one attempt.
    fn share(&self) -> Duration {
        let Members { config, clients, .. } = &*self.0;
        config.timeout / u32::try_from(clients.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The client of one member. Only logging in speaks to etcd: without a user this succeeds while the member is away.
    async fn client(&self, member: usize) -> Result<Client, Error> {
        let Members { config, clients, .. } = &*self.0;
        let slot = || clients[member].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot() {
            return Ok(client.clone());
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.share().min(Duration::from_secs(2)))
            .with_keep_alive(Self::PING_EVERY, Self::PONG_WITHIN)
            .with_keep_alive_while_idle(true)
            // A member that is cut off from the others ends watches and refuses calls at once.
            .with_require_leader(true);
        if let Some(login) = &config.login {
            options = options.with_user(&login.username, login.password.expose());
        }
        let client = Client::connect(&[&config.endpoints[member]], Some(options)).await?;
        Ok(slot().get_or_insert(client).clone())
    }

    fn forget(&self, member: usize) {
        *self.0.clients[member].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A watch that can be relied on: it ends in an error where etcd would fall silent.
pub(super) struct Watch {
    link: Link,
    stream: WatchStream,
    start: i64,
}

impl Watch {
    pub(super) async fn next(&mut self) -> Result<WatchResponse, RegisterError> {
        let response = self.stream.message().await.map_err(|error| named(self.link.about(), &error))?;
        self.check(response)
    }

    /// Seen of etcd: a watch from a compacted revision is canceled and then silent; one from a revision that a wiped etcd has not
    /// reached skips all before it in silence.
    fn check(&self, response: Option<WatchResponse>) -> Result<WatchResponse, RegisterError> {
        let reason = match &response {
            None => "it ended",
            Some(response) if response.compact_revision() != 0 => "its revision was compacted",
            Some(response) if response.canceled() => "it was canceled",
            Some(response) if response.header().map_or(0, |header| header.revision()) + 1 < self.start => {
                "etcd has started again on other data"
            }
            Some(_) => "",
        };
        response
            .filter(|_| reason.is_empty())
            .ok_or_else(|| self.link.about().unreachable(format!("the watch broke: {reason}")))
    }
}

/// etcd wants a new login: the token is too old, or was given before users or roles changed.
fn is_stale_login(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if ["invalid auth token", "revision of auth store is old"].iter().any(|words| status.message().contains(words)))
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

fn named(about: &About, error: &Error) -> RegisterError {
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::InvalidArgs(_) | Error::InvalidUri(_) => about.invalid(error),
            _ => about.unreachable(error),
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
            about.unreachable(reason)
        }
        _ => about.rejected(reason),
    }
}
