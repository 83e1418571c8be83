//! Three ZooKeeper servers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Election, Instance, Leadership};
use ms_register_conformance::{service, within};
use ms_tests::{Fault, Load, Relay};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::shop;

const JAR: &str = "/usr/share/java/zookeeper.jar";

/// One server. Dropping it kills the process.
struct Member {
    process: Child,
    address: String,
    /// Ports that the others connect to: one for the data, one for elections.
    relays: [Relay; 2],
}

impl Member {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    async fn says(&self, words: &str) -> bool {
        let answer = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(b"srvr").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.map(|_| text)
        };
        answer.await.is_ok_and(|text: String| text.contains(words))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How members reach each other.
#[derive(Clone, Copy, PartialEq)]
enum Paths {
    Direct,
    Relayed,
}

struct Ensemble {
    members: Vec<Member>,
    _data: TempDir,
}

impl Ensemble {
    /// A follower notices after so many ticks of half a second that it has no leader: so long it answers what it knows. With `relays` a
    /// member can be cut off, and no leader be elected again: a relay takes connections for a server that does not listen yet.
    async fn start(sync_limit: u32, relays: Paths) -> Self {
        let paths = relays;
        let data = TempDir::new().unwrap();
        let listeners: Vec<_> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let relay = |port: u16| Relay::to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut relays = Vec::new();
        for n in 0..3 {
            relays.push([relay(ports[3 + n]).await.unwrap(), relay(ports[6 + n]).await.unwrap()]);
        }
        let mut members = Vec::new();
        for (n, port) in ports[..3].iter().enumerate() {
            let folder = data.path().join(n.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("myid"), (n + 1).to_string()).unwrap();
            let mut lines = vec![
                format!("dataDir={}", folder.display()),
                format!("clientPort={port}"),
                "clientPortAddress=127.0.0.1".to_owned(),
                "tickTime=500".to_owned(),
                "initLimit=60".to_owned(),
                format!("syncLimit={sync_limit}"),
                "maxClientCnxns=0".to_owned(),
                "admin.enableServer=false".to_owned(),
                "4lw.commands.whitelist=srvr".to_owned(),
            ];
            lines.extend((0..3).map(|other| {
                let [data, election] = [0, 1].map(|kind: usize| match other == n {
                    true => ports[3 + 3 * kind + n],
                    false if paths == Paths::Relayed => relays[other][kind].address().port(),
                    false => ports[3 + 3 * kind + other],
                });
                format!("server.{}=127.0.0.1:{data}:{election}", other + 1)
            }));
            fs::write(folder.join("zoo.cfg"), lines.join("\n")).unwrap();
            let mut command = Command::new("java");
            command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", JAR]);
            command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(folder.join("zoo.cfg"));
            let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let process = process.expect("java is there: run scripts/registries install");
            members.push((process, format!("127.0.0.1:{port}")));
        }
        let members = members.into_iter().zip(relays);
        let members = members.map(|((process, address), relays)| Member { process, address, relays });
        let ensemble = Self { members: members.collect(), _data: data };
        within(Duration::from_secs(60), "the ensemble", ensemble.serves()).await;
        ensemble
    }

    /// Waits until all members serve.
    async fn serves(&self) {
        for member in &self.members {
            while !member.says("Mode:").await {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Index of a member that says this of itself.
    async fn which(&self, mode: &str) -> usize {
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if member.says(mode).await {
                    return index;
                }
            }
        }
    }

    /// Cuts a member off from the others; its clients reach it as before.
    async fn isolate(&self, index: usize) {
        for (other, member) in self.members.iter().enumerate() {
            for relay in &member.relays {
                if other == index {
                    relay.set(Fault::BlackHole);
                } else {
                    relay.ban(Some(self.members[index].process.id())).await;
                }
            }
        }
    }

    fn url(&self, members: &[usize]) -> String {
        let addresses: Vec<_> = members.iter().map(|index| self.members[*index].address.as_str()).collect();
        format!("zookeeper://{}?session=4&timeout=2", addresses.join(","))
    }
}

async fn election(url: &str) -> Arc<dyn Election> {
    ms_register::connect(url).await.unwrap().election().unwrap()
}

async fn elected(election: &Arc<dyn Election>, port: u16, limit: Duration) -> Leadership {
    election.campaign(&service("goods"), Instance::new("10.0.0.1", port), limit).await.unwrap()
}

/// A candidate on either side of the cut. The one that led must know that it does not before the other one does.
async fn no_two_lead(runs: usize) {
    const LIMIT: Duration = Duration::from_secs(40);
    for run in 0..runs {
        // As long as a run: the one that is cut off answers what it knows.
        let ensemble = Ensemble::start(120, Paths::Relayed).await;
        let follower = ensemble.which("Mode: follower").await;
        let others: Vec<_> = (0..3).filter(|other| *other != follower).collect();
        let (cut_off, rest) = (election(&ensemble.url(&[follower])).await, election(&ensemble.url(&others)).await);
        let first = elected(&cut_off, 80, LIMIT).await;
        let waiting = tokio::spawn(async move { elected(&rest, 81, LIMIT).await });
        let observer = election(&ensemble.url(&others)).await;
        let mut watch = observer.observe(&service("goods"));
        within(LIMIT, "the first", watch.wait_for(|s| s.master().is_some_and(|one| one.instance.port() == 80)))
            .await
            .unwrap();
        ensemble.isolate(follower).await;
        let began = Instant::now();
        within(LIMIT, "the end of the first term", first.lost()).await;
        let ended = began.elapsed();
        assert!(!first.is_leader());
        assert!(!waiting.is_finished(), "run {run}: two led: the first until {ended:?} after the cut");
        let second = within(LIMIT, "the second", waiting).await.unwrap();
        assert!(second.is_leader() && !first.is_leader() && second.token() > first.token());
        println!("run {run}: the first led until {ended:?} after the cut, the second from {:?} on", began.elapsed());
        second.resign(LIMIT).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_lead_on_both_sides_of_a_cut() {
    no_two_lead(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes"]
async fn no_two_lead_over_many_cuts() {
    no_two_lead(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_leading_server_fails_no_call() {
    const SOON: Duration = Duration::from_secs(20);
    let mut ensemble = Ensemble::start(10, Paths::Direct).await;
    let url = ensemble.url(&[0, 1, 2]);
    let registry = ms_register::connect(&url).await.unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(shop::listed(&registry).await);
    }
    let clients = ms_register::connect(&url).await.unwrap();
    let client = shop::client(&clients);
    client.find(0).await.unwrap();
    let load = Load::start(200, move |number| {
        let client = client.clone();
        async move { client.find(number).await.map(|found| u64::from(found.port)) }
    });
    let leader = ensemble.which("Mode: leader").await;
    drop(ensemble.members.remove(leader));
    let began = Instant::now();
    // Its first try may meet the election of the next leader.
    let added = loop {
        let late = ms_register::connect(&url).await;
        if let Ok(registry) = late {
            break shop::listed(&registry).await;
        }
        assert!(began.elapsed() < SOON);
    };
    let mut watch = clients.watch(&service("shop"));
    within(SOON, "the new instance", watch.wait_for(|s| s.instances().len() == 4)).await.unwrap();
    println!("known after {:?}", began.elapsed());
    sleep(Duration::from_secs(5)).await;
    let tally = load.stop().await.unwrap();
    assert_eq!(tally.failed().count(), 0, "{}", tally.first_failures());
    assert_eq!(clients.list(&service("shop")).await.unwrap().len(), 4);
    added.shutdown().await;
}

/// The server that a leader is connected to is cut off from the others, and answers reads as before. The others elect another leader as
/// soon as the session is over, so only what those confirm counts.
#[tokio::test]
async fn a_leader_is_confirmed_by_the_quorum() {
    let ensemble = Ensemble::start(60, Paths::Direct).await;
    let mut follower = None;
    for member in &ensemble.members {
        if member.says("Mode: follower").await {
            follower = Some(member);
        }
    }
    let follower = follower.unwrap();
    let url = format!("zookeeper://{}?session=4&timeout=2", follower.address);
    let registry = ms_register::connect(&url).await.unwrap();
    let election = registry.election().unwrap();
    let leader = election.campaign(&service("goods"), Instance::new("10.0.0.1", 80), Duration::from_secs(10)).await;
    let leader = leader.unwrap();
    assert!(leader.is_leader());
    let others = || ensemble.members.iter().filter(|member| member.address != follower.address);
    others().for_each(|member| member.signal(Signal::SIGSTOP));
    let begin = Instant::now();
    within(Duration::from_secs(4), "the end of the term", leader.lost()).await;
    assert!(!leader.is_leader());
    println!("over after {:?}", begin.elapsed());
    assert!(follower.says("Mode: follower").await, "it has not noticed yet that it is cut off");
    others().for_each(|member| member.signal(Signal::SIGCONT));
}
