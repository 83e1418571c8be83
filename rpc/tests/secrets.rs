//! No secret appears in a log, a metric, an error or a `Debug` text: tokens, keys, metadata, arguments.

#![allow(clippy::unwrap_used)]

mod authority;
mod logs;

use std::{fmt::Debug, fs, io};

use authority::Authority;
use logs::Log;
use metrics_util::debugging::DebuggingRecorder;
use ms_register::{Memory, MsRegister};
use ms_rpc::{
    Blob, CallOptions, Client, ClientProxy, Code, Context, Dial, Peer, Principal, Server, Status, Target, Transport,
    auth::Tokens,
    tls::{Pem, Tls, dev::DevAuthority},
};
use tokio::net::TcpStream;

#[ms_rpc::service(name = "shop")]
trait Shop {
    async fn login(&self, ctx: Context, password: String, more: Blob) -> Result<String, Status>;
}

struct TestShop;

impl Shop for TestShop {
    async fn login(&self, ctx: Context, password: String, _: Blob) -> Result<String, Status> {
        assert_eq!(password, "argument-secret-3");
        Err(Status::new(Code::PermissionDenied, format!("{} is not known", ctx.peer().principal())))
    }
}

/// Words that must not appear, and forms that they could have.
struct Secrets(Vec<String>);

impl Secrets {
    fn new(words: &[&str]) -> Self {
        let forms = words.iter().flat_map(|word| {
            let bytes = word.as_bytes();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let list = format!("{bytes:?}");
            [(*word).to_owned(), hex, list.trim_matches(['[', ']']).to_owned(), base64(bytes)]
        });
        Self(forms.collect())
    }

    fn check(&self, what: &str, text: &str) {
        let text = text.to_owned() + &text.replace(['\n', ' '], "");
        for secret in &self.0 {
            assert!(!text.contains(secret.as_str()), "{what} shows {secret}:\n{text}");
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // Whole groups alone: what follows depends on padding.
    let groups = bytes.chunks_exact(3).map(|group| u32::from_be_bytes([0, group[0], group[1], group[2]]));
    groups.flat_map(|group| [18, 12, 6, 0].map(|shift| char::from(DIGITS[(group >> shift & 63) as usize]))).collect()
}

/// Connects in plaintext to a server that is elsewhere, as it says.
#[derive(Debug)]
struct Elsewhere;

#[async_trait::async_trait]
impl Dial for Elsewhere {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        let stream = TcpStream::connect(target.address).await?;
        Ok((Box::new(stream), Peer::new().with_address(([10, 0, 0, 7], 9112).into())))
    }
}

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();

    let (authority, registry) = (Authority::new("test"), std::sync::Arc::new(Memory::new()));
    let own = authority.issue("spiffe://test/shop");
    let key = own.key.lines().nth(1).unwrap().to_owned();
    let words =
        ["token-secret-1", "metadata-secret-2", "argument-secret-3", "another-secret-4", "fresh-secret-5", &key];
    let secrets = Secrets::new(&words);
    secrets.check("nothing", "a text without any");
    let mut shown: Vec<(&str, String)> = Vec::new();
    let mut show = |what, value: &dyn Debug| shown.push((what, format!("{value:?} {value:#?}")));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "order token-secret-1\nold another-secret-4 2000-01-01T00:00:00Z\n").unwrap();
    let tokens = Tokens::from_file(&path).unwrap().reload_every(std::time::Duration::ZERO);
    let tls = authority.builder(&own).build().unwrap();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(TestShop)).measured().tls(&tls);
    let server = server.tokens(&tokens).allow("order", "shop/login").register_with(registry.clone());
    show("server", &server);
    let server = server.start().await.unwrap();
    show("running server", &server);
    show("tokens", &tokens);
    show("TLS", &tls);

    let order = authority.tls("order");
    let proxy = |token: &str| ClientProxy::builder(registry.clone()).tls(&order).credentials(token).measured();
    let options = || CallOptions::new().metadata("authorization", "metadata-secret-2");
    show("options", &options());
    show("builder", &proxy("token-secret-1"));
    let call = async |proxy: ClientProxy| {
        let shop = ShopClient::new(&proxy).with(options());
        shop.login("argument-secret-3".to_owned(), Blob::from(b"argument-secret-3".to_vec())).await.unwrap_err()
    };
    let known = proxy("token-secret-1").build().unwrap();
    show("proxy", &known);
    show("the method's error", &call(known.clone()).await);
    show("refusal of a stranger", &call(proxy("another-secret-4").build().unwrap()).await);
    let source = || async { Ok(b"fresh-secret-5".to_vec()) };
    show("refusal by a source", &call(proxy("").credentials_with(source).build().unwrap()).await);
    let broken = || async { Err::<Vec<u8>, _>("the vault is closed".into()) };
    show("broken source", &call(proxy("token-secret-1").credentials_with(broken).build().unwrap()).await);

    // A broken file of tokens, of certificates, and dials that fail.
    fs::write(&path, "token-secret-1\n").unwrap();
    show("tokens that are refused", &tokens.reload().unwrap_err());
    tokens.check(b"another-secret-4", "").await;
    let mismatch =
        Tls::mutual(authority.pem(), Pem::bytes(own.certificate.clone()), Pem::bytes(authority.issue("a.b").key));
    show("builder of TLS", &mismatch);
    show("keys that do not fit", &mismatch.build().unwrap_err());
    let swapped = Tls::mutual(authority.pem(), Pem::bytes(own.key.clone()), Pem::bytes(own.certificate.clone()));
    show("a key in place of a certificate", &swapped.build().unwrap_err());
    let address = server.address().to_string();
    let client = Client::builder().credentials("token-secret-1");
    show("client's builder", &client);
    show("plaintext to TLS", &client.clone().connect(&address).await.unwrap_err());
    show("plaintext beyond loopback", &client.dialer(Elsewhere).connect(&address).await.unwrap_err());
    let peer =
        Peer::new().with_name("order").with_credentials("token-secret-1").with_identity("spiffe://test/order", None);
    show("peer", &peer);
    show("principal", &Principal::new("order"));
    let dev = DevAuthority::new("dev").unwrap();
    let issued = dev.issue("shop").unwrap();
    show("development", &(&dev, &issued));
    Secrets::new(&[issued.key.lines().nth(1).unwrap()]).check("development", &format!("{dev:?} {issued:?}"));
    show("registry", &registry.list(&"shop".parse().unwrap()).await.unwrap());
    server.shutdown().await;

    for (what, text) in &shown {
        secrets.check(what, text);
    }
    secrets.check("the log", &log.text());
    assert!(log.text().contains("not authenticated"), "what is looked at is what was logged: {}", log.text());
    let metrics = snapshotter.snapshot().into_vec();
    assert!(metrics.len() > 10, "what is looked at is what was counted: {metrics:?}");
    secrets.check("a metric", &format!("{metrics:?}"));
}
