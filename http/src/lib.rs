//! HTTP doors of servers, for the nodes of this project and for programs of one's own: whatever is the same for all of them.
//!
//! - [`HttpServer`]: a bounded number of connections, TLS, and no client that holds one by sending slowly.
//! - [`Access`]: tokens, or else no web pages.
//! - [`Health`]: `/healthz`, `/readyz` and `/metrics`.
//!
//! ```no_run
//! # async fn example(routes: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! use ms_http::{Access, Health, HttpServer, Readiness};
//! use ms_security::{Tokens, tls::Tls};
//!
//! let tls = Tls::one_way_server("node.pem", "node.key").build()?;
//! let access = Access::open().with_tokens(&Tokens::from_file("tokens")?);
//! let health = Health::start()?;
//! let server = HttpServer::bind(([0, 0, 0, 0], 9504).into()).await?.tls(&tls).max_connections(256);
//! health.set(Readiness::Ready);
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! server.serve(access.clone().guard(routes).merge(health.routes(access)), stop).await;
//! # Ok(())
//! # }
//! ```

mod access;
mod guard;
mod health;
mod serve;

pub use access::Access;
pub use health::{Health, HealthError, Readiness};
pub use serve::HttpServer;
