//! Metrics, through the `metrics` facade: nothing, as long as the program installs no recorder. All of it happens
//! when something changes or fails; a call that goes well counts nothing.
//!
//! Names are documented in docs/metrics.md.

use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use ms_register::{Freshness, Snapshot};

use crate::Outcome;

/// How a service's list stands.
#[derive(Debug)]
pub(crate) struct List<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// How many instances callers choose from.
    pub(crate) all: usize,
    /// How many of them are called.
    pub(crate) live: usize,
    /// How many of them are not listed any more.
    pub(crate) held: usize,
    /// How many of them are left out for a while.
    pub(crate) ejected: usize,
}

pub(crate) fn list(service: &str, list: &List<'_>) {
    let freshness = match list.snapshot.freshness() {
        Freshness::Never => 0.0,
        Freshness::Stale => 1.0,
        Freshness::Live => 2.0,
    };
    let gauge = |name: &'static str| gauge!(name, "service" => service.to_owned());
    gauge("ms_rpc_snapshot_freshness").set(freshness);
    gauge("ms_rpc_snapshot_age_seconds").set(list.snapshot.age(Instant::now()).unwrap_or_default());
    gauge("ms_rpc_instances").set(list.all as f64);
    gauge("ms_rpc_instances_live").set(list.live as f64);
    gauge("ms_rpc_instances_held").set(list.held as f64);
    gauge("ms_rpc_instances_ejected").set(list.ejected as f64);
}

pub(crate) fn ejected(service: &str, instance: &str) {
    counter!("ms_rpc_ejections_total", "service" => service.to_owned(), "instance" => instance.to_owned()).increment(1);
}

pub(crate) fn dialled(service: &str, connected: bool) {
    let result = if connected { "connected" } else { "failed" };
    counter!("ms_rpc_dials_total", "service" => service.to_owned(), "result" => result).increment(1);
}

pub(crate) fn connection_lost(service: &str) {
    counter!("ms_rpc_connections_lost_total", "service" => service.to_owned()).increment(1);
}

pub(crate) fn retried(service: &str, outcome: Outcome) {
    counter!("ms_rpc_retries_total", "service" => service.to_owned(), "reason" => reason(outcome)).increment(1);
}

/// An attempt on this instance failed. Answers of the method are no failures of the instance.
pub(crate) fn attempt_failed(service: &str, instance: &str, outcome: Outcome) {
    if outcome != Outcome::Answered {
        let (service, instance) = (service.to_owned(), instance.to_owned());
        counter!("ms_rpc_failed_attempts_total", "service" => service, "instance" => instance, "reason" => reason(outcome))
            .increment(1);
    }
}

fn reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "not_sent",
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
        Outcome::Answered => "answered",
    }
}

/// The budget was asked for a retry.
pub(crate) fn budget(service: &str, saved: f64, granted: bool) {
    gauge!("ms_rpc_retry_budget", "service" => service.to_owned()).set(saved);
    if !granted {
        counter!("ms_rpc_retries_denied_total", "service" => service.to_owned()).increment(1);
    }
}

/// Why a server refused a call without executing it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shed {
    RateLimit,
    Connection,
    Server,
    Memory,
    Draining,
}

pub(crate) fn shed(why: Shed) {
    let reason = match why {
        Shed::RateLimit => "rate_limit",
        Shed::Connection => "in_flight_connection",
        Shed::Server => "in_flight_server",
        Shed::Memory => "memory",
        Shed::Draining => "draining",
    };
    counter!("ms_rpc_shed_total", "reason" => reason).increment(1);
}

/// Counts a connection of the server that listens on this address: `change` is 1 when it opens, -1 when it ends.
pub(crate) fn connections(server: &str, change: f64) {
    gauge!("ms_rpc_server_connections", "server" => server.to_owned()).increment(change);
}

pub(crate) fn panicked() {
    counter!("ms_rpc_panics_total").increment(1);
}

pub(crate) fn drained(took: Duration, in_time: bool) {
    let result = if in_time { "finished" } else { "cut_off" };
    counter!("ms_rpc_drains_total", "result" => result).increment(1);
    gauge!("ms_rpc_drain_seconds").set(took);
}

/// Counts a connection in plaintext of a server that also takes TLS: `change` is 1 when it opens, -1 when it ends.
#[cfg(feature = "tls")]
pub(crate) fn plaintext(change: f64) {
    gauge!("ms_rpc_plaintext_connections").increment(change);
}

#[cfg(feature = "tls")]
pub(crate) fn tls_refused(reason: &'static str) {
    counter!("ms_rpc_tls_refused_total", "reason" => reason).increment(1);
}

/// Counts a caller that was refused for what it is.
pub(crate) fn denied(reason: &'static str) {
    counter!("ms_rpc_denied_total", "reason" => reason).increment(1);
}
