//! TLS: the service's identity, what is refused and in which words, and certificates that change.

#![allow(clippy::unwrap_used)]

mod authority;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use authority::{Authority, Issued};
use ms_register::{Instance, Memory, MsRegister};
use ms_rpc::{
    Blob, CallOptions, Client, ClientProxy, Code, Context, Outcome, RunningServer, Server, Status,
    tls::{Pem, Tls, TlsError},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[ms_rpc::service(name = "shop")]
trait Shop {
    /// The identity of the caller.
    #[idempotent]
    async fn caller(&self, ctx: Context) -> String;
    async fn echo(&self, blob: Blob) -> Blob;
}

#[derive(Clone, Default)]
struct TestShop(Arc<AtomicUsize>);

impl Shop for TestShop {
    async fn caller(&self, ctx: Context) -> String {
        self.0.fetch_add(1, Ordering::SeqCst);
        ctx.peer().identity().to_owned()
    }

    async fn echo(&self, blob: Blob) -> Blob {
        self.0.fetch_add(1, Ordering::SeqCst);
        blob
    }
}

async fn bound(shop: &TestShop) -> Server {
    Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(shop.clone()))
}

async fn secured(shop: &TestShop, tls: &Tls) -> RunningServer {
    bound(shop).await.tls(tls).start().await.unwrap()
}

async fn connect(address: SocketAddr, tls: &Tls) -> Result<ShopClient, Status> {
    let client = Client::builder().tls(tls).service("shop").connect(&address.to_string()).await?;
    Ok(ShopClient::new(client.with(CallOptions::new().deadline(Duration::from_secs(10)))))
}

#[tokio::test]
async fn both_sides_are_verified_and_the_server_knows_the_caller() {
    let authority = Authority::new("test");
    let (shop, registry) = (TestShop::default(), Arc::new(Memory::new()));
    let server = bound(&shop).await.register_with(registry.clone()).tls(&authority.tls("shop")).start().await.unwrap();
    let client = connect(server.address(), &authority.tls("order")).await.unwrap();
    assert_eq!(client.caller().await.unwrap(), "spiffe://test/order");
    let large = Blob::from(vec![7; 3 << 20]);
    assert_eq!(client.echo(large.clone()).await.unwrap(), large);

    let listed = registry.list(&"shop".parse().unwrap()).await.unwrap();
    assert_eq!(listed[0].metadata().get("ms.tls").map(String::as_str), Some("required"));
    let proxy = ClientProxy::builder(registry).tls(&authority.tls("web")).build().unwrap();
    assert_eq!(ShopClient::new(&proxy).caller().await.unwrap(), "spiffe://test/web");
    server.shutdown().await;
}

/// The call fails, names the cause, and nothing was executed.
async fn refused(what: &str, server: &Tls, client: &Tls, words: &str) {
    let shop = TestShop::default();
    let running = secured(&shop, server).await;
    let error = connect(running.address(), client).await.err().unwrap_or_else(|| panic!("{what} was taken"));
    assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::NotSent), "{what}: {error}");
    assert!(error.message().contains(words), "{what}: {error}");
    assert_eq!(shop.0.load(Ordering::SeqCst), 0, "{what}");
}

#[tokio::test]
async fn strangers_and_other_services_are_refused_in_words() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let (shop, order) = (own.tls("shop"), own.tls("order"));
    let untrusted = "the server's certificate is refused: it is signed by an authority that is not trusted here";
    refused("a server of another authority", &other.tls("shop"), &order, untrusted).await;
    let words = "its certificate is that of spiffe://test/order, spiffe://test/shop is expected";
    refused("the server of another service", &order, &order, words).await;
    let mixed = |own_ca: &Authority, issued: &Issued| own_ca.builder(issued).build().unwrap();
    let stranger = mixed(&own, &other.issue("spiffe://test/order"));
    let words = "the server refused our certificate: it is signed by an authority that is not trusted there";
    refused("a client of another authority", &shop, &stranger, words).await;
    let anonymous = Tls::one_way_client(own.pem()).trust_domain("test").build().unwrap();
    let words = "the server refused our certificate: there was none, and it needs one";
    refused("a client without a certificate", &shop, &anonymous, words).await;

    let withdrawn = own.issue("spiffe://test/shop");
    let informed = own.builder(&own.issue("spiffe://test/order")).revocations(own.revoke(&withdrawn)).build().unwrap();
    refused("a revoked server", &mixed(&own, &withdrawn), &informed, "certificate is refused: it is revoked").await;
    let withdrawn = own.issue("spiffe://test/order");
    let informed = own.builder(&own.issue("spiffe://test/shop")).revocations(own.revoke(&withdrawn)).build().unwrap();
    refused("a revoked client", &informed, &mixed(&own, &withdrawn), "refused our certificate: it is revoked").await;
}

#[tokio::test]
async fn the_identity_is_a_uri_a_dns_name_or_an_explicit_one() {
    let authority = Authority::new("test");
    let server = |name: &str| {
        let Issued { certificate, key, .. } = authority.issue(name);
        Tls::mutual(authority.pem(), Pem::bytes(certificate), Pem::bytes(key)).trust_domain("test").build().unwrap()
    };
    let client = |change: fn(ms_rpc::tls::TlsBuilder) -> ms_rpc::tls::TlsBuilder| {
        let Issued { certificate, key, .. } = authority.issue("spiffe://test/web");
        change(Tls::mutual(authority.pem(), Pem::bytes(certificate), Pem::bytes(key))).build().unwrap()
    };
    let by_suffix = client(|tls| tls.dns_suffix("svc.prod"));
    let explicit = client(|tls| tls.trust_domain("test").identity("shop", "spiffe://test/all-in-one"));
    let shop = TestShop::default();
    for (name, tls) in [("shop.svc.prod", &by_suffix), ("spiffe://test/all-in-one", &explicit)] {
        let running = secured(&shop, &server(name)).await;
        assert_eq!(connect(running.address(), tls).await.unwrap().caller().await.unwrap(), "spiffe://test/web");
    }
    let words = "that of other.svc.prod, shop.svc.prod is expected";
    refused("another DNS name", &server("other.svc.prod"), &by_suffix, words).await;
    let words = "that of spiffe://test/shop, spiffe://test/all-in-one is expected";
    refused("the rule's name in place of the explicit one", &server("spiffe://test/shop"), &explicit, words).await;

    // Without the service's name nothing can be verified.
    let running = secured(&shop, &server("spiffe://test/shop")).await;
    let error = Client::builder().tls(&explicit).connect(&running.address().to_string()).await.unwrap_err();
    assert!(error.message().contains("set `ClientBuilder::service`"), "{error}");
}

#[tokio::test]
async fn one_way_servers_have_anonymous_clients() {
    let authority = Authority::new("test");
    let Issued { certificate, key, .. } = authority.issue("spiffe://test/shop");
    let server = Tls::one_way_server(Pem::bytes(certificate), Pem::bytes(key)).build().unwrap();
    let client = Tls::one_way_client(authority.pem()).trust_domain("test").build().unwrap();
    let running = secured(&TestShop::default(), &server).await;
    assert_eq!(connect(running.address(), &client).await.unwrap().caller().await.unwrap(), "");

    let proxy = ClientProxy::builder(Arc::new(Memory::new())).tls(&server).build().unwrap_err();
    assert!(proxy.to_string().contains("a client needs authorities to trust"), "{proxy}");
    let error = bound(&TestShop::default()).await.tls(&client).start().await.unwrap_err();
    assert!(error.to_string().contains("a server needs a certificate of its own"), "{error}");
}

#[tokio::test]
async fn plaintext_and_tls_find_out_about_each_other() {
    let (authority, shop, registry) = (Authority::new("test"), TestShop::default(), Arc::new(Memory::new()));
    let server = bound(&shop).await.register_with(registry.clone()).tls(&authority.tls("shop")).start().await.unwrap();
    let error = Client::connect(&server.address().to_string()).await.unwrap_err();
    assert!(error.message().contains("this server requires TLS: give the client `.tls(..)`"), "{error}");
    let error = ShopClient::new(ClientProxy::new(registry)).caller().await.unwrap_err();
    assert!(error.message().contains("takes TLS alone: give the client `.tls(..)`"), "{error}");

    let plain = bound(&shop).await.start().await.unwrap();
    let error = connect(plain.address(), &authority.tls("order")).await.unwrap_err();
    assert!(error.message().contains("the server does not speak TLS"), "{error}");
    assert_eq!(shop.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_fleet_moves_by_permissive_servers_and_preferring_clients_and_no_entry_brings_others_down() {
    let (authority, shop, registry) = (Authority::new("test"), TestShop::default(), Arc::new(Memory::new()));
    let plain = bound(&shop).await.register_with(registry.clone()).start().await.unwrap();
    let tls = authority.tls("shop");
    let both = bound(&shop).await.register_with(registry.clone()).tls_permissive(&tls).start().await.unwrap();
    let order = authority.tls("order");
    let proxy = |builder: ms_rpc::ProxyBuilder| {
        builder.balancer(ms_rpc::Balancer::RoundRobin).deadline(Duration::from_secs(5)).build().unwrap()
    };
    let callers = async |proxy: &ClientProxy| {
        let mut seen: Vec<_> = Vec::new();
        for instance in [&plain, &both] {
            let id = instance.registrations()[0].instance().id().to_owned();
            let shop = ShopClient::new(proxy.with(CallOptions::new().instance(id)));
            seen.push(shop.caller().await.map_err(|error| error.message().to_owned()));
        }
        seen
    };
    let ok = |name: &str| Ok(name.to_owned());
    let plaintext = proxy(ClientProxy::builder(registry.clone()));
    assert_eq!(callers(&plaintext).await, [ok(""), ok("")]);
    let preferring = proxy(ClientProxy::builder(registry.clone()).tls_preferred(&order));
    assert_eq!(callers(&preferring).await, [ok(""), ok("spiffe://test/order")]);
    // The entry of the first one says nothing of TLS: a client that requires it sends nothing in plaintext.
    let requiring = proxy(ClientProxy::builder(registry).tls(&order));
    let seen = callers(&requiring).await;
    assert!(seen[0].as_ref().unwrap_err().contains("the server does not speak TLS"), "{seen:?}");
    assert_eq!(seen[1], ok("spiffe://test/order"));
}

fn write(folder: &Path, authority: &Authority, issued: &Issued) {
    fs::write(folder.join("ca.pem"), authority.text()).unwrap();
    fs::write(folder.join("own.pem"), &issued.certificate).unwrap();
    fs::write(folder.join("own.key"), &issued.key).unwrap();
}

fn from_files(folder: &Path) -> ms_rpc::tls::TlsBuilder {
    Tls::mutual(folder.join("ca.pem"), folder.join("own.pem"), folder.join("own.key")).trust_domain("test")
}

#[tokio::test]
async fn changed_files_are_used_for_new_connections_and_wrong_ones_are_not() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &old, &old.issue("spiffe://test/shop"));
    let tls = from_files(folder.path()).build().unwrap();
    let server = secured(&TestShop::default(), &tls).await;
    let standing = connect(server.address(), &old.tls("order")).await.unwrap();
    assert!(!tls.reload().unwrap());

    // A key that does not belong to the certificate: the files that fit stay in use.
    fs::write(folder.path().join("own.key"), &old.issue("spiffe://test/shop").key).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(&error, TlsError::KeyMismatch { key, .. } if key.ends_with("own.key")), "{error}");
    assert_eq!(
        connect(server.address(), &old.tls("order")).await.unwrap().caller().await.unwrap(),
        "spiffe://test/order"
    );

    write(folder.path(), &new, &new.issue("spiffe://test/shop"));
    assert!(tls.reload().unwrap());
    assert_eq!(connect(server.address(), &new.tls("web")).await.unwrap().caller().await.unwrap(), "spiffe://test/web");
    connect(server.address(), &old.tls("order")).await.unwrap_err();
    assert_eq!(standing.caller().await.unwrap(), "spiffe://test/order", "connections that stand go on");
}

#[tokio::test]
async fn files_are_followed_by_themselves() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &old, &old.issue("spiffe://test/shop"));
    let tls = from_files(folder.path()).reload_every(Duration::from_secs(1)).build().unwrap();
    let server = secured(&TestShop::default(), &tls).await;
    connect(server.address(), &old.tls("order")).await.unwrap();
    write(folder.path(), &new, &new.issue("spiffe://test/shop"));
    let order = new.tls("order");
    let renewed = async { while connect(server.address(), &order).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
}

#[tokio::test]
async fn a_client_whose_certificate_ends_is_sent_away_and_comes_back_with_the_next() {
    let (authority, registry) = (Authority::new("test"), Arc::new(Memory::new()));
    let server = bound(&TestShop::default()).await.register_with(registry.clone()).tls(&authority.tls("shop"));
    let server = server.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ends = SystemTime::now() + Duration::from_secs(6);
    write(folder.path(), &authority, &authority.issue_for("spiffe://test/old", SystemTime::UNIX_EPOCH, ends));
    let tls = from_files(folder.path()).build().unwrap();
    let lone = connect(server.address(), &tls).await.unwrap();
    let proxy = ClientProxy::builder(registry).tls(&tls).build().unwrap();
    let shop = ShopClient::new(&proxy);
    assert_eq!(shop.caller().await.unwrap(), "spiffe://test/old");
    write(folder.path(), &authority, &authority.issue("spiffe://test/new"));
    assert!(tls.reload().unwrap());
    // No call fails while the connections change.
    let changed = async { while shop.caller().await.unwrap() != "spiffe://test/new" {} };
    tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
    let error = async {
        loop {
            if let Err(error) = lone.caller().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), error).await.unwrap();
    assert!(error.message().contains("the client's certificate or token has ended"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    server.shutdown().await;
}

#[tokio::test]
async fn silent_clients_keep_nobody_from_the_handshake() {
    let authority = Authority::new("test");
    let server = bound(&TestShop::default()).await.limits(|limits| limits.max_handshakes = 4);
    let server = server.tls(&authority.tls("shop")).start().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // These began a handshake, and do not go on with it.
    for stream in silent.iter_mut().take(3) {
        stream.write_all(&[0x16, 3, 1]).await.unwrap();
    }
    let order = authority.tls("order");
    assert_eq!(connect(server.address(), &order).await.unwrap().caller().await.unwrap(), "spiffe://test/order");
}

#[tokio::test]
async fn what_does_not_fit_is_found_at_the_start() {
    let authority = Authority::new("test");
    let good = authority.issue("spiffe://test/shop");
    let error = |builder: ms_rpc::tls::TlsBuilder| builder.build().unwrap_err().to_string();
    let of = |certificate: &str, key: &str| {
        Tls::mutual(authority.pem(), Pem::bytes(certificate), Pem::bytes(key)).trust_domain("test")
    };
    let (certificate, key) = (&good.certificate, &good.key);
    let other = authority.issue("spiffe://test/shop").key;
    assert!(error(of(certificate, &other)).contains("does not belong to the certificate"));
    assert!(error(of(key, key)).contains("holds no certificate in PEM"));
    assert!(error(of(certificate, certificate)).contains("holds no private key in PEM"));
    assert!(error(of(certificate, "")).contains("holds no private key in PEM"));
    let missing = error(Tls::mutual("/nowhere/ca.pem", "/nowhere/own.pem", "/nowhere/own.key"));
    assert!(missing.starts_with("/nowhere/ca.pem cannot be read"), "{missing}");
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
    let over = authority.issue_for("spiffe://test/shop", now - 2 * day, now - day);
    assert!(error(authority.builder(&over)).contains("ended 86400 s ago: renew it"));
    let early = authority.issue_for("spiffe://test/shop", now + day, now + 2 * day);
    assert!(error(authority.builder(&early)).contains("does not hold for another 86"));
    for domain in ["", "Prod", "a/b"] {
        assert!(error(authority.builder(&good).trust_domain(domain)).contains("is no trust domain"), "{domain}");
    }
    assert!(error(authority.builder(&good).dns_suffix("a..b")).contains("is no DNS suffix"));
    assert!(error(authority.builder(&good).identity("shop", "https://shop")).contains("is no SPIFFE ID"));
    assert!(error(authority.builder(&good).reload_every(Duration::from_millis(1))).contains("use at least 1 s"));

    let Issued { certificate, key, .. } = good;
    let unnamed = Tls::mutual(authority.pem(), Pem::bytes(certificate), Pem::bytes(key.clone())).build().unwrap();
    let nameless = ClientProxy::builder(Arc::new(Memory::new())).tls(&unnamed).build().unwrap_err().to_string();
    assert!(nameless.contains("set `trust_domain`, `dns_suffix` or `identity`"), "{nameless}");
    // No key in any form of it.
    let secret = key.lines().nth(1).unwrap();
    assert!(!format!("{unnamed:?} {:?}", Pem::bytes(key.clone())).contains(secret));
    // A service whose name fits into no rule.
    let registry = Arc::new(Memory::new());
    let odd = registry.register(&"a:b".parse().unwrap(), Instance::new("127.0.0.1", 1)).await.unwrap();
    let proxy = ClientProxy::builder(registry).tls(&authority.tls("shop")).build().unwrap();
    let error = proxy.call("a:b", "x", &serde_json::json!([])).await.unwrap_err();
    assert!(error.message().contains("name its identity with `identity`"), "{error}");
    drop(odd);
}

/// Client that calls without a pause; every call must succeed.
struct Busy {
    calls: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Busy {
    fn start(shop: ShopClient) -> Self {
        let (calls, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (calls.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                shop.caller().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { calls, stop, task }
    }

    /// Waits for 20 more calls, or for the first one that failed.
    async fn progress(&self) {
        let before = self.calls.load(Ordering::SeqCst);
        while self.calls.load(Ordering::SeqCst) < before + 20 && !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_moves_from_plaintext_to_tls_without_a_failed_call() {
    let (authority, registry, shop) = (Authority::new("test"), Arc::new(Memory::new()), TestShop::default());
    let (tls, order) = (authority.tls("shop"), authority.tls("order"));
    type Step = Option<fn(Server, &Tls) -> Server>;
    let start = async |step: Step| {
        let server = bound(&shop).await.register_with(registry.clone());
        let server = match step {
            Some(step) => step(server, &tls),
            None => server,
        };
        server.start().await.unwrap()
    };
    // None: plaintext; false: preferred; true: required.
    let client = |required: Option<bool>| {
        let builder = ClientProxy::builder(registry.clone()).deadline(Duration::from_secs(10));
        let builder = match required {
            None => builder,
            Some(false) => builder.tls_preferred(&order),
            Some(true) => builder.tls(&order),
        };
        ShopClient::new(builder.build().unwrap())
    };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(start(None).await);
    }
    let mut clients = vec![Busy::start(client(None)), Busy::start(client(None))];
    let steps: [(Step, bool); 2] = [(Some(Server::tls_permissive), false), (Some(Server::tls), true)];
    for (step, required) in steps {
        for server in &mut servers {
            let next = start(step).await;
            std::mem::replace(server, next).shutdown().await;
            for client in &clients {
                client.progress().await;
            }
        }
        // Each client is restarted.
        for busy in &mut clients {
            std::mem::replace(busy, Busy::start(client(Some(required)))).stop().await;
            busy.progress().await;
        }
    }
    assert_eq!(client(Some(true)).caller().await.unwrap(), "spiffe://test/order");
    for client in clients {
        client.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_without_a_failed_call() {
    let (authority, registry) = (Authority::new("test"), Arc::new(Memory::new()));
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (folder, service) in folders.iter().zip(["shop", "order"]) {
        write(folder.path(), &authority, &authority.issue(&format!("spiffe://test/{service}")));
    }
    let [shop, order] = [0, 1].map(|at| from_files(folders[at].path()).build().unwrap());
    let server = bound(&TestShop::default()).await.register_with(registry.clone()).tls(&shop).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).deadline(Duration::from_secs(10)).tls(&order).build().unwrap();
    let standing = Busy::start(ShopClient::new(&proxy));
    for _ in 0..20 {
        for (folder, service) in folders.iter().zip(["shop", "order"]) {
            // As a tool that renews does it: whole files, one after the other.
            let Issued { certificate, key, .. } = authority.issue(&format!("spiffe://test/{service}"));
            fs::write(folder.path().join("next.pem"), certificate).unwrap();
            fs::rename(folder.path().join("next.pem"), folder.path().join("own.pem")).unwrap();
            // Between the two the files do not fit: what was loaded before stays in use.
            let tls = if service == "shop" { &shop } else { &order };
            assert!(matches!(tls.reload(), Err(TlsError::KeyMismatch { .. })));
            connect(server.address(), &order).await.unwrap().caller().await.unwrap();
            fs::write(folder.path().join("next.key"), key).unwrap();
            fs::rename(folder.path().join("next.key"), folder.path().join("own.key")).unwrap();
            assert!(tls.reload().unwrap());
        }
        connect(server.address(), &order).await.unwrap().caller().await.unwrap();
        standing.progress().await;
    }
    standing.stop().await;
    server.shutdown().await;
}

/// Runs a program to its end within 30 s; its output if it succeeds.
async fn run(mut command: std::process::Command) -> String {
    let name = format!("{command:?}");
    let run = tokio::task::spawn_blocking(move || command.stdin(std::process::Stdio::null()).output());
    let output = tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    let output = output.unwrap_or_else(|error| panic!("{name} does not run: {error}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn other_programs_speak_it() {
    let authority = Authority::new("test");
    let server = secured(&TestShop::default(), &authority.tls("shop")).await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &authority, &authority.issue("spiffe://test/python"));
    let (address, file) = (server.address(), |name: &str| folder.path().join(name));

    let mut python = std::process::Command::new("/usr/bin/python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/client.py"));
    python.args([address.ip().to_string(), address.port().to_string()]);
    python.args([file("ca.pem"), file("own.pem"), file("own.key")]);
    assert_eq!(run(python).await.trim(), "spiffe://test/python");

    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["s_client", "-connect", &address.to_string(), "-alpn", "ms-rpc/2", "-verify_return_error", "-brief"]);
    openssl.arg("-CAfile").arg(file("ca.pem")).arg("-cert").arg(file("own.pem")).arg("-key").arg(file("own.key"));
    // Its end of input ends the connection after the handshake.
    run(openssl).await;
}
