//! A relay that hurts: it stands between clients and one server, and does to their bytes what networks do.

mod owner;
mod pipe;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What a [`Relay`] does to the connections through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Every piece of what is sent arrives later by this much, in either direction.
    Delay(Duration),
    /// Connections are closed, and new ones are at once.
    Drop,
    /// Connections stay open and new ones are accepted, and no byte passes: a peer behind a broken path. What was sent
    /// meanwhile arrives when the fault ends.
    BlackHole,
    /// What clients send passes, and no answer does: it is done and nobody is told.
    Mute,
    /// Connections end with RST, and new ones do at once.
    Reset,
    /// So many bytes pass each second and direction.
    Trickle(u32),
}

/// Stands between clients and one server, on a port of its own of 127.0.0.1. Dropping it ends all that pass through it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    accepted: Arc<Mutex<Vec<Instant>>>,
    banned: watch::Sender<Option<u32>>,
    open: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Relay {
    /// Listens, and passes on to `target`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (fault, faults) = watch::channel(Fault::None);
        let (banned, bans) = watch::channel(None);
        let accepted = Arc::default();
        let address = listener.local_addr()?;
        let (count, open) = watch::channel(0);
        let task = tokio::spawn(accept(listener, target, (faults, bans), Arc::clone(&accepted), count)).abort_handle();
        Ok(Self { address, fault, accepted, banned, open, task })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens from now on, to the connections there are and to new ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Closes all connections that there are, and returns when that is done; what comes later passes. Of two faults that are
    /// set one after the other the first may not be seen by anybody.
    pub async fn cut(&self) {
        self.set(Fault::Drop);
        // An error: nobody accepts any more.
        let _ = self.open.clone().wait_for(|open| *open == 0).await;
        self.set(Fault::None);
    }

    /// Cuts one process off, by its id: its connections end, and new ones are accepted and lead nowhere. `None`: nobody.
    pub async fn ban(&self, process: Option<u32>) {
        self.banned.send_replace(process);
        self.cut().await;
    }

    /// When each connection came, so far.
    pub fn accepted(&self) -> Vec<Instant> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    (faults, bans): (watch::Receiver<Fault>, watch::Receiver<Option<u32>>),
    accepted: Arc<Mutex<Vec<Instant>>>,
    open: watch::Sender<usize>,
) {
    // Dropped with this task, and with it all that passes.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept() => {
                let Ok((client, from)) = client else { return };
                accepted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                let is_banned = bans.borrow().is_some_and(|process| owner::has(process, from.port()));
                if is_banned {
                    connections.spawn(lead_nowhere(client, faults.clone()));
                } else {
                    connections.spawn(connect(client, target, faults.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
        open.send_replace(connections.len());
    }
}

/// Keeps the connection open until the fault changes.
async fn lead_nowhere(client: TcpStream, mut faults: watch::Receiver<Fault>) -> io::Result<()> {
    // An error: the relay is gone.
    let _ = faults.changed().await;
    drop(client);
    Ok(())
}

/// Nothing is dialled for a connection that is closed at once, or as long as it leads into a black hole.
async fn connect(client: TcpStream, target: SocketAddr, mut faults: watch::Receiver<Fault>) -> io::Result<()> {
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Drop => return Ok(()),
            Fault::Reset => return client.set_zero_linger(),
            Fault::BlackHole => faults.changed().await.map_err(io::Error::other)?,
            Fault::None | Fault::Delay(_) | Fault::Trickle(_) | Fault::Mute => break,
        }
    }
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    pipe::run(client, server, faults).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// A relay to a server that sends back what it gets, and a connection through it that works.
    async fn relay() -> (Relay, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Relay::to(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(echo(&mut client).await.unwrap(), *b"ping");
        (relay, client)
    }

    async fn echo(client: &mut TcpStream) -> io::Result<[u8; 4]> {
        client.write_all(b"ping").await?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_delayed_arrives_later() {
        let (relay, mut client) = relay().await;
        relay.set(Fault::Delay(Duration::from_millis(50)));
        let begin = Instant::now();
        assert_eq!(echo(&mut client).await.unwrap(), *b"ping");
        assert!(begin.elapsed() >= Duration::from_millis(100), "once in each direction");
        relay.set(Fault::None);
        assert_eq!(echo(&mut client).await.unwrap(), *b"ping");
    }

    #[tokio::test]
    async fn what_is_dropped_is_closed() {
        let (relay, mut old) = relay().await;
        relay.set(Fault::Drop);
        assert_eq!(old.read(&mut [0]).await.unwrap(), 0);
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(new.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(relay.accepted().len(), 2);
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_no_more() {
        let (relay, mut old) = relay().await;
        relay.cut().await;
        assert_eq!(old.read(&mut [0]).await.unwrap(), 0);
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(echo(&mut new).await.unwrap(), *b"ping");
    }

    #[tokio::test]
    async fn what_is_reset_is_told_so() {
        let (relay, mut old) = relay().await;
        relay.set(Fault::Reset);
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        for stream in [&mut old, &mut new] {
            assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn nothing_leaves_a_black_hole_before_it_ends() {
        let (relay, mut old) = relay().await;
        relay.set(Fault::BlackHole);
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        for stream in [&mut old, &mut new] {
            timeout(SOON, echo(stream)).await.unwrap_err();
        }
        relay.set(Fault::None);
        for stream in [&mut old, &mut new] {
            stream.read_exact(&mut [0; 4]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_mute_hears() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Relay::to(listener.local_addr().unwrap()).await.unwrap();
        relay.set(Fault::Mute);
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        timeout(SOON, client.read_exact(&mut [0; 4])).await.unwrap_err();
        relay.set(Fault::Drop);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it is lost");
    }

    #[tokio::test]
    async fn what_trickles_comes_byte_by_byte() {
        let (relay, mut client) = relay().await;
        relay.set(Fault::Trickle(40));
        let begin = Instant::now();
        assert_eq!(echo(&mut client).await.unwrap(), *b"ping");
        assert!(begin.elapsed() >= Duration::from_millis(100), "four bytes at 40 a second: {:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn an_end_is_passed_on() {
        let (relay, mut client) = relay().await;
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop(relay);
    }
}
