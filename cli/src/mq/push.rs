//! `ms mq push`.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    time::Duration,
};

use clap::{Args, ValueEnum};
use ms_mq::{Durability, MessageId, MqClient, Push};
use tokio::sync::mpsc;

use crate::{
    exit::Failure,
    output::{Output, row},
    times,
};

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    topic: String,
    /// The body: a text, `-` for stdin, or `@FILE` for a file, byte for byte.
    #[arg(allow_hyphen_values = true)]
    body: String,
    /// The body is a text, also if it begins with `@` or is `-`.
    #[arg(long, conflicts_with = "lines")]
    literal: bool,
    /// Each line of the source is a message, without its line feed; empty lines are left out. They go in batches.
    #[arg(long, conflicts_with = "dedup")]
    lines: bool,
    /// Selects the queues by the topic's mode. Default: the queue `default`.
    #[arg(long, value_name = "KEY")]
    route_key: Option<String>,
    /// A header, KEY=VALUE; may be given several times.
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Time until the message is delivered, at most 366 days.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = times::parse)]
    delay: Duration,
    /// Date when the message is delivered, such as 2027-01-31T08:00:00Z, within 366 days; in the past: at once.
    #[arg(long, value_name = "DATE", value_parser = times::date)]
    due: Option<u64>,
    /// Time to live: a message that is not handled by then is a dead letter. Default: the topic's.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    ttl: Option<Duration>,
    /// Length of its leases. Default: the topic's.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    ttr: Option<Duration>,
    /// Higher ones are delivered first.
    #[arg(long, default_value_t = 0)]
    priority: u8,
    /// A second push with this key within the topic's window is the first one.
    #[arg(long, value_name = "KEY")]
    dedup: Option<String>,
    /// FIFO group: in each queue its messages are delivered one at a time, in their order.
    #[arg(long, value_name = "KEY")]
    group: Option<String>,
    /// State of the message when the push is answered.
    #[arg(long, default_value = "synced")]
    durability: DurabilityName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityName {
    /// Synced to the disk: it survives a crash of the machine.
    Synced,
    /// Written: it survives a crash of the process.
    Written,
    /// In memory: any crash may lose it.
    Queued,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a header is KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key of a header is empty".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(client: &MqClient, args: PushArgs, output: &Output) -> Result<(), Failure> {
    let source = Source::of(&args)?;
    if args.lines {
        return lines(client, &args, source, output).await;
    }
    let body = tokio::task::spawn_blocking(move || source.read_all()).await.map_err(io::Error::from)??;
    print(&[client.push(args.push(body)?).await?], output)
}

impl PushArgs {
    fn push(&self, body: Vec<u8>) -> Result<Push, Failure> {
        let durability = match self.durability {
            DurabilityName::Synced => Durability::Synced,
            DurabilityName::Written => Durability::Written,
            DurabilityName::Queued => Durability::Queued,
        };
        let too_long = |_| Failure::Usage("--ttr: at most 49 days".to_owned());
        let push = Push {
            route_key: self.route_key.clone(),
            delay_ms: times::millis(self.delay),
            ttr_ms: self.ttr.map(times::millis).map(u32::try_from).transpose().map_err(too_long)?,
            priority: self.priority,
            dedup: self.dedup.clone(),
            durability,
            headers: self.header.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes().into())).collect(),
            ..Push::new(self.topic.as_str(), body)
        };
        let push = self.due.into_iter().fold(push, Push::with_due_ms);
        let push = self.group.iter().fold(push, Push::with_group);
        Ok(self.ttl.map(times::millis).into_iter().fold(push, Push::with_ttl_ms))
    }
}

fn print(ids: &[MessageId], output: &Output) -> Result<(), Failure> {
    ids.iter().try_for_each(|id| output.line(&id.to_string(), &row! { "id": id.to_string(), "node": id.node().get() }))
}

/// Largest body, of one message and so of one line.
const LARGEST: usize = 1 << 20;

enum Source {
    Text(String),
    Stdin,
    File(String, File),
}

impl Source {
    fn of(args: &PushArgs) -> Result<Self, Failure> {
        match args.body.as_str() {
            text if args.literal => Ok(Self::Text(text.to_owned())),
            "-" => Ok(Self::Stdin),
            // A body may begin with a hyphen; a misspelt option must not become one.
            text if text.starts_with("--") && !env::args().any(|arg| arg == "--") => Err(Failure::Usage(format!(
                "{text} is no option of `push`; a body that begins with `--` goes behind `--`, or has `--literal`"
            ))),
            text => match text.strip_prefix('@') {
                Some(path) => match File::open(path) {
                    Ok(file) => Ok(Self::File(path.to_owned(), file)),
                    Err(error) => Err(Failure::Usage(format!("{path}: {error}"))),
                },
                None => Ok(Self::Text(text.to_owned())),
            },
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Text(_) => "the body".to_owned(),
            Self::Stdin => "stdin".to_owned(),
            Self::File(path, _) => path.clone(),
        }
    }

    fn reader(self) -> Box<dyn BufRead + Send> {
        match self {
            Self::Text(text) => Box::new(io::Cursor::new(text)),
            Self::Stdin => Box::new(BufReader::new(io::stdin())),
            Self::File(_, file) => Box::new(BufReader::new(file)),
        }
    }

    /// The node refuses what is too large, so no more than that is read.
    fn read_all(self) -> Result<Vec<u8>, Failure> {
        let (name, mut body) = (self.name(), Vec::new());
        let read = self.reader().take(LARGEST as u64 + 1).read_to_end(&mut body);
        read.map_err(|error| Failure::Other(format!("{name}: {error}")))?;
        if body.len() > LARGEST {
            return Err(Failure::Refused(format!("{name} has more than {LARGEST} bytes, the largest body")));
        }
        Ok(body)
    }
}

/// Messages and bytes of one batch.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// A line and its number, from 1.
type Line = Result<(u64, Vec<u8>), Failure>;

/// Pushes lines as they come: those that have come meanwhile make the next batch.
async fn lines(client: &MqClient, args: &PushArgs, source: Source, output: &Output) -> Result<(), Failure> {
    let (sender, mut come) = mpsc::channel(2 * BATCH);
    let reading = tokio::task::spawn_blocking(move || read_lines(source, &sender));
    let mut taken: Vec<Line> = Vec::new();
    while come.recv_many(&mut taken, BATCH).await > 0 {
        let mut left = taken.drain(..).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
        while let Some((first, line)) = left.next() {
            let (mut bytes, mut last) = (line.len(), first);
            let mut batch = vec![args.push(line)?];
            while let Some((number, line)) = left.next_if(|(_, line)| bytes + line.len() <= BATCH_BYTES) {
                bytes += line.len();
                last = number;
                batch.push(args.push(line)?);
            }
            let pushed = client.push_batch(batch).await;
            let ids = pushed.map_err(|error| Failure::from(error).about(format!("lines {first} to {last}")))?;
            print(&ids, output)?;
        }
    }
    Ok(reading.await.map_err(io::Error::from)?)
}

fn read_lines(source: Source, lines: &mpsc::Sender<Line>) {
    let name = source.name();
    let mut reader = source.reader();
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LARGEST as u64 + 2).read_until(b'\n', &mut line);
        let line = match read {
            Err(error) => Err(Failure::Other(format!("{name}: {error}"))),
            Ok(0) => return,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                match line.len() {
                    0 => continue,
                    1..=LARGEST => Ok((number, line)),
                    _ => Err(Failure::Refused(format!(
                        "line {number} of {name} has more than {LARGEST} bytes, the largest body"
                    ))),
                }
            }
        };
        let is_last = line.is_err();
        // An error: the push failed, and no more lines are wanted.
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}
