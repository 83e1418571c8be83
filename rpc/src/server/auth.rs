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

use ms_security::{Principal, Tokens};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{Server, ServerError, seldom::Seldom};
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

/// Text that is matched whole, or by its begin or end: `*` stands for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match (self.0.strip_prefix('*'), self.0.strip_suffix('*')) {
            (Some(end), _) => text.ends_with(end),
            (None, Some(begin)) => text.starts_with(begin),
            (None, None) => self.0 == text,
        }
    }

    fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    fn is_legal(&self) -> bool {
        let stars = self.0.matches('*').count();
        !self.0.is_empty() && (stars == 0 || stars == 1 && (self.0.starts_with('*') || self.0.ends_with('*')))
    }
}

#[derive(Clone, Debug)]
struct Rule {
    who: Pattern,
    service: Pattern,
    method: Pattern,
    /// As it was written.
    what: String,
}

impl Rule {
    fn new(who: String, what: String) -> Self {
        let (service, method) = what.split_once('/').unwrap_or((&what, "*"));
        Self { who: Pattern(who), service: Pattern(service.to_owned()), method: Pattern(method.to_owned()), what }
    }

    fn matches(&self, who: &str, service: &str, method: &str) -> bool {
        self.who.matches(who) && self.service.matches(service) && self.method.matches(method)
    }
}

/// Rules of a server. Without any, everything is allowed; with one, what none allows is denied. Denials come first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    deny: Vec<Rule>,
    allow: Vec<Rule>,
}

impl Rules {
    pub(crate) fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }

    pub(crate) fn allows(&self, who: &str, service: &str, method: &str) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(who, service, method));
        // A health check is for any caller: it tells nothing but the state of the server.
        self.is_empty() || service == "ms.health" || (!any(&self.deny) && any(&self.allow))
    }

    /// A rule on a misspelt name would allow or deny nothing.
    pub(super) fn check(&self, services: &[(String, Arc<dyn Service>)]) -> Result<(), ServerError> {
        for rule in self.deny.iter().chain(&self.allow) {
            let invalid =
                |reason: String| Err(ServerError::Rule { rule: format!("{} {}", rule.who.0, rule.what), reason });
            if let Some(pattern) =
                [&rule.who, &rule.service, &rule.method].into_iter().find(|pattern| !pattern.is_legal())
            {
                return invalid(format!("`{}` is no pattern: write a name, or `*` at its begin or its end", pattern.0));
            }
            if !rule.service.is_exact() || rule.service.0.starts_with("ms.") {
                continue;
            }
            let Some((_, served)) = services.iter().find(|(name, _)| *name == rule.service.0) else {
                return invalid(format!("`{}` is not served: correct the name", rule.service.0));
            };
            let mut methods = served.descriptor().methods.iter();
            if !methods.any(|method| rule.method.matches(method.name)) {
                return invalid(format!("`{}` has no method `{}`: correct the name", rule.service.0, rule.method.0));
            }
        }
        Ok(())
    }
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
        self.rules.allow.push(Rule::new(who.into(), what.into()));
        self
    }

    /// Keeps `who` from calling `what`, whatever is allowed: patterns as those of [`allow`](Self::allow).
    pub fn deny(mut self, who: impl Into<String>, what: impl Into<String>) -> Self {
        self.rules.deny.push(Rule::new(who.into(), what.into()));
        self
    }

    /// Takes names and tokens in plaintext beyond loopback, where the network reads them. Without it, a server with
    /// [`authenticate`](Self::authenticate) or rules, without TLS, and on another address does not start.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    pub(super) fn check_security(&self) -> Result<(), ServerError> {
        self.rules.check(&self.services)?;
        let judges = self.authenticator.is_some() || !self.rules.is_empty();
        let is_open = self.listener.is_some() && self.acceptor.is_none() && !self.address.ip().is_loopback();
        match judges && is_open && !self.insecure {
            true => Err(ServerError::Insecure { address: self.address }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
