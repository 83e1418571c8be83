//! One connection of a client: the task that owns the socket, and what it shares with the callers.

mod exchange;
mod lifetime;
mod task;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use tokio::{
    runtime::{self, Handle},
    time::{Instant, timeout_at},
};

use super::{
    balance::LoadEstimate,
    ejection::EjectionState,
    home::STALL,
    options::{ClientConfig, LONGEST},
    request::{CallRequest, EncodeArguments, not_sent},
};
use crate::{
    Code, Compression, Peer, Status,
    buffer::FrameBuf,
    encodings::Offered,
    net::{Socket, TLS_KEY, TLS_REQUIRED, Target, instant_of, tcp},
    proto::{ClientHello, Frame, HEADER, Header, InFlight, Kind, ServerHello, Settled},
};
use exchange::Exchange;
use lifetime::Lifetime;

/// More than this waits to be written: the next callers wait too.
const OUTPUT_LIMIT: usize = 4 << 20;

/// A multiplexed connection. When it is dropped, the task ends after the calls in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    hello: ServerHello,
    /// Ejection state of the instance behind it.
    ejection: Arc<EjectionState>,
}

/// Change of a connection, for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The server's certificate ends soon: another connection is to take its place. Calls are taken meanwhile.
    Ages,
    /// The server said that it goes away: no more calls are taken.
    WentAway,
    /// The connection, or the server's certificate, ended: no more calls are taken.
    Ended,
}

/// Callback for changes: [`Change::Ages`] any number of times, and one of the others once.
type OnChange = Box<dyn FnMut(Change) + Send>;

/// Failure to make a connection.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) status: Status,
    pub(crate) kind: DialFailure,
}

/// Kind of a [`DialError`], as far as it decides about the next dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialFailure {
    /// Nothing listens at the address.
    Refused,
    /// The server is registered in other scopes.
    OtherScope,
    /// TLS failed: a side does not speak it, or a certificate is refused.
    Tls,
    Other,
}

impl From<&io::Error> for DialFailure {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            // The kind of all errors of TLS.
            io::ErrorKind::InvalidData => Self::Tls,
            _ => Self::Other,
        }
    }
}

impl From<Status> for DialError {
    fn from(status: Status) -> Self {
        Self { status, kind: DialFailure::Other }
    }
}

impl From<DialError> for Status {
    fn from(error: DialError) -> Self {
        error.status
    }
}

/// Instance behind a new connection, as its resolver knows it.
#[derive(Debug, Default)]
pub(crate) struct Expected<'a> {
    /// Scope of the registry that lists it.
    pub(crate) scope: Option<&'a str>,
    pub(crate) ejection: Arc<EjectionState>,
    pub(crate) load: Arc<LoadEstimate>,
}

/// State that the task and the callers share.
#[derive(Debug)]
struct Shared {
    /// For messages.
    address: String,
    state: Mutex<State>,
    /// True while new calls are taken; a hint that needs no lock.
    open: AtomicBool,
    max_frame: usize,
    /// The largest answer, also after decompression.
    max_answer: usize,
    /// Codecs and compressions that the server knows.
    offered: Offered,
    /// Compression that answers may have, whatever their requests had.
    preferred: Compression,
    /// For the balancer.
    load: Arc<LoadEstimate>,
    /// Runtime of the task.
    runtime: runtime::Id,
}

#[derive(Debug)]
struct State {
    calls: InFlight<Frame>,
    /// Time at which the answers were read that were handed out last.
    heard: Instant,
    out: FrameBuf,
    /// The task knows that `out` has something.
    notified: bool,
    task: Option<Waker>,
    /// Number of times that the task looked for something to write.
    runs: u32,
    /// The same number at the begin of a call that heard nothing of the task in time.
    stalled: Option<(u32, Instant)>,
    /// Requests up to this id have left for the socket.
    left: u64,
    max_in_flight: usize,
    /// Callers that wait for a slot or for room in `out`, by ticket.
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
    /// How many were called up from `waiting`, and have not taken their place yet: nobody else may take it.
    called_up: usize,
    /// Why no more calls are taken.
    closed: Option<String>,
    /// The `Connection` was dropped.
    released: bool,
}

impl Connection {
    /// Dials, exchanges HELLO, and starts the task.
    pub(crate) async fn dial(
        target: &Target<'_>,
        config: &ClientConfig,
        expected: Expected<'_>,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Self, DialError> {
        let address = target.address;
        let deadline = Instant::now() + config.connect_timeout.min(LONGEST);
        let unreachable = |error: io::Error| DialError {
            kind: (&error).into(),
            status: not_sent(Code::Unavailable, format!("{address} cannot be reached: {error}")),
        };
        let late = |_| {
            let message = format!("{address} did not answer within {:?}", config.connect_timeout);
            DialError::from(not_sent(Code::Unavailable, message))
        };
        let connecting = async {
            match &config.dialer {
                Some(dialer) => {
                    let (stream, peer) = dialer.dial(target).await.map_err(unreachable)?;
                    Self::over(stream, address, config, expected, &peer, on_change).await
                }
                None => {
                    if target
                        .instance
                        .and_then(|instance| instance.metadata().get(TLS_KEY))
                        .is_some_and(|tls| tls == TLS_REQUIRED)
                    {
                        let message = format!("{address} takes TLS alone: give the client `.tls(..)`");
                        return Err(not_sent(Code::Unavailable, message).into());
                    }
                    let stream = tcp(address).await.map_err(unreachable)?;
                    let peer = Peer::new().with_address(stream.peer_addr().map_err(unreachable)?);
                    Self::over(stream, address, config, expected, &peer, on_change).await
                }
            }
        };
        timeout_at(deadline, connecting).await.map_err(late)?
    }

    /// Exchanges HELLO over a transport, and starts the task.
    pub(crate) async fn over<T: Socket>(
        mut io: T,
        address: &str,
        config: &ClientConfig,
        Expected { scope, ejection, load }: Expected<'_>,
        peer: &Peer,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Self, DialError> {
        let preferred = Some(config.compression.number()).filter(|number| *number != 0);
        let hello = ClientHello {
            name: config.name.clone(),
            credentials: config
                .credentials
                .for_peer(peer, config.connect_timeout.min(LONGEST))
                .await
                .map_err(|reason| not_sent(Code::Unavailable, format!("no credentials for {address}: {reason}")))?,
            compressions: preferred.into_iter().collect(),
            max_frame: config.max_frame as u32,
        };
        // A server refuses the certificate of a client after the client's handshake.
        let (inbound, hello) =
            task::shake_hands(&mut io, &hello, config.max_frame).await.map_err(|error| DialError {
                kind: (&error).into(),
                status: not_sent(Code::Unavailable, format!("{address} is no ms-rpc server: {error}")),
            })?;
        // A port may have been taken over by another environment's server of the same name.
        if let Some(scope) = scope
            && !hello.scopes.is_empty()
            && !hello.scopes.iter().any(|known| known == scope)
        {
            let message = format!("{address} is registered in {}, not in {scope}", hello.scopes.join(", "));
            let status = not_sent(Code::Unavailable, message);
            return Err(DialError { status, kind: DialFailure::OtherScope });
        }
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            state: Mutex::new(State {
                calls: InFlight::default(),
                heard: Instant::now(),
                out: FrameBuf::default(),
                notified: false,
                task: None,
                runs: 0,
                stalled: None,
                left: 0,
                max_in_flight: (hello.max_in_flight as usize).min(InFlight::<Frame>::MOST),
                waiting: VecDeque::new(),
                next_ticket: 0,
                called_up: 0,
                closed: None,
                released: false,
            }),
            open: AtomicBool::new(true),
            max_frame: hello.max_frame as usize,
            max_answer: config.max_frame,
            offered: Offered::new(&hello.codecs, &hello.compressions),
            preferred: config.compression.clone(),
            load,
            runtime: Handle::current().id(),
        });
        let lifetime = Lifetime::new(peer.ends().and_then(instant_of), Instant::now(), fastrand::f64());
        let keepalive = config.keepalive.clone();
        tokio::spawn(task::Task::new(io, inbound, shared.clone(), keepalive, lifetime, Box::new(on_change)));
        Ok(Self { shared, hello, ejection })
    }

    /// The address that was dialled.
    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// Ejection state that records answers.
    pub(crate) fn ejection(&self) -> &EjectionState {
        &self.ejection
    }

    /// How busy it is, and how long its answers take.
    pub(crate) fn load(&self) -> &Arc<LoadEstimate> {
        &self.shared.load
    }

    /// Returns true while new calls are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire)
    }

    /// HELLO of the server.
    pub(crate) fn hello(&self) -> &ServerHello {
        &self.hello
    }

    /// Sends one request and waits for its response. Dropping the future cancels the call on the server.
    #[inline]
    pub(crate) fn exchange<'a, 'r, A: EncodeArguments + ?Sized>(
        &'a self,
        request: &'a CallRequest<'r>,
        arguments: &'a A,
    ) -> Exchange<'a, 'r, A> {
        Exchange::new(&self.shared, request, arguments)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.released = true;
        let waker = state.task.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more calls, for `reason`; settles those that `how` has an end for, and wakes their callers.
    fn close(&self, reason: &str, how: impl Fn(u64) -> Option<Settled<Frame>>) {
        let mut state = self.lock();
        self.open.store(false, Ordering::Release);
        state.closed.get_or_insert_with(|| reason.to_owned());
        let woken = state.calls.settle_all(how);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_iter().chain(waiting.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }

    /// Gives up the connection if its task has not run since `began`, at which it had run `runs` times, and for a while:
    /// its runtime is not driven. Requests that were not written by then never will be.
    fn give_up_if_stalled(&self, runs: u32, began: Instant) {
        let mut state = self.lock();
        if state.runs != runs {
            return;
        }
        let since = state.stalled.filter(|(known, _)| *known == runs).map_or(began, |(_, since)| since.min(began));
        state.stalled = Some((runs, since));
        if since.elapsed() < STALL {
            return;
        }
        let reason = "its runtime is not driven";
        state.closed.get_or_insert_with(|| reason.to_owned());
        state.out = FrameBuf::default();
        let left = state.left;
        drop(state);
        self.close(reason, |id| Some(Settled::Lost { sent: id <= left }));
    }

    /// The number of calls has changed.
    #[inline]
    fn count(&self, state: &State) {
        self.load.set_in_flight(state.calls.len() + state.waiting.len());
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.calls.len() + self.called_up < self.max_in_flight && self.out.len() < OUTPUT_LIMIT
    }

    /// Returns the task's waker, unless the task has been notified already: there is something to write.
    fn notify(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.notified, true) { None } else { self.task.clone() }
    }

    /// Appends CANCEL for a call; returns the task's waker, if it must be woken to write it.
    fn cancel(&mut self, id: u64) -> Option<Waker> {
        let cancel = Header::control(Kind::Cancel, id).to_bytes(HEADER as u32);
        self.out.data().extend_from_slice(&cancel);
        self.notify()
    }

    /// A call gave up its slot: if it was the last one of a connection that takes no more, returns the task's waker to end it.
    fn last_has_left(&mut self) -> Option<Waker> {
        if self.closed.is_some() && self.calls.is_empty() { self.notify() } else { None }
    }

    /// Grants a free slot to the waiter at the head of the queue; returns its waker.
    fn next_waiting(&mut self) -> Option<Waker> {
        if self.waiting.is_empty() || !self.has_room() {
            return None;
        }
        self.called_up += 1;
        self.waiting.pop_front().map(|(_, waker)| waker)
    }

    /// A waiter gave up a slot that it was granted: the next waiter gets it.
    fn place_returned(&mut self) -> Option<Waker> {
        // The end of a connection wakes all waiters, without a grant.
        self.called_up = self.called_up.saturating_sub(1);
        self.next_waiting()
    }
}
