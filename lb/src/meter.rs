//! Metrics of a route.

use axum::http::StatusCode;
use metrics::{Counter, counter};

const REQUESTS: &str = "ms_lb_requests_total";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of one service.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    answers: [Counter; 5],
    retries: Counter,
}

impl Meter {
    pub(crate) fn new(service: &str) -> Self {
        let service = service.to_owned();
        let answers = CLASSES.map(|class| counter!(REQUESTS, "service" => service.clone(), "status" => class));
        let retries = counter!("ms_lb_retries_total", "service" => service);
        Self { answers, retries }
    }

    /// Counts an answer to a client.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.answers[class].increment(1);
    }

    /// Counts a try after the first.
    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }
}

/// Counts a request that no rule matches.
pub(crate) fn unrouted() {
    counter!(REQUESTS, "service" => "", "status" => "4xx").increment(1);
}
