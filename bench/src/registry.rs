//! `bench registry`: thousands of instances in one registry, what it costs to watch them, and how fast a change reaches a crowd.

mod instances;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use ms_register::{Instance, MsRegister, ServiceName};
use ms_tests::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{child::Child, marked, origin, peer::Failure, process};

pub(crate) use instances::{Instances, serve};

/// How many of each, and where to write it.
#[derive(Args, Debug)]
pub(crate) struct RegistryBench {
    /// Registries, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "etcd,gregister,zookeeper")]
    only: Vec<Kind>,
    /// Services that are listed, all of which one client watches.
    #[arg(long, default_value_t = 1_000)]
    services: usize,
    /// Instances of each.
    #[arg(long, default_value_t = 20)]
    instances: usize,
    /// Clients, each with a connection of its own, that watch the service that changes.
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// Changes of an instance's weight, one after the other.
    #[arg(long, default_value_t = 20)]
    changes: u32,
    /// Seconds in which nothing changes.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Etcd,
    Gregister,
    Zookeeper,
}

/// Requests to a registry at a time, for what is not measured.
const AT_A_TIME: usize = 64;
/// Time for a step.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time for a change of the registry.
const CHANGE: Duration = Duration::from_secs(30);

/// Measures, prints the table, and writes it.
pub(crate) fn run(bench: &RegistryBench) -> Result<(), Failure> {
    process::allow_many_sockets()?;
    let runtime = process::runtime(std::num::NonZeroUsize::MIN)?;
    let mut table = format!(
        "{} services x {} instances, whose leases last 30 s, of one process; one server, on this machine. One client watches all \
         services; then {} clients with a connection each watch one service, and an instance of it changes its weight {} times. Times \
         count from the call of the change. Reads are `Range` calls of etcd, and packets that ZooKeeper received, pings included; \
         gregister counts none.\n\n\
         | registry | all listed after, s | bytes a watched service | reads a minute and watched service | server's CPU, idle | bytes a \
         client | change at all, p50 ms | p99 ms | last ms |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        bench.services, bench.instances, bench.watchers, bench.changes
    );
    for kind in &bench.only {
        table.push_str(&runtime.block_on(measure(*kind, bench))?);
    }
    let measured = format!("{}\n{table}", origin::describe()?);
    println!("{measured}");
    marked::write(&bench.output, "Registries at scale", "registry", &measured)
}

async fn measure(kind: Kind, bench: &RegistryBench) -> Result<String, Failure> {
    let server = kind.start().await?;
    let url = kind.url(&server);
    let mut child = Child::start(&instances::arguments(&url, bench.services, bench.instances))?;
    let listed_s: f64 = child.told(PATIENCE).await?;

    let before = process::resident(std::process::id())?;
    let watching = ms_register::connect(&url).await?;
    let mut watches = Vec::with_capacity(bench.services);
    for number in 0..bench.services {
        watches.push(watching.watch(&service(number)?));
    }
    for watch in &mut watches {
        let whole = watch.wait_for(|snapshot| snapshot.instances().len() == bench.instances);
        timeout(PATIENCE, whole).await.map_err(|_| "a service is not listed whole")??;
    }
    let each = (process::resident(std::process::id())?.saturating_sub(before)) as f64 / bench.services as f64;

    let id = server.id().ok_or("the registry has ended")?;
    let (reads, spent) = (kind.reads(&server).await?, process::spent(id)?);
    sleep(Duration::from_secs(bench.idle)).await;
    let cpu = (process::spent(id)? - spent).as_secs_f64() / bench.idle as f64 * 100.0;
    let reads = kind.reads(&server).await?.zip(reads).map(|(after, before)| {
        let minutes = bench.idle as f64 / 60.0;
        format!("{:.2}", (after - before) / minutes / bench.services as f64)
    });
    drop(watches);
    watching.close(CHANGE).await?;

    let (client, times) = crowd(&url, bench).await?;
    child.kill().await;
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    Ok(format!(
        "| {} | {listed_s:.1} | {each:.0} | {} | {cpu:.0} % | {client:.0} | {:.1} | {:.1} | {:.1} |\n",
        kind.name(),
        reads.unwrap_or_else(|| "-".to_owned()),
        at(0.5),
        at(0.99),
        at(1.0)
    ))
}

/// Bytes of each client that watches a service, and the times until each of them has seen each change, in microseconds.
async fn crowd(url: &str, bench: &RegistryBench) -> Result<(f64, Histogram<u64>), Failure> {
    let changed = service(0)?;
    let own = ms_register::connect(url).await?;
    let instance = |weight: f64| Instance::new("127.0.0.1", 1).with_weight(weight);
    let registration = own.register(&changed, instance(1.0)).await?;
    let before = process::resident(std::process::id())?;
    let connect = |_| async { ms_register::connect(url).await };
    let clients: Vec<Arc<dyn MsRegister>> =
        stream::iter(0..bench.watchers).map(connect).buffer_unordered(AT_A_TIME).try_collect().await?;
    let (seen, mut arrivals) = mpsc::channel(bench.watchers);
    let mut watchers = JoinSet::new();
    for client in &clients {
        let (mut watch, seen) = (client.watch(&changed), seen.clone());
        watchers.spawn(async move {
            let mut last = 0.0;
            let weight = |snapshot: &ms_register::Snapshot| {
                snapshot.instances().iter().find(|instance| instance.port() == 1).map(Instance::weight)
            };
            while let Ok(snapshot) =
                watch.wait_for(|snapshot| weight(snapshot).is_some_and(|weight| weight != last)).await
            {
                last = weight(&snapshot).unwrap_or(last);
                if seen.send((last, Instant::now())).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut times = Histogram::<u64>::new(3)?;
    let mut each = 0.0;
    for change in 0..=bench.changes {
        let began = Instant::now();
        let weight = f64::from(change + 1);
        if change > 0 {
            registration.update(instance(weight), CHANGE).await?;
        }
        for _ in 0..bench.watchers {
            let arrived = timeout(PATIENCE, arrivals.recv()).await.map_err(|_| "a watcher has not seen a change")?;
            let (got, at) = arrived.ok_or("a watcher has ended")?;
            if got != weight {
                return Err(format!("weight {got} arrived in the time of weight {weight}").into());
            }
            // The first one is that of the start.
            if change > 0 {
                times.record((at - began).as_micros() as u64)?;
            }
        }
        if change == 0 {
            each = (process::resident(std::process::id())?.saturating_sub(before)) as f64 / bench.watchers as f64;
        }
    }
    watchers.shutdown().await;
    drop(clients);
    own.close(CHANGE).await?;
    Ok((each, times))
}

/// The name of a service.
fn service(number: usize) -> Result<ServiceName, Failure> {
    Ok(format!("service-{number}").parse()?)
}

impl Kind {
    async fn start(self) -> Result<Server, Failure> {
        Ok(match self {
            Self::Etcd => Server::etcd().await?,
            Self::Gregister => Server::gregister().await?,
            Self::Zookeeper => Server::zookeeper().await?,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Gregister => "gregister",
            Self::Zookeeper => "ZooKeeper",
        }
    }

    fn url(self, server: &Server) -> String {
        let parameter = match self {
            Self::Etcd | Self::Gregister => "ttl",
            Self::Zookeeper => "session",
        };
        format!("{}?{parameter}=30", server.url())
    }

    /// Reads that the server has answered, if it counts them.
    async fn reads(self, server: &Server) -> Result<Option<f64>, Failure> {
        let last = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
        let (text, begin) = match self {
            Self::Gregister => return Ok(None),
            Self::Etcd => {
                let metrics = ms_tests::request("GET", &server.address(), "/metrics").await?.body;
                (metrics, "grpc_server_started_total{grpc_method=\"Range\"")
            }
            Self::Zookeeper => {
                let mut stream = TcpStream::connect(server.address()).await?;
                stream.write_all(b"srvr").await?;
                let mut text = String::new();
                stream.read_to_string(&mut text).await?;
                (text, "Received:")
            }
        };
        let line = text.lines().find(|line| line.starts_with(begin)).and_then(last);
        line.map(Some).ok_or_else(|| format!("{} tells no count of reads", self.name()).into())
    }
}
