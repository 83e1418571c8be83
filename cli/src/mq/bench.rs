//! `ms mq bench`.

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;
use ms_mq::{MqClient, Pop, Push};
use tokio::task::JoinSet;

use crate::{
    exit::Failure,
    output::{Output, row},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Messages.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Bytes of each body.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Pushes, and then consumers, at a time.
    #[arg(long, default_value_t = 64)]
    concurrency: u64,
    /// A topic that nothing else uses.
    #[arg(long, default_value = "ms-bench")]
    topic: String,
}

/// Each message is pushed, durably, then popped and acked by itself.
pub(super) async fn run(client: &MqClient, args: &BenchArgs, output: &Output) -> Result<(), Failure> {
    let concurrency = args.concurrency.max(1);
    let each = args.count.div_ceil(concurrency);
    let begin = Instant::now();
    let mut pushers = JoinSet::new();
    for _ in 0..concurrency {
        let (client, args) = (client.clone(), args.clone());
        pushers.spawn(async move {
            for _ in 0..each {
                client.push(Push::new(args.topic.as_str(), vec![7; args.size])).await?;
            }
            Ok::<_, ms_mq::QueueError>(())
        });
    }
    while let Some(pushed) = pushers.join_next().await {
        pushed.map_err(io::Error::from)??;
    }
    report("pushed", each * concurrency, begin.elapsed(), output)?;

    let begin = Instant::now();
    let mut poppers = JoinSet::new();
    for _ in 0..concurrency {
        let (client, wish) = (client.clone(), Pop::new(args.topic.as_str(), ms_mq::DEFAULT_QUEUE));
        poppers.spawn(async move {
            let mut count = 0;
            while let Some(receipt) = client.pop(&wish).await?.pop().and_then(|delivery| delivery.receipt) {
                client.ack(receipt).await?;
                count += 1;
            }
            Ok::<u64, ms_mq::QueueError>(count)
        });
    }
    let mut count = 0;
    while let Some(popped) = poppers.join_next().await {
        count += popped.map_err(io::Error::from)??;
    }
    report("popped and acked", count, begin.elapsed(), output)
}

fn report(what: &str, count: u64, took: Duration, output: &Output) -> Result<(), Failure> {
    let rate = count as f64 / took.as_secs_f64();
    let row = row! { "what": what, "count": count, "seconds": took.as_secs_f64(), "per_second": rate };
    output.line(&format!("{count} {what} in {took:.2?}: {rate:.0} a second"), &row)
}
