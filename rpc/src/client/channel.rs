use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

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

/// Carrier of calls: through a registry, over one connection, or to a service in this process. Cheap to clone.
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

/// Arguments of a call by names: a tuple, in the method's order.
pub trait Arguments: Serialize {
    /// Number of arguments.
    fn count(&self) -> u8;
}

impl Channel {
    /// The same channel with these options merged over its own.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        let mut channel = self.clone();
        let own = channel.options_mut();
        *own = std::mem::take(own).merge(options);
        channel
    }

    /// Calls a method by names, with a JSON array or object of arguments, in JSON.
    ///
    /// # Errors
    /// Any [`Status`]; the method's own error is in [`Status::service_error`].
    pub async fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value, Status> {
        let options = &*self.config().method_defaults.under(service, method, self.options());
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
    pub async fn call_as<A, T>(&self, service: &str, method: &str, arguments: &A) -> Result<T, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        let options = &*self.config().method_defaults.under(service, method, self.options());
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

    fn options(&self) -> &CallOptions {
        match self {
            Self::Proxy(proxy) => &proxy.options,
            Self::Connection(client) => &client.options,
            Self::Local(local) => &local.options,
        }
    }

    fn options_mut(&mut self) -> &mut CallOptions {
        match self {
            Self::Proxy(proxy) => &mut proxy.options,
            Self::Connection(client) => &mut client.options,
            Self::Local(local) => &mut local.options,
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
            Self::Connection(client) => {
                request.attempt_begins();
                let result = client.exchange(request, arguments).await;
                if let Some(info) = request.info {
                    info.end_attempt(client.connection.address().to_owned());
                }
                result
            }
            Self::Local(local) => {
                request.attempt_begins();
                local.exchange(request, arguments).await
            }
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
    /// Options of the methods that have defaults, those of all methods merged in.
    methods: Box<[(Box<str>, CallOptions)]>,
}

impl Stub {
    /// The service of this name, with the channel's options.
    pub fn new(channel: impl Into<Channel>, service: impl AsRef<str>) -> Self {
        let (mut channel, service) = (channel.into(), service.as_ref());
        let options = std::mem::take(channel.options_mut());
        let methods = channel.config().method_defaults.of(service, &options);
        Self { channel, service: service.into(), resolver: Arc::default(), options, methods }
    }

    /// The same with these options merged over its own.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        self.map_options(|own| own.clone().merge(options.clone()))
    }

    /// The same for one call of a broadcast, made after `waited`.
    pub(super) fn of_broadcast(&self, instance: &str, waited: Duration) -> Self {
        let default = self.channel.config().timeout;
        self.map_options(|own| own.of_broadcast(instance, waited, default))
    }

    fn map_options(&self, map: impl Fn(&CallOptions) -> CallOptions) -> Self {
        let methods = self.methods.iter().map(|(method, options)| (method.clone(), map(options))).collect();
        let (channel, service, resolver) = (self.channel.clone(), self.service.clone(), self.resolver.clone());
        Self { channel, service, resolver, options: map(&self.options), methods }
    }

    #[inline]
    fn options_of(&self, method: &Method) -> &CallOptions {
        match self.methods.iter().find(|(name, _)| **name == *method.name) {
            Some((_, options)) => options,
            None => &self.options,
        }
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
        self.exchange(method, arguments).await?.into_result(method)
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
        self.exchange(method, arguments).await?.into_plain(method)
    }

    pub(super) fn options(&self) -> &CallOptions {
        &self.options
    }

    /// The proxy, and the resolver that knows all instances.
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
        let options = self.options_of(method);
        let request = CallRequest::new(&self.service, method.name, argc, self.channel.config(), options)?;
        let request = request.with_signature(&method.signature);
        let idempotent = method.idempotent || options.idempotent;
        let result = match &self.channel {
            Channel::Proxy(proxy) => {
                let resolver = self.resolver(proxy)?;
                if request.fork {
                    Box::pin(fork(proxy, resolver, &request, arguments, idempotent)).await
                } else {
                    proxy.exchange(resolver, &request, arguments, idempotent).await
                }
            }
            channel => channel.exchange(&request, arguments, idempotent).await,
        };
        result.map_err(|status| method.signature.explain(status))
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
    9: A B C D E F G H I;
    10: A B C D E F G H I J;
    11: A B C D E F G H I J K;
    12: A B C D E F G H I J K L;
    13: A B C D E F G H I J K L M;
    14: A B C D E F G H I J K L M N;
    15: A B C D E F G H I J K L M N O;
    16: A B C D E F G H I J K L M N O P;
}
