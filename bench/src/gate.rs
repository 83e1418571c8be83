//! `bench gate`: idle clients, messages through a gate beside a raw proxy of bytes, and pushes to a crowd at two gates.

mod clients;
mod programs;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use hdrhistogram::Histogram;
use ms_gate::GateClient;
use ms_rpc::{ClientProxy, Status};
use tokio::sync::mpsc;

use crate::{child::Child, marked, origin, peer::Failure, process, statistics::Spread};
use clients::{Crowd, rate};
use programs::Listening;

pub(crate) use programs::{GateProgram, serve};

/// How many of each.
#[derive(Args, Debug)]
pub(crate) struct GateBench {
    /// Clients that are connected and silent: fewer than a process may have files open.
    #[arg(long, default_value_t = 19_000)]
    idle: usize,
    /// Members at two gates that get each push.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Pushes to all of them, ten a second.
    #[arg(long, default_value_t = 50)]
    pushes: u32,
    /// Seconds of messages in each round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of messages: the gate and the raw proxy, one after the other.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
}

/// Connections of the load, and messages that each has under way.
const CONNECTIONS: usize = 4;
const OUTSTANDING: usize = 256;

/// Measures, prints, and writes it.
pub(crate) fn run(bench: &GateBench) -> Result<(), Failure> {
    process::allow_many_sockets()?;
    let runtime = process::runtime(std::num::NonZeroUsize::MIN)?;
    let lines = runtime.block_on(async {
        Ok::<_, Failure>([idle(bench.idle).await?, messages(bench).await?, pushes(bench).await?])
    })?;
    let list: String = lines.iter().map(|line| format!("- {line}\n")).collect();
    let measured = format!("{}\n{list}", origin::describe()?);
    println!("{measured}");
    marked::write(&bench.output, "A gate", "gate", &measured)
}

async fn start(program: &[&str]) -> Result<(Child, Listening), Failure> {
    let arguments: Vec<_> = ["gate-program"].iter().chain(program).map(|one| (*one).to_owned()).collect();
    let mut child = Child::start(&arguments)?;
    let listening = child.told(Duration::from_secs(20)).await?;
    Ok((child, listening))
}

async fn idle(count: usize) -> Result<String, Failure> {
    let (gate, address) = start(&["gate"]).await?;
    // What a first client needs is no client's own.
    let first = Crowd::connect(address.clients, 10).await?;
    let before = gate.resident()?;
    let crowd = Crowd::connect(address.clients, count).await?;
    let each = (gate.resident()? - before) as f64 / count as f64;
    drop((first, crowd));
    gate.stop().await;
    Ok(format!("idle TCP clients: {count}, {each:.0} bytes of the gate's memory each"))
}

async fn messages(bench: &GateBench) -> Result<String, Failure> {
    let (back, im) = start(&["back-end"]).await?;
    let (gate, front) = start(&["gate", "--back-end", &im.clients.to_string()]).await?;
    let (echo, far) = start(&["echo"]).await?;
    let (proxy, raw) = start(&["proxy", "--back-end", &far.clients.to_string()]).await?;
    let time = Duration::from_secs(bench.seconds);
    let (mut gates, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        gates.push(rate(front.clients, (CONNECTIONS, OUTSTANDING), time).await?);
        raws.push(rate(raw.clients, (CONNECTIONS, OUTSTANDING), time).await?);
    }
    let spread = |rates: &[f64]| Spread::of(rates.iter().copied()).ok_or("no rounds");
    let (through, beside) = (spread(&gates)?, spread(&raws)?);
    let line = format!(
        "messages/s at {CONNECTIONS} x {OUTSTANDING}: {:.0} ({:.0} - {:.0}) through gate and back end, {:.0} ({:.0} - {:.0}) through a raw \
         proxy and an echo: {:.2}x",
        through.median,
        through.least,
        through.most,
        beside.median,
        beside.least,
        beside.most,
        through.median / beside.median
    );
    for child in [back, gate, echo, proxy] {
        child.stop().await;
    }
    Ok(line)
}

async fn pushes(bench: &GateBench) -> Result<String, Failure> {
    let [(first, one), (second, two)] = [start(&["gate"]).await?, start(&["gate"]).await?];
    let registry = ms_register::connect(&format!("static://?gate={},{}", one.rpc, two.rpc)).await?;
    let client = GateClient::new(ClientProxy::new(registry));
    let (arrived, mut arrivals) = mpsc::channel(bench.members * 2);
    let half = bench.members / 2;
    let crowds = [Crowd::connect(one.clients, half).await?, Crowd::connect(two.clients, half).await?];
    let readers = crowds.map(|crowd| crowd.read_all(arrived.clone()));
    // One that does not read costs the others nothing.
    let _stalled = Crowd::connect(one.clients, 1).await?;
    let mut times = Histogram::<u64>::new(3)?;
    for number in 0..bench.pushes {
        let began = Instant::now();
        let pushed = client.push_all(50, number.to_be_bytes().to_vec()).await;
        if pushed.as_ref().map_err(Status::to_string)?.reached as usize != 2 * half + 1 {
            return Err(format!("not all are reached: {pushed:?}").into());
        }
        for _ in 0..2 * half {
            let (got, at): (u32, Instant) = arrivals.recv().await.ok_or("a reader has ended")?;
            if got != number {
                return Err(format!("push {got} arrived in the time of push {number}").into());
            }
            times.record((at - began).as_micros() as u64)?;
        }
        tokio::time::sleep(Duration::from_millis(100).saturating_sub(began.elapsed())).await;
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    drop(readers);
    first.stop().await;
    second.stop().await;
    Ok(format!(
        "push to {} members at two gates, {} times, each once: p50 {:.1} ms, p99 {:.1} ms, the last {:.1} ms",
        2 * half,
        bench.pushes,
        at(0.5),
        at(0.99),
        at(1.0)
    ))
}
