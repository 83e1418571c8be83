use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{http, ports, signal};

/// What a server finds when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All that it had stored.
    Kept,
    /// Nothing: as after the loss of its disk.
    Wiped,
}

/// A registry server of one test. Dropping it kills the process and deletes its data.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: u16,
    directory: TempDir,
    process: Option<Child>,
    /// Connections that ZooKeeper takes from one address; 0: any number.
    connections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Etcd,
    Gregister,
    Nacos,
    /// One that asks for a login.
    NacosWithUser,
    Zookeeper,
}

/// How servers say that another one has their port.
const IN_USE: [&str; 3] = ["address already in use", "Address already in use", "AddrInUse"];

/// Where the distribution has it, with what it needs.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";

impl Server {
    const READY_WITHIN: Duration = Duration::from_secs(30);
    const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

    /// The password of [`nacos_with_user`](Self::nacos_with_user).
    pub const PASSWORD: &str = "secret-1";

    /// The longest lease of a candidate in gregister, which elects nobody for so long when it starts on no data.
    pub const CANDIDATE_TTL: Duration = Duration::from_secs(3);

    /// Starts etcd, and waits until it serves.
    ///
    /// # Errors
    /// etcd is not installed, or is not ready within 30 s; the text says what to do.
    pub async fn etcd() -> io::Result<Self> {
        Self::launch(Kind::Etcd).await
    }

    /// Starts a gregister node, and waits until it serves.
    ///
    /// # Errors
    /// The command `ms` of these tests is not built, or is not ready within 30 s; the text says what to do.
    pub async fn gregister() -> io::Result<Self> {
        Self::launch(Kind::Gregister).await
    }

    /// Starts a Nacos server (rnacos), and waits until it serves.
    ///
    /// # Errors
    /// rnacos is not installed, or is not ready within 30 s; the text says what to do.
    pub async fn nacos() -> io::Result<Self> {
        Self::launch(Kind::Nacos).await
    }

    /// Starts a Nacos server that serves the user `ms` with the password [`PASSWORD`](Self::PASSWORD) alone, and waits until it
    /// answers.
    ///
    /// # Errors
    /// As for [`nacos`](Self::nacos).
    pub async fn nacos_with_user() -> io::Result<Self> {
        const TRIES: usize = 5;
        let login = format!("/nacos/v1/auth/login?username=ms&password={}", Self::PASSWORD);
        for _ in 0..TRIES {
            let server = Self::launch(Kind::NacosWithUser).await?;
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end {
                if http::request("POST", &server.address(), &login).await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(server);
                }
                sleep(Duration::from_millis(50)).await;
            }
            // Seen of it: the part that knows the users ends at the start, and the rest goes on.
        }
        Err(io::Error::other(format!("`rnacos` logs nobody in, {TRIES} times started")))
    }

    /// Starts ZooKeeper, and waits until it serves. Its ticks are short: it notices the end of a session within half a second.
    ///
    /// # Errors
    /// ZooKeeper or Java is not installed, or it is not ready within 30 s; the text says what to do.
    pub async fn zookeeper() -> io::Result<Self> {
        Self::launch(Kind::Zookeeper).await
    }

    /// The same with so many connections from one address (`maxClientCnxns`).
    ///
    /// # Errors
    /// As for [`zookeeper`](Self::zookeeper).
    pub async fn zookeeper_with_connections(most: u32) -> io::Result<Self> {
        Self::launch_with(Kind::Zookeeper, most).await
    }

    async fn launch(kind: Kind) -> io::Result<Self> {
        // One machine makes many connections here.
        Self::launch_with(kind, 0).await
    }

    async fn launch_with(kind: Kind, connections: u32) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let directory = tempfile::Builder::new().prefix("ms-tests-").tempdir()?;
            let mut server = Self { kind, port: ports::free(kind.offsets())?, directory, process: None, connections };
            tries += 1;
            match server.start(Data::Kept).await {
                // Another test may have taken the port in between.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 5 => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The registry's URL, such as `etcd://127.0.0.1:21379`; parameters can be appended.
    pub fn url(&self) -> String {
        format!("{}://{}", self.kind.scheme(), self.address())
    }

    /// The number of its process; `None` if it does not run.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Starts the process if it is not running, and waits until it serves.
    ///
    /// # Errors
    /// As for [`etcd`](Self::etcd).
    pub async fn start(&mut self, data: Data) -> io::Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let path = self.directory.path().join("data");
        if data == Data::Wiped && path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        if self.kind == Kind::Zookeeper {
            self.configure_zookeeper(&path)?;
        }
        let log = File::options().append(true).create(true).open(self.log())?;
        let mut command = self.kind.command(self.port, &path);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{}` is not there: {}", self.kind.program().display(), self.kind.remedy()),
            ),
            _ => error,
        })?;
        self.process = Some(started);
        self.ready().await
    }

    /// Kills the process at once, as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An error here means that it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the process from running while its sockets stay open, as a network partition or a long pause does.
    ///
    /// # Errors
    /// The process is not running.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process run again.
    ///
    /// # Errors
    /// The process is not running.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref().ok_or_else(|| io::Error::other("the server is not running"))?;
        signal::send(process.id(), signal)
    }

    async fn ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + Self::READY_WITHIN;
        let address = self.address();
        loop {
            // A server that is just starting may accept a question and never answer it.
            if timeout(Self::ANSWERS_WITHIN, self.kind.serves(&address)).await.is_ok_and(|serves| serves) {
                return Ok(());
            }
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                self.kill();
                // ZooKeeper ends without a word.
                let taken = IN_USE.iter().any(|words| log.contains(words)) || !ports::is_free(self.port);
                let kind = if taken { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
                let program = self.kind.program();
                let program = program.display();
                return Err(io::Error::new(kind, format!("`{program}` does not become ready. Its output:\n{log}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn configure_zookeeper(&self, data: &Path) -> io::Result<()> {
        if !Path::new(ZOOKEEPER_JAR).exists() {
            let text = format!("there is no {ZOOKEEPER_JAR}: run scripts/registries install");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let lines = [
            format!("dataDir={}", data.display()),
            format!("clientPort={}", self.port),
            "clientPortAddress=127.0.0.1".to_owned(),
            "tickTime=500".to_owned(),
            "maxSessionTimeout=60000".to_owned(),
            format!("maxClientCnxns={}", self.connections),
            "admin.enableServer=false".to_owned(),
            "4lw.commands.whitelist=srvr,wchp".to_owned(),
        ];
        fs::write(data.with_file_name("zoo.cfg"), lines.join("\n"))
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Gregister => "gregister",
            Self::Nacos | Self::NacosWithUser => "nacos",
            Self::Zookeeper => "zookeeper",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Etcd => "etcd".into(),
            Self::Gregister => own_program("ms-in-tests"),
            Self::Nacos | Self::NacosWithUser => "rnacos".into(),
            Self::Zookeeper => "java".into(),
        }
    }

    /// How to get it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Gregister => "build it in the same profile: `cargo build --package ms-tests --bins`",
            Self::Etcd | Self::Nacos | Self::NacosWithUser | Self::Zookeeper => "run scripts/registries install",
        }
    }

    /// Which ports it needs above its first one. Nacos clients take for granted that gRPC is at HTTP + 1000.
    fn offsets(self) -> &'static [u16] {
        match self {
            Self::Etcd => &[1],
            Self::Nacos | Self::NacosWithUser => &[1000],
            Self::Gregister | Self::Zookeeper => &[],
        }
    }

    /// Whether it answers that it serves.
    async fn serves(self, address: &str) -> bool {
        let path = match self {
            Self::Etcd => "/health",
            Self::Gregister => "/v1/services",
            Self::Nacos => "/nacos/v1/console/health/readiness",
            // It refuses whoever has not logged in, as soon as it serves.
            Self::NacosWithUser => {
                let answer = http::request("GET", address, "/nacos/v1/ns/service/list").await;
                return answer.is_ok_and(|answer| answer.status == 403);
            }
            // To `ruok` it answers before it serves.
            Self::Zookeeper => {
                return http::converse(address, b"srvr").await.is_ok_and(|answer| answer.contains("Mode:"));
            }
        };
        let answer = http::request("GET", address, path).await;
        answer.is_ok_and(|answer| answer.status == 200 && !answer.body.contains("\"false\""))
    }

    fn command(self, port: u16, data: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Etcd => {
                let client = format!("http://127.0.0.1:{port}");
                let peer = format!("http://127.0.0.1:{}", port + 1);
                command.args(["--name", "lab", "--logger", "zap", "--log-level", "warn", "--data-dir"]).arg(data);
                command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
                command.args(["--initial-cluster", &format!("lab={peer}")]);
            }
            Self::Gregister => {
                command.args(["gregister", "--http", &format!("127.0.0.1:{port}"), "--data"]).arg(data);
                command.args(["--candidate-ttl", &Server::CANDIDATE_TTL.as_secs().to_string()]);
            }
            Self::Nacos | Self::NacosWithUser => {
                if self == Self::NacosWithUser {
                    command.env("RNACOS_ENABLE_OPEN_API_AUTH", "true");
                    command.env("RNACOS_INIT_ADMIN_USERNAME", "ms").env("RNACOS_INIT_ADMIN_PASSWORD", Server::PASSWORD);
                }
                command.env("RNACOS_HTTP_PORT", port.to_string());
                command.env("RNACOS_GRPC_PORT", (port + 1000).to_string());
                command.env("RNACOS_HTTP_CONSOLE_PORT", "0");
                command.env("RNACOS_SDK_HOST", "127.0.0.1").env("RNACOS_CONSOLE_HOST", "127.0.0.1");
                command.env("RNACOS_DATA_DIR", data).env("RNACOS_HTTP_WORKERS", "1");
            }
            Self::Zookeeper => {
                command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
                command.args(["-cp", ZOOKEEPER_JAR, "org.apache.zookeeper.server.ZooKeeperServerMain"]);
                command.arg(data.with_file_name("zoo.cfg"));
            }
        }
        command
    }
}

/// A program of this package. Cargo builds them before the tests, which lie in a folder beside them.
fn own_program(name: &str) -> PathBuf {
    let folder = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(&folder).to_owned() } else { folder };
    folder.join(name)
}
