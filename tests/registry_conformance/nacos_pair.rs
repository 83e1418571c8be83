//! Two servers of Nacos, of which one dies; and what operators do in the console.

use std::{
    fs::File,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ms_register::{Freshness, Instance, RegistrationState};
use ms_register_conformance::{Fixture, Warnings, ids, service, within};
use ms_rpc::{Balancer, ClientProxy};
use ms_tests::{Load, ShopClient, request};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{nacos::NacosFixture, shop};

const SOON: Duration = Duration::from_secs(20);

/// Two servers that know each other. Dropping it ends them.
struct Pair {
    ports: [u16; 2],
    processes: [Option<Child>; 2],
    directory: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let free = || loop {
            let port = fastrand::u16(15_000..29_000);
            if [port, port + 1000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
                return port;
            }
        };
        let mut pair = Self { ports: [free(), free()], processes: [None, None], directory: TempDir::new().unwrap() };
        pair.spawn(0).await;
        pair.spawn(1).await;
        pair
    }

    async fn spawn(&mut self, index: usize) {
        let port = self.ports[index];
        let log = File::create(self.directory.path().join(format!("log{index}"))).unwrap();
        let mut command = Command::new("rnacos");
        command.env("RNACOS_HTTP_PORT", port.to_string()).env("RNACOS_GRPC_PORT", (port + 1000).to_string());
        command.env("RNACOS_HTTP_CONSOLE_PORT", "0").env("RNACOS_HTTP_WORKERS", "1");
        command.env("RNACOS_SDK_HOST", "127.0.0.1").env("RNACOS_CONSOLE_HOST", "127.0.0.1");
        command.env("RNACOS_DATA_DIR", self.directory.path().join(format!("data{index}")));
        command.env("RNACOS_RAFT_NODE_ID", (index + 1).to_string());
        command.env("RNACOS_RAFT_NODE_ADDR", format!("127.0.0.1:{}", port + 1000));
        match index {
            0 => command.env("RNACOS_RAFT_AUTO_INIT", "true"),
            _ => command.env("RNACOS_RAFT_JOIN_ADDR", format!("127.0.0.1:{}", self.ports[0] + 1000)),
        };
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.processes[index] = Some(process.expect("rnacos is there: run scripts/registries install"));
        let ready = async {
            let address = format!("127.0.0.1:{port}");
            let answers = || request("GET", &address, "/nacos/v1/console/health/readiness");
            while !answers().await.is_ok_and(|answer| answer.status == 200) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        within(SOON, "a server of Nacos", ready).await;
    }

    fn signal(&self, index: usize, signal: Signal) {
        let process = self.processes[index].as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
    }

    fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.processes[index].take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn url(&self, first: usize) -> String {
        format!("nacos://127.0.0.1:{},127.0.0.1:{}", self.ports[first], self.ports[1 - first])
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.kill(0);
        self.kill(1);
    }
}

async fn starts(pair: &Pair, count: usize) {
    let mut slowest = Duration::ZERO;
    for start in 0..count {
        let began = Instant::now();
        let registry = within(SOON, "a start", ms_register::connect(&pair.url(start % 2))).await.unwrap();
        registry.list(&service("shop")).await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    println!("{count} starts, the slowest in {slowest:?}");
}

async fn one_of_two(count: usize) {
    for dead in [0, 1] {
        let mut pair = Pair::start().await;
        let registry = ms_register::connect(&pair.url(0)).await.unwrap();
        let server = shop::listed(&registry).await;
        let clients = ms_register::connect(&pair.url(1)).await.unwrap();
        let client = shop::client(&clients);
        // The servers tell each other after a while.
        let called = async {
            while client.find(0).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        within(SOON, "the first call", called).await;
        let load = Load::start(200, move |number| {
            let client = client.clone();
            async move { client.find(number).await.map(|found| u64::from(found.port)) }
        });
        pair.signal(dead, Signal::SIGSTOP);
        starts(&pair, count / 2).await;
        pair.signal(dead, Signal::SIGCONT);
        pair.kill(dead);
        starts(&pair, count / 2).await;
        let late = ms_register::connect(&pair.url(dead)).await.unwrap();
        let mut watch = late.watch(&service("shop"));
        let listed = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().len() == 1);
        within(2 * SOON, "the instance at the one that lives", listed).await.unwrap();
        let tally = load.stop().await.unwrap();
        println!("server {dead} dead: {} calls, {} failed", tally.calls(), tally.failed().count());
        assert_eq!(tally.failed().count(), 0, "{}", tally.first_failures());
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_one_dies() {
    one_of_two(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes"]
async fn of_two_servers_one_dies_often() {
    one_of_two(40).await;
}

#[tokio::test]
async fn a_weight_from_the_console_moves_the_shares_and_stays() {
    let nacos = NacosFixture::start().await;
    let registry = nacos.connect().await.unwrap();
    let servers = [shop::listed(&registry).await, shop::listed(&registry).await];
    let port = servers[0].address().port();
    let proxy = ClientProxy::builder(registry.clone()).balancer(Balancer::WeightedRoundRobin).build().unwrap();
    let client = ShopClient::new(proxy);
    let share = || async {
        let mut first = 0;
        for number in 0..200 {
            first += usize::from(client.find(number).await.unwrap().port == port);
        }
        first
    };
    let even = async { while share().await != 100 {} };
    within(SOON, "equal shares", even).await;
    let (ip, port_text) = ("127.0.0.1", port.to_string());
    let name = [("serviceName", "shop"), ("ip", ip), ("port", &port_text), ("weight", "3")];
    nacos.http("PUT", "instance", &name).await;
    let uneven = async { while !(147..=153).contains(&share().await) {} };
    within(SOON, "three quarters", uneven).await;
    // Longer than two checks of the owner, which would write it again after two that miss it.
    sleep(Duration::from_secs(12)).await;
    assert!((147..=153).contains(&share().await), "it was written again");
    assert_eq!(*servers[0].registrations()[0].state().borrow(), RegistrationState::Listed);
    // The process's own word is the newer one.
    servers[0].set_weight(1.0).await.unwrap();
    let even = async { while share().await != 100 {} };
    within(SOON, "equal shares", even).await;
}

#[tokio::test]
async fn errors_name_namespace_and_group() {
    let nacos = NacosFixture::start().await;
    let warnings = Warnings::capture();
    let url = format!("{}?namespace=no-such&group=shop", nacos.url());
    let registry = ms_register::connect(&url).await.unwrap();
    let proxy = ClientProxy::new(registry.clone());
    let error = ShopClient::new(proxy).find(1).await.unwrap_err().to_string();
    assert!(error.contains("namespace=no-such&group=shop"), "{error}");
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
    registration.deregister(SOON).await.unwrap();
    assert!(warnings.with("cache").is_empty(), "{:?}", warnings.with("cache"));
    let wrong = ms_register::connect(&format!("{}?contextPath=/other&username=u&password=p", nacos.url())).await;
    assert!(wrong.unwrap_err().to_string().contains("404"));
}
