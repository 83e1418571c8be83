use std::{sync::OnceLock, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use ms_rpc::{Client, Status};
use tokio::time::{Instant, sleep, timeout};

use super::scene::{client, finding, listed_by_hand, must_be_called};
use crate::{Ended, Failure, Load, NodeOptions, NodeProgram, Row, ShopClient};

/// How many calls the server lets be in flight, and how long each takes.
const PERMITS: usize = 50;
const PAUSE: Duration = Duration::from_millis(10);
/// How much more is offered than the server can do.
const EXCESS: u32 = 10;
/// Calls a second that are never tried again, to see how soon a refusal comes.
const PROBES: u32 = 200;

/// Ten times as many calls are offered for `length` as a server can do.
///
/// # Errors
/// What broke in the harness.
pub async fn overload(program: &NodeProgram, length: Duration) -> Result<Row, Failure> {
    let options = NodeOptions { permits: Some(PERMITS), pause: PAUSE, ..NodeOptions::default() };
    let nodes = [program.start(options).await?];
    let address = nodes[0].address();
    let shop = client(&listed_by_hand(&nodes).await?)?;
    must_be_called(&shop, address).await?;
    let single = ShopClient::new(Client::connect(&address.to_string()).await?);
    let capacity = capacity(&single, length / 2).await?;

    let retries = Retries::counted_from_now()?;
    let (probes, load) = (probing(&single), finding(&shop, EXCESS * capacity as u32));
    sleep(length).await;
    let (load, probes) = (load.stop().await?, probes.stop().await?);
    let retries = retries.count();

    let mut row =
        Row::new(format!("{EXCESS} times as many calls as {PERMITS} permits of {PAUSE:?} allow, for {length:?}"));
    let (succeeded, offered) = (load.calls() - load.failures(), load.rate());
    let goodput = (succeeded + probes.calls() - probes.failures()) as f64 * offered / load.calls() as f64;
    let share = 100.0 * goodput / capacity;
    row.figure("goodput: 90 % of capacity", format!("goodput: {share:.1} % of {capacity:.0} calls/s"), share >= 90.0);
    let is_refused = |call: &Ended| call.result.is_err();
    row.speed("a refusal comes after (p99)", probes.quantile_of(0.99, is_refused), Duration::from_millis(5));
    let attempts = 1.0 + retries as f64 / load.calls() as f64;
    // What is saved up of the budget comes on top of its tenth of the calls.
    let met = (100.0 * attempts).round() <= 110.0;
    row.figure("attempts a call: at most 1.1", format!("attempts a call: {attempts:.4}"), met);
    row.note(format!("{} calls at {offered:.0}/s, {} refused in the end", load.calls(), load.failures()));
    row.failures(&load);
    Ok(row)
}

/// Calls a second that are answered while all permits are taken.
async fn capacity(shop: &ShopClient, length: Duration) -> Result<f64, Failure> {
    let begin = Instant::now();
    let workers = (0..PERMITS).map(|_| async {
        let mut answered = 0u64;
        while begin.elapsed() < length {
            shop.find(answered).await?;
            answered += 1;
        }
        Ok::<_, Status>(answered)
    });
    let answered = timeout(10 * length, futures_util::future::try_join_all(workers)).await??;
    Ok(answered.iter().sum::<u64>() as f64 / begin.elapsed().as_secs_f64())
}

/// How often the framework tries a call again, by its own count.
#[derive(Debug)]
struct Retries(&'static Snapshotter);

impl Retries {
    fn counted_from_now() -> Result<Self, Failure> {
        /// A program has one recorder.
        static SNAPSHOTTER: OnceLock<Snapshotter> = OnceLock::new();
        let snapshotter = match SNAPSHOTTER.get() {
            Some(known) => known,
            None => {
                let recorder = DebuggingRecorder::new();
                let snapshotter = recorder.snapshotter();
                recorder.install()?;
                SNAPSHOTTER.get_or_init(|| snapshotter)
            }
        };
        snapshotter.snapshot();
        Ok(Self(snapshotter))
    }

    /// A snapshot counts from the one before.
    fn count(&self) -> u64 {
        let counters = self.0.snapshot().into_vec().into_iter();
        let retries = counters.filter(|(key, ..)| key.key().name() == "ms_rpc_retries_total");
        retries.map(|(.., value)| if let DebugValue::Counter(count) = value { count } else { 0 }).sum()
    }
}

/// Calls over one connection, each of them one attempt.
fn probing(shop: &ShopClient) -> Load {
    finding(shop, PROBES)
}
