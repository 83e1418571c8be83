//! The sessions with ZooKeeper, one at a time: every call bounded in time, every error named. Seen of the client crate, and what follows from
//! it here:
//! - a session that ended stays so, so the next one is opened here, by whoever needs it first;
//! - where ZooKeeper starts again on less data it refuses the client without a word, since that has seen more, and the client tries
//!   until its session's time is over: so whoever has seen nothing asks for the session meanwhile, and is told that there is none;
//! - its pauses between two tries to connect double: so a new session is opened when the old one is away for long;
//! - requests wait while the connection is lost, also when their session is over: so every wait has a limit of its own, and ends with
//!   the session;
//! - a request whose future is dropped is sent all the same, but in its order: what undoes it is asked for on the same session.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};
use zookeeper_client::{
    Acl, Acls, Client, Connector, CreateMode, CreateOptions, Error, Permission, SessionInfo, SessionState, StateWatcher,
};

use super::{ZookeeperConfig, life::Life};
use crate::{About, RegisterError};

/// Rights on nodes that a user writes: all may read them, that user alone may change them.
static OWNED: [Acl; 2] =
    [Acl::new_const(Permission::ALL, "auth", ""), Acl::new_const(Permission::READ, "world", "anyone")];

/// Rights on nodes above those of services: everyone may put a service of their own beside others.
static OPEN: [Acl; 3] = [
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
    Acl::new_const(Permission::CREATE, "world", "anyone"),
];

/// All that one registry client has of ZooKeeper.
pub(super) struct Link {
    config: ZookeeperConfig,
    about: About,
    runtime: Handle,
    current: Mutex<Option<Session>>,
    /// Time of the first session, as the server granted it.
    granted: OnceLock<Duration>,
}

/// One session. Cheap to clone; it is closed when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) life: Life,
    over: watch::Receiver<bool>,
}

impl Session {
    pub(super) fn id(&self) -> i64 {
        self.client.session_id().0
    }

    /// Returns true if it is to be used no more: it has ended, there is a new one, or nobody is left to say so.
    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow() || self.over.has_changed().is_err() || self.client.state().is_terminated()
    }

    /// Waits until it has no connection, or a read-only one.
    pub(super) async fn disconnected(&self) {
        let mut states = self.client.state_watcher();
        let mut state = states.state();
        while state == SessionState::SyncConnected {
            state = states.changed().await;
        }
    }

    /// Waits until it is to be used no more.
    pub(super) async fn over(&self) {
        // An error: nobody is left to say so.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    /// Pause before a request that lost its connection is made again.
    pub(super) const AGAIN: Duration = Duration::from_millis(20);

    /// Longest wait for a session that lost its connection, if half of its time is not shorter.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// The longest pause before ZooKeeper is asked for a session that lost its connection. A session that is there is mostly
    /// connected again before it.
    const ASK: Duration = Duration::from_millis(500);
    const RETRY: Duration = Duration::from_secs(1);

    pub(super) fn new(config: ZookeeperConfig, runtime: Handle) -> Self {
        Self { about: config.about(), config, runtime, current: Mutex::default(), granted: OnceLock::new() }
    }

    /// One to the same servers, with sessions of its own.
    pub(super) fn another(&self) -> Self {
        Self::new(self.config.clone(), self.runtime.clone())
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn granted(&self) -> Option<Duration> {
        self.granted.get().copied()
    }

    /// Options for the creation of nodes of this kind.
    pub(super) fn options(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(if self.config.login.is_some() { Acls::new(&OWNED) } else { Acls::anyone_all() })
    }

    /// The same for nodes above those of services.
    pub(super) fn open_options(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(if self.config.login.is_some() { Acls::new(&OPEN) } else { Acls::anyone_all() })
    }

    /// A session that has not ended; it may have lost its connection.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Session, RegisterError> {
        // Callers that wait for the one that opens it have the same time as that one.
        let opened = async {
            let mut current = self.current.lock().await;
            if let Some(session) = current.as_ref().filter(|session| !session.is_over()) {
                return Ok(session.clone());
            }
            *current = None;
            let session = self.open().await?;
            *current = Some(session.clone());
            Ok(session)
        };
        self.about.within(self.config.timeout, "open a session", opened).await
    }

    /// Gives the session up: it is closed when nobody uses it any more. Who asks for one later gets a new one.
    pub(super) async fn leave(&self) {
        let left = timeout(self.config.timeout, self.current.lock()).await;
        // Late: somebody is opening one at the moment, and will be the one to use it.
        if let Ok(mut current) = left {
            *current = None;
        }
    }

    /// A request, or several, within the timeout. Again while the connection is lost, and on a new session as soon as the old one
    /// is over: so it must ask for a state, not for a step.
    pub(super) async fn call<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        request: impl Fn(Client) -> F,
    ) -> Result<T, RegisterError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempts = async {
            loop {
                let session = self.session().await?;
                let answer = tokio::select! {
                    biased;
                    answer = request(session.client.clone()) => answer,
                    () = session.over() => continue,
                };
                match answer {
                    Err(error) if is_lost(&error) => sleep(Self::AGAIN).await,
                    outcome => return outcome.map_err(|error| self.named(&error)),
                }
            }
        };
        self.about.within(self.config.timeout, operation, attempts).await
    }

    /// A request on one session, within the timeout, and while the session is not over.
    pub(super) async fn bounded<T>(
        &self,
        session: &Session,
        operation: &'static str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RegisterError> {
        tokio::select! {
            biased;
            outcome = timeout(self.config.timeout, request) => match outcome {
                Ok(outcome) => outcome.map_err(|error| self.named(&error)),
                Err(_) => Err(self.late(operation)),
            },
            () = session.over() => Err(self.about.unreachable("the session is over")),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(super) fn late(&self, operation: &'static str) -> RegisterError {
        self.about.late(operation, self.config.timeout)
    }

    pub(super) fn named(&self, error: &Error) -> RegisterError {
        if is_refusal(error) { self.about.rejected(error) } else { self.about.unreachable(error) }
    }

    /// The same of a write below this node.
    pub(super) fn named_at(&self, directory: &str, error: &Error) -> RegisterError {
        match error {
            Error::NoAuth => self.about.rejected(format!(
                "this user may not write below {directory}: log in as its owner (`getAcl {directory}` says who), or use another base"
            )),
            error => self.named(error),
        }
    }

    fn connector(&self) -> Connector {
        let config = &self.config;
        let mut connector = Client::connector().with_session_timeout(config.session).with_fail_eagerly();
        if config.servers.len() > 1 {
            // A server that accepts and says nothing leaves time for another one.
            connector = connector.with_connection_timeout((config.session * 2 / 5).min(config.timeout * 2 / 5));
        }
        if let Some(login) = &config.login {
            let user = format!("{}:{}", login.username, login.password.expose());
            connector = connector.with_auth("digest", user.as_bytes());
        }
        connector
    }

    /// On the runtime of this registry client, whoever asks: the session outlives the caller.
    async fn open(self: &Arc<Self>) -> Result<Session, RegisterError> {
        let (config, connector) = (&self.config, self.connector());
        let servers = config.servers.join(",");
        let mut opening = JoinSet::new();
        let (life, runtime) = (Life::default(), self.runtime.clone());
        let begin = life.clone();
        let open = async move { begin.begin(runtime, connector.connect(&servers)).await };
        opening.spawn_on(open, &self.runtime);
        let client = match opening.join_next().await {
            Some(Ok(Err(error))) if !is_refusal(&error) => {
                // Seen of the client crate: it does not tell a server that refuses from one that ends connections.
                let hint = "no server of it opens a session: none runs, or they have too many connections of this machine (maxClientCnxns)";
                return Err(self.about.unreachable(format!("{hint}: {error}")));
            }
            Some(Ok(opened)) => opened.map_err(|error| self.named(&error))?,
            Some(Err(_)) | None => return Err(self.about.no_runtime()),
        };
        let _ = self.granted.set(client.session_timeout());
        let (ended, over) = watch::channel(false);
        let (states, session) = (client.state_watcher(), client.session().clone());
        self.runtime.spawn(attend(Arc::downgrade(self), session, states, ended));
        Ok(Session { client, life, over })
    }

    /// Returns when ZooKeeper says that it has no such session.
    async fn unknown(link: &Weak<Self>, session: &SessionInfo) {
        loop {
            sleep(Self::ASK.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            let Some(link) = link.upgrade() else { return };
            // Detached: if the session is there, its end is not asked for with the end of this connection.
            let connector = link.connector().with_session(session.clone()).with_detached();
            let servers = link.config.servers.join(",");
            let life = Life::default();
            let asking = life.begin(link.runtime.clone(), connector.connect(&servers));
            match timeout(link.config.timeout, asking).await.map(|found| found.map(drop)) {
                Ok(Err(Error::SessionExpired)) => {
                    info!("{} no longer has the session that lost its connection", link.about.url());
                    return;
                }
                Ok(Ok(())) => break,
                Ok(Err(error)) => debug!("{error}"),
                Err(_) => debug!("{}", link.late("find a session")),
            }
        }
        // The session is there: its client will find it, or is too late.
        pending().await
    }

    /// Returns when ZooKeeper is known to have no such session; or else, after the time that it is waited for, opens another one in
    /// its place, however long that takes.
    async fn replace(link: &Weak<Self>, session: &SessionInfo) {
        let Some(patience) = link.upgrade().map(|link| (link.config.session / 2).min(Self::PATIENCE)) else { return };
        if timeout(patience, Self::unknown(link, session)).await.is_ok() {
            return;
        }
        let id = session.id().0;
        while let Some(link) = link.upgrade() {
            match timeout(link.config.timeout, link.open()).await {
                Ok(Ok(session)) => {
                    let mut current = link.current.lock().await;
                    if current.as_ref().is_some_and(|current| current.id() == id) {
                        info!(
                            "a new session with {} takes the place of one that lost its connection",
                            link.about.url()
                        );
                        *current = Some(session);
                    }
                    return;
                }
                Ok(Err(error)) => debug!("{error}"),
                Err(_) => debug!("{}", link.late("open a session")),
            }
            drop(link);
            sleep(Self::RETRY.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }
}

/// Says when a session is over. It does not keep the session open.
fn attend(
    link: Weak<Link>,
    session: SessionInfo,
    mut states: StateWatcher,
    over: watch::Sender<bool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut state = states.state();
        while !state.is_terminated() {
            state = match state {
                SessionState::Disconnected => tokio::select! {
                    state = states.changed() => state,
                    () = Link::replace(&link, &session) => break,
                },
                _ => states.changed().await,
            };
        }
        over.send_replace(true);
    })
}

/// Returns true if the connection or the session went away under a request: its outcome is unknown.
pub(super) fn is_lost(error: &Error) -> bool {
    !is_refusal(error) && !matches!(error, Error::NoNode | Error::NodeExists | Error::NotEmpty | Error::BadVersion)
}

/// Returns true for refusals of ZooKeeper, which asking again would not change.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::BadArguments(_)
            | Error::NoAuth
            | Error::NoChildrenForEphemerals
            | Error::NotEmpty
            | Error::InvalidAcl
            | Error::AuthFailed
            | Error::QuotaExceeded
            | Error::MarshallingError
            | Error::Unimplemented
            | Error::UnexpectedErrorCode(_)
    )
}
