//! Certificates and tokens that end, and those of others: what becomes of connections, and what never leaves a client.

#![allow(clippy::unwrap_used)]

mod authority;

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::{Duration, SystemTime},
};

use authority::{Authority, Issued};
use ms_register::Memory;
use ms_rpc::{
    Client, ClientProxy, Code, Context, Dial, Outcome, Peer, Server, Target, Transport, auth::Tokens, tls::Tls,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[ms_rpc::service(name = "shop")]
trait Shop {
    #[idempotent]
    async fn caller(&self, ctx: Context) -> String;
    /// The caller's end of the connection.
    #[idempotent]
    async fn address(&self, ctx: Context) -> Option<SocketAddr>;
}

#[derive(Clone, Default)]
struct TestShop(Arc<AtomicUsize>);

impl Shop for TestShop {
    async fn caller(&self, ctx: Context) -> String {
        self.0.fetch_add(1, Ordering::SeqCst);
        ctx.peer().principal().to_owned()
    }

    async fn address(&self, ctx: Context) -> Option<SocketAddr> {
        ctx.peer().address()
    }
}

async fn bound(shop: &TestShop) -> Server {
    Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(shop.clone()))
}

fn write(folder: &Path, authority: &Authority, issued: &Issued) {
    fs::write(folder.join("ca.pem"), authority.text()).unwrap();
    fs::write(folder.join("own.pem"), &issued.certificate).unwrap();
    fs::write(folder.join("own.key"), &issued.key).unwrap();
}

fn from_files(folder: &Path) -> Tls {
    let tls = Tls::mutual(folder.join("ca.pem"), folder.join("own.pem"), folder.join("own.key"));
    tls.trust_domain("test").build().unwrap()
}

#[tokio::test]
async fn a_connection_is_replaced_before_the_servers_certificate_ends_and_no_call_fails() {
    let (authority, registry) = (Authority::new("test"), Arc::new(Memory::new()));
    let folder = tempfile::tempdir().unwrap();
    let ends = SystemTime::now() + Duration::from_secs(8);
    write(folder.path(), &authority, &authority.issue_for("spiffe://test/shop", SystemTime::UNIX_EPOCH, ends));
    let tls = from_files(folder.path());
    let server = bound(&TestShop::default()).await.register_with(registry.clone()).tls(&tls).start().await.unwrap();
    let order = authority.tls("order");
    let lone = Client::builder().tls(&order).service("shop").connect(&server.address().to_string()).await.unwrap();
    let proxy = ClientProxy::builder(registry).tls(&order).build().unwrap();
    let shop = ShopClient::new(&proxy);
    let first = shop.address().await.unwrap();
    write(folder.path(), &authority, &authority.issue("spiffe://test/shop"));
    assert!(tls.reload().unwrap());
    // The other client goes on until the end.
    let replaced = async { while shop.address().await.unwrap() == first {} };
    timeout(PATIENCE, replaced).await.unwrap();
    assert!(lone.is_open(), "the connection is replaced before the end");
    let ended = async {
        while lone.is_open() {
            shop.caller().await.unwrap();
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    // Certificates know whole seconds.
    assert!(SystemTime::now() >= ends - Duration::from_secs(1), "it is used until its end");
    for _ in 0..100 {
        shop.caller().await.unwrap();
    }
    let error = ShopClient::new(lone).caller().await.unwrap_err();
    assert!(error.message().contains("the server's certificate has ended"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    server.shutdown().await;
}

/// Connects in plaintext to a server that is elsewhere, as it says.
#[derive(Debug)]
struct Elsewhere(&'static str);

#[async_trait::async_trait]
impl Dial for Elsewhere {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        let stream = TcpStream::connect(target.address).await?;
        Ok((Box::new(stream), Peer::new().with_address(self.0.parse().unwrap())))
    }
}

#[tokio::test]
async fn credentials_do_not_cross_a_network_in_plaintext() {
    let server = bound(&TestShop::default()).await.tokens(&Tokens::single("order", "secret")).start().await.unwrap();
    let address = server.address().to_string();
    for elsewhere in ["10.1.2.3:9112", "[2001:db8::7]:9112", "[::ffff:10.1.2.3]:9112"] {
        let builder = Client::builder().dialer(Elsewhere(elsewhere)).credentials("secret");
        let error = builder.clone().connect(&address).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::NotSent), "{error}");
        let words = ["are not sent", "`.tls(..)`", "`.plaintext_credentials(true)`"];
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
        assert!(!error.message().contains("secret"), "{error}");
        let allowed = builder.plaintext_credentials(true).connect(&address).await.unwrap();
        assert_eq!(ShopClient::new(allowed).caller().await.unwrap(), "order");
        // A source is not even asked.
        let source = || async { panic!("it was asked") };
        Client::builder().dialer(Elsewhere(elsewhere)).credentials_with(source).connect(&address).await.unwrap_err();
        Client::builder().dialer(Elsewhere(elsewhere)).connect(&address).await.unwrap();
    }
    for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        Client::builder().dialer(Elsewhere(here)).credentials("secret").connect(&address).await.unwrap();
    }
}

#[tokio::test]
async fn the_token_of_another_is_refused_and_nothing_runs() {
    let (authority, shop) = (Authority::new("test"), TestShop::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "spiffe://test/order orders\nspiffe://test/web webs\nops any 2000-01-01T00:00:00Z\n").unwrap();
    let tokens = Tokens::from_file(&path).unwrap();
    let server = bound(&shop).await.tls(&authority.tls("shop")).tokens(&tokens).start().await.unwrap();
    let call = async |service: &str, token: &str| {
        let client = Client::builder().tls(&authority.tls(service)).service("shop").credentials(token);
        ShopClient::new(client.connect(&server.address().to_string()).await.unwrap()).caller().await
    };
    assert_eq!(call("order", "orders").await.unwrap(), "spiffe://test/order");
    let before = shop.0.load(Ordering::SeqCst);
    for (service, token) in
        [("order", "webs"), ("web", "orders"), ("order", ""), ("order", "any"), ("order", "orders ")]
    {
        let error = call(service, token).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Code::Unauthenticated, Outcome::Refused), "{error}");
        assert!(error.message().contains("the token is missing, unknown"), "{error}");
    }
    assert_eq!(shop.0.load(Ordering::SeqCst), before);
}

/// Passes one connection on; returns what the client sent.
async fn eavesdrop(listener: TcpListener, server: SocketAddr) -> Vec<u8> {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    let mut sent = Recorded { stream: &mut client, read: Vec::new() };
    // The end of either side is no failure.
    let _ = copy_bidirectional(&mut sent, &mut server).await;
    sent.read
}

/// Stream that keeps what is read from it.
struct Recorded<'a> {
    stream: &'a mut TcpStream,
    read: Vec<u8>,
}

impl AsyncRead for Recorded<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        self.read.extend_from_slice(&buffer.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Recorded<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_recorded_conversation_says_nothing_twice() {
    let (authority, shop) = (Authority::new("test"), TestShop::default());
    let tokens = Tokens::single("order", "a-token-that-is-secret");
    let server = bound(&shop).await.tls(&authority.tls("shop")).tokens(&tokens).start().await.unwrap();
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap().to_string();
    let heard = tokio::spawn(eavesdrop(between, server.address()));
    let builder = Client::builder().tls(&authority.tls("order")).service("shop").credentials("a-token-that-is-secret");
    let client = ShopClient::new(builder.connect(&address).await.unwrap());
    assert_eq!(client.caller().await.unwrap(), "order");
    drop(client);
    let heard = timeout(PATIENCE, heard).await.unwrap().unwrap();
    let secrets = [&b"a-token-that-is-secret"[..], b"caller"];
    for secret in secrets {
        assert!(!heard.windows(secret.len()).any(|window| window == secret), "it was sent in plaintext");
    }
    let before = shop.0.load(Ordering::SeqCst);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(&heard).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(shop.0.load(Ordering::SeqCst), before, "nothing was executed");
    // The server goes on.
    let client = Client::builder().tls(&authority.tls("order")).service("shop").credentials("a-token-that-is-secret");
    ShopClient::new(client.connect(&server.address().to_string()).await.unwrap()).caller().await.unwrap();
}
