//! Parts of generated clients.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ClientProxy,
    channel::{AnyChannel, Via},
    options::CallOptions,
    request::{CallRequest, not_sent, outgoing_pairs},
    resolver::Resolver,
};
use crate::{Answer, CallError, Code, Method, ServiceError, Status, measure::ClientStats};

/// Resolver of the service, kept for the next call. Empty before the first call through a proxy: resolving a service needs a
/// runtime.
#[derive(Debug, Default)]
struct Resolved {
    first: OnceLock<Arc<Resolver>>,
    /// Takes the place of the first one when the proxy has forgotten that.
    later: ArcSwapOption<Resolver>,
}

/// The methods of one service through a channel: what the clients that `#[service]` generates are made of.
#[derive(Clone, Debug)]
pub struct Stub {
    channel: AnyChannel,
    service: Arc<str>,
    resolver: Arc<Resolved>,
    options: CallOptions,
    /// Options of the methods that have defaults, those of all methods merged in.
    methods: Box<[(Box<str>, CallOptions)]>,
    /// `None` unless the channel is measured.
    stats: Option<Arc<ClientStats>>,
}

impl Stub {
    /// The service of this name, with the channel's options.
    pub fn new(channel: impl Into<AnyChannel>, service: impl AsRef<str>) -> Self {
        let (mut channel, service) = (channel.into(), service.as_ref());
        let options = std::mem::take(channel.options_mut());
        let methods = channel.config().method_defaults.of(service, &options);
        let service: Arc<str> = service.into();
        let stats = channel.config().stats.clone();
        let stats = stats.map(|stats| Arc::new(ClientStats::new(stats, service.clone())));
        Self { channel, service, resolver: Arc::default(), options, methods, stats }
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
        Self { channel, service, resolver, options: map(&self.options), methods, stats: self.stats.clone() }
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
        self.exchange(method, arguments).await?.into_result(|what, why| method.undecodable(what, why))
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
        self.exchange(method, arguments).await?.into_plain(|what, why| method.undecodable(what, why))
    }

    pub(super) fn options(&self) -> &CallOptions {
        &self.options
    }

    /// The proxy, and the resolver that knows all instances.
    pub(super) fn through_proxy(&self) -> Result<(&ClientProxy, Arc<Resolver>), Status> {
        match &self.channel.via {
            Via::Proxy(proxy) => Ok((proxy, proxy.resolver(&self.service)?)),
            _ => {
                let message = format!("only a proxy knows all instances of `{}`: make the client of one", self.service);
                Err(not_sent(Code::FailedPrecondition, message))
            }
        }
    }

    /// Resolves the service for the first time, or again after the proxy has forgotten it.
    #[cold]
    fn resolve(&self, proxy: &ClientProxy) -> Result<Arc<Resolver>, Status> {
        let Resolved { first, later } = &*self.resolver;
        if let Some(resolver) = later.load_full().filter(|resolver| !resolver.is_forgotten()) {
            return Ok(resolver);
        }
        let resolver = proxy.resolver(&self.service)?;
        if first.set(resolver.clone()).is_err() {
            later.store(Some(resolver.clone()));
        }
        Ok(resolver)
    }

    #[inline]
    async fn exchange<A: Serialize>(&self, method: &'static Method, arguments: &A) -> Result<Answer, Status> {
        let argc = method.arguments.len() as u8;
        let options = self.options_of(method);
        let config = self.channel.config();
        let pairs = outgoing_pairs(&self.service, method.name, config, options)?;
        let mut request = CallRequest::new(&self.service, method.name, argc, config, options, pairs);
        request.say(&method.signature);
        let idempotent = method.idempotent || options.idempotent;
        let mut result = match &self.channel.via {
            Via::Proxy(proxy) if options.layers.is_empty() && !request.fork => {
                let found;
                let resolver = match self.resolver.first.get() {
                    Some(resolver) if !resolver.is_forgotten() => resolver,
                    _ => {
                        found = self.resolve(proxy)?;
                        &found
                    }
                };
                proxy.exchange(resolver, &request, arguments, idempotent).await
            }
            Via::Connection(client) if options.layers.is_empty() => {
                request.attempt_begins();
                let result = client.connection.exchange(&request, arguments).await;
                client.attempted(&request, result)
            }
            _ => self.channel.exchange(&request, options, arguments, idempotent).await,
        };
        if let Err(status) = &mut result {
            method.signature.explain(status);
        }
        if let Some(stats) = &self.stats {
            let code = result.as_ref().map_or_else(Status::code, Answer::code);
            stats.add(method.name, code, request.took());
        }
        result
    }
}
