//! Follows the files, and warns before the own certificate ends.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use metrics::{counter, gauge};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tracing::{error, info, warn};

use super::Inner;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The task that compares the files.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    task: Option<JoinHandle<()>>,
}

/// Starts the task, unless it runs. It ends with the last holder of `inner`, or with its runtime; the next connection starts it again.
pub(super) fn start(inner: &Arc<Inner>) {
    let mut watcher = inner.watcher.lock().unwrap_or_else(PoisonError::into_inner);
    if watcher.task.as_ref().is_none_or(JoinHandle::is_finished) {
        watcher.task = Some(tokio::spawn(run(Arc::downgrade(inner), inner.reload_every)));
    }
}

async fn run(inner: Weak<Inner>, pause: Duration) {
    let mut warned = None;
    loop {
        let Some(strong) = inner.upgrade() else { return };
        report(&strong, &mut warned);
        drop(strong);
        sleep(pause).await;
        let Some(strong) = inner.upgrade() else { return };
        let reloaded = spawn_blocking(move || strong.reload());
        match reloaded.await {
            Ok(Ok(false)) | Err(_) => {}
            Ok(Ok(true)) => {
                counter!("ms_rpc_tls_reloads_total", "result" => "used").increment(1);
                info!("TLS: the changed certificates are in use for new connections");
            }
            Ok(Err(error)) => {
                counter!("ms_rpc_tls_reloads_total", "result" => "failed").increment(1);
                error!("TLS: the changed files are not used, those of before stay: {error}");
            }
        }
    }
}

/// Publishes when the certificate ends, and warns once in its last week and once on its last day.
fn report(inner: &Inner, warned: &mut Option<(SystemTime, Duration)>) {
    let Some(ends) = inner.current.load().ends else { return };
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    gauge!("ms_rpc_tls_certificate_expiry_seconds").set(left);
    let Some(limit) = [DAY, 7 * DAY].into_iter().find(|limit| left <= *limit) else { return };
    if *warned != Some((ends, limit)) {
        *warned = Some((ends, limit));
        let source = inner.sources.own.as_ref().map(|(certificate, _)| format!("{certificate:?}")).unwrap_or_default();
        warn!("TLS: the certificate {source} ends in {} h: renew it", left.as_secs() / 3600);
    }
}
