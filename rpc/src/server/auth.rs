//! Authentication once a connection, and rules that say which principals may call which methods.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ms_security::{Principal, RuleError, Rules, Seldom, Tokens};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{Server, ServerError};
use crate::{Code, Peer, Service, Status};

/// Time that an authentication may take.
const DEADLINE: Duration = Duration::from_secs(5);

type Asked = Pin<Box<dyn Future<Output = Result<Principal, Status>> + Send>>;

/// Authentication that is under way.
pub(crate) struct Authenticating {
    asked: Asked,
    /// Time of the next sign of life: requests are held meanwhile, and the client must not take that for silence.
    pub(super) sign_due: Instant,
}

impl Authenticating {
    /// Pause between signs of life.
    pub(super) const SIGNS: Duration = Duration::from_secs(1);

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Principal, Status>> {
        self.asked.as_mut().poll(cx)
    }
}

/// The user's authentication.
#[derive(Clone)]
pub(crate) struct Authenticator(Arc<dyn Fn(Peer) -> Asked + Send + Sync>);

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

impl Authenticator {
    /// Asks for the principal of this peer, within [`DEADLINE`].
    pub(super) fn ask(&self, peer: Peer) -> Authenticating {
        let asked = self.0(peer);
        let asked = Box::pin(async move {
            let late = |_| Err(Status::new(Code::Unavailable, "authentication took longer than 5 s"));
            timeout(DEADLINE, asked).await.unwrap_or_else(late)
        });
        Authenticating { asked, sign_due: Instant::now() + Authenticating::SIGNS }
    }
}

/// Returns true if these rules let `who` call the method. A health check is for any caller: it tells nothing but the state of the server.
pub(super) fn may_call(rules: &Rules, who: &str, service: &str, method: &str) -> bool {
    service == "ms.health" || rules.allows(who, service, method)
}

/// A rule on a misspelt name would allow or deny nothing.
fn check_rules(rules: &Rules, services: &[(String, Arc<dyn Service>)]) -> Result<(), ServerError> {
    let checked = rules.check(|rule| {
        let Some(service) = rule.group().exact().filter(|service| !service.starts_with("ms.")) else { return Ok(()) };
        let Some((_, served)) = services.iter().find(|(name, _)| name == service) else {
            return Err(format!("`{service}` is not served: correct the name"));
        };
        match served.descriptor().methods.iter().any(|method| rule.name().matches(method.name)) {
            true => Ok(()),
            false => Err(format!("`{service}` has no method `{}`: correct the name", rule.name())),
        }
    });
    checked.map_err(|RuleError { rule, reason }| ServerError::Rule { rule, reason })
}

/// Log of denials: one line a second at most.
#[derive(Debug, Default)]
pub(crate) struct Audit(Seldom);

impl Audit {
    pub(crate) fn denied(&self, who: &str, address: Option<SocketAddr>, what: fmt::Arguments<'_>) {
        if self.0.is_due() {
            let from = address.map(|address| address.to_string()).unwrap_or_default();
            warn!(target: "ms_rpc::audit", who, from, "{what}");
        }
    }
}

impl Server {
    /// Asks `authenticate` for the principal of the peer, once for each connection, after its HELLO: requests wait for up to 5 s. Its result is
    /// [`Peer::principal`]; after an error all requests of the connection are refused unexecuted with that status, and the
    /// connection ends. Default: the identity of the TLS certificate.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), ms_rpc::ServerError> {
    /// use ms_rpc::{Code, Principal, Server, Status};
    ///
    /// let server = Server::bind("127.0.0.1:9112").await?.authenticate(|peer| async move {
    ///     match peer.credentials() {
    ///         b"secret" => Ok(Principal::new("order")),
    ///         _ => Err(Status::new(Code::Unauthenticated, "the token is unknown")),
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn authenticate<F, A>(mut self, authenticate: F) -> Self
    where
        F: Fn(Peer) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Principal, Status>> + Send + 'static,
    {
        self.authenticator = Some(Authenticator(Arc::new(move |peer| Box::pin(authenticate(peer)))));
        self
    }

    /// Callers present one of these tokens as their [`credentials`](crate::ClientBuilder::credentials): its holder is the
    /// principal. An [`authenticate`](Self::authenticate) that asks the [`Tokens`]; the last of both counts.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use ms_rpc::{Server, auth::Tokens};
    ///
    /// let server = Server::bind("127.0.0.1:9112").await?.tokens(&Tokens::from_file("tokens")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tokens(self, tokens: &Tokens) -> Self {
        let tokens = tokens.clone();
        self.authenticate(move |peer| {
            let tokens = tokens.clone();
            async move {
                let found = tokens.check(peer.credentials(), peer.identity()).await;
                found.ok_or_else(|| Status::new(Code::Unauthenticated, "the token is missing, unknown, or has ended"))
            }
        })
    }

    /// Lets `who` call `what`: a principal's name, and `service` or `service/method`, each exact or with `*` at its begin or end.
    /// With any rule, what none allows is denied (`PermissionDenied`, unexecuted, never retried); `ms.health` needs none.
    /// Rules are looked at once for each connection and method in a row. Callers in this process have the name of their peer.
    pub fn allow(mut self, who: impl Into<String>, what: impl Into<String>) -> Self {
        self.rules = self.rules.allow(who, what);
        self
    }

    /// Keeps `who` from calling `what`, whatever is allowed: patterns as those of [`allow`](Self::allow).
    pub fn deny(mut self, who: impl Into<String>, what: impl Into<String>) -> Self {
        self.rules = self.rules.deny(who, what);
        self
    }

    /// Takes names and tokens in plaintext beyond loopback, where the network reads them. Without it, a server with
    /// [`authenticate`](Self::authenticate) or rules, without TLS, and on another address does not start.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    pub(super) fn check_security(&self) -> Result<(), ServerError> {
        check_rules(&self.rules, &self.services)?;
        let judges = self.authenticator.is_some() || !self.rules.is_empty();
        let is_open = self.listener.is_some() && self.acceptor.is_none() && !self.address.ip().is_loopback();
        match judges && is_open && !self.insecure {
            true => Err(ServerError::Insecure { address: self.address }),
            false => Ok(()),
        }
    }
}
