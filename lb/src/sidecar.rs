//! go-micro-service's sidecar: registers a service in ZooKeeper, and names load balancers, for programs in any language.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::Method,
    response::{IntoResponse, Response},
    routing::any,
};
use ms_register::{MsRegister, Registration, ServiceName};
use ms_rpc::{Balancer, Picker};
use tracing::warn;

use crate::{
    original::{
        SidecarFile,
        sidecar::{Answer, BalancerNet, ConnectAnswer, DispersedInfo, StartRequest},
    },
    rule::KeySource,
};

/// Largest body of a request, in bytes.
const LARGEST: usize = 1 << 20;
/// Time for the registry's first list.
const FIRST_LIST: Duration = Duration::from_secs(3);
/// Services that one sidecar keeps registered.
const SERVICES: usize = 64;

/// The sidecar, as routes of an HTTP server. Cheap to clone.
///
/// All answers have status 200, and say in JSON what is wrong: `error` is 0, or 100 the body cannot be read, 101 it is no request, 110 and 120 nothing was
/// begun, 111 no load balancer is there, 121 the service cannot be registered, 102, 112 and 122 the method is another one.
#[derive(Clone)]
pub struct Sidecar(Arc<Inner>);

struct Inner {
    /// Set by the last `/server/init`.
    begun: Mutex<Option<Arc<Begun>>>,
    services: tokio::sync::Mutex<Services>,
}

/// Content of a `/server/init`.
struct Begun {
    info: DispersedInfo,
    balancers: Picker,
    key: KeySource,
}

/// Registered services. A later `/server/init`, such as that of a client beside the service, takes none away.
#[derive(Default)]
struct Services {
    registries: HashMap<String, Arc<dyn MsRegister>>,
    registered: HashMap<(String, ServiceName, String), Registration>,
}

const OK: Answer = Answer { error: 0, error_string: "ok" };

impl Sidecar {
    /// A sidecar before its first `/server/init`.
    pub fn new() -> Self {
        Self(Arc::new(Inner { begun: Mutex::default(), services: tokio::sync::Mutex::default() }))
    }

    /// Its routes, under the paths of the file.
    pub fn router(&self, file: &SidecarFile) -> Router {
        Router::new()
            .route(&file.start_rule.url, any(start))
            .route(&file.get_connect_proto.url, any(connect))
            .route(&file.register_service_proto.url, any(register))
            .with_state(self.clone())
    }

    /// Deregisters the services, within this time.
    pub async fn close(&self, deadline: Duration) {
        let services = std::mem::take(&mut *self.0.services.lock().await);
        for registry in services.registries.into_values() {
            if let Err(error) = registry.close(deadline).await {
                warn!("{error}");
            }
        }
    }

    fn begun(&self) -> Option<Arc<Begun>> {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for Sidecar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sidecar").field("is_begun", &self.begun().is_some()).finish_non_exhaustive()
    }
}

async fn start(State(sidecar): State<Sidecar>, request: Request) -> Json<Answer> {
    if request.method() != Method::POST {
        return Json(Answer { error: 102, error_string: "method not allow" });
    }
    let Ok(body) = body(request.into_body()).await else {
        return Json(Answer { error: 100, error_string: "read request body error" });
    };
    match begin(&body) {
        Ok(begun) => {
            *sidecar.0.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(begun));
            Json(OK)
        }
        Err(reason) => {
            warn!("a start request is refused: {reason}");
            Json(Answer { error: 101, error_string: "decode start request error" })
        }
    }
}

async fn body(body: Body) -> Result<String, axum::Error> {
    let bytes = to_bytes(body, LARGEST).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn begin(body: &str) -> Result<Begun, String> {
    let info = crate::original::parse::<StartRequest>(body)?.dispersed_info;
    let balancers = &info.http_loadbalance_info;
    let url = balancers.url().map_err(|error| error.to_string())?;
    // ZooKeeper may be away: a later request tells.
    let registry = ms_register::connect_in_background(&url).map_err(|error| error.to_string())?;
    let (balancing, key) = balancers.normal_node_algorithm.balancing();
    // Connections to a named balancer are not seen here. Theirs counts how often each was named, which is round robin.
    let is_counting = balancing == Balancer::LeastConnections.into();
    let balancing = if is_counting { Balancer::RoundRobin.into() } else { balancing };
    let balancers =
        Picker::new(registry, &balancers.server_name, balancing).map_err(|status| status.message().to_owned())?;
    Ok(Begun { info, balancers, key })
}

async fn connect(State(sidecar): State<Sidecar>, request: Request) -> Response {
    let answered = |net, answer| Json(ConnectAnswer { load_balance_info: net, answer }).into_response();
    let failed = |error, error_string| answered(BalancerNet::default(), Answer { error, error_string });
    if request.method() != Method::GET {
        return failed(112, "method not allow");
    }
    let Some(begun) = sidecar.begun() else { return failed(110, "please send start first") };
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
    let key = match begun.key {
        KeySource::Client => client,
        _ => request.uri().path_and_query().map(|asked| asked.as_str().to_owned()),
    };
    match named(&begun.balancers, key.as_deref()).await {
        Ok(net) => answered(net, OK),
        Err(reason) => {
            warn!("no load balancer can be named: {reason}");
            failed(111, "get loadbalance error")
        }
    }
}

async fn named(balancers: &Picker, key: Option<&str>) -> Result<BalancerNet, String> {
    let words = |status: ms_rpc::Status| status.message().to_owned();
    balancers.wait_ready(FIRST_LIST).await.map_err(words)?;
    let pick = balancers.pick(key.map(str::as_bytes), &[]).map_err(words)?;
    // An entry without a code has its address for an id.
    let code = if pick.id() == format!("{}:{}", pick.host(), pick.port()) { "" } else { pick.id() };
    Ok(BalancerNet {
        host: pick.host().to_owned(),
        port: pick.port(),
        server_uniquecode: code.to_owned(),
        ..BalancerNet::default()
    })
}

async fn register(State(sidecar): State<Sidecar>, request: Request) -> Json<Answer> {
    if request.method() != Method::POST {
        return Json(Answer { error: 122, error_string: "method not allow" });
    }
    let Some(begun) = sidecar.begun() else {
        return Json(Answer { error: 120, error_string: "please send start first" });
    };
    match sidecar.0.services.lock().await.register(&begun.info).await {
        Ok(()) => Json(OK),
        Err(reason) => {
            warn!("the service cannot be registered: {reason}");
            Json(Answer { error: 121, error_string: "register service error" })
        }
    }
}

impl Services {
    async fn register(&mut self, info: &DispersedInfo) -> Result<(), String> {
        let entry = info.service_info.entry();
        let url = entry.url("service-info").map_err(|error| error.to_string())?;
        let instance = entry.instance("service-info").map_err(|error| error.to_string())?;
        let service = ServiceName::new(&entry.server_name).map_err(|error| error.to_string())?;
        if self.registered.len() >= SERVICES {
            return Err(format!("{SERVICES} services are registered already"));
        }
        let registry = match self.registries.entry(url.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let registry = ms_register::connect(&url).await.map_err(|error| error.to_string())?;
                new.insert(registry).clone()
            }
        };
        match self.registered.entry((url, service.clone(), instance.id().to_owned())) {
            Entry::Occupied(known) => {
                let deadline = Duration::from_secs(3);
                known.get().update(instance, deadline).await.map_err(|error| error.to_string())
            }
            Entry::Vacant(new) => {
                let registered = registry.register(&service, instance).await.map_err(|error| error.to_string())?;
                new.insert(registered);
                Ok(())
            }
        }
    }
}
