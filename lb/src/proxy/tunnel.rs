//! Tunnel between a client and a back end that have upgraded their connections.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::Response,
};
use futures_util::stream;
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, on},
};
use hyper_util::rt::TokioIo;
use ms_rpc::Outcome;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::headers;
use crate::routes::Chosen;

/// Bytes that each direction takes at a time.
const BUFFER: usize = 16 * 1024;
/// Time for the client to take the answer after which its connection is a tunnel.
const UPGRADE_WITHIN: Duration = Duration::from_secs(10);

/// The answer for the client; the tunnel begins when it has been sent, and ends with either side, or when both are silent for `idle`.
pub(super) fn open(
    mut response: Response<Incoming>,
    client: OnUpgrade,
    (chosen, took, permit): (Chosen, Duration, OwnedSemaphorePermit),
    idle: Duration,
) -> Response<Body> {
    let server = on(&mut response);
    let (mut parts, _) = response.into_parts();
    headers::strip(&mut parts.headers);
    headers::upgrade(&mut parts.headers);
    tokio::spawn(async move {
        let upgraded = timeout(UPGRADE_WITHIN, async { tokio::try_join!(client, server) }).await;
        if let Ok(Ok((client, server))) = upgraded
            && let Err(error) = carry(TokioIo::new(client), TokioIo::new(server), idle).await
        {
            debug!("a tunnel ended: {error}");
        }
        // The instance is busy for as long as the tunnel is there.
        chosen.finish(Outcome::Answered, took);
        drop(permit);
    });
    // Of unknown length: of a body that is known to be empty, the server would tell the length, which 101 must not.
    let nothing = Body::from_stream(stream::empty::<io::Result<Bytes>>());
    Response::from_parts(parts, nothing)
}

/// Time of the last byte, in milliseconds since the beginning.
struct Pulse {
    began: Instant,
    last: AtomicU64,
}

impl Pulse {
    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Completes when nothing has come for so long.
    async fn stopped(&self, idle: Duration) {
        loop {
            let due = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

async fn carry<C, S>(client: C, server: S, idle: Duration) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let pulse = Pulse { began: Instant::now(), last: AtomicU64::new(0) };
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    tokio::select! {
        done = async {
            tokio::try_join!(pass(from_client, to_server, &pulse), pass(from_server, to_client, &pulse))
        } => done.map(drop),
        () = pulse.stopped(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Passes bytes on until their end, and then the end.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, pulse: &Pulse) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        pulse.beat();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        pulse.beat();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_and_silence_ends_it() {
        let ((mut client, near), (far, mut server)) = (duplex(64), duplex(64));
        let tunnel = tokio::spawn(carry(near, far, Duration::from_secs(60)));
        let mut word = [0; 4];
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut word).await.unwrap();
            server.write_all(b"pong").await.unwrap();
            client.read_exact(&mut word).await.unwrap();
        }
        assert_eq!(&word, b"pong");
        let began = Instant::now();
        assert_eq!(tunnel.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_secs(59), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_end_passes_too_and_the_other_direction_goes_on() {
        let ((mut client, near), (far, mut server)) = (duplex(64), duplex(64));
        let tunnel = tokio::spawn(carry(near, far, Duration::from_secs(60)));
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.write_all(b"late").await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"late");
        tunnel.await.unwrap().unwrap();
    }
}
