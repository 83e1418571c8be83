use std::{borrow::Cow, sync::Arc};

use ms_register::{Instance, MsRegister};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    balance::Balancing,
    config::{ConfigError, DiscoveryConfig, HoldConfig, RedialConfig, RetryConfig},
    ejection::EjectionConfig,
    endpoint::Dialler,
    options::{CallOptions, ClientConfig, config_setters},
    request::{CallRequest, EncodeArguments},
    resolver::{Picked, Resolver, Tried},
    resolvers::Resolvers,
    retry::{Failures, Verdict},
};
use crate::{Answer, Status, meter};

/// Client that finds services through a registry: each call resolves the service, picks an instance, uses a pooled
/// connection, and is retried elsewhere where that does no harm. Cheap to clone; make one per registry.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ms_rpc::{ClientProxy, Codec, Compression};
/// use serde_json::json;
///
/// let registry = ms_register::connect("memory://").await?;
/// let proxy = ClientProxy::builder(registry).codec(Codec::Bincode).compression(Compression::Gzip).build()?;
/// let item = proxy.call("goods", "find", &json!([5])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientProxy {
    resolvers: Arc<Resolvers>,
    pub(super) options: CallOptions,
}

impl ClientProxy {
    /// A proxy with default settings.
    pub fn new(registry: Arc<dyn MsRegister>) -> Self {
        Self::builder(registry).make()
    }

    /// A builder for a proxy with other settings.
    pub fn builder(registry: Arc<dyn MsRegister>) -> ProxyBuilder {
        ProxyBuilder { registry, config: ClientConfig::default(), balancing: Balancing::default() }
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
        self.resolvers.config()
    }

    /// The options of calls of one method, its defaults included.
    pub(super) fn options_of(&self, service: &str, method: &str) -> Cow<'_, CallOptions> {
        self.config().method_defaults.under(service, method, &self.options)
    }

    /// The resolver that follows `service`; started at its first call.
    pub(super) fn resolver(&self, service: &str) -> Result<Arc<Resolver>, Status> {
        self.resolvers.get(service)
    }

    /// Several attempts, each on another instance where there is one, all within the deadline.
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
            Ok(answer) => Ok(succeeded(resolver, &picked, request, answer)),
            // On the heap: the calls that need no second attempt, nearly all, are smaller for it.
            Err(status) => Box::pin(Self::try_again(resolver, request, arguments, idempotent, (picked, status))).await,
        }
    }

    /// Judges a failed attempt on that instance, and makes further ones.
    async fn try_again<A: EncodeArguments + ?Sized>(
        resolver: &Arc<Resolver>,
        request: &CallRequest<'_>,
        arguments: &A,
        idempotent: bool,
        failed: (Picked, Status),
    ) -> Result<Answer, Status> {
        let (mut picked, mut status) = failed;
        let (mut tried, mut failures) = (Tried::new(), Failures::new(&resolver.config().retry));
        loop {
            let instance = attempt_ended(resolver, &picked, request);
            resolver.attempt_failed(&picked, &status);
            meter::attempt_failed(resolver.service(), &instance, status.outcome());
            match failures.judge(&status, idempotent) {
                Verdict::GiveUp => return Err(failures.result(status, &instance)),
                // No other instance may serve what this one does not.
                Verdict::OnceElsewhere if !resolver.has_others(request) => {
                    return Err(failures.result(status, &instance));
                }
                Verdict::AtOnce | Verdict::OnceElsewhere => {}
                Verdict::WithinBudget => {
                    let pause = failures.pause(&status);
                    if Instant::now() + pause >= request.deadline() || !resolver.grants_retry() {
                        return Err(failures.result(status, &instance));
                    }
                    sleep(pause).await;
                }
            }
            meter::retried(resolver.service(), status.outcome());
            debug!("{} is tried again: {status}", request.name());
            tried.push(picked.endpoint);
            picked = match resolver.connection(request, &tried).await {
                Ok(picked) => picked,
                Err(status) => return Err(failures.result(status, &instance)),
            };
            request.attempt_begins();
            status = match picked.connection.exchange(request, arguments).await {
                Ok(answer) => return Ok(succeeded(resolver, &picked, request, answer)),
                Err(status) => status,
            };
        }
    }
}

/// Records an answer of that instance.
#[inline]
fn succeeded(resolver: &Resolver, picked: &Picked, request: &CallRequest<'_>, mut answer: Answer) -> Answer {
    picked.connection.ejection().answered();
    if request.info.is_some() || !answer.is_success() {
        answer.set_instance(attempt_ended(resolver, picked, request));
    }
    answer
}

/// Records the end of an attempt, if the call asks for it; returns the instance's id, or its address if it has left
/// the registry meanwhile.
#[cold]
fn attempt_ended(resolver: &Resolver, picked: &Picked, request: &CallRequest<'_>) -> String {
    let id = resolver.id_of(picked.endpoint).unwrap_or_else(|| picked.connection.address().to_owned());
    if let Some(info) = request.info {
        info.end_attempt(id.clone());
    }
    id
}

/// Settings of a [`ClientProxy`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ProxyBuilder {
    registry: Arc<dyn MsRegister>,
    config: ClientConfig,
    balancing: Balancing,
}

impl ProxyBuilder {
    config_setters!();

    /// Balancing of calls: over which instances, and in which way. A [`Balancer`](crate::Balancer), or more, or one of the
    /// program's own: [`Balancing::custom`].
    /// Default: [`Balancer::P2c`](crate::Balancer::P2c) over all of them.
    pub fn balancer(mut self, balancing: impl Into<Balancing>) -> Self {
        self.balancing = balancing.into();
        self
    }

    /// Changes the ejection of instances that do not answer.
    pub fn ejection(mut self, change: impl FnOnce(&mut EjectionConfig)) -> Self {
        change(&mut self.config.ejection);
        self
    }

    /// Connections to each instance: see [`DiscoveryConfig::connections_per_instance`]. Default 1.
    pub fn connections_per_instance(self, connections: usize) -> Self {
        self.discovery(|discovery| discovery.connections_per_instance = connections)
    }

    /// Changes the bounds of connections and names.
    pub fn discovery(mut self, change: impl FnOnce(&mut DiscoveryConfig)) -> Self {
        change(&mut self.config.discovery);
        self
    }

    /// Changes attempts, back-off and budget of retries.
    ///
    /// ```
    /// # fn example(registry: std::sync::Arc<dyn ms_register::MsRegister>) -> Result<(), ms_rpc::ConfigError> {
    /// let proxy = ms_rpc::ClientProxy::builder(registry).retry(|retry| retry.attempts = 1).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(mut self, change: impl FnOnce(&mut RetryConfig)) -> Self {
        change(&mut self.config.retry);
        self
    }

    /// Changes for how long instances are called on that the registry lists no more.
    pub fn hold(mut self, change: impl FnOnce(&mut HoldConfig)) -> Self {
        change(&mut self.config.hold);
        self
    }

    /// Changes the pauses between dials.
    pub fn redial(mut self, change: impl FnOnce(&mut RedialConfig)) -> Self {
        change(&mut self.config.redial);
        self
    }

    /// The proxy. Nothing is dialled or watched before the first call.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn build(self) -> Result<ClientProxy, ConfigError> {
        self.config.check()?;
        Ok(self.make())
    }

    fn make(self) -> ClientProxy {
        let resolvers = Arc::new(Resolvers::new(self.registry, self.config, self.balancing));
        ClientProxy { resolvers, options: CallOptions::new() }
    }
}
