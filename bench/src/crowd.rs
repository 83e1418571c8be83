//! `bench crowd`: strangers that are silent at a port with TLS, and thousands of clients at once.

mod rollout;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use ms_register::Memory;
use ms_rpc::{
    ClientProxy,
    tls::{Pem, Tls, dev::DevAuthority},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval},
};

use crate::{
    child::Child,
    implementations::{GoodsClient, goods_server, tls_client},
    marked, origin,
    peer::{Caller, Failure},
    process, serve,
    statistics::Spread,
};

/// How many, and where to write it.
#[derive(Args, Debug)]
pub(crate) struct Crowd {
    /// Fresh servers.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sockets that are silent; every second one has begun a handshake.
    #[arg(long, default_value_t = 500)]
    silent: usize,
    /// Clients that connect at the same moment.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// Renewals of both sides' certificates, one a second, under 1,000 calls a second.
    #[arg(long, default_value_t = 60)]
    rotations: u32,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
}

/// Time between two calls of the client that is watched.
const PACE: Duration = Duration::from_millis(1);
/// Calls that it makes in each part.
const CALLS: u64 = 3_000;
/// Begin of a record that does not go on (RFC 8446, section 5.1).
const BEGUN: &[u8] = &[0x16, 3, 1];

/// Figures of one round, in microseconds and seconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    alone_us: f64,
    beside_us: f64,
    newcomer_ms: f64,
    all_in_s: f64,
}

/// Measures, prints the table, and writes it.
pub(crate) fn run(crowd: &Crowd) -> Result<(), Failure> {
    process::allow_many_sockets()?;
    let runtime = process::runtime(std::num::NonZeroUsize::MIN)?;
    let rounds = runtime.block_on(async {
        let mut rounds = Vec::new();
        for _ in 0..crowd.rounds {
            let mut server = Child::start(&["serve".to_owned(), "--implementation=ms-tls".to_owned()])?;
            let round = measure(&mut server, crowd).await;
            server.stop().await;
            rounds.push(round?);
        }
        Ok::<_, Failure>(rounds)
    })?;
    let Rotated { calls, failed, connections } = runtime.block_on(rotate(crowd.rotations))?;
    let (rolled_out, lost) = runtime.block_on(rollout::run())?;
    let row = |title: String, of: fn(&Round) -> f64| match Spread::of(rounds.iter().map(of)) {
        Some(spread) => format!("| {title} | {:.2} ({:.2} - {:.2}) |\n", spread.median, spread.least, spread.most),
        None => String::new(),
    };
    let table = [
        "| what | median (least - greatest) |\n| --- | --- |\n".to_owned(),
        row("p99 of a client with 1,000 calls/s, us".to_owned(), |round| round.alone_us),
        row(format!("the same beside {} silent sockets, us", crowd.silent), |round| round.beside_us),
        row("ratio of the two".to_owned(), |round| round.beside_us / round.alone_us),
        row("connect time of a newcomer beside them, ms".to_owned(), |round| round.newcomer_ms),
        row(format!("{} clients at once, until each had an answer, s", crowd.clients), |round| round.all_in_s),
    ];
    let rotated = format!(
        "| failed calls of {calls} while both sides' certificates were renewed {} times, with {connections} new connections | {failed} |\n",
        crowd.rotations
    );
    let rollout = format!(
        "| failed calls of {rolled_out}, of 2 clients with 500 a second each, while 3 servers and both clients moved to TLS | {lost} |\n"
    );
    let measured = format!("{}\n{}{rotated}{rollout}", origin::describe()?, table.concat());
    println!("{measured}");
    marked::write(&crowd.output, "Strangers and crowds at a port with TLS", "crowd", &measured)
}

async fn measure(server: &mut Child, crowd: &Crowd) -> Result<Round, Failure> {
    let serve::Told::Listening(address) = server.told(Duration::from_secs(20)).await? else {
        return Err("the server did not say where it listens".into());
    };
    let builder = tls_client(address).await?.connect_timeout(Duration::from_secs(60));
    let connect = || {
        let (builder, address) = (builder.clone(), address.to_string());
        async move { Ok::<_, Failure>(GoodsClient::new(builder.connect(&address).await?)) }
    };
    let mut good = connect().await?;
    let alone_us = paced(&mut good).await?;
    let silent = strangers(address, crowd.silent).await?;
    let beside_us = paced(&mut good).await?;
    let began = Instant::now();
    let newcomer = connect().await?;
    let newcomer_ms = began.elapsed().as_secs_f64() * 1e3;
    newcomer.find(1).await?;
    drop(silent);
    let began = Instant::now();
    let clients = (0..crowd.clients).map(|_| async {
        let client = connect().await?;
        client.find(7).await?;
        Ok::<_, Failure>(client)
    });
    let all = try_join_all(clients).await?;
    let all_in_s = began.elapsed().as_secs_f64();
    drop(all);
    Ok(Round { alone_us, beside_us, newcomer_ms, all_in_s })
}

async fn strangers(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut silent = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = TcpStream::connect(address).await?;
        if number % 2 == 1 {
            stream.write_all(BEGUN).await?;
        }
        silent.push(stream);
    }
    Ok(silent)
}

/// The p99 of calls on a schedule, from when each was due, in microseconds.
async fn paced(client: &mut GoodsClient) -> Result<f64, Failure> {
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut schedule = interval(PACE);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..CALLS {
        let due = schedule.tick().await;
        client.find(number as i64).await?;
        latencies.record(due.elapsed().as_micros() as u64)?;
    }
    Ok(latencies.value_at_quantile(0.99) as f64)
}

/// Outcome of renewals.
#[derive(Clone, Copy, Debug, Default)]
struct Rotated {
    calls: u64,
    failed: u64,
    connections: u64,
}

/// Renews the certificates of a server and its client every second, while calls go on over a connection that stands and over new ones.
async fn rotate(times: u32) -> Result<Rotated, Failure> {
    let authority = DevAuthority::new("bench")?;
    let folder = tempfile::tempdir()?;
    let files = |service: &str| {
        let file = |end: &str| folder.path().join(format!("{service}.{end}"));
        (file("pem"), file("key"))
    };
    let renew = |service: &str| -> Result<(), Failure> {
        let (issued, (certificate, key)) = (authority.issue(service)?, files(service));
        fs::write(certificate, issued.certificate)?;
        Ok(fs::write(key, issued.key)?)
    };
    let tls = |service: &str| -> Result<Tls, Failure> {
        renew(service)?;
        let (certificate, key) = files(service);
        Ok(Tls::mutual(Pem::bytes(authority.ca()), certificate, key).trust_domain("bench").build()?)
    };
    let (goods, order) = (tls("goods")?, tls("order")?);
    let registry = Arc::new(Memory::new());
    let server = goods_server(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)?;
    let server = server.tls(&goods).register_with(registry.clone()).start().await?;
    let proxy = || ClientProxy::builder(registry.clone()).tls(&order).build();
    let standing = GoodsClient::new(proxy()?);
    let (mut seen, mut schedule, began) = (Rotated::default(), interval(PACE), Instant::now());
    let mut renewed = 0;
    while renewed < times {
        schedule.tick().await;
        seen.calls += 1;
        seen.failed += u64::from(standing.find(1).await.is_err());
        if began.elapsed() >= Duration::from_secs(renewed.into()) {
            for (service, tls) in [("goods", &goods), ("order", &order)] {
                renew(service)?;
                tls.reload()?;
            }
            renewed += 1;
            let fresh = GoodsClient::new(proxy()?);
            (seen.calls, seen.connections) = (seen.calls + 1, seen.connections + 1);
            seen.failed += u64::from(fresh.find(2).await.is_err());
        }
    }
    server.shutdown().await;
    Ok(seen)
}
