//! `bench mq`: the queue beside the disk alone and beside other queues; measure, print, write.

mod backlog;
mod beanstalkd;
mod broker;
mod engine;
mod floor;
mod gmq;
mod load;
mod ms;
mod nats;
mod redis;
mod report;

use std::{
    future::Future,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use clap::Args;

use crate::{marked, origin, peer::Failure, process};
use broker::{Broker, Home};

pub(crate) use ms::serve;

/// What to measure, and where to write it.
#[derive(Args, Debug)]
pub(crate) struct Mq {
    /// One short round: whether it works, not how well.
    #[arg(long)]
    quick: bool,
    /// Rounds over all of it. Default 5, quick 1.
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// Measure these queues alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these parts, separated by commas: engine, push, take, cycle, paced, backlog.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Where the files of all of them are; the disk that is measured.
    #[arg(long, default_value = "target/bench-mq")]
    directory: PathBuf,
    /// The CPU that the servers use; their clients use the other one of the first two.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/QUEUE.md"))]
    output: PathBuf,
}

/// What is asked of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Durable pushes.
    Push { outstanding: usize, body: usize },
    /// Pop and ack, one message at a time, from a full queue.
    Take { outstanding: usize, body: usize },
    /// Push, pop and ack.
    Cycle { outstanding: usize, body: usize },
    /// From push to pop, at a fixed rate.
    Paced { body: usize },
}

const LOADS: [Load; 7] = [
    Load::Push { outstanding: 64, body: 256 },
    Load::Push { outstanding: 1024, body: 256 },
    Load::Push { outstanding: 64, body: 4096 },
    Load::Push { outstanding: 1024, body: 4096 },
    Load::Take { outstanding: 64, body: 256 },
    Load::Cycle { outstanding: 1024, body: 256 },
    Load::Paced { body: 256 },
];

const OUTSTANDING: [usize; 3] = [1, 64, 1024];
const BODIES: [usize; 2] = [256, 4096];
const PACE: Duration = Duration::from_millis(1);

impl Load {
    fn part(self) -> &'static str {
        match self {
            Self::Push { .. } => "push",
            Self::Take { .. } => "take",
            Self::Cycle { .. } => "cycle",
            Self::Paced { .. } => "paced",
        }
    }
}

/// What one round of a load gave.
#[derive(Clone, Debug)]
enum Seen {
    Rate(f64),
    /// Nanoseconds.
    Latencies(Vec<u64>),
}

/// A queue, as the plan goes over it.
struct Candidate {
    name: &'static str,
    #[expect(clippy::type_complexity, reason = "it stands here alone")]
    run: fn(Home, Load, Duration) -> Pin<Box<dyn Future<Output = Result<Seen, Failure>>>>,
}

fn candidate<B: Broker>() -> Candidate {
    Candidate { name: B::NAME, run: |home, load, length| Box::pin(run_one::<B>(home, load, length)) }
}

async fn run_one<B: Broker>(home: Home, load: Load, length: Duration) -> Result<Seen, Failure> {
    let directory = tempfile::tempdir_in(&home.directory)?;
    let broker = B::start(&Home { directory: directory.path().to_owned(), ..home }).await?;
    let seen = match load {
        Load::Push { outstanding, body } => load::push(&broker, outstanding, body, length).await.map(Seen::Rate),
        Load::Take { outstanding, body } => load::take(&broker, outstanding, body, length).await.map(Seen::Rate),
        Load::Cycle { outstanding, body } => load::cycle(&broker, outstanding, body, length).await.map(Seen::Rate),
        Load::Paced { body } => {
            let count = length.as_micros() / PACE.as_micros();
            load::paced(&broker, body, count as u32, PACE).await.map(Seen::Latencies)
        }
    };
    broker.stop().await;
    seen
}

/// The engine beside the disk, one entry for each round.
#[derive(Debug)]
struct Beside {
    body: usize,
    outstanding: usize,
    /// Messages per second of the disk alone.
    floor: Vec<f64>,
    engine: Vec<engine::Engine>,
}

/// A queue under a load, one entry for each round.
#[derive(Debug)]
struct Loaded {
    name: &'static str,
    load: Load,
    seen: Vec<Seen>,
    /// Why some are missing.
    failure: Option<String>,
}

/// All that was seen.
#[derive(Debug, Default)]
struct Results {
    engine: Vec<Beside>,
    loads: Vec<Loaded>,
    /// Nanoseconds of an append with its sync, and of a call.
    disk: Vec<u64>,
    call: Vec<u64>,
    backlog: Option<backlog::Backlog>,
}

/// Measures, prints the tables, and writes them.
pub(crate) fn run(mq: &Mq) -> Result<(), Failure> {
    std::fs::create_dir_all(&mq.directory)?;
    process::allow_many_sockets()?;
    let directory = std::fs::canonicalize(&mq.directory)?;
    let rounds = mq.rounds.map_or(if mq.quick { 1 } else { 5 }, NonZeroUsize::get);
    let length = Duration::from_millis(if mq.quick { 800 } else { 2500 });
    let wanted = |part: &str| mq.parts.is_empty() || mq.parts.iter().any(|wanted| wanted == part);
    let mut results = Results::default();
    if wanted("engine") {
        measure_engine(&directory, rounds, length, &mut results)?;
    }
    // The rest is of two processes, each on a CPU of its own.
    let (home, client_cpu) = (Home { directory, cpu: mq.server_cpu }, usize::from(mq.server_cpu == 0));
    process::pin(client_cpu)?;
    let mut candidates = vec![
        candidate::<ms::Ms>(),
        candidate::<gmq::Gmq>(),
        candidate::<redis::Redis>(),
        candidate::<nats::Nats>(),
        candidate::<beanstalkd::Beanstalkd>(),
    ];
    candidates.retain(|it| mq.only.is_empty() || mq.only.iter().any(|name| it.name.starts_with(name.as_str())));
    let loads = LOADS.into_iter().filter(|load| wanted(load.part()));
    for (load, candidate) in loads.flat_map(|load| candidates.iter().map(move |candidate| (load, candidate))) {
        results.loads.push(Loaded { name: candidate.name, load, seen: Vec::new(), failure: None });
    }
    for round in 0..rounds {
        for Loaded { name, load, seen, failure: missing } in &mut results.loads {
            let Some(candidate) = candidates.iter().find(|it| it.name == *name) else { continue };
            eprintln!("round {round}: {name}, {load:?}");
            match block_on((candidate.run)(home.clone(), *load, length)) {
                Ok(one) => seen.push(one),
                Err(failure) => {
                    eprintln!("  {failure}");
                    *missing = Some(failure.to_string());
                }
            }
        }
        if wanted("paced") {
            let count = (length.as_micros() / PACE.as_micros()) as u32;
            results.disk.extend(floor::paced(&home, BODIES[0], count, PACE)?);
            results.call.extend(block_on(ms::paced_calls(home.clone(), count, PACE))?);
        }
    }
    if wanted("backlog") {
        let place = tempfile::tempdir_in(&home.directory)?;
        let home = Home { directory: place.path().to_owned(), ..home };
        let messages = if mq.quick { 100_000 } else { 1_000_000 };
        results.backlog = Some(block_on(backlog::measure(&home, messages, BODIES[0]))?);
    }
    let clients = origin::clients(&["redis", "async-nats", "beanstalkc"]);
    let programs = report::programs();
    let tables = report::tables(&results);
    let measured =
        format!("{}{clients}{programs}\n{}\n{tables}", origin::describe()?, report::notes(mq.server_cpu, client_cpu));
    println!("{measured}");
    marked::write(&mq.output, "Queues side by side", "mq", &measured)
}

fn measure_engine(directory: &Path, rounds: usize, length: Duration, results: &mut Results) -> Result<(), Failure> {
    for (body, outstanding) in BODIES.into_iter().flat_map(|body| OUTSTANDING.map(|outstanding| (body, outstanding))) {
        results.engine.push(Beside { body, outstanding, floor: Vec::new(), engine: Vec::new() });
    }
    for round in 0..rounds {
        for Beside { body, outstanding, floor, engine } in &mut results.engine {
            eprintln!("round {round}: engine, {outstanding} outstanding of {body} bytes");
            let before = floor::rate(directory, *outstanding, *body, length / 2)?;
            engine.push(engine::push(directory, *outstanding, *body, length)?);
            let after = floor::rate(directory, *outstanding, *body, length / 2)?;
            floor.push((before * after).sqrt());
        }
    }
    Ok(())
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = process::runtime(NonZeroUsize::MIN)?;
    let done = runtime.block_on(future);
    runtime.shutdown_background();
    done
}
