//! One connection over a pipe in memory, with time that jumps when nothing happens.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};

use super::*;
use crate::{
    Server,
    net::Transport,
    proto::{HEADER, Header, Kind, RAW},
};

const STALL_TIMEOUT: Duration = Duration::from_secs(10);

struct Pipe {
    far: DuplexStream,
    outbox: Arc<Outbox>,
}

/// A connection, of a server without services, and the other end of its pipe.
async fn connection(pipe: usize) -> (impl Future<Output = ()>, Pipe) {
    connection_of(Server::bind("127.0.0.1:0").await.unwrap(), pipe).await
}

async fn connection_of(server: Server, pipe: usize) -> (impl Future<Output = ()>, Pipe) {
    another(&Arc::new(server.shared(&server.instance().await.unwrap())), pipe)
}

/// A connection of this server.
fn another(shared: &Arc<Shared>, pipe: usize) -> (impl Future<Output = ()> + use<>, Pipe) {
    let (shared, (near, far)) = (shared.clone(), duplex(pipe));
    let (near, outbox): (Box<dyn Transport>, _) = (Box::new(near), Arc::new(Outbox::default()));
    (Connection::new(near, outbox.clone(), Peer::new(), shared, Instant::now()), Pipe { far, outbox })
}

impl Pipe {
    async fn say(&mut self, kind: Kind, id: u64) {
        let header = Header { kind, compression: 0, codec: RAW, id };
        self.far.write_all(&header.to_bytes(HEADER as u32)).await.unwrap();
    }
}

/// How long the connection lasts.
async fn lasts(connection: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    timeout(Duration::from_secs(600), connection).await.expect("it is kept for ever");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_is_closed_in_time_whatever_else_it_says() {
    // HELLO does not fit through at once, so output waits from the start.
    let (silent, _pipe) = connection(32).await;
    assert_eq!(lasts(silent).await, STALL_TIMEOUT);

    let (greeted, mut pipe) = connection(32).await;
    pipe.say(Kind::Hello, 0).await;
    assert_eq!(lasts(greeted).await, STALL_TIMEOUT);

    let (asking, mut pipe) = connection(32).await;
    pipe.say(Kind::Hello, 0).await;
    let asks = async {
        for id in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pipe.say(Kind::Ping, id).await;
        }
    };
    let (lasted, ()) = tokio::join!(lasts(asking), asks);
    assert_eq!(lasted, STALL_TIMEOUT, "what it says is no sign that it takes answers");

    let (malformed, mut pipe) = connection(32).await;
    pipe.say(Kind::Hello, 0).await;
    let breaks = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        pipe.far.write_all(b"GET / HTTP/1.1").await.unwrap();
    };
    let (lasted, ()) = tokio::join!(lasts(malformed), breaks);
    assert_eq!(lasted, STALL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn every_byte_taken_gives_the_client_time_anew() {
    let (connection, mut pipe) = connection(32).await;
    pipe.say(Kind::Hello, 0).await;
    let reads = async {
        for _ in 0..5 {
            tokio::time::sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
            pipe.far.read_u8().await.unwrap();
        }
    };
    let (lasted, ()) = tokio::join!(lasts(connection), reads);
    assert_eq!(lasted, 5 * (STALL_TIMEOUT - Duration::from_secs(1)) + STALL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_client_that_has_not_said_hello() {
    let (connection, mut pipe) = connection(4096).await;
    let drains = async {
        tokio::task::yield_now().await;
        pipe.outbox.drain();
        let mut said = Vec::new();
        pipe.far.read_to_end(&mut said).await.unwrap();
        drop(pipe);
        said
    };
    let (lasted, said) = tokio::join!(lasts(connection), drains);
    assert_eq!(lasted, Duration::ZERO);
    let (hello, length) = Header::parse(&said, 4096).unwrap().unwrap();
    let (goaway, _) = Header::parse(&said[length..], 4096).unwrap().unwrap();
    assert_eq!((hello.kind, goaway.kind), (Kind::Hello, Kind::GoAway));
}

/// How many answers leave at the first turn after so many pings have come at once.
async fn first_answers<F: Future>(mut connection: Pin<&mut F>, pipe: &mut Pipe, pings: u64) -> usize {
    for id in 0..pings {
        pipe.say(Kind::Ping, id).await;
    }
    poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
    let mut said = vec![0; 4096];
    pipe.far.read(&mut said).await.unwrap() / HEADER
}

#[tokio::test]
async fn who_is_alone_gets_the_first_answers_before_the_others_are_made() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let shared = Arc::new(server.shared(&server.instance().await.unwrap()));
    let (first, mut first_pipe) = another(&shared, 4096);
    let (second, mut second_pipe) = another(&shared, 4096);
    let (mut first, mut second) = (pin!(first), pin!(second));
    for (connection, pipe) in [(first.as_mut(), &mut first_pipe), (second.as_mut(), &mut second_pipe)] {
        pipe.say(Kind::Hello, 0).await;
        first_answers(connection, pipe, 0).await;
    }
    assert_eq!(first_answers(first.as_mut(), &mut first_pipe, 64).await, 64, "the other one was busy last");
    for pings in [64, 0, 0, 0] {
        assert_eq!(first_answers(first.as_mut(), &mut first_pipe, pings).await, 16);
    }
    assert_eq!(first_answers(first.as_mut(), &mut first_pipe, 15).await, 15, "few are not worth several system calls");
    assert_eq!(first_answers(second.as_mut(), &mut second_pipe, 64).await, 64);
    assert_eq!(first_answers(first.as_mut(), &mut first_pipe, 64).await, 64);
}

/// Answers with much more than it was asked with.
#[derive(Default)]
struct Verbose(Arc<std::sync::atomic::AtomicUsize>);

#[ms_rpc::service(name = "large")]
trait Large {
    async fn megabyte(&self) -> crate::Blob;
}

impl Large for Verbose {
    async fn megabyte(&self) -> crate::Blob {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        vec![7; 1 << 20].into()
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_while_large_answers_do() {
    let verbose = Verbose::default();
    let calls = verbose.0.clone();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(LargeServer::new(verbose));
    let (connection, mut pipe) = connection_of(server, 64 << 10).await;
    pipe.say(Kind::Hello, 0).await;
    for id in 1..=50 {
        let head = [&[0, 22, 0, 0, 1, 0, 0, 5][..], b"large", &[8], b"megabyte", &[0, 0]].concat();
        let header = Header { kind: Kind::Request, compression: 0, codec: 0, id };
        let frame = [&header.to_bytes((HEADER + head.len()) as u32)[..], &head].concat();
        pipe.far.write_all(&frame).await.unwrap();
    }
    assert_eq!(lasts(connection).await, STALL_TIMEOUT);
    let calls = calls.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..4).contains(&calls), "{calls} answers wait for a client that takes none");
}

/// Waits for ever; its first poll waits until the runtime around it shuts down.
struct Outlives {
    polled: std::sync::mpsc::SyncSender<()>,
    runtime_ended: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

#[ms_rpc::service(name = "outlives")]
trait OutlivesRuntime {
    async fn wait(&self);
}

impl OutlivesRuntime for Outlives {
    async fn wait(&self) {
        self.polled.send(()).unwrap();
        self.runtime_ended.lock().unwrap().recv().unwrap();
        std::future::pending().await
    }
}

/// Says that it was dropped.
struct Last(std::sync::mpsc::SyncSender<()>);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_call_that_begins_to_wait_while_the_runtime_ends_does_not_hang_it() {
    use std::sync::mpsc::sync_channel;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (polled, was_polled) = sync_channel(1);
    let (ends, runtime_ended) = sync_channel(1);
    let (ended, was_ended) = sync_channel(1);
    let server = runtime.block_on(async {
        let service = OutlivesRuntimeServer::new(Outlives { polled, runtime_ended: runtime_ended.into() });
        let server = Server::bind("127.0.0.1:0").await.unwrap().serve(service).start().await.unwrap();
        let address = server.address().to_string();
        tokio::spawn(async move {
            let client = crate::Client::connect(&address).await.unwrap();
            let _ = OutlivesRuntimeClient::new(client).wait().await;
        });
        // Its drop tells that the runtime drops its tasks, from which point on it takes none.
        let ends = Last(ends);
        tokio::spawn(async move {
            let _ends = ends;
            std::future::pending::<()>().await
        });
        tokio::task::spawn_blocking(move || was_polled.recv().unwrap()).await.unwrap();
        server
    });
    // The runtime ends with everything in use.
    std::mem::forget(server);
    let last = Last(ended);
    std::thread::spawn(move || {
        drop(runtime);
        drop(last);
    });
    was_ended.recv_timeout(Duration::from_secs(10)).expect("the runtime hangs");
}
