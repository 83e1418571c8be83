//! Doors: listeners, and which connections they let in.

mod admission;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ms_rpc::Code;
use ms_security::tls::{Protocol, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    Refusal, session,
    shared::Shared,
    wire::{Tlv, handshake},
};

pub(crate) use admission::{Admission, Admitted};

/// Protocol of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Frames in a stream.
    Tcp,
    /// Frames as binary messages.
    WebSocket,
}

impl Kind {
    /// Words to a client that is not let in.
    fn refusal(self, code: Code, status: &str, reason: &'static str) -> Vec<u8> {
        match self {
            Self::Tcp => Refusal::new(0, code, reason).encode().to_vec(),
            Self::WebSocket => {
                let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\nconnection: close\r\n");
                format!("{head}content-length: {}\r\n\r\n{reason}\n", reason.len() + 1).into_bytes()
            }
        }
    }

    /// Words to a client for which there is no room.
    fn full(self, reason: &'static str) -> Vec<u8> {
        self.refusal(Code::ResourceExhausted, "503 Service Unavailable", reason)
    }

    /// Words to a client that speaks plaintext where TLS is spoken.
    fn plaintext(self) -> Vec<u8> {
        let reason = match self {
            Self::Tcp => "this gate speaks TLS alone",
            Self::WebSocket => "this gate speaks TLS alone: use wss://..",
        };
        self.refusal(Code::InvalidArgument, "400 Bad Request", reason)
    }
}

/// Lets clients in until `stopping`; returns when the last one has gone.
pub(crate) async fn open(
    (kind, listener): (Kind, TcpListener),
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    tls: Option<Tls>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            () = stop(&mut stopping) => break,
            Some(_) = sessions.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => match admission.admit(address.ip()) {
                    Ok(admitted) => {
                        drop(sessions.spawn(enter(kind, stream, address, shared.clone(), tls.clone(), admitted)));
                    }
                    Err(reason) => {
                        shared.meter.dropped(reason, &address.to_string());
                        // Before a handshake nothing can be said in TLS.
                        if tls.is_none() {
                            let _ = stream.try_write(&kind.full(reason));
                        }
                    }
                },
                Err(error) => {
                    // Most often out of file descriptors: those in use go on, and one may come free.
                    warn!("no client can be accepted: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

async fn stop(stopping: &mut watch::Receiver<bool>) {
    // An error: the gate is gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

async fn enter(
    kind: Kind,
    stream: TcpStream,
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Tls>,
    admitted: Admitted,
) {
    // Without it answers may come later.
    let _ = stream.set_nodelay(true);
    let entered = match tls {
        None => converse(kind, stream, address, shared).await,
        Some(tls) => {
            let words = kind.plaintext();
            let accepting = tls.accept_or_tell(stream, Protocol::HTTP, &words);
            match timeout(shared.limits.frame_within, accepting).await {
                Ok(Ok(stream)) => Box::pin(converse(kind, stream, address, shared)).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    };
    if let Err(error) = entered {
        debug!("client {address} does not enter: {error}");
    }
    drop(admitted);
}

/// Serves a client whose stream stands.
async fn converse<S>(kind: Kind, stream: S, address: SocketAddr, shared: Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (address, most) = (address.to_string(), shared.limits.max_frame);
    match kind {
        Kind::Tcp => session::serve(shared, Tlv::new(stream, most), address).await,
        Kind::WebSocket => {
            let handshaking = handshake(stream, most, &shared.origins);
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let wire = Box::pin(timeout(shared.limits.frame_within, handshaking)).await.map_err(late)??;
            Box::pin(session::serve(shared, wire, address)).await;
        }
    }
    Ok(())
}
