//! What ends a server.

use std::future::{Future, pending};

use tracing::info;

/// What a shutdown signal brings with it: perhaps a second one.
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

/// Waits for SIGTERM or SIGINT (Ctrl-C); a second one, during the shutdown, ends it at once.
pub async fn shutdown_signal() -> NextSignal {
    let mut signals = Signals::new();
    signals.next().await;
    info!("shutting down; a second signal ends it at once");
    NextSignal(signals)
}

#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    /// None where the process may not listen for it.
    terminate: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { terminate: signal(SignalKind::terminate()).ok() }
    }

    async fn next(&mut self) {
        let terminate = async {
            match &mut self.terminate {
                Some(terminate) => terminate.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = terminate => {}
            () = interrupted() => {}
        }
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
        interrupted().await;
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}
