//! Back ends in Python, a load balancer within this process, and a client that shows the bytes.

mod back_end;
mod wire;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub(crate) use back_end::BackEnd;
use ms_http::HttpServer;
use ms_lb::{Choice, KeySource, Proxy, ProxyConfig, Routes, Rule};
use ms_register::{Instance, Memory, MsRegister, Registration};
use ms_rpc::{Balancer, EjectionConfig, tls::Tls};
use tokio::task::JoinHandle;
pub(crate) use wire::{Wire, get};

/// Back ends `a`, `b`, `c`.. of the service `shop` in a registry of the test's own.
pub(crate) struct Shop {
    pub(crate) registry: Arc<dyn MsRegister>,
    pub(crate) back_ends: Vec<BackEnd>,
    _registrations: Vec<Registration>,
}

impl Shop {
    pub(crate) async fn open(count: usize) -> Self {
        let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
        let (mut back_ends, mut registrations) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"].into_iter().take(count) {
            let back_end = BackEnd::start(name).await;
            let instance = Instance::new("127.0.0.1", back_end.port()).with_id(name);
            registrations.push(registry.register(&"shop".parse().unwrap(), instance).await.unwrap());
            back_ends.push(back_end);
        }
        Self { registry, back_ends, _registrations: registrations }
    }

    /// A load balancer with one rule, for everything.
    pub(crate) async fn balanced(&self, balancer: Balancer) -> Front {
        let key = KeySource::of(&balancer.to_string());
        self.front(vec![rule(".*", "shop", Choice::Balanced(balancer.into(), key))], config()).await
    }

    pub(crate) async fn front(&self, rules: Vec<Rule>, config: ProxyConfig) -> Front {
        self.start(rules, config, |server| server).await
    }

    /// The same over TLS alone.
    pub(crate) async fn secured(&self, rules: Vec<Rule>, tls: &Tls) -> Front {
        self.start(rules, config(), |server| server.tls(tls)).await
    }

    async fn start(
        &self,
        rules: Vec<Rule>,
        config: ProxyConfig,
        change: impl FnOnce(HttpServer) -> HttpServer,
    ) -> Front {
        let routes = Routes::new(&self.registry, rules, &EjectionConfig::default()).unwrap();
        routes.settle(Duration::from_secs(3)).await;
        let proxy = Proxy::new(routes, config);
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().body_pause(proxy.silence());
        let (address, server) = (server.address(), change(server));
        Front { address, serving: tokio::spawn(server.serve(proxy.router(), std::future::pending())) }
    }
}

/// A load balancer. It ends when it is dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn rule(pattern: &str, service: &str, choice: Choice) -> Rule {
    Rule::new(pattern, service, choice).unwrap()
}

/// Times that a test can wait for.
pub(crate) fn config() -> ProxyConfig {
    let mut config = ProxyConfig::default();
    config.silence = Duration::from_secs(5);
    config
}
