//! `/healthz`, `/readyz` and `/metrics` of a server.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{sync::watch, time::interval};

use crate::Access;

/// Readiness of a server, for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet: 503.
    Starting,
    /// Calls are taken: 200.
    Ready,
    /// No more: 503.
    ShuttingDown,
    /// The server ends because of this: 503.
    Failed(String),
}

/// Readiness of a server, and the metrics of its process.
#[derive(Debug)]
pub struct Health {
    state: watch::Sender<Readiness>,
    metrics: PrometheusHandle,
}

/// Upper bounds of the buckets of histograms, in seconds: a sync of a disk takes from 20 us to seconds.
const BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];
/// Time between two clean-ups of the recorder.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct HealthError(String);

impl Health {
    /// Installs the recorder of this process's metrics. Needs a tokio runtime.
    ///
    /// # Errors
    /// There is a recorder already.
    pub fn start() -> Result<Self, HealthError> {
        let failure = |error: BuildError| HealthError(error.to_string());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS);
        let metrics = builder.map_err(failure)?.install_recorder().map_err(failure)?;
        let upkeep = metrics.clone();
        tokio::spawn(async move {
            let mut ticks = interval(UPKEEP);
            loop {
                ticks.tick().await;
                upkeep.run_upkeep();
            }
        });
        Ok(Self { state: watch::Sender::new(Readiness::Starting), metrics })
    }

    /// Sets what `/readyz` answers.
    pub fn set(&self, state: Readiness) {
        self.state.send_replace(state);
    }

    /// `/healthz`, `/readyz` and `/metrics`, for GET and HEAD. Probes need no token; `/metrics` is behind `access`.
    pub fn routes(&self, access: Access) -> Router {
        let (state, metrics) = (self.state.subscribe(), self.metrics.clone());
        let ready = move || {
            let answer = match &*state.borrow() {
                Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
                Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
                Readiness::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
                Readiness::Failed(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            };
            std::future::ready(answer)
        };
        let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
        let metrics =
            access.guard(Router::new().route("/metrics", get(move || std::future::ready((kind, metrics.render())))));
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).merge(metrics)
    }
}
