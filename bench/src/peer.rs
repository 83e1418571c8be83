//! The seam between the harness and what it measures: one type per implementation says how to serve and how to call.

use std::{error::Error, future::Future, net::SocketAddr};

use bytes::Bytes;
use nix::{sys::time::TimeSpec, time::ClockId};
use tokio::net::TcpListener;

/// What broke, with its reason in words; the harness prints it and stops.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// One implementation of the measured service, `goods`.
///
/// Both sides run inside a tokio runtime that the harness built, with as many threads as the setting asks for.
pub(crate) trait Peer: 'static {
    /// The name on the command line and in the tables.
    const NAME: &'static str;

    /// The package whose version the report quotes; `tokio` for the hand-written loop.
    const PACKAGE: &'static str;

    /// A connected client.
    type Caller: Caller;

    /// Serves `goods` to everyone who connects, until the process ends. Returns only with an error.
    fn serve(listener: TcpListener) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Opens `connections` connections to one server, all of them up on return.
    ///
    /// Call number `i` in flight is made through `callers[i % callers.len()]`: an implementation whose client spreads
    /// over its own connections returns that one client alone.
    fn connect(
        address: SocketAddr,
        connections: usize,
    ) -> impl Future<Output = Result<Vec<Self::Caller>, Failure>> + Send;

    /// Opens one connection to each of `instances` instances of the service, all of which are the server at `address`.
    /// The harness takes the callers in turn, call by call; an implementation that does so itself returns one.
    ///
    /// To an implementation without a registry, instances are no more than connections.
    fn connect_instances(
        address: SocketAddr,
        instances: usize,
    ) -> impl Future<Output = Result<Vec<Self::Caller>, Failure>> + Send {
        Self::connect(address, instances)
    }
}

/// A client of the measured service. Every task holds its own clone.
pub(crate) trait Caller: Clone + Send + 'static {
    /// Asks for one item, decodes the whole answer, and returns the id found in it.
    fn find(&mut self, id: i64) -> impl Future<Output = Result<i64, Failure>> + Send;

    /// Sends `body`, and returns what came back, as far as [`Ends`] tells.
    fn echo(&mut self, body: Bytes) -> impl Future<Output = Result<Ends, Failure>> + Send;

    /// Makes the server do [`compute`], and returns the number that was sent along.
    fn compute(&mut self, number: i64) -> impl Future<Output = Result<i64, Failure>> + Send;
}

/// Keeps a core busy for a millisecond, and returns what it was given.
///
/// A millisecond of the thread's CPU time, not of the clock: two that share a core take two.
pub(crate) fn compute(number: i64) -> i64 {
    const WORK: TimeSpec = TimeSpec::new(0, 1_000_000);
    // A clock that cannot be read ends the work early, which the calls per second show.
    let spent = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap_or(TimeSpec::new(i64::MAX, 0));
    let begin = spent();
    while spent() - begin < WORK {
        std::hint::black_box((0..2_000_u64).fold(number as u64, |mixed, step| mixed.rotate_left(5) ^ step));
    }
    number
}

/// Length, first and last bytes of a body: enough to see that an echo came back whole, without reading all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    length: usize,
    first: Option<[u8; 8]>,
    last: Option<[u8; 8]>,
}

impl Ends {
    /// The ends of `body`.
    pub(crate) fn of(body: &[u8]) -> Self {
        Self { length: body.len(), first: body.first_chunk().copied(), last: body.last_chunk().copied() }
    }
}

/// What `find` answers with, the same in every implementation: a 16-byte name, a price, three short tags.
pub(crate) mod item {
    /// 16 bytes.
    pub(crate) const NAME: &str = "walnut armchair.";
    /// In whole currency units.
    pub(crate) const PRICE: f64 = 129.5;
    /// Three of them.
    pub(crate) const TAGS: [&str; 3] = ["new", "oak", "home"];
}
