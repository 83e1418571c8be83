use std::sync::{Arc, OnceLock};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Client, ClientProxy, InProcess,
    fan_out::fork,
    options::{CallOptions, ClientConfig},
    request::{CallRequest, not_sent},
    resolver::Resolver,
};
use crate::{Answer, CallError, Code, Codec, Method, ServiceError, Status, proto::RequestHead};

/// Where calls go: through a registry, over one connection, or to a service in this process. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Channel {
    /// Through a registry.
    Proxy(ClientProxy),
    /// Over one connection.
    Connection(Client),
    /// To a service in this process.
    Local(InProcess),
}

impl From<ClientProxy> for Channel {
    fn from(proxy: ClientProxy) -> Self {
        Self::Proxy(proxy)
    }
}

impl From<&ClientProxy> for Channel {
    fn from(proxy: &ClientProxy) -> Self {
        Self::Proxy(proxy.clone())
    }
}

impl From<Client> for Channel {
    fn from(client: Client) -> Self {
        Self::Connection(client)
    }
}

/// The arguments of a call by names: a tuple, in the method's order.
pub trait Arguments: Serialize {
    /// How many.
    fn count(&self) -> u8;
}

impl Channel {
    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(
        &self,
        service: &str,
        method: &str,
        arguments: &Value,
        options: &CallOptions,
    ) -> Result<Value, Status> {
        let argc = match arguments {
            Value::Null => 0,
            Value::Array(list) => u8::try_from(list.len()).unwrap_or(RequestHead::NAMED),
            Value::Object(_) => RequestHead::NAMED,
            _ => {
                let message = format!("the arguments of {service}.{method} must be a JSON array or object");
                return Err(not_sent(Code::InvalidArgument, message));
            }
        };
        let request = CallRequest::new(service, method, argc, self.config(), options)?.with_codec(Codec::Json);
        let arguments = if argc == 0 { &Value::Array(Vec::new()) } else { arguments };
        self.exchange(&request, arguments, options.idempotent).await?.into_value()
    }

    /// Calls a method by names, with a tuple of arguments, in the channel's codec.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call_as<A, T>(
        &self,
        service: &str,
        method: &str,
        arguments: &A,
        options: &CallOptions,
    ) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        let request = CallRequest::new(service, method, arguments.count(), self.config(), options)?;
        if request.argc == 0 {
            // One form for no arguments: an empty list, in every codec.
            return self.exchange(&request, &[(); 0], options.idempotent).await?.into_value();
        }
        self.exchange(&request, arguments, options.idempotent).await?.into_value()
    }

    fn config(&self) -> &ClientConfig {
        match self {
            Self::Proxy(proxy) => proxy.config(),
            Self::Connection(client) => client.config(),
            Self::Local(local) => local.config(),
        }
    }

    async fn exchange<A: Serialize>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
        idempotent: bool,
    ) -> Result<Answer, Status> {
        match self {
            Self::Proxy(proxy) => {
                let resolver = proxy.resolver(request.service)?;
                if request.fork {
                    return Box::pin(fork(proxy, &resolver, request, arguments, idempotent)).await;
                }
                proxy.exchange(&resolver, request, arguments, idempotent).await
            }
            Self::Connection(client) => client.exchange(request, arguments).await,
            Self::Local(local) => local.exchange(request, arguments).await,
        }
    }
}

/// The methods of one service through a channel: what the clients that `#[service]` generates are made of.
#[derive(Clone, Debug)]
pub struct Stub {
    channel: Channel,
    service: Arc<str>,
    /// Filled at the first call through a proxy: resolving a service needs a runtime.
    resolver: Arc<OnceLock<Arc<Resolver>>>,
    options: CallOptions,
}

impl Stub {
    /// The service of this name.
    pub fn new(channel: impl Into<Channel>, service: impl AsRef<str>) -> Self {
        Self {
            channel: channel.into(),
            service: service.as_ref().into(),
            resolver: Arc::default(),
            options: CallOptions::new(),
        }
    }

    /// The same with other options for its calls.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options, ..self.clone() }
    }

    /// Calls a method that has an error type.
    ///
    /// # Errors
    /// The method's own error, or the status of a call that failed around it.
    pub async fn call<A, T, E>(&self, method: &'static Method, arguments: &A) -> Result<T, CallError<E>>
    where
        A: Serialize,
        T: DeserializeOwned,
        E: ServiceError,
    {
        self.exchange(method, arguments).await?.into_result()
    }

    /// Calls a method that returns a plain value.
    ///
    /// # Errors
    /// The status of a call that failed.
    pub async fn call_plain<A, T>(&self, method: &'static Method, arguments: &A) -> Result<T, Status>
    where
        A: Serialize,
        T: DeserializeOwned,
    {
        self.exchange(method, arguments).await?.into_value()
    }

    pub(super) fn options(&self) -> &CallOptions {
        &self.options
    }

    /// Who knows all instances, and what it knows.
    pub(super) fn through_proxy(&self) -> Result<(&ClientProxy, &Arc<Resolver>), Status> {
        match &self.channel {
            Channel::Proxy(proxy) => Ok((proxy, self.resolver(proxy)?)),
            _ => {
                let message = format!("only a proxy knows all instances of `{}`: make the client of one", self.service);
                Err(not_sent(Code::FailedPrecondition, message))
            }
        }
    }

    #[inline]
    fn resolver(&self, proxy: &ClientProxy) -> Result<&Arc<Resolver>, Status> {
        match self.resolver.get() {
            Some(resolver) => Ok(resolver),
            None => {
                let resolver = proxy.resolver(&self.service)?;
                Ok(self.resolver.get_or_init(|| resolver))
            }
        }
    }

    async fn exchange<A: Serialize>(&self, method: &'static Method, arguments: &A) -> Result<Answer, Status> {
        let argc = method.arguments.len() as u8;
        let request = CallRequest::new(&self.service, method.name, argc, self.channel.config(), &self.options)?;
        let idempotent = method.idempotent || self.options.idempotent;
        match &self.channel {
            Channel::Proxy(proxy) => {
                let resolver = self.resolver(proxy)?;
                if request.fork {
                    return Box::pin(fork(proxy, resolver, &request, arguments, idempotent)).await;
                }
                proxy.exchange(resolver, &request, arguments, idempotent).await
            }
            channel => channel.exchange(&request, arguments, idempotent).await,
        }
    }
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Serialize),*> Arguments for ($($name,)*) {
            fn count(&self) -> u8 {
                $count
            }
        }
    )*};
}

tuples! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}
