//! `ms mq consume`.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Args;
use ms_mq::{ConsumerOptions, DEFAULT_QUEUE, Delivery, Extensions, MqClient, QueueError};
use ms_rpc::SecondSignal;
use serde_json::{Map, Value};
use tokio::{io::AsyncWriteExt, process::Command, sync::Notify};

use crate::{exit::Failure, output::put_bytes, signals, times};

#[derive(Args, Debug)]
pub(crate) struct ConsumeArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Commands that run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Time until a message that failed comes again, doubling with each failure.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = times::parse)]
    backoff: Duration,
    /// Upper bound of that time.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = times::parse)]
    longest_backoff: Duration,
    /// Ends when this many commands have succeeded, and those that run by then have ended. Default: never.
    #[arg(long)]
    count: Option<u64>,
    /// Time for commands that run when a signal comes; then they are killed, and their messages come again.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = times::parse)]
    stop_within: Duration,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) async fn run(client: &MqClient, args: ConsumeArgs) -> Result<(), Failure> {
    let signal = signals::end();
    let program = args.command.first().map(String::as_str).unwrap_or_default();
    // Without the command every message would become a dead letter.
    check_program(program, env::var_os("PATH").as_deref())?;
    // A cluster that cannot be reached is told at once; a topic that does not exist yet is waited for.
    let node = client.one(None).await?;
    if let Err(error @ QueueError::Status(_)) = node.stats(Some(args.topic.clone()), Extensions::default()).await {
        return Err(error.into());
    }
    let options = ConsumerOptions {
        concurrency: args.concurrency.into(),
        // Others may run commands meanwhile: none is popped ahead.
        prefetch: args.concurrency.into(),
        backoff: args.backoff,
        longest_backoff: args.longest_backoff,
        ..ConsumerOptions::default()
    };
    let (job, succeeded, enough) = (Arc::new(Job::new(&args)), Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (wanted, done) = (args.count.unwrap_or(u64::MAX).max(1), enough.clone());
    let consumer = client.consume(&args.topic, &args.queue, options, move |delivery| {
        let (job, succeeded, done) = (job.clone(), succeeded.clone(), done.clone());
        async move {
            job.run(&delivery).await?;
            if succeeded.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
                done.notify_one();
            }
            Ok::<_, String>(())
        }
    });
    tokio::select! {
        second = signal => {
            let stop = consumer.stop(args.stop_within);
            tokio::select! {
                _ = stop => {}
                () = second.wait() => {}
            }
        }
        () = enough.notified() => drop(consumer.stop(args.stop_within).await),
    }
    Ok(())
}

/// Refuses a command that cannot be started: as a shell does it, in the directories of `paths` unless it has a slash.
fn check_program(program: &str, paths: Option<&OsStr>) -> Result<(), Failure> {
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let found = match program.contains('/') {
        true => is_program(Path::new(program)),
        false => env::split_paths(paths.unwrap_or_default()).any(|directory| is_program(&directory.join(program))),
    };
    if found { Ok(()) } else { Err(Failure::Usage(format!("{program}: there is no such program"))) }
}

/// The command of each message.
struct Job {
    program: String,
    arguments: Vec<String>,
    topic: String,
    queue: String,
}

impl Job {
    fn new(args: &ConsumeArgs) -> Self {
        let (program, arguments) = args
            .command
            .split_first()
            .map_or_else(Default::default, |(program, arguments)| (program.clone(), arguments.to_vec()));
        Self { program, arguments, topic: args.topic.clone(), queue: args.queue.clone() }
    }

    /// Runs the command; dropped, it kills it.
    async fn run(&self, delivery: &Delivery) -> Result<(), String> {
        let mut headers = Map::new();
        delivery.headers.iter().for_each(|(key, value)| put_bytes(&mut headers, key, value));
        let started = Command::new(&self.program)
            .args(&self.arguments)
            .env("MS_MQ_ID", delivery.id.to_string())
            .env("MS_MQ_TOPIC", &self.topic)
            .env("MS_MQ_QUEUE", &self.queue)
            .env("MS_MQ_RETRIES", delivery.retries.to_string())
            .env("MS_MQ_HEADERS", Value::from(headers).to_string())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", self.program))?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command need not read its stdin.
                let _ = stdin.write_all(&delivery.body).await;
            }
        };
        let (status, ()) = tokio::join!(child.wait(), feed);
        let status = status.map_err(|error| format!("{}: {error}", self.program))?;
        if status.success() { Ok(()) } else { Err(self.reason(status)) }
    }

    fn reason(&self, status: ExitStatus) -> String {
        format!("{} ended with {status}", self.program)
    }
}
