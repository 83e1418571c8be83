//! The process of one candidate: it campaigns for ever, and while it leads it writes with its token, over and over.

use std::{fs::File, io::Write, time::Duration};

use ms_register::{Election, Instance, Leadership, ServiceName};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::sleep,
};

use crate::Failure;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(2);
const CAMPAIGN: Duration = Duration::from_secs(600);

/// Runs until it is killed. The arguments: the registry's URL, the candidate's number, the sink's address, the log's path.
///
/// # Errors
/// Why it cannot begin.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let [url, number, sink, log] = arguments else { return Err("<url> <number> <sink> <log>".into()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let log = File::options().create(true).append(true).open(log)?;
        let registry = ms_register::connect(url).await?;
        let mut candidate =
            Candidate { number: number.parse()?, sink: BufReader::new(TcpStream::connect(sink).await?), log };
        candidate.sink.get_ref().set_nodelay(true)?;
        println!("ready");
        candidate.campaign(&*registry.election()?).await
    })
}

struct Candidate {
    number: u16,
    sink: BufReader<TcpStream>,
    log: File,
}

impl Candidate {
    async fn campaign(&mut self, election: &dyn Election) -> Result<(), Failure> {
        let service: ServiceName = "contested".parse()?;
        let instance = Instance::new("127.0.0.1", 9000 + self.number);
        loop {
            match election.campaign(&service, instance.clone(), CAMPAIGN).await {
                Ok(leadership) => self.lead(leadership).await?,
                Err(error) => {
                    eprintln!("{error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn lead(&mut self, leadership: Leadership) -> Result<(), Failure> {
        let token = leadership.token();
        loop {
            let before = clock()?;
            if !leadership.is_leader() {
                break;
            }
            let after = clock()?;
            // One system call, so that nothing is lost with the process.
            self.log.write_all(format!("{token} {before} {after}\n").as_bytes())?;
            if !self.tell("write", token).await? && leadership.is_leader() {
                self.tell("wronged", token).await?;
            }
            sleep(PAUSE).await;
        }
        // What a leader does that was frozen between its look and its act.
        self.tell("stale", token).await?;
        Ok(())
    }

    async fn tell(&mut self, kind: &str, token: u64) -> Result<bool, Failure> {
        self.sink.get_mut().write_all(format!("{kind} {} {token}\n", self.number).as_bytes()).await?;
        let mut answer = String::new();
        self.sink.read_line(&mut answer).await?;
        match answer.as_str() {
            "taken\n" => Ok(true),
            "refused\n" => Ok(false),
            other => Err(format!("the sink says {other:?}").into()),
        }
    }
}

/// Nanoseconds, the same for all processes of the machine.
fn clock() -> Result<u64, Failure> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}
