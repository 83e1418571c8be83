//! Signals that end a server.

use std::future::{Future, pending};

use tracing::info;

/// Companion of a shutdown signal: perhaps a second one.
pub trait SecondSignal: Send {
    /// Waits for the second signal.
    fn wait(self) -> impl Future<Output = ()> + Send;
}

/// A signal without a second one: the shutdown takes the time that it takes.
impl SecondSignal for () {
    fn wait(self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// The signal after the first; see [`shutdown_signal`].
#[derive(Debug)]
pub struct NextSignal(Signals);

impl SecondSignal for NextSignal {
    async fn wait(mut self) {
        self.0.next().await;
    }
}

/// Waits for SIGTERM or SIGINT (Ctrl-C); a second one, during the shutdown, ends it at once. Called within a runtime, it
/// listens from the call on, so that a signal that comes before anybody waits is not lost; else from when it is awaited.
pub fn shutdown_signal() -> impl Future<Output = NextSignal> + Send + 'static {
    let signals = tokio::runtime::Handle::try_current().is_ok().then(Signals::new);
    async move {
        let mut signals = signals.unwrap_or_else(Signals::new);
        signals.next().await;
        info!("shutting down; a second signal ends it at once");
        NextSignal(signals)
    }
}

/// Absent where the process may not listen for it.
#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { terminate: signal(SignalKind::terminate()).ok(), interrupt: signal(SignalKind::interrupt()).ok() }
    }

    async fn next(&mut self) {
        tokio::select! {
            () = received(&mut self.terminate) => {}
            () = received(&mut self.interrupt) => {}
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    }
}
