use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, time::Instant};

use super::*;

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Address that answers nothing: its queue is full, so the system drops what comes.
async fn black_hole() -> (SocketAddr, Socket, Vec<tokio::task::JoinHandle<io::Result<TcpStream>>>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&local().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while timeout(Duration::from_millis(100), TcpStream::connect(address)).await.is_ok() {
        queued.push(tokio::spawn(TcpStream::connect(address)));
        assert!(queued.len() < 100, "the queue is never full");
    }
    (address, socket, queued)
}

#[tokio::test]
async fn an_address_that_answers_nothing_does_not_keep_from_the_next() {
    let (hole, _socket, queued) = black_hole().await;
    let listener = TcpListener::bind(local()).await.unwrap();
    let good = listener.local_addr().unwrap();
    let began = Instant::now();
    let stream = race(vec![hole, good]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
    let took = began.elapsed();
    assert!(took >= ATTEMPT_DELAY && took < 4 * ATTEMPT_DELAY, "{took:?}");

    // An address that refuses is left at once.
    let refused = TcpListener::bind(local()).await.unwrap().local_addr().unwrap();
    let began = Instant::now();
    race(vec![refused, good]).await.unwrap();
    assert!(began.elapsed() < ATTEMPT_DELAY);
    let error = race(vec![refused, refused]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(race(Vec::new()).await.unwrap_err().to_string().contains("no address"));
    queued.iter().for_each(tokio::task::JoinHandle::abort);
}

#[test]
fn families_take_turns_and_the_resolvers_first_comes_first() {
    let parse = |list: &[&str]| list.iter().map(|text| format!("{text}:1").parse().unwrap()).collect::<Vec<_>>();
    let mixed = interleaved(parse(&["[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2"]));
    assert_eq!(mixed, parse(&["[::1]", "1.1.1.1", "[::2]", "2.2.2.2", "[::3]"]));
    assert_eq!(interleaved(parse(&["1.1.1.1", "[::1]"])), parse(&["1.1.1.1", "[::1]"]));
}
