use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ms_register::{Instance, MsRegister, ServiceName};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tracing::debug;

use super::{
    balance::Balancing,
    ejection::EjectionConfig,
    endpoint::Dialler,
    options::{CallOptions, ClientConfig, config_setters},
    request::{CallRequest, EncodeArguments, not_sent},
    resolver::{Picked, Resolver, Settings, Tried},
    retry::{self, ATTEMPTS, Verdict},
};
use crate::{Answer, Code, Status, meter};

/// Client that finds services through a registry: each call resolves the service, picks an instance, uses a pooled
/// connection, and is retried elsewhere where that does no harm. Cheap to clone; make one per registry.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ms_rpc::{ClientProxy, Codec, Compression};
/// use serde_json::json;
///
/// let registry = ms_register::connect("memory://").await?;
/// let proxy = ClientProxy::builder(registry).codec(Codec::Bincode).compression(Compression::Gzip).build();
/// let item = proxy.call("goods", "find", &json!([5])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientProxy {
    inner: Arc<Inner>,
    pub(super) options: CallOptions,
}

#[derive(Debug)]
struct Inner {
    registry: Arc<dyn MsRegister>,
    config: Arc<ClientConfig>,
    settings: Settings,
    resolvers: RwLock<HashMap<String, Arc<Resolver>>>,
}

impl ClientProxy {
    /// A proxy with default settings.
    pub fn new(registry: Arc<dyn MsRegister>) -> Self {
        Self::builder(registry).build()
    }

    /// A builder for a proxy with other settings.
    pub fn builder(registry: Arc<dyn MsRegister>) -> ProxyBuilder {
        ProxyBuilder {
            registry,
            config: ClientConfig::default(),
            settings: Settings {
                balancing: Balancing::default(),
                ejection: EjectionConfig::default(),
                connections_per_instance: 1,
            },
        }
    }

    /// The same proxy, connections included, with these options merged over its own: they hold for calls by names,
    /// broadcasts, and typed clients made of it.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options: self.options.clone().merge(options), ..self.clone() }
    }

    /// The instances that calls of `service` choose from at the moment: those that the registry lists, and those whose
    /// removal is held. Empty until the registry has answered for the first time.
    ///
    /// # Errors
    /// An illegal name, or no tokio runtime around it.
    pub fn instances(&self, service: &str) -> Result<Vec<Instance>, Status> {
        Ok(self.resolver(service)?.instances())
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The options of calls of one method, its defaults included.
    pub(super) fn options_of(&self, service: &str, method: &str) -> Cow<'_, CallOptions> {
        self.inner.config.method_defaults.under(service, method, &self.options)
    }

    /// The resolver that follows `service`; started at its first call.
    pub(super) fn resolver(&self, service: &str) -> Result<Arc<Resolver>, Status> {
        let known = self.inner.resolvers.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        if let Some(resolver) = known {
            return Ok(resolver);
        }
        let name = ServiceName::new(service)?;
        self.inner.settings.ejection.check()?;
        let runtime = Handle::try_current()
            .map_err(|_| not_sent(Code::FailedPrecondition, "calls are made from within a tokio runtime"))?;
        let mut resolvers = self.inner.resolvers.write().unwrap_or_else(PoisonError::into_inner);
        let resolver = resolvers.entry(service.to_owned()).or_insert_with(|| {
            let Inner { registry, config, settings, .. } = &*self.inner;
            Resolver::start(&runtime, name, registry.clone(), config.clone(), settings)
        });
        Ok(resolver.clone())
    }

    /// Up to three attempts, each on another instance where there is one, all within the deadline.
    pub(super) async fn exchange<A: EncodeArguments + ?Sized>(
        &self,
        resolver: &Arc<Resolver>,
        request: &CallRequest<'_>,
        arguments: &A,
        idempotent: bool,
    ) -> Result<Answer, Status> {
        resolver.budget().deposit();
        let picked = resolver.connection(request, &Tried::new()).await?;
        request.attempt_begins();
        match picked.connection.exchange(request, arguments).await {
            Ok(answer) => {
                attempt_ended(resolver, &picked, request);
                picked.connection.ejection().answered();
                Ok(answer)
            }
            // On the heap: the calls that need no second attempt, nearly all, are smaller for it.
            Err(status) => Box::pin(Self::try_again(resolver, request, arguments, idempotent, (picked, status))).await,
        }
    }

    /// Judges a failed attempt on that instance, and makes up to two more.
    async fn try_again<A: EncodeArguments + ?Sized>(
        resolver: &Arc<Resolver>,
        request: &CallRequest<'_>,
        arguments: &A,
        idempotent: bool,
        failed: (Picked, Status),
    ) -> Result<Answer, Status> {
        let (mut picked, mut status) = failed;
        let mut tried = Tried::new();
        let mut attempt = 0;
        loop {
            attempt_ended(resolver, &picked, request);
            resolver.attempt_failed(&picked, &status);
            attempt += 1;
            let verdict = retry::judge(&status, idempotent);
            if verdict == Verdict::GiveUp || attempt == ATTEMPTS {
                return Err(status);
            }
            if verdict == Verdict::WithinBudget {
                // Who sheds load says when to come back.
                let pause = retry::backoff(attempt - 1).max(status.retry_after().unwrap_or_default());
                if Instant::now() + pause >= request.deadline() {
                    return Err(status);
                }
                let granted = resolver.budget().withdraw(resolver.uptime());
                meter::budget(resolver.service(), resolver.budget().saved(), granted);
                if !granted {
                    return Err(status);
                }
                sleep(pause).await;
            }
            meter::retried(resolver.service(), status.outcome());
            debug!("{} is tried again: {status}", request.name());
            tried.push(picked.endpoint);
            picked = resolver.connection(request, &tried).await?;
            request.attempt_begins();
            status = match picked.connection.exchange(request, arguments).await {
                Ok(answer) => {
                    attempt_ended(resolver, &picked, request);
                    picked.connection.ejection().answered();
                    return Ok(answer);
                }
                Err(status) => status,
            };
        }
    }
}

/// Records the end of an attempt on that instance, if the call asks for it.
#[inline]
fn attempt_ended(resolver: &Resolver, picked: &Picked, request: &CallRequest<'_>) {
    if let Some(info) = request.info {
        let id = resolver.id_of(picked.endpoint);
        info.end_attempt(id.unwrap_or_else(|| picked.connection.address().to_owned()));
    }
}

/// Settings of a [`ClientProxy`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProxyBuilder {
    registry: Arc<dyn MsRegister>,
    config: ClientConfig,
    settings: Settings,
}

impl ProxyBuilder {
    config_setters!();

    /// Balancing of calls: over which instances, and in which way. A [`Balancer`](crate::Balancer), or more, or one of the
    /// program's own: [`Balancing::custom`].
    /// Default: [`Balancer::P2c`](crate::Balancer::P2c) over all of them.
    pub fn balancer(mut self, balancing: impl Into<Balancing>) -> Self {
        self.settings.balancing = balancing.into();
        self
    }

    /// Ejection of instances that do not answer. A setting out of its range fails every call with `InvalidArgument`, unsent;
    /// [`EjectionConfig::check`] tells beforehand.
    pub fn ejection(mut self, change: impl FnOnce(&mut EjectionConfig)) -> Self {
        change(&mut self.settings.ejection);
        self
    }

    /// Connections to each instance, at least 1. One carries many calls at once; more help where one core is too little
    /// for the framing. Default 1.
    pub fn connections_per_instance(mut self, connections: usize) -> Self {
        self.settings.connections_per_instance = connections.max(1);
        self
    }

    /// The proxy. Nothing is dialled or watched before the first call.
    pub fn build(self) -> ClientProxy {
        ClientProxy {
            inner: Arc::new(Inner {
                registry: self.registry,
                config: Arc::new(self.config),
                settings: self.settings,
                resolvers: RwLock::default(),
            }),
            options: CallOptions::new(),
        }
    }
}
