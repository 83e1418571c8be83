//! `ms mq configure`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ms_mq::{Mode, MqClient, Rate, Settings};

use crate::{exit::Failure, times};

#[derive(Args, Debug)]
pub(crate) struct ConfigureArgs {
    topic: String,
    /// How route keys select queues: by an equal bind key, or as a regular expression over bind keys. Default: exact.
    #[arg(long)]
    mode: Option<ModeName>,
    /// Messages are done when they are delivered: at most once. Default: false.
    #[arg(long, value_name = "BOOL")]
    auto_ack: Option<bool>,
    /// Length of a lease. Default: 30s.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    ttr: Option<Duration>,
    /// Deliveries after the first; a message that fails them all is dead. Default: 5.
    #[arg(long, value_name = "COUNT")]
    max_retries: Option<u16>,
    /// Ready, delayed and leased messages of one queue on one node; pushes beyond are refused. Default: no limit.
    #[arg(long, value_name = "COUNT")]
    max_length: Option<u64>,
    /// Time for which a dedup key counts, at most 24h. Default: 10m.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    dedup_window: Option<Duration>,
    /// Dead letters of one queue on one node; the oldest beyond them are dropped. Default: 100000.
    #[arg(long, value_name = "COUNT")]
    max_dead: Option<u64>,
    /// Dead letters that have been dead for longer are dropped. Default: never.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    dead_age: Option<Duration>,
    /// Time to live of messages that are pushed without one; they are dead letters when it ends. Default: without end.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    ttl: Option<Duration>,
    /// Least time between a failed delivery and the next one: after the first failure, the second, and so on, such as 1s,10s,1m;
    /// the last one is repeated. `none` for no time. Default: none.
    #[arg(long, value_name = "TIMES", value_parser = backoff)]
    backoff: Option<Steps>,
    /// Messages of one queue that are leased at the same time on one node. Default: no limit.
    #[arg(long, value_name = "COUNT")]
    max_leased: Option<u64>,
    /// Deliveries of one queue on one node, as COUNT/TIME, such as 100/1s, at most a day. `none` for no limit. Default: none.
    #[arg(long, value_name = "COUNT/TIME", value_parser = rate)]
    rate: Option<Rate>,
}

/// Steps of a back-off, in milliseconds.
#[derive(Clone, Debug)]
struct Steps(Vec<u64>);

fn backoff(text: &str) -> Result<Steps, String> {
    if text == "none" {
        return Ok(Steps(Vec::new()));
    }
    text.split(',').map(|step| times::parse(step.trim()).map(times::millis)).collect::<Result<_, _>>().map(Steps)
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Rate::UNLIMITED);
    }
    let (messages, time) = text.split_once('/').ok_or("a rate is COUNT/TIME, such as 100/1s, or none")?;
    let messages = messages.parse().map_err(|_| format!("{messages:?} is no number of messages"))?;
    let per_ms = times::millis(times::parse(time)?);
    let per_ms = u32::try_from(per_ms).map_err(|_| "the time of a rate is at most a day".to_owned())?;
    Ok(Rate { messages, per_ms })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    Exact,
    Fuzzy,
}

pub(super) async fn configure(client: &MqClient, args: ConfigureArgs) -> Result<(), Failure> {
    let ConfigureArgs {
        topic,
        mode,
        auto_ack,
        ttr,
        max_retries,
        max_length,
        dedup_window,
        max_dead,
        dead_age,
        ttl,
        ..
    } = args;
    let settings = Settings {
        mode: mode.map(|mode| match mode {
            ModeName::Exact => Mode::Exact,
            ModeName::Fuzzy => Mode::Fuzzy,
        }),
        auto_ack,
        ttr_ms: ttr.map(times::millis),
        max_retries,
        max_length,
        dedup_window_ms: dedup_window.map(times::millis),
        max_dead,
        dead_age_ms: dead_age.map(times::millis),
        ttl_ms: ttl.map(times::millis),
        backoff_ms: args.backoff.map(|Steps(steps)| steps),
        max_leased: args.max_leased,
        rate: args.rate,
        ..Settings::default()
    };
    if settings == Settings::default() {
        return Err(Failure::Usage("nothing to change: give at least one setting, such as --ttr 1m".to_owned()));
    }
    Ok(client.configure(&topic, &settings).await?)
}
