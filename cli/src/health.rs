//! `/healthz`, `/readyz` and `/metrics` of a server.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use ms_gregister::Access;
use tokio::{sync::watch, time::interval};

use crate::exit::Failure;

/// Readiness of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Ready,
    ShuttingDown,
    /// The server ends because of this.
    Failed(String),
}

/// Readiness, and the metrics of this process.
pub(crate) struct Health {
    state: watch::Sender<State>,
    metrics: PrometheusHandle,
}

/// Upper bounds of the buckets of histograms, in seconds: a sync of a disk takes from 20 us to seconds.
const BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];
/// Time between two clean-ups of the recorder.
const UPKEEP: Duration = Duration::from_secs(5);

impl Health {
    /// Installs the recorder of this process.
    pub(crate) fn start() -> Result<Self, Failure> {
        let failure = |error| Failure::Other(format!("metrics: {error}"));
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
        Ok(Self { state: watch::Sender::new(State::Starting), metrics })
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Routes for GET and HEAD. Probes need no token; `/metrics` is behind `access`.
    pub(crate) fn routes(&self, access: Access) -> Router {
        let (state, metrics) = (self.state.subscribe(), self.metrics.clone());
        let ready = move || {
            let answer = match &*state.borrow() {
                State::Ready => (StatusCode::OK, "ready\n".to_owned()),
                State::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
                State::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
                State::Failed(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            };
            std::future::ready(answer)
        };
        let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
        let metrics =
            access.guard(Router::new().route("/metrics", get(move || std::future::ready((kind, metrics.render())))));
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).merge(metrics)
    }
}
