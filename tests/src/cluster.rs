use std::{
    ffi::OsString,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

use crate::{Failure, Fault, Relay, http, ports, signal};

/// Three members of etcd on 127.0.0.1. Clients and members meet each other through relays. Dropping it ends the processes.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
    directory: TempDir,
    options: Vec<OsString>,
    /// Files of the authority, the certificate and the key that clients and members have, where TLS is on.
    tls: Option<[OsString; 3]>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    /// Relays that clients and other members connect to.
    to_client: Relay,
    to_peer: Relay,
    process: Option<Child>,
}

impl EtcdCluster {
    const READY_WITHIN: Duration = Duration::from_secs(30);

    /// Starts three members with these options, and waits until all serve.
    ///
    /// # Errors
    /// etcd is not installed, or is not ready within 30 s.
    pub async fn start(options: &[&str]) -> Result<Self, Failure> {
        Self::launch(options, None).await
    }

    /// The same with TLS, for clients that show a certificate of the authority in the file `ca`.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with_tls(ca: &str, certificate: &str, key: &str) -> Result<Self, Failure> {
        Self::launch(&[], Some([ca, certificate, key].map(OsString::from))).await
    }

    async fn launch(options: &[&str], tls: Option<[OsString; 3]>) -> Result<Self, Failure> {
        let mut members = Vec::new();
        for _ in 0..3 {
            let (client, peer) = (ports::free(&[])?, ports::free(&[])?);
            let relay = |port: u16| Relay::to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            let (to_client, to_peer) = (relay(client).await?, relay(peer).await?);
            members.push(Member { client, peer, to_client, to_peer, process: None });
        }
        let directory = tempfile::Builder::new().prefix("ms-tests-").tempdir()?;
        let mut cluster = Self { members, directory, options: options.iter().map(OsString::from).collect(), tls };
        for index in 0..cluster.members.len() {
            cluster.spawn(index)?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// URL of all members, in this order.
    pub fn url_of(&self, order: [usize; 3]) -> String {
        let addresses = order.map(|index| self.members[index].to_client.address().to_string());
        format!("etcd://{}", addresses.join(","))
    }

    /// URL of all members.
    pub fn url(&self) -> String {
        self.url_of([0, 1, 2])
    }

    /// Index of the member that leads the others.
    ///
    /// # Errors
    /// None says that it does.
    pub async fn leader(&self) -> Result<usize, Failure> {
        for index in 0..self.members.len() {
            if self.ids(index).await.is_some_and(|(own, leader)| own == leader) {
                return Ok(index);
            }
        }
        Err("no member of etcd leads".into())
    }

    /// The ids of a member and of its leader; `None`: it does not answer, or has no leader.
    async fn ids(&self, index: usize) -> Option<(String, String)> {
        let status = self.etcdctl(index, &["endpoint", "status", "--write-out=fields"]).await.ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(&format!("\"{name}\"")))?;
            line.rsplit(" : ").next().filter(|id| *id != "0").map(str::to_owned)
        };
        Some((field("MemberID")?, field("Leader")?))
    }

    /// Runs etcd's own client on one member, past its relay, and returns what it prints.
    ///
    /// # Errors
    /// The program is not installed, or ends with an error.
    pub async fn etcdctl(&self, index: usize, arguments: &[&str]) -> Result<String, Failure> {
        self.etcdctl_with(index, arguments, "").await
    }

    /// The same with this text as its input.
    ///
    /// # Errors
    /// As for [`etcdctl`](Self::etcdctl).
    pub async fn etcdctl_with(&self, index: usize, arguments: &[&str], input: &str) -> Result<String, Failure> {
        let mut command = tokio::process::Command::new("etcdctl");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={scheme}://127.0.0.1:{}", self.members[index].client));
        if let Some([ca, certificate, key]) = &self.tls {
            command.arg("--cacert").arg(ca).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn()?;
        if let Some(mut stdin) = process.stdin.take() {
            // An error: it reads no input.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let Output { status, stdout, stderr } = timeout(Duration::from_secs(10), process.wait_with_output()).await??;
        if !status.success() {
            return Err(format!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&stderr)).into());
        }
        Ok(String::from_utf8(stdout)?)
    }

    /// Starts a proxy of etcd's own before all members. Dropping it ends the process.
    ///
    /// # Errors
    /// The proxy does not answer within 30 s.
    pub async fn proxy(&self) -> Result<EtcdProxy, Failure> {
        let port = ports::free(&[])?;
        let endpoints: Vec<_> = self.members.iter().map(|member| format!("127.0.0.1:{}", member.client)).collect();
        let mut command = Command::new("etcd");
        command.args(["grpc-proxy", "start", &format!("--listen-addr=127.0.0.1:{port}")]);
        command.arg(format!("--endpoints={}", endpoints.join(",")));
        let log = File::create(self.directory.path().join("proxy.log"))?;
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let proxy = EtcdProxy { address: format!("127.0.0.1:{port}"), process };
        serves(&proxy.address, Self::READY_WITHIN).await?;
        Ok(proxy)
    }

    /// Stops a member from running while its sockets stay open.
    ///
    /// # Errors
    /// The member does not run.
    pub fn freeze(&self, index: usize) -> Result<(), Failure> {
        Ok(signal::send(self.process(index)?, Signal::SIGSTOP)?)
    }

    /// Lets a frozen member run again.
    ///
    /// # Errors
    /// The member does not run.
    pub fn thaw(&self, index: usize) -> Result<(), Failure> {
        Ok(signal::send(self.process(index)?, Signal::SIGCONT)?)
    }

    /// Kills a member, as a crash does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            // An error: it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts a killed member again on its data, and waits until all serve.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart(&mut self, index: usize) -> Result<(), Failure> {
        self.spawn(index)?;
        self.ready().await
    }

    /// Cuts a member off from the others; its clients reach it as before.
    ///
    /// # Errors
    /// The member does not run.
    pub async fn isolate(&self, index: usize) -> Result<(), Failure> {
        let process = self.process(index)?;
        for (other, member) in self.members.iter().enumerate() {
            if other == index {
                member.to_peer.set(Fault::BlackHole);
            } else {
                member.to_peer.ban(Some(process)).await;
            }
        }
        Ok(())
    }

    /// Ends [`isolate`](Self::isolate).
    pub async fn join(&self) {
        for member in &self.members {
            member.to_peer.ban(None).await;
        }
    }

    /// Treatment of a member's clients by the relay before it.
    pub fn to_clients(&self, index: usize, fault: Fault) {
        self.members[index].to_client.set(fault);
    }

    /// Number of connections that clients have opened so far.
    pub fn connections(&self) -> usize {
        self.members.iter().map(|member| member.to_client.accepted().len()).sum()
    }

    fn process(&self, index: usize) -> Result<u32, Failure> {
        Ok(self.members[index].process.as_ref().ok_or("a member of etcd that does not run")?.id())
    }

    fn spawn(&mut self, index: usize) -> Result<(), Failure> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let peers =
            self.members.iter().enumerate().map(|(n, member)| format!("m{n}=http://{}", member.to_peer.address()));
        let peers: Vec<_> = peers.collect();
        let member = &self.members[index];
        let client = format!("{scheme}://127.0.0.1:{}", member.client);
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{index}"), "--logger", "zap", "--log-level", "warn", "--data-dir"]);
        command.arg(self.directory.path().join(format!("m{index}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", member.peer)]);
        command.args(["--initial-advertise-peer-urls", &format!("http://{}", member.to_peer.address())]);
        command.args(["--initial-cluster", &peers.join(",")]).args(&self.options);
        if let Some([ca, certificate, key]) = &self.tls {
            command.arg("--trusted-ca-file").arg(ca).arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth");
        }
        let log = File::options().append(true).create(true).open(self.log(index))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command
            .spawn()
            .map_err(|error| format!("`etcd` does not run ({error}): run scripts/registries install"))?;
        self.members[index].process = Some(process);
        Ok(())
    }

    async fn ready(&self) -> Result<(), Failure> {
        for index in 0..self.members.len() {
            let end = Instant::now() + Self::READY_WITHIN;
            while self.ids(index).await.is_none() {
                if Instant::now() > end {
                    let log = fs::read_to_string(self.log(index)).unwrap_or_default();
                    return Err(format!("a member of etcd does not become ready. Its output:\n{log}").into());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn log(&self, index: usize) -> std::path::PathBuf {
        self.directory.path().join(format!("m{index}.log"))
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// A proxy of etcd's own; see [`EtcdCluster::proxy`].
#[derive(Debug)]
pub struct EtcdProxy {
    address: String,
    process: Child,
}

impl EtcdProxy {
    /// Its URL.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.address)
    }
}

impl Drop for EtcdProxy {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serves(address: &str, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    while !http::request("GET", address, "/health").await.is_ok_and(|answer| answer.status == 200) {
        if Instant::now() > end {
            return Err(format!("nothing serves {address}").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
