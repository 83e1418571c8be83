//! A TCP relay in front of a server, which can cut its connections, hold answers back, and refuse new ones.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// State of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    Up,
    /// Requests pass, answers do not.
    Mute,
    /// Every connection is cut, and new ones are closed at once.
    Down,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<Net>>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(Net::Up));
        let relayed = state.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *relayed.borrow() == Net::Down {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(copy(from_client, to_server, relayed.subscribe(), Net::Mute));
                tokio::spawn(copy(from_server, to_client, relayed.subscribe(), Net::Up));
            }
        });
        Self { address, state }
    }

    pub(crate) fn set(&self, state: Net) {
        self.state.send_replace(state);
    }
}

/// Copies while the network is no worse than `works`; stops reading while it is.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Net>, works: Net) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let now = *state.borrow_and_update();
        let can_read = now == Net::Up || now == works;
        if now == Net::Down {
            return;
        }
        tokio::select! {
            _ = state.changed() => {}
            read = from.read(&mut bytes), if can_read => {
                let Ok(count @ 1..) = read else { return };
                if *state.borrow() == Net::Down || to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
