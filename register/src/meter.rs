//! Metrics of registry clients. All of this happens rarely, so it is counted always.

use metrics::{counter, gauge};

use crate::{About, RegisterError, ServiceName};

/// Counts a request, a round of a watch, or an attempt to connect that failed.
pub(crate) fn failed(about: &About, error: &RegisterError) {
    let reason = match error {
        RegisterError::Unreachable { .. } => "unreachable",
        RegisterError::Timeout { .. } => "timeout",
        RegisterError::Rejected { .. } => "rejected",
        // Said by this process, without the registry.
        _ => return,
    };
    counter!("ms_register_failed_total", "registry" => about.url().to_owned(), "reason" => reason).increment(1);
}

/// Counts instances of this process that are listed.
pub(crate) fn listed(about: &About, change: f64) {
    gauge!("ms_register_listed", "registry" => about.url().to_owned()).increment(change);
}

/// Counts the loss of a listed instance; `reason` is one of a few.
pub(crate) fn lost(about: &About, reason: &str) {
    let labels = [("registry", about.url().to_owned()), ("reason", reason.to_owned())];
    counter!("ms_register_lost_total", &labels).increment(1);
}

/// Counts an instance that is listed again after a loss.
pub(crate) fn regained(about: &About) {
    counter!("ms_register_regained_total", "registry" => about.url().to_owned()).increment(1);
}

/// Shows whether this process leads the service.
pub(crate) fn leads(about: &About, service: &ServiceName, leads: bool) {
    let labels = [("registry", about.url().to_owned()), ("service", service.to_string())];
    gauge!("ms_register_leads", &labels).set(f64::from(u8::from(leads)));
}

/// Counts a term that ended otherwise than by resignation.
pub(crate) fn deposed(about: &About, service: &ServiceName) {
    let labels = [("registry", about.url().to_owned()), ("service", service.to_string())];
    counter!("ms_register_deposed_total", &labels).increment(1);
}
