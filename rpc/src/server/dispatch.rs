//! From names to methods. Knows nothing of sockets.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ms_security::Rules;
use tracing::error;

use super::{
    auth::may_call,
    limit::{Bucket, Buckets, Limits, Ticker},
    pace::{Pace, Threads},
};
use crate::{
    Code, Context, Execution, Layer, Method, Outcome, Service, Status,
    encodings::Encodings,
    measure::{MethodStats, Stats},
    service::Descriptor,
};

/// A call before its body is touched, as interceptors see it: calls of the framework's own services (`ms.health`,
/// `ms.describe`) too.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// The service that is called.
    pub service: &'a str,
    /// The method that is called.
    pub method: &'a str,
    /// Deadline, peer and metadata; the caller may be set here.
    pub context: &'a mut Context,
}

/// Judges each call before its body is touched; an error is the call's answer. It must not block.
pub(crate) type Interceptor = Arc<dyn Fn(&mut Incoming<'_>) -> Result<(), Status> + Send + Sync>;

/// Layers of a server, shared by its routes.
pub(crate) type Layers = Arc<[Arc<dyn Layer>]>;

/// All services of a server.
pub(crate) struct Dispatch {
    services: HashMap<String, Entry>,
    interceptors: Vec<Interceptor>,
    encodings: Arc<Encodings>,
    rules: Rules,
}

struct Entry {
    service: Arc<dyn Service>,
    methods: HashMap<&'static str, Arc<Route>>,
}

/// One method of one service, with all that its calls need.
pub(crate) struct Route {
    /// The name that the service is served under.
    pub(crate) name: Arc<str>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) descriptor: &'static Descriptor,
    pub(crate) method: usize,
    pub(crate) buckets: Buckets,
    pub(crate) layers: Layers,
    pub(crate) encodings: Arc<Encodings>,
    /// Pace of first polls: up to the first wait.
    pub(crate) pace: Pace,
    /// Pace of all later polls.
    pub(crate) later_pace: Pace,
    /// `None` unless the server is measured.
    pub(crate) stats: Option<Arc<MethodStats>>,
}

impl Route {
    /// Returns true if this is the route of these names.
    #[inline]
    pub(crate) fn is(&self, service: &str, method: &str) -> bool {
        *self.name == *service && self.method_name() == method
    }

    /// The method's name.
    #[inline]
    pub(crate) fn method_name(&self) -> &'static str {
        self.method().name
    }

    /// The method's description.
    #[inline]
    pub(crate) fn method(&self) -> &'static Method {
        &self.descriptor.methods[self.method]
    }
}

impl Dispatch {
    pub(crate) fn new(
        services: Vec<(String, Arc<dyn Service>)>,
        interceptors: Vec<Interceptor>,
        layers: &Layers,
        encodings: Arc<Encodings>,
        limits: &Limits,
        stats: Option<&Stats>,
        ticker: &Ticker,
    ) -> Self {
        let whole = limits.server.map(|limit| Arc::new(Bucket::new(limit, ticker, "the server".to_owned())));
        let services = services.into_iter().map(|(name, service)| {
            // Health checks must not fail because the server is busy, or because of a user's layer.
            let is_user = !name.starts_with("ms.");
            let of_service = limits.services.get(&name);
            let of_service = of_service.map(|limit| Arc::new(Bucket::new(*limit, ticker, format!("`{name}`"))));
            let descriptor = service.descriptor();
            let served: Arc<str> = name.as_str().into();
            let route = |(place, method): (usize, &'static Method)| {
                let own = limits.methods.get(&(name.clone(), method.name.to_owned()));
                let own = own.map(|limit| Arc::new(Bucket::new(*limit, ticker, format!("`{name}.{}`", method.name))));
                let buckets = [own, of_service.clone(), whole.clone()].into_iter().flatten();
                let buckets = buckets.filter(|_| is_user).collect();
                let threads = match method.execution {
                    Execution::Inline => Threads::InPlace,
                    Execution::Compute => Threads::Compute,
                    Execution::Blocking => Threads::Blocking,
                };
                let route = Route {
                    name: served.clone(),
                    service: service.clone(),
                    descriptor,
                    method: place,
                    buckets: Buckets(buckets),
                    layers: if is_user { layers.clone() } else { Layers::default() },
                    encodings: encodings.clone(),
                    pace: Pace::new(threads),
                    later_pace: Pace::new(threads),
                    stats: stats.map(|stats| stats.of(&name, method.name)),
                };
                (method.name, Arc::new(route))
            };
            let methods = descriptor.methods.iter().enumerate().map(route).collect();
            (name.clone(), Entry { service: service.clone(), methods })
        });
        Self { services: services.collect(), interceptors, encodings: encodings.clone(), rules: Rules::default() }
    }

    /// The same with rules for its callers.
    pub(crate) fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    pub(crate) fn encodings(&self) -> &Encodings {
        &self.encodings
    }

    /// Names of the methods of a service, if it is served.
    pub(crate) fn methods(&self, service: &str) -> Option<impl Iterator<Item = &'static str>> {
        let methods = self.services.get(service)?.service.descriptor().methods;
        Some(methods.iter().map(|method| method.name))
    }

    pub(crate) fn route(&self, service: &str, method: &str) -> Result<&Arc<Route>, Status> {
        let refused = |message: String| Status::new(Code::Unimplemented, message).with_outcome(Outcome::Refused);
        let Some(entry) = self.services.get(service) else {
            let known = match self.rules.is_empty() {
                true => format!(" (served: {})", self.names().collect::<Vec<_>>().join(", ")),
                // With rules, names are for callers that may use them.
                false => String::new(),
            };
            return Err(refused(format!("service `{service}` is not served here{known}")));
        };
        entry.methods.get(method).ok_or_else(|| {
            let known: Vec<_> = entry.service.descriptor().methods.iter().map(|method| method.name).collect();
            refused(format!("service `{service}` has no method `{method}` (it has: {})", known.join(", ")))
        })
    }

    /// Checks that this principal may call the method.
    pub(crate) fn authorise(&self, who: &str, service: &str, method: &str) -> Result<(), Status> {
        if may_call(&self.rules, who, service, method) {
            return Ok(());
        }
        let name = if who.is_empty() { "an anonymous caller" } else { who };
        let message = format!("{name} may not call {service}.{method}");
        Err(Status::new(Code::PermissionDenied, message).with_outcome(Outcome::Refused))
    }

    pub(crate) fn intercept(&self, incoming: &mut Incoming<'_>) -> Result<(), Status> {
        if self.interceptors.is_empty() {
            return Ok(());
        }
        let all = AssertUnwindSafe(|| self.interceptors.iter().try_for_each(|interceptor| interceptor(incoming)));
        let judged = catch_unwind(all).unwrap_or_else(|_| {
            error!(service = incoming.service, method = incoming.method, "an interceptor panicked");
            Err(Status::new(Code::Internal, "an interceptor panicked; the server's log has the details"))
        });
        // Nothing of the call was executed.
        judged.map_err(|status| status.with_outcome(Outcome::Refused))
    }

    /// The names of the user's services, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<_> = self.services.keys().map(String::as_str).collect();
        names.retain(|name| !name.starts_with("ms."));
        names.sort_unstable();
        names.into_iter()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch").field("services", &self.services.keys()).finish_non_exhaustive()
    }
}
