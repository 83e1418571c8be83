use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

use crate::{Failure, ports, signal};

/// A real DNS server (dnsmasq) on a port of its own of 127.0.0.1, with a time to live of one second. Dropping it ends the process.
#[derive(Debug)]
pub struct Dnsmasq {
    port: u16,
    directory: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl Dnsmasq {
    const READY_WITHIN: Duration = Duration::from_secs(10);

    /// Starts it with these options, such as `--srv-host=..`, and without a host.
    ///
    /// # Errors
    /// dnsmasq is not installed, or does not answer within 10 s.
    pub async fn start(options: &[&str]) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("ms-tests-").tempdir()?;
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { port: ports::free(&[])?, directory, options, process: None };
        server.hosts(&[])?;
        server.up().await?;
        Ok(server)
    }

    /// Address of the server.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Serves these pairs of address and name from now on.
    ///
    /// # Errors
    /// The file cannot be written, or the process has ended.
    pub fn hosts(&self, hosts: &[(&str, &str)]) -> Result<(), Failure> {
        let lines: String = hosts.iter().map(|(address, name)| format!("{address} {name}\n")).collect();
        fs::write(self.directory.path().join("hosts"), lines)?;
        match &self.process {
            Some(process) => Ok(signal::send(process.id(), Signal::SIGHUP)?),
            None => Ok(()),
        }
    }

    /// Starts it again with other options, and the same hosts.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart(&mut self, options: &[&str]) -> Result<(), Failure> {
        self.down();
        self.options = options.iter().map(ToString::to_string).collect();
        self.up().await
    }

    /// Ends the process.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An error: it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the process, and waits until it answers.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn up(&mut self) -> Result<(), Failure> {
        let log = File::options().append(true).create(true).open(self.directory.path().join("log"))?;
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1", "--local-ttl=1"]);
        // Whatever it does not know does not exist.
        command.args(["--local=/example/", "--cache-size=0", "--log-facility=-"]);
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--addn-hosts={}", self.directory.path().join("hosts").display()));
        command.args(&self.options).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command
            .spawn()
            .map_err(|error| format!("`dnsmasq` does not run ({error}): run scripts/registries install"))?;
        self.process = Some(process);
        let end = Instant::now() + Self::READY_WITHIN;
        while !self.answers().await? {
            if Instant::now() > end {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(format!("`dnsmasq` does not answer. Its output:\n{log}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks for a name that it does not have.
    async fn answers(&self) -> Result<bool, Failure> {
        // Header with one question, the name `x.example`, type A, class IN (RFC 1035, section 4.1).
        const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x07example\x00\x00\x01\x00\x01";
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        socket.connect(self.address()).await?;
        if socket.send(QUESTION).await.is_err() {
            return Ok(false);
        }
        let answered = timeout(Duration::from_millis(500), socket.recv(&mut [0; 512])).await;
        Ok(answered.is_ok_and(|answer| answer.is_ok()))
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.down();
    }
}
