//! A client and three servers on a simulated network, in made-up time, with partitions that a seed decides. Every seed is
//! another history, and the same seed the same one.

#![allow(clippy::unwrap_used)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use ms_register::{Instance, Memory, ServiceName};
use ms_rpc::{CallOptions, ClientProxy, Code, Dial, Outcome, Peer, Server, Target, Transport};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
    time::{Instant, sleep},
};
use turmoil::net::{TcpListener, TcpStream};

const SERVERS: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 9000;
const DEADLINE: Duration = Duration::from_secs(1);

#[ms_rpc::service(name = "shop")]
trait Shop {
    #[idempotent]
    async fn find(&self, id: u64) -> (u64, String);
    async fn reserve(&self, id: u64) -> (u64, String);
}

/// How often each id was reserved, on whatever server.
type Reserved = Arc<Mutex<BTreeMap<u64, u32>>>;

struct Stock {
    name: &'static str,
    reserved: Reserved,
}

impl Shop for Stock {
    async fn find(&self, id: u64) -> (u64, String) {
        sleep(Duration::from_millis(id % 7)).await;
        (id, self.name.to_owned())
    }

    async fn reserve(&self, id: u64) -> (u64, String) {
        *self.reserved.lock().unwrap().entry(id).or_default() += 1;
        sleep(Duration::from_millis(id % 7)).await;
        (id, self.name.to_owned())
    }
}

/// A stream of the simulated network.
struct Simulated(TcpStream);

impl AsyncRead for Simulated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Simulated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Debug)]
struct Network;

#[async_trait::async_trait]
impl Dial for Network {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        Ok((Box::new(Simulated(TcpStream::connect(target.address).await?)), Peer::new()))
    }
}

async fn serve(name: &'static str, reserved: Reserved) -> Result<(), Box<dyn Error>> {
    // It listens on a port of the real machine too, where nobody calls.
    let server = Server::bind("127.0.0.1:0").await?.serve(ShopServer::new(Stock { name, reserved })).start().await?;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        server.serve_over(Simulated(listener.accept().await?.0), Peer::new());
    }
}

fn client() -> ShopClient {
    let registry = Arc::new(Memory::new());
    let service: ServiceName = "shop".parse().unwrap();
    SERVERS.iter().for_each(|name| registry.insert(&service, Instance::new(*name, PORT)));
    let proxy = ClientProxy::builder(registry).dialer(Network).build().unwrap();
    ShopClient::new(proxy).with(CallOptions::new().deadline(DEADLINE))
}

/// What came of the calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct History {
    answered: u32,
    /// Without an answer: the call may have been executed.
    unknown: u32,
    /// Certainly not executed.
    not_executed: u32,
    /// The ids whose reservation was confirmed.
    confirmed: Vec<u64>,
    partitions: u32,
}

async fn one_call(shop: ShopClient, id: u64, history: Rc<RefCell<History>>) {
    let start = Instant::now();
    let is_reservation = id.is_multiple_of(2);
    let called = if is_reservation { shop.reserve(id).await } else { shop.find(id).await };
    let took = start.elapsed();
    assert!(took <= DEADLINE + Duration::from_millis(50), "call {id} took {took:?}");
    let mut history = history.borrow_mut();
    match called {
        Ok((answered, _)) => {
            assert_eq!(answered, id, "an answer reached another call");
            history.answered += 1;
            if is_reservation {
                history.confirmed.push(id);
            }
        }
        Err(status) if status.outcome() == Outcome::Unknown => {
            assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable), "{status}");
            history.unknown += 1;
        }
        Err(_) => history.not_executed += 1,
    }
}

/// 100 calls a second for 60 s, while `a` and `b` are cut off and reachable again by turns; then all are reachable.
async fn calls(random: fastrand::Rng, history: Rc<RefCell<History>>) -> Result<(), Box<dyn Error>> {
    let shop = client();
    let weather = async {
        let mut random = random;
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let victim = SERVERS[random.usize(..2)];
            sleep(Duration::from_millis(random.u64(500..4000))).await;
            match random.u8(..3) {
                0 => turmoil::partition("client", victim),
                1 => turmoil::partition_oneway(victim, "client"),
                _ => turmoil::hold("client", victim),
            }
            history.borrow_mut().partitions += 1;
            sleep(Duration::from_millis(random.u64(100..6000))).await;
            turmoil::release("client", victim);
            turmoil::repair("client", victim);
        }
    };
    let load = async {
        let local = tokio::task::LocalSet::new();
        let mut running = JoinSet::new();
        for id in 0..6000 {
            running.spawn_local_on(one_call(shop.clone(), id, history.clone()), &local);
            local.run_until(sleep(Duration::from_millis(10))).await;
        }
        local.run_until(async { while running.join_next().await.is_some_and(|call| call.is_ok()) {} }).await;
        assert!(running.is_empty(), "a call panicked");
    };
    tokio::join!(weather, load);
    // Back-off and ejection end.
    let (mut seen, start) = (HashSet::new(), Instant::now());
    while seen.len() < SERVERS.len() {
        assert!(start.elapsed() < Duration::from_secs(75), "only {seen:?} are called again");
        if let Ok((_, name)) = shop.find(1).await {
            seen.insert(name);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn simulate(seed: u64) -> History {
    // The library's own dice.
    fastrand::seed(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_tokio_io()
        .simulation_duration(Duration::from_secs(200))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4096)
        .build();
    let reserved = Reserved::default();
    for name in SERVERS {
        let reserved = reserved.clone();
        sim.host(name, move || serve(name, reserved.clone()));
    }
    let history = Rc::new(RefCell::new(History::default()));
    sim.client("client", calls(fastrand::Rng::with_seed(seed), history.clone()));
    sim.run().unwrap();
    let history = history.borrow().clone();
    let reserved = reserved.lock().unwrap();
    let twice: Vec<_> = reserved.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: executed twice: {twice:?}");
    for id in &history.confirmed {
        assert_eq!(reserved.get(id), Some(&1), "seed {seed}: {id} was confirmed");
    }
    history
}

#[test]
fn whatever_is_cut_off_each_call_ends_in_time_and_nothing_is_executed_twice() {
    for seed in 0..4 {
        let history = simulate(seed);
        assert_eq!(history.answered + history.unknown + history.not_executed, 6000);
        // `c` is always there: a cut costs the calls of 1 s and what comes until its instance is ejected.
        assert!(history.answered >= 6000 - 100 * history.partitions, "seed {seed}: {history:?}");
    }
}

#[test]
fn a_seed_is_a_history() {
    assert_eq!(simulate(9), simulate(9));
}
