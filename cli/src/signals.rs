//! Signals that end a server: SIGTERM, SIGINT, and SIGHUP unless the process was started with SIGHUP ignored, as by `nohup`.

use std::{fs, future::Future, pin::Pin};

use ms_rpc::{NextSignal, SecondSignal, shutdown_signal};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Waits for the first signal; listens from the call on. The result waits for a second one, which ends a shutdown at once.
pub(crate) fn end() -> impl Future<Output = Second> {
    let mut ends = Box::pin(shutdown_signal());
    let mut hangups = hangups();
    async move {
        tokio::select! {
            next = &mut ends => Second::AfterEnd(next, hangups),
            () = received(&mut hangups) => {
                info!("hung up: shutting down; a second signal ends it at once");
                Second::AfterHangup(ends, hangups)
            }
        }
    }
}

/// The signal after the first.
pub(crate) enum Second {
    AfterEnd(NextSignal, Option<Signal>),
    AfterHangup(Pin<Box<dyn Future<Output = NextSignal> + Send>>, Option<Signal>),
}

impl SecondSignal for Second {
    async fn wait(self) {
        match self {
            Self::AfterEnd(next, mut hangups) => tokio::select! {
                () = next.wait() => {}
                () = received(&mut hangups) => {}
            },
            Self::AfterHangup(ends, mut hangups) => tokio::select! {
                _ = ends => {}
                () = received(&mut hangups) => {}
            },
        }
    }
}

async fn received(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

/// Listener for SIGHUP; none if the process ignores it, which stays so.
fn hangups() -> Option<Signal> {
    let ignored = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    // Signal 1 is the lowest bit.
    if ignored.is_some_and(|mask| mask & 1 == 1) { None } else { signal(SignalKind::hangup()).ok() }
}
