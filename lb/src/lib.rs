//! Load balancers before the services of a registry, for clients that speak HTTP or MQTT.
//!
//! - [`Rule`], [`Routes`]: which service answers, and which of its instances, by any registry and any balancer of `ms-rpc`.
//! - [`Proxy`]: HTTP, with bodies that stream, upgrades that tunnel, and tries elsewhere where they do no harm.
//! - [`Settings`]: an HTTP load balancer as a file of TOML.
//! - [`MqttBalancer`]: MQTT, between the broker of the clients and those of the services.
//! - [`Sidecar`]: registers a service in ZooKeeper, and names load balancers, for programs that speak plain HTTP alone.
//! - [`original`]: the files of go-micro-service's programs, read verbatim.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ms_http::HttpServer;
//! use ms_lb::{Choice, KeySource, Proxy, ProxyConfig, Routes, Rule};
//! use ms_rpc::{Balancer, EjectionConfig};
//!
//! let registry = ms_register::connect("static://127.0.0.1:8001,127.0.0.1:8002").await?;
//! let rule = Rule::new("^/shop/", "shop", Choice::Balanced(Balancer::P2c.into(), KeySource::None))?;
//! let routes = Routes::new(&registry, vec![rule], &EjectionConfig::default())?;
//! let proxy = Proxy::new(routes, ProxyConfig::default());
//! let server = HttpServer::bind(([127, 0, 0, 1], 8000).into()).await?.body_pause(proxy.silence());
//! server.serve(proxy.router(), std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod meter;
mod mqtt;
pub mod original;
mod proxy;
mod routes;
mod rule;
mod settings;
mod sidecar;

pub use mqtt::{MqttBalancer, MqttConfig};
pub use proxy::{Proxy, ProxyConfig};
pub use routes::{Routes, RoutesError};
pub use rule::{Choice, KeySource, Rule, RuleError};
pub use settings::{OwnEntry, Settings, SettingsError};
pub use sidecar::Sidecar;
