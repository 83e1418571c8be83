//! The HTTP load balancer beside nginx: the same back ends, the same load, one CPU each.

mod programs;

use std::{path::Path, time::Duration};

use clap::Args;
use ms_http::HttpServer;
use ms_lb::{Choice, KeySource, Proxy, ProxyConfig, Routes, Rule};
use ms_rpc::{Balancer, EjectionConfig};
use tempfile::TempDir;

use crate::{peer::Failure, process};
use programs::{Back, Front, Run};

/// Needs `nginx`, `wrk` and `taskset`, and two CPUs: the first for the load balancer, the second for back ends and load.
#[derive(Args, Debug)]
pub(crate) struct Lb {
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds, in each of which both are measured one after the other.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: u32,
}

/// The load balancer that is measured.
#[derive(Args, Debug)]
pub(crate) struct LbFront {
    /// Where it listens.
    listen: std::net::SocketAddr,
    /// Addresses of the back ends, separated by commas.
    back_ends: String,
}

/// CPU of the load balancer; the other one is for everything else.
const FRONT: usize = 0;
const REST: usize = 1;
const BACK_ENDS: usize = 3;

pub(crate) fn run(lb: &Lb) -> Result<(), Failure> {
    programs::check()?;
    let directory = tempfile::Builder::new().prefix("bench-lb-").tempdir()?;
    let mut backs = (0..BACK_ENDS).map(|_| Back::start(directory.path())).collect::<Result<Vec<_>, _>>()?;
    println!("wrk: {} connections, {} s; {BACK_ENDS} back ends (nginx, 256 bytes)", lb.connections, lb.seconds);
    println!("{:<8} {:>12} {:>10} {:>10} {:>8}", "", "requests/s", "p50 ms", "p99 ms", "errors");
    let (mut nginx, mut ms) = (Vec::new(), Vec::new());
    for _ in 0..lb.rounds {
        nginx.push(measured("nginx", Front::nginx(directory.path(), &backs)?, lb)?);
        ms.push(measured("ms lb", Front::ms(directory.path(), &backs)?, lb)?);
    }
    let bare = measured("direct", Front::none(&backs[0]), lb)?;
    let (nginx, ms) = (median(nginx), median(ms));
    println!("medians: {:.2}x nginx's requests/s, {:.2}x its p99", ms.rate / nginx.rate, ms.p99_ms / nginx.p99_ms);
    if bare.rate < 1.5 * nginx.rate.max(ms.rate) {
        println!("beware: the back ends and the load alone reach {:.0}/s", bare.rate);
    }
    killed(&directory, &mut backs, lb)
}

fn measured(name: &str, front: Front, lb: &Lb) -> Result<Run, Failure> {
    // Connections are made and memory is taken before it counts.
    front.load(Duration::from_secs(1), lb.connections)?;
    let run = front.load(Duration::from_secs(lb.seconds.into()), lb.connections)?;
    println!("{name:<8} {:>12.0} {:>10.2} {:>10.2} {:>8}", run.rate, run.p50_ms, run.p99_ms, run.errors);
    Ok(run)
}

/// A back end is killed in the middle of the load.
fn killed(directory: &TempDir, backs: &mut Vec<Back>, lb: &Lb) -> Result<(), Failure> {
    let front = Front::ms(directory.path(), backs)?;
    front.load(Duration::from_secs(1), lb.connections)?;
    let load = front.start(Duration::from_secs(lb.seconds.into()), lb.connections)?;
    programs::pause(Duration::from_secs_f64(f64::from(lb.seconds) / 2.0));
    drop(backs.pop());
    let run = load.finish()?;
    println!("killed   {:>12.0} {:>10.2} {:>10.2} {:>8}", run.rate, run.p50_ms, run.p99_ms, run.errors);
    Ok(())
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    runs.swap_remove(runs.len() / 2)
}

/// Serves as the load balancer that is measured.
pub(crate) fn serve(front: &LbFront) -> Result<(), Failure> {
    process::pin(FRONT)?;
    process::allow_many_sockets()?;
    process::runtime(std::num::NonZeroUsize::MIN)?.block_on(async {
        let registry = ms_register::connect(&format!("static://{}", front.back_ends)).await?;
        let choice = Choice::Balanced(Balancer::RoundRobin.into(), KeySource::None);
        let routes = Routes::new(&registry, vec![Rule::new(".*", "back", choice)?], &EjectionConfig::default())?;
        let proxy = Proxy::new(routes, ProxyConfig::default());
        let server = HttpServer::bind(front.listen).await?.body_pause(proxy.silence());
        proxy.settle(Duration::from_secs(3)).await;
        server.serve(proxy.router(), std::future::pending()).await;
        Ok(())
    })
}

/// Says where a program's files go.
fn file(directory: &Path, name: &str, port: u16) -> std::path::PathBuf {
    directory.join(format!("{name}-{port}"))
}
