//! Calls services: over one connection, through a registry, or within the process.

mod balance;
mod channel;
mod config;
mod connection;
mod endpoint;
mod fan_out;
mod health;
mod hold;
mod home;
mod in_process;
mod info;
mod instances;
mod options;
mod proxy;
mod redial;
mod request;
mod resolver;
mod resolvers;
mod retry;

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Answer, Code, Status,
    net::{Target, Transport},
};
use connection::{Connection, Expected};
use options::{ClientConfig, Credentials, config_setters};
use request::{CallRequest, not_sent};

#[cfg(feature = "internals")]
pub(crate) use balance::{Ask, Candidate, Choices, Clock, Key, Listed, Load, Loads, Policy};

pub use balance::{Balancer, Balancing};
pub use channel::{Arguments, Channel, Stub};
pub use config::{ConfigError, DiscoveryConfig, HoldConfig, KeepaliveConfig, RedialConfig, RetryConfig};
pub use fan_out::TypedClient;
pub use in_process::InProcess;
pub(crate) use in_process::{ServeFrame, Served};
pub use info::CallInfo;
pub use options::{CallOptions, Outgoing};
pub use proxy::{ClientProxy, ProxyBuilder};

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

    /// Whether it still takes calls: not after the connection ended, or the server said that it goes away.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// The same connection with these options merged over its own, for its calls by names and for typed clients made of it.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options: self.options.clone().merge(options), ..self.clone() }
    }

    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value, Status> {
        Channel::from(self.clone()).call(service, method, arguments).await
    }

    /// Calls a method by names, with a tuple of arguments, in the client's codec.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call_as<A, T>(&self, service: &str, method: &str, arguments: &A) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        Channel::from(self.clone()).call_as(service, method, arguments).await
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) async fn exchange<A: Serialize + ?Sized>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
    ) -> Result<Answer, Status> {
        self.connection.exchange(request, arguments).await
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is connected before `connect`"]
pub struct ClientBuilder {
    config: ClientConfig,
}

impl ClientBuilder {
    config_setters!();

    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `Unavailable`: nobody listens, or it is no ms-rpc server, or it took longer than the connect timeout.
    /// `InvalidArgument`: a setting is out of its range.
    pub async fn connect(self, address: &str) -> Result<Client, Status> {
        self.check()?;
        let connection = Connection::dial(&Target::new(address), &self.config, Expected::default(), |_| ()).await?;
        Ok(self.client(connection))
    }

    fn check(&self) -> Result<(), Status> {
        self.config.check().map_err(|error| not_sent(Code::InvalidArgument, error.to_string()))
    }

    fn client(self, connection: Connection) -> Client {
        Client { connection: Arc::new(connection), config: Arc::new(self.config), options: CallOptions::new() }
    }

    /// Speaks over a stream that stands already, such as one half of a pipe in a test. There is no connect timeout.
    ///
    /// # Errors
    /// `Unavailable`: the other side is no ms-rpc server. `InvalidArgument`: a setting is out of its range.
    pub async fn over(self, transport: impl Transport) -> Result<Client, Status> {
        self.check()?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let connection =
            Connection::over(transport, "the other end", &self.config, Expected::default(), |_| ()).await?;
        Ok(self.client(connection))
    }
}
