//! Nacos, and what only Nacos can suffer.

use std::{fs, net::TcpListener, process::Stdio, sync::Arc, time::Duration};

use ms_register::{Instance, MsRegister, RegisterError, RegistrationState, ServiceName};
use ms_tests::{Data, Server, request};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};

use ms_register_conformance::{Fixture, Untidy, Warnings, ids, service, within};

pub(crate) struct NacosFixture(Server);

impl NacosFixture {
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Calls Nacos's own HTTP interface.
    pub(crate) async fn http(&self, method: &str, path: &str, parameters: &[(&str, &str)]) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let target = format!("/nacos/v1/ns/{path}?{query}");
        let answer = request(method, &self.0.address(), &target).await.unwrap();
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.body);
        answer.body
    }
}

impl Fixture for NacosFixture {
    /// A change is pushed after about a second; one whose push is lost is read after five.
    const SETTLES: Duration = Duration::from_secs(8);
    const RECOVERS: Duration = Duration::from_secs(20);
    /// The next read, and its timeout.
    const NOTICES: Duration = Duration::from_secs(12);

    async fn start() -> Self {
        Self(Server::nacos().await.unwrap())
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.0.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let (port, weight) = (instance.port().to_string(), instance.weight().to_string());
        let metadata = json!(instance.metadata()).to_string();
        let parameters =
            [("serviceName", service.as_str()), ("ip", instance.host()), ("port", &port), ("weight", &weight)];
        self.http("POST", "instance", &[&parameters[..], &[("metadata", &metadata)]].concat()).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        let port = instance.port().to_string();
        let parameters = [("serviceName", service.as_str()), ("ip", instance.host()), ("port", &port)];
        self.http("DELETE", "instance", &parameters).await;
    }

    async fn down(&mut self) {
        self.0.kill();
    }

    async fn up(&mut self) {
        self.0.start(Data::Kept).await.unwrap();
    }

    async fn up_without_data(&mut self) {
        self.0.start(Data::Wiped).await.unwrap();
    }
}

impl Untidy for NacosFixture {
    async fn write_garbage(&self, service: &ServiceName) {
        self.http("POST", "instance", &[("serviceName", service.as_str()), ("ip", "10.0.0.9"), ("port", "70000")])
            .await;
    }
}

#[tokio::test]
async fn the_stored_form_is_an_instance_of_nacos() {
    let nacos = NacosFixture::start().await;
    let url = format!("{}?namespace=dev&group=shop&cluster=c1", nacos.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    assert_eq!(registry.scope(), Some("nacos/dev/shop"));
    let instance = Instance::new("10.0.0.1", 80).with_id("goods-1").with_weight(2.5).with_metadata("zone", "b");
    let registration = registry.register(&service("goods"), instance).await.unwrap();
    let list = [("serviceName", "goods"), ("namespaceId", "dev"), ("groupName", "shop")];
    let found: Value = serde_json::from_str(&nacos.http("GET", "instance/list", &list).await).unwrap();
    let host = &found["hosts"][0];
    assert_eq!((&host["ip"], &host["port"], &host["weight"]), (&json!("10.0.0.1"), &json!(80), &json!(2.5)));
    assert_eq!((&host["clusterName"], &host["ephemeral"]), (&json!("c1"), &json!(true)));
    assert_eq!(host["metadata"], json!({"zone": "b", "ms.id": "goods-1"}));

    assert!(nacos.connect().await.unwrap().list(&service("goods")).await.unwrap().is_empty(), "other namespaces");
    registration.deregister(Duration::from_secs(3)).await.unwrap();
    let found: Value = serde_json::from_str(&nacos.http("GET", "instance/list", &list).await).unwrap();
    assert_eq!(found["hosts"], json!([]));
}

#[tokio::test]
async fn what_is_out_of_service_is_not_listed() {
    let nacos = NacosFixture::start().await;
    let registry = nacos.connect().await.unwrap();
    let (goods, up) = (service("goods"), Instance::new("10.0.0.1", 80));
    nacos.write(&goods, &up).await;
    let disabled = [("serviceName", "goods"), ("ip", "10.0.0.2"), ("port", "80"), ("enabled", "false")];
    nacos.http("POST", "instance", &disabled).await;
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn an_instance_removed_by_hand_is_written_again() {
    let nacos = NacosFixture::start().await;
    let registry = nacos.connect().await.unwrap();
    let (goods, instance) = (service("goods"), Instance::new("10.0.0.1", 80));
    let registration = registry.register(&goods, instance.clone()).await.unwrap();
    nacos.remove(&goods, &instance).await;
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(NacosFixture::RECOVERS, "the instance", listed).await.unwrap();
    registration.deregister(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test]
async fn a_registration_given_up_during_a_pause_leaves_nothing_behind() {
    let nacos = NacosFixture::start().await;
    let url = format!("{}?timeout=0.5", nacos.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    nacos.0.freeze().unwrap();
    let late = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    let error = registry.list(&goods).await.unwrap_err();
    assert!(matches!(error, RegisterError::Timeout { .. }), "{error}");
    let refused = ms_register::connect(&url).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains(registry.url()), "{refused}");
    nacos.0.thaw().unwrap();
    // It waits for the write that came too late, and for its end.
    registry.close(NacosFixture::RECOVERS).await.unwrap();
    let other = nacos.connect().await.unwrap();
    assert!(other.list(&goods).await.unwrap().is_empty());
}

/// The connections to the gRPC port of the server with this HTTP address, of whichever process.
fn connections(address: &str) -> usize {
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let (remote, established) = (format!(":{:04X}", port + 1000), "01");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&remote) && row[3] == established).count()
}

/// An operator takes the instance out of service in the console, and puts it back.
#[tokio::test]
async fn a_disabled_instance_stays_out_until_it_is_enabled() {
    let nacos = NacosFixture::start().await;
    let (registry, goods) = (nacos.connect().await.unwrap(), service("goods"));
    let warnings = Warnings::capture();
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(NacosFixture::SETTLES, "the instance", listed).await.unwrap();
    let operate = |enabled: &'static str| {
        let parameters = [("serviceName", "goods"), ("ip", "10.0.0.1"), ("port", "80"), ("enabled", enabled)];
        let nacos = &nacos;
        async move { nacos.http("PUT", "instance", &parameters).await }
    };
    operate("false").await;
    let out = watch.wait_for(|s| s.instances().is_empty());
    within(NacosFixture::SETTLES, "that it is out", out).await.unwrap();
    // Three checks of its owner, which would write it again after two that miss it.
    let back = tokio::time::timeout(Duration::from_secs(16), watch.wait_for(|s| !s.instances().is_empty()));
    assert!(back.await.is_err(), "it is listed again: {:?}", warnings.with(""));
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed, "it is held all the same");
    assert_eq!(warnings.with("was disabled in Nacos").len(), 1, "{:?}", warnings.with(""));
    assert!(warnings.with("was lost").is_empty(), "{:?}", warnings.with(""));

    operate("true").await;
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(NacosFixture::SETTLES, "the instance again", listed).await.unwrap();
    registration.deregister(Duration::from_secs(3)).await.unwrap();
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_two_servers_one_that_serves_is_enough() {
    let nacos = NacosFixture::start().await;
    // Nobody answers there, or nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, live) = (silent.local_addr().unwrap(), nacos.0.address());
    let urls = [format!("127.0.0.1:1,{live}"), format!("{live},127.0.0.1:1"), format!("{silent},{live}")];
    for url in urls.map(|servers| format!("nacos://{servers}")) {
        for _ in 0..5 {
            let registry = within(Duration::from_secs(3), "a start", ms_register::connect(&url)).await.unwrap();
            assert!(registry.list(&service("goods")).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn failed_connects_leave_nothing_behind() {
    let nacos = Server::nacos_with_user().await.unwrap();
    let url = format!("{}?username=ms&password=", nacos.url());
    let goods = service("goods");
    let registry = ms_register::connect_in_background(&format!("{url}secret-2")).unwrap();
    let mut watch = registry.watch(&goods);
    let refused = watch.wait_for(|s| s.state(std::time::Instant::now()).to_string().contains("unknown user"));
    let refused = tokio::time::timeout(NacosFixture::RECOVERS, refused).await.is_ok();
    assert!(refused, "the true reason: {}", watch.current().state(std::time::Instant::now()));
    for _ in 0..20 {
        let error = ms_register::connect(&format!("{url}secret-2")).await.unwrap_err();
        assert!(matches!(error, RegisterError::Rejected { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(connections(&nacos.address()), 0);
    nacos.freeze().unwrap();
    for _ in 0..10 {
        let url = format!("{url}{}&timeout=0.5", Server::PASSWORD);
        assert!(ms_register::connect(&url).await.unwrap_err().is_transient());
    }
    assert_eq!(connections(&nacos.address()), 0);
    nacos.thaw().unwrap();
    // Right after a pause the server knows no user for a moment.
    let connected = async {
        loop {
            if let Ok(registry) = ms_register::connect(&format!("{url}{}", Server::PASSWORD)).await {
                return registry;
            }
        }
    };
    let registry = within(NacosFixture::RECOVERS, "a login", connected).await;
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
    registration.deregister(Duration::from_secs(3)).await.unwrap();
}

/// Without a user there is no login that would fail first.
#[tokio::test]
async fn a_server_that_hangs_costs_one_connection() {
    let nacos = NacosFixture::start().await;
    nacos.0.freeze().unwrap();
    let registry = ms_register::connect_in_background(&format!("{}?timeout=0.5", nacos.0.url())).unwrap();
    let mut watch = registry.watch(&service("goods"));
    let failing = watch.wait_for(|s| s.is_failing());
    within(Duration::from_secs(5), "the outage", failing).await.unwrap();
    // Six attempts or more.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let left = connections(&nacos.0.address());
    assert!(left <= 2, "{left} connections");
    nacos.0.thaw().unwrap();
    let live = watch.wait_for(|s| !s.is_failing());
    within(NacosFixture::RECOVERS, "the first read", live).await.unwrap();
}

async fn text(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that the process logs, the client crate included.
#[tokio::test]
async fn no_log_line_holds_the_password() {
    let nacos = Server::nacos_with_user().await.unwrap();
    for password in [Server::PASSWORD, "secret-2"] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ms-in-tests"));
        let url = format!("{}?username=ms&password={password}", nacos.url());
        command
            .args(["mq-node", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--registry", &url])
            .env("RUST_LOG", "trace");
        let data = tempfile::tempdir().unwrap();
        command.arg("--data").arg(data.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let (stdout, stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let read = tokio::spawn(async move {
            let (said, logged) = tokio::join!(text(stdout), text(stderr));
            said + &logged
        });
        // With the wrong password it ends; with the right one it runs until it is ended.
        let _ = tokio::time::timeout(Duration::from_secs(4), process.wait()).await;
        let _ = process.kill().await;
        let all = within(Duration::from_secs(5), "the output", read).await.unwrap();
        assert!(all.contains("nacos"), "{all}");
        assert!(!all.contains(password), "{all}");
    }
}
