//! A peer that follows a script, at the other end of a pipe. Time is simulated: it passes when nothing else is to do.

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split},
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use crate::{
    script::{self, Side, Step},
    source::Source,
};

/// Longer than all that a script waits, and every timeout of either side.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// So long a patient peer stays when it has said everything.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_all().start_paused(true).build().expect("this system has epoll");
}

/// Runs `work` on this thread, and fails if it does not end.
pub(crate) fn ends<R>(work: impl Future<Output = R>) -> R {
    RUNTIME.with(|runtime| runtime.block_on(async { timeout(LONGEST, work).await.expect("it never ends") }))
}

/// How a peer behaves.
#[derive(Debug)]
pub(crate) struct Peer {
    /// How much the pipe holds.
    pub(crate) pipe: usize,
    steps: Vec<Step>,
    /// Reads only when it has said everything.
    deaf: bool,
    /// Waits for answers before it closes its side.
    patient: bool,
}

impl Peer {
    pub(crate) fn new(source: &mut Source<'_>, side: Side) -> Self {
        let form = source.byte();
        let mut steps = Vec::new();
        if form & 1 == 0 {
            steps.push(Step::Send(script::hello(side)));
        }
        steps.extend(script::steps(source, side));
        Self { pipe: 1 << (6 + form / 32 * 2), steps, deaf: form & 2 != 0, patient: form & 4 == 0 }
    }

    /// All that it says, without the waits.
    pub(crate) fn sent(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(&bytes[..]),
            Step::Wait(_) => None,
        });
        sent.collect::<Vec<_>>().concat()
    }

    /// Says it, and returns all that it heard, to the end.
    pub(crate) async fn meet(self, stream: DuplexStream) -> Vec<u8> {
        let (input, output) = split(stream);
        if self.deaf {
            speak(output, self.steps, self.patient).await;
            return hear(input).await;
        }
        let ((), heard) = tokio::join!(speak(output, self.steps, self.patient), hear(input));
        heard
    }
}

/// Whether the other side still listens is for it to decide.
async fn speak(mut output: WriteHalf<DuplexStream>, steps: Vec<Step>, patient: bool) {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if output.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Wait(time) => sleep(time).await,
        }
    }
    if patient {
        sleep(PATIENCE).await;
    }
    let _ = output.shutdown().await;
}

async fn hear(mut input: ReadHalf<DuplexStream>) -> Vec<u8> {
    let mut heard = Vec::new();
    input.read_to_end(&mut heard).await.expect("a pipe does not fail");
    heard
}
