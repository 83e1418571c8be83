//! Whatever a leader writes to: it keeps the highest token that it has seen, and refuses lower ones.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::Failure;

/// What it has seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    leader: usize,
    token: u64,
    pub(super) taken: u64,
    /// Refused, and the process that wrote took itself for the leader even after that.
    pub(super) leaders_refused: u64,
    /// Refused, of processes that knew that they had lost.
    pub(super) stale_refused: u64,
    /// The tokens of processes that knew that they had lost, and whether their writes were refused: one that comes before its
    /// successor's first is not.
    ended: BTreeMap<u64, bool>,
}

#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Sink {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, seen) = (listener.local_addr()?, Arc::new(watch::Sender::default()));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, seen.clone()));
        Ok(Self { address, seen, _task: task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Who wrote with the highest token, and that.
    pub(super) fn leader(&self) -> (usize, u64) {
        let seen = self.seen.borrow();
        (seen.leader, seen.token)
    }

    /// Waits until somebody has written with a higher token.
    pub(super) async fn leader_after(&self, token: u64, limit: Duration) -> Result<(), Failure> {
        self.until(limit, "nobody leads", |seen| seen.token > token).await
    }

    /// Waits for the write of one who knows that the term of this token is over; whether it was refused.
    pub(super) async fn end_of(&self, token: u64, limit: Duration) -> Result<bool, Failure> {
        self.until(limit, "an old leader does not write", |seen| seen.ended.contains_key(&token)).await?;
        Ok(self.seen.borrow().ended.get(&token).copied().unwrap_or_default())
    }

    async fn until(&self, limit: Duration, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        let mut seen = self.seen.subscribe();
        match timeout(limit, seen.wait_for(|seen| wanted(seen))).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{what} within {limit:?}: {:?}", self.seen.borrow()).into()),
        }
    }
}

async fn accept(listener: TcpListener, seen: Arc<watch::Sender<Seen>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        // A connection that breaks is that of a process that was killed.
        connections.spawn(async move { drop(serve(stream, &seen).await) });
    }
}

/// `write <candidate> <token>`, `stale <candidate> <token>` and `wronged <candidate> <token>`; each is answered by `taken` or
/// `refused`.
async fn serve(stream: TcpStream, seen: &watch::Sender<Seen>) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let candidate: usize = words.next().unwrap_or_default().parse()?;
        let token: u64 = words.next().unwrap_or_default().parse()?;
        let mut taken = false;
        seen.send_modify(|seen| taken = seen.note(&kind, candidate, token));
        write.write_all(if taken { b"taken\n" } else { b"refused\n" }).await?;
    }
    Ok(())
}

impl Seen {
    fn note(&mut self, kind: &str, candidate: usize, token: u64) -> bool {
        if kind == "wronged" {
            self.leaders_refused += 1;
            return true;
        }
        let taken = token >= self.token;
        if taken {
            (self.leader, self.token) = (candidate, token);
            self.taken += 1;
        }
        if kind == "stale" {
            self.stale_refused += u64::from(!taken);
            self.ended.insert(token, !taken);
        }
        taken
    }
}
