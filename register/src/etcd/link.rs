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
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, GetResponse, Identity, KeyValue,
    LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::warn;

use super::EtcdConfig;
use crate::{
    About, RegisterError, TlsFiles,
    backoff::jittered,
    tls::{Pem, TlsReader},
};

/// gRPC's canonical codes; the client crate gives them without names.
mod code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
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
    clients: Vec<Member>,
    tls: Option<TlsReader>,
    /// Index of the member that answered last.
    preferred: AtomicUsize,
}

/// One member of the cluster.
#[derive(Default)]
struct Member {
    client: Mutex<Option<(Client, Option<Arc<Pem>>)>>,
    /// When it was seen alive last; held while it is asked.
    seen: tokio::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Link {
    /// TCP alone does not notice a peer that is paused or cut off. etcd takes pings for abuse that come more often than every 5 s
    /// without an answer of its own in between; a connection with a watch or a lease has such answers.
    const PING_EVERY: Duration = Duration::from_secs(6);
    /// A watch that shows nothing for so long has its member asked whether it is there, once for all watches.
    const QUIET: Duration = Duration::from_secs(2);
    /// Pause before members are asked again that have no leader yet.
    const ELECTING: Duration = Duration::from_millis(100);
    const PONG_WITHIN: Duration = Duration::from_secs(3);
    /// Keys in one answer, which are read at once.
    const PAGE: i64 = 1_000;
    /// The longest answer that is read, in bytes: etcd's largest values in half a page.
    const LARGEST: usize = 512 << 20;

    /// A link that has spoken to nobody yet.
    pub(super) fn new(config: EtcdConfig) -> Self {
        let (about, count) = (config.about(), config.endpoints.len());
        let clients = (0..count).map(|_| Member::default()).collect();
        let preferred = AtomicUsize::new(fastrand::usize(..count.max(1)));
        let tls = config.tls.clone().map(TlsReader::new);
        Self(Arc::new(Members { config, about, clients, tls, preferred }))
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
        // First key after all that begin so; the last byte is a slash or a hyphen.
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
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

    /// The same, unless the key has another value: then that is returned.
    pub(super) async fn put_unless_other(
        &self,
        key: &str,
        value: &[u8],
        lease: i64,
    ) -> Result<Option<Vec<u8>>, RegisterError> {
        let put = || TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let same = || {
            let is_own = [Compare::value(key, CompareOp::Equal, value)];
            Txn::new().when(is_own).and_then([put()]).or_else([TxnOp::get(key, None)])
        };
        let absent = || Txn::new().when([Compare::version(key, CompareOp::Equal, 0)]).and_then([put()]);
        let written = |mut client: Client| async move { client.txn(absent().or_else([TxnOp::txn(same())])).await };
        let answer = self.call("write the instance", written).await?;
        let mut other = None;
        for nested in answer.op_responses() {
            let TxnOpResponse::Txn(nested) = nested else { continue };
            for read in nested.op_responses() {
                if let TxnOpResponse::Get(read) = read {
                    other = read.kvs().first().map(|pair| pair.value().to_vec());
                }
            }
        }
        Ok(other)
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
        let (member, (stream, created)) = self.call_member("open a watch", open).await?;
        let watch = Watch { link: self.clone(), member, stream, start };
        watch.check(created)?;
        Ok(watch)
    }

    /// Every request here may be repeated: it asks for a state, not for a step. Each attempt has a share of the time, so that a
    /// member that is frozen or cut off leaves some for another one. Members that elect a leader are asked again.
    async fn call<T, F, C>(&self, operation: &'static str, request: C) -> Result<T, RegisterError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        Ok(self.call_member(operation, request).await?.1)
    }

    /// The same, with the index of the member that answered.
    async fn call_member<T, F, C>(&self, operation: &'static str, request: C) -> Result<(usize, T), RegisterError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        let Members { config, about, clients, .. } = &*self.0;
        let (end, share) = (Instant::now() + config.timeout, self.share());
        let (mut left, mut is_electing) = (clients.len() + 1, false);
        loop {
            left -= 1;
            let member = self.0.preferred.load(Ordering::Relaxed) % clients.len();
            let limit = (Instant::now() + share).min(end);
            let attempt = async { request(self.client(member).await?).await };
            let error = match timeout_at(limit, attempt).await {
                Ok(Ok(answer)) => return Ok((member, answer)),
                Ok(Err(error)) if is_stale_login(&error) && left > 0 => {
                    self.forget(member);
                    continue;
                }
                Ok(Err(error)) => {
                    let is_unavailable = status_code(&error) == Some(code::UNAVAILABLE);
                    let error = named(about, &error);
                    if !error.is_transient() {
                        return Err(error);
                    }
                    // Its own words: it is there, and without a leader.
                    is_electing |= is_unavailable && error.to_string().contains("etcdserver: ");
                    error
                }
                Err(_) => {
                    // Its connection may lead nowhere.
                    self.forget(member);
                    about.late(operation, config.timeout)
                }
            };
            self.move_on(member);
            if left == 0 && std::mem::take(&mut is_electing) {
                sleep_until((Instant::now() + Self::ELECTING).min(end)).await;
                left = clients.len();
            }
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

    /// Has the next call begin with another member.
    fn move_on(&self, member: usize) {
        let next = (member + 1) % self.0.clients.len();
        // An error: another call has moved on already.
        let _ = self.0.preferred.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The client of one member. Only logging in speaks to etcd: without a user this succeeds while the member is away.
    async fn client(&self, member: usize) -> Result<Client, Error> {
        let Members { config, clients, tls, .. } = &*self.0;
        let pem = match tls {
            Some(tls) => Some(tls.pem().await.map_err(Error::IoError)?),
            None => None,
        };
        let slot = || clients[member].client.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot().clone();
        if let Some((client, of)) = &known
            && of.as_ref().map(Arc::as_ptr) == pem.as_ref().map(Arc::as_ptr)
        {
            return Ok(client.clone());
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.share().min(Duration::from_secs(2)))
            .with_keep_alive(Self::PING_EVERY, Self::PONG_WITHIN)
            // A member that is cut off from the others ends watches and refuses calls at once.
            .with_require_leader(true);
        if let Some(login) = &config.login {
            options = options.with_user(&login.username, login.password.expose());
        }
        if let (Some(pem), Some(tls)) = (&pem, tls) {
            options = options.with_tls(secured(&tls.files, pem));
        }
        // Boxed: it is large, and rare.
        let connected = Box::pin(Client::connect(&[&config.endpoints[member]], Some(options))).await;
        let client = match (connected, known) {
            (Ok(client), _) => client,
            // New certificates that are none, or not yet all in place.
            (Err(error), Some((client, _))) => {
                warn!(
                    "{}: {}: the connection of before stays in use",
                    config.endpoints[member],
                    named(self.about(), &error)
                );
                client
            }
            (Err(error), None) => return Err(error),
        };
        *slot() = Some((client.clone(), pem));
        Ok(client)
    }

    fn forget(&self, member: usize) {
        *self.0.clients[member].client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the member whether it is there, unless it was seen just now. Watches alone would notice one that is frozen only by the
    /// pings of their connection, which etcd wants to be rare.
    async fn alive(&self, member: usize) -> Result<(), RegisterError> {
        let mut seen = self.0.clients[member].seen.lock().await;
        if seen.is_some_and(|seen| seen.elapsed() < Self::QUIET) {
            return Ok(());
        }
        let limit = self.share().min(Duration::from_secs(1));
        let asked = async {
            let mut client = self.client(member).await.map_err(|error| named(self.about(), &error))?;
            match client.status().await {
                // The cluster may not tell this user, and is there.
                Err(error) if named(self.about(), &error).is_transient() => Err(named(self.about(), &error)),
                Ok(_) | Err(_) => Ok(()),
            }
        };
        let alive = self.about().within(limit, "answer", asked).await;
        match &alive {
            Ok(()) => *seen = Some(Instant::now()),
            Err(_) => self.move_on(member),
        }
        alive
    }
}

/// Options of the client crate, which uses ring.
fn secured(files: &TlsFiles, pem: &Pem) -> TlsOptions {
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&pem.ca));
    if let Some((certificate, key)) = &pem.identity {
        options = options.identity(Identity::from_pem(certificate, key));
    }
    match &files.server_name {
        Some(name) => options.domain_name(name),
        None => options,
    }
}

/// A watch that can be relied on: it ends in an error where etcd would fall silent.
pub(super) struct Watch {
    link: Link,
    /// Index of the member that it stands at.
    member: usize,
    stream: WatchStream,
    start: i64,
}

impl Watch {
    pub(super) async fn next(&mut self) -> Result<WatchResponse, RegisterError> {
        loop {
            if let Ok(response) = timeout(jittered(Link::QUIET), self.stream.message()).await {
                return self.check(response.map_err(|error| named(self.link.about(), &error))?);
            }
            self.link.alive(self.member).await?;
        }
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
        // Resources: its disk is full (NOSPACE) until an operator makes room.
        code::CANCELLED
        | code::UNKNOWN
        | code::DEADLINE_EXCEEDED
        | code::RESOURCE_EXHAUSTED
        | code::INTERNAL
        | code::UNAVAILABLE => about.unreachable(reason),
        _ => about.rejected(reason),
    }
}
