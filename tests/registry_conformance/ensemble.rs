//! Three ZooKeeper servers.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ms_register::Instance;
use ms_register_conformance::{service, within};
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

const JAR: &str = "/usr/share/java/zookeeper.jar";

/// One server. Dropping it kills the process.
struct Member {
    process: Child,
    address: String,
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

struct Ensemble {
    members: Vec<Member>,
    _data: TempDir,
}

impl Ensemble {
    /// A follower notices after 30 s that it has no leader: so long it answers what it knows.
    async fn start() -> Self {
        let data = TempDir::new().unwrap();
        let listeners: Vec<_> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let peers: Vec<_> =
            (0..3).map(|n| format!("server.{}=127.0.0.1:{}:{}", n + 1, ports[3 + n], ports[6 + n])).collect();
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
                "syncLimit=60".to_owned(),
                "admin.enableServer=false".to_owned(),
                "4lw.commands.whitelist=srvr".to_owned(),
            ];
            lines.extend(peers.iter().cloned());
            fs::write(folder.join("zoo.cfg"), lines.join("\n")).unwrap();
            let mut command = Command::new("java");
            command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", JAR]);
            command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(folder.join("zoo.cfg"));
            let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let process = process.expect("java is there: run scripts/registries install");
            members.push(Member { process, address: format!("127.0.0.1:{port}") });
        }
        let ready = async {
            for member in &members {
                while !member.says("Mode:").await {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        within(Duration::from_secs(60), "the ensemble", ready).await;
        Self { members, _data: data }
    }
}

/// The server that a leader is connected to is cut off from the others, and answers reads as before. The others elect another leader as
/// soon as the session is over, so only what those confirm counts.
#[tokio::test]
async fn a_leader_is_confirmed_by_the_quorum() {
    let ensemble = Ensemble::start().await;
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
