//! State of the connection of a registry client.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::info;

use crate::{
    About, Backend, RegisterError,
    backoff::{Backoff, Reasons},
    meter,
};

#[derive(Clone, Debug)]
enum State {
    /// The reason of the last attempt; `None`: there was none yet.
    Down(Option<RegisterError>),
    Up,
    Closed,
}

/// Cheap to clone; all clones are of one registry client.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    state: watch::Sender<State>,
    /// True if the client connects in the background: the registry need not be there yet.
    is_patient: bool,
}

impl Link {
    /// The longest pause: whoever waits for the registry learns of its return within this time, and the time that connecting
    /// takes.
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// The link of a client that is connected, or about to be by its caller.
    pub(crate) fn up() -> Self {
        Self { state: watch::Sender::new(State::Up), is_patient: false }
    }

    /// The link of a client that connects in the background.
    pub(crate) fn down() -> Self {
        Self { state: watch::Sender::new(State::Down(None)), is_patient: true }
    }

    pub(super) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// The reason why the registry cannot be asked yet.
    pub(super) fn problem(&self, about: &About) -> Option<RegisterError> {
        match &*self.state.borrow() {
            State::Down(reason) => {
                Some(reason.clone().unwrap_or_else(|| about.unreachable("it is being connected to")))
            }
            State::Up => None,
            State::Closed => Some(about.closed()),
        }
    }

    /// For a client that connects in the background: ends when it is connected, or closed.
    pub(super) fn connected(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let mut state = self.is_patient.then(|| self.state.subscribe())?;
        Some(Box::pin(async move {
            // An error: nobody is left who connects.
            let _ = state.wait_for(|state| !matches!(state, State::Down(_))).await;
        }))
    }

    /// Waits until it is connected, and tells every reason why it is not yet.
    pub(super) async fn await_up(self, tell: impl Fn(&RegisterError)) {
        let mut state = self.state.subscribe();
        drop(self);
        loop {
            match &*state.borrow_and_update() {
                State::Up | State::Closed => return,
                State::Down(reason) => reason.iter().for_each(&tell),
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Connects until that succeeds, or the client is closed, or nobody waits for it any more.
    pub(super) async fn establish<B: Backend>(self, backend: Arc<B>) {
        let mut end = self.state.subscribe();
        let connecting = async {
            let (mut backoff, mut reasons) = (Backoff::default(), Reasons::default());
            while let Err(error) = backend.connect().await {
                meter::failed(backend.about(), &error);
                reasons.tell("not connected yet", &error);
                self.replace_if_down(State::Down(Some(error)));
                let is_wanted = self.state.sender_count() > 1 || self.state.receiver_count() > 1;
                if !is_wanted {
                    return;
                }
                sleep(backoff.next_delay().min(Self::LONGEST_PAUSE)).await;
            }
            info!("connected to {}", backend.about().url());
            self.replace_if_down(State::Up);
        };
        tokio::select! {
            () = connecting => {}
            // No error: this task has a sender.
            _ = end.wait_for(|state| matches!(state, State::Closed)) => {}
        }
    }

    fn replace_if_down(&self, new: State) {
        self.state.send_if_modified(|state| {
            let is_down = matches!(state, State::Down(_));
            if is_down {
                *state = new;
            }
            is_down
        });
    }
}
