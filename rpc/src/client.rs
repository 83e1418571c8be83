//! Calls services: over one connection, through a registry, or within the process.

mod balance;
mod by_name;
mod channel;
mod config;
mod connection;
mod credentials;
mod ejection;
mod endpoint;
mod fan_out;
mod fork;
mod hold;
mod home;
mod in_process;
mod info;
mod instances;
mod options;
mod picker;
mod proxy;
mod redial;
mod request;
mod resolver;
mod resolvers;
mod retry;
mod roster;
mod stub;

use std::sync::Arc;

use tokio::time::timeout;

use crate::{
    Answer, Code, Peer, Status,
    net::{Target, Transport},
};
use connection::{Connection, Expected};
use credentials::Origin;
use options::{ClientConfig, config_setters};
use request::{CallRequest, EncodeArguments, not_sent};

#[cfg(feature = "internals")]
pub(crate) use balance::{Choices, Clock, Key, Listed, LoadEstimate, LoadEstimates, Policy};

pub use balance::{Balance, Balancer, Balancing, Candidate, Candidates, PickContext};
pub use by_name::Arguments;
pub use channel::{AnyChannel, Channel};
pub use config::{ConfigError, DiscoveryConfig, HoldConfig, KeepaliveConfig, RedialConfig, RetryConfig};
pub use ejection::EjectionConfig;
pub use fan_out::TypedClient;
pub use in_process::InProcess;
pub(crate) use in_process::{ServeFrame, Served};
pub use info::CallInfo;
pub use options::{CallOptions, Outgoing};
pub use picker::{Pick, Picker};
pub use proxy::{ClientProxy, ProxyBuilder};
pub use stub::Stub;

/// A client of one address: one connection, many calls in flight. Cheap to clone.
///
/// It does not find, balance, retry or reconnect: that is [`ClientProxy`]'s. A connection that ended stays ended.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    config: Arc<ClientConfig>,
    options: CallOptions,
}

impl Client {
    /// Connects to `host:port` with default settings.
    ///
    /// # Errors
    /// `Unavailable`: nobody listens, or it is no ms-rpc server, or it took over 3 s.
    pub async fn connect(address: &str) -> Result<Self, Status> {
        Self::builder().connect(address).await
    }

    /// Settings first.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Returns true while it takes calls: until the connection ended, or the server said that it goes away.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// The same connection with these options merged over its own, for its calls by names and for typed clients made of it.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options: self.options.clone().merge(options), ..self.clone() }
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// One attempt, over this connection.
    async fn exchange<A: EncodeArguments + ?Sized>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
    ) -> Result<Answer, Status> {
        request.attempt_begins();
        let result = self.connection.exchange(request, arguments).await;
        self.attempted(request, result)
    }

    /// Records the end of an attempt.
    #[inline]
    fn attempted(&self, request: &CallRequest<'_>, result: Result<Answer, Status>) -> Result<Answer, Status> {
        match &result {
            Ok(answer) if answer.is_success() && request.info.is_none() => result,
            _ => self.record(request, result),
        }
    }

    /// Records the end of an attempt if the call asks for it, and names the address in an error.
    #[cold]
    fn record(&self, request: &CallRequest<'_>, mut result: Result<Answer, Status>) -> Result<Answer, Status> {
        let address = self.connection.address();
        if let Some(info) = request.info {
            info.end_attempt(address.to_owned());
        }
        if let Ok(answer) = &mut result {
            answer.set_instance(address.to_owned());
        }
        result.map_err(|status| status.with_instance(address))
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is connected before `connect`"]
pub struct ClientBuilder {
    config: ClientConfig,
    service: Option<String>,
}

impl ClientBuilder {
    config_setters!();

    /// Service that is expected at the address. TLS takes no other server; [diallers](crate::Dial) see it.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `Unavailable`: nobody listens, or it is no ms-rpc server, or it took longer than the connect timeout.
    /// `InvalidArgument`: a setting is out of its range.
    pub async fn connect(self, address: &str) -> Result<Client, Status> {
        self.check()?;
        let target = Target { service: self.service.as_deref(), ..Target::new(address) };
        let connection = Connection::dial(&target, &self.config, Expected::default(), |_| ()).await?;
        Ok(self.client(connection))
    }

    fn check(&self) -> Result<(), Status> {
        Ok(self.config.check()?)
    }

    fn client(self, connection: Connection) -> Client {
        Client { connection: Arc::new(connection), config: Arc::new(self.config), options: CallOptions::new() }
    }

    /// Speaks over a stream that stands already, such as one half of a pipe in a test.
    ///
    /// # Errors
    /// `Unavailable`: the other side is no ms-rpc server, or HELLO took longer than the connect timeout. `InvalidArgument`: a setting is out of its range.
    pub async fn over(self, transport: impl Transport) -> Result<Client, Status> {
        self.check()?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let limit = self.config.connect_timeout;
        let late = |_| not_sent(Code::Unavailable, format!("the other end did not answer within {limit:?}"));
        let unknown = Peer::new();
        let connecting =
            Connection::over(transport, "the other end", &self.config, Expected::default(), &unknown, |_| ());
        let connection = timeout(limit, connecting).await.map_err(late)??;
        Ok(self.client(connection))
    }
}
