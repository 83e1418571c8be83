//! The HTTP load balancer beside nginx: the same back ends, the same load, one CPU each.

mod programs;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use ms_http::HttpServer;
use ms_lb::{Choice, KeySource, Proxy, ProxyConfig, Routes, Rule};
use ms_rpc::{Balancer, EjectionConfig};
use tempfile::TempDir;

use crate::{marked, origin, peer::Failure, process};
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
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
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

/// Measures, prints the table, and writes it.
pub(crate) fn run(lb: &Lb) -> Result<(), Failure> {
    programs::check()?;
    let directory = tempfile::Builder::new().prefix("bench-lb-").tempdir()?;
    let mut backs = (0..BACK_ENDS).map(|_| Back::start(directory.path())).collect::<Result<Vec<_>, _>>()?;
    let (mut rows, mut nginx, mut ms) = (String::new(), Vec::new(), Vec::new());
    for _ in 0..lb.rounds {
        nginx.push(measured("nginx", Front::nginx(directory.path(), &backs)?, lb, &mut rows)?);
        ms.push(measured("ms lb", Front::ms(directory.path(), &backs)?, lb, &mut rows)?);
    }
    let bare = measured("none: the first back end", Front::none(&backs[0]), lb, &mut rows)?;
    let (nginx, ms) = (median(nginx), median(ms));
    let ratios = format!("{:.2}x nginx's requests/s, {:.2}x its p99", ms.rate / nginx.rate, ms.p99_ms / nginx.p99_ms);
    let beware = match bare.rate < 1.5 * nginx.rate.max(ms.rate) {
        true => "; beware: back ends and load alone are hardly faster",
        false => "",
    };
    killed(&directory, &mut backs, lb, &mut rows)?;
    let measured = format!(
        "{}\nwrk with {} connections for {} s; {BACK_ENDS} back ends (nginx, 256 bytes). The load balancer has CPU 0, all else CPU 1. Of the \
         rounds with the median rate: {ratios}{beware}.\n\n| before the back ends | requests/s | p50 ms | p99 ms | errors |\n\
         | --- | --- | --- | --- | --- |\n{rows}",
        origin::describe()?,
        lb.connections,
        lb.seconds
    );
    println!("{measured}");
    marked::write(&lb.output, "HTTP load balancers", "lb", &measured)
}

fn measured(name: &str, front: Front, lb: &Lb, rows: &mut String) -> Result<Run, Failure> {
    // Connections are made and memory is taken before it counts.
    front.load(Duration::from_secs(1), lb.connections)?;
    let run = front.load(Duration::from_secs(lb.seconds.into()), lb.connections)?;
    rows.push_str(&run.row(name));
    Ok(run)
}

/// A back end is killed in the middle of the load.
fn killed(directory: &TempDir, backs: &mut Vec<Back>, lb: &Lb, rows: &mut String) -> Result<(), Failure> {
    let front = Front::ms(directory.path(), backs)?;
    front.load(Duration::from_secs(1), lb.connections)?;
    let load = front.start(Duration::from_secs(lb.seconds.into()), lb.connections)?;
    programs::pause(Duration::from_secs_f64(f64::from(lb.seconds) / 2.0));
    drop(backs.pop());
    rows.push_str(&load.finish()?.row("ms lb, a back end is killed"));
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
        routes.settle(Duration::from_secs(3)).await;
        let proxy = Proxy::new(routes, ProxyConfig::default());
        let server = HttpServer::bind(front.listen).await?.body_pause(proxy.silence());
        server.serve(proxy.router(), std::future::pending()).await;
        Ok(())
    })
}

/// Says where a program's files go.
fn file(directory: &Path, name: &str, port: u16) -> PathBuf {
    directory.join(format!("{name}-{port}"))
}
