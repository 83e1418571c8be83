//! `ms mq export` and `import`: messages as lines of JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use futures_util::{StreamExt, stream};
use ms_mq::{DEFAULT_QUEUE, MessageId, MessageInfo, Mode, MqClient, MqError, Push, QueueError};
use ms_rpc::{Blob, Outcome};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    exit::Failure,
    output::{Output, row},
    signals,
};

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Only messages above this id: an export that was cut off goes on after its last line.
    #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true)]
    after: MessageId,
    /// Dead letters alone. Default: all messages but dead letters.
    #[arg(long)]
    dead: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A file of lines that `export` wrote, or `-` for stdin.
    source: PathBuf,
    /// Topic for all messages. Default: that of each line.
    #[arg(long)]
    topic: Option<String>,
    /// Queue for all messages. Default: that of each line, or `default`.
    #[arg(long)]
    queue: Option<String>,
    /// First line, from 1: an import that stopped says where it goes on.
    #[arg(long, value_name = "LINE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Pushes each message with its old id as dedup key: within the topic's dedup window, a line that was imported before
    /// makes no second message.
    #[arg(long)]
    dedup: bool,
}

/// One message as a line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// When it is due, or died, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_ms: Option<u64>,
    priority: u8,
    retries: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttr_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The key of its FIFO group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Bytes as text, or in base64 if they are no UTF-8.
fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes(what: &str, text: Option<String>, base64: Option<String>) -> Result<Blob, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes().into()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(format!("{what}_base64: {error}")),
        },
        (Some(_), Some(_)) => Err(format!("it has both {what} and {what}_base64")),
        (None, None) => Err(format!("it has neither {what} nor {what}_base64")),
    }
}

impl Line {
    fn of(args: &ExportArgs, info: MessageInfo) -> Self {
        let header = |(key, value): &(String, Blob)| {
            let (value, value_base64) = text_or_base64(value);
            Header { key: key.clone(), value, value_base64 }
        };
        let (body, body_base64) = text_or_base64(info.body.as_deref().unwrap_or_default());
        Self {
            topic: Some(args.topic.clone()),
            queue: Some(args.queue.clone()),
            id: Some(info.id.to_string()),
            due_ms: Some(info.due_ms),
            priority: info.priority,
            retries: info.retries,
            ttr_ms: info.ttr_ms(),
            expires_ms: info.expires_ms(),
            headers: info.headers.iter().map(header).collect(),
            state: Some(info.state),
            reason: info.reason,
            group: info.group,
            body,
            body_base64,
        }
    }
}

/// Messages that are read at a time.
const READS: usize = 32;

/// Writes the messages of all nodes, by id: what is pushed or removed meanwhile may be there or not.
pub(super) async fn export(client: &MqClient, args: &ExportArgs, output: &Output) -> Result<(), Failure> {
    let mut after = args.after;
    loop {
        let page = client.page(&args.topic, &args.queue, after, args.dead).await;
        let page = page.map_err(|error| stopped(error, after))?;
        let Some(end) = page.last().map(|last| last.id) else { return Ok(()) };
        // The list shows dead letters too.
        let wanted = page.into_iter().filter(|message| args.dead || message.state != "dead");
        let read = |info: MessageInfo| async move { (info.id, client.get(&args.topic, &args.queue, info.id).await) };
        let mut found = stream::iter(wanted.map(read)).buffered(READS);
        while let Some((id, message)) = found.next().await {
            match message {
                Ok(message) => output.object(&Line::of(args, message))?,
                // Acked meanwhile.
                Err(QueueError::Service(MqError::NoMessage(_))) => {}
                Err(error) => return Err(stopped(error, after)),
            }
            after = id;
        }
        after = end;
    }
}

fn stopped(error: QueueError, after: MessageId) -> Failure {
    Failure::from(error).about(format!("the export stopped: go on with --after {after}"))
}

/// Messages and bytes of one batch.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;
/// Longest line: the largest body, each byte of it escaped, and headers.
const LONGEST_LINE: u64 = 16 << 20;

/// Line of the source, with its number.
type Numbered = (u64, Result<Vec<u8>, String>);

/// Pushes the messages of lines in batches, and says where it stopped if it does not come to the end.
pub(super) async fn import(client: &MqClient, args: ImportArgs, output: &Output) -> Result<(), Failure> {
    let source: Box<dyn BufRead + Send> = if args.source.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(&args.source);
        Box::new(BufReader::new(file.map_err(|error| Failure::Usage(format!("{}: {error}", args.source.display())))?))
    };
    let (sender, mut lines) = mpsc::channel(2 * BATCH);
    let from_line = args.from_line;
    std::thread::spawn(move || read_lines(source, from_line, &sender));
    let mut import = Import { client, args, modes: BTreeMap::new(), declared: BTreeSet::new(), done: Done::default() };
    import.done.next = from_line;
    let mut signal = std::pin::pin!(signals::end());
    let (mut batch, mut taken) = (Batch::default(), Vec::new());
    loop {
        let come = tokio::select! {
            come = lines.recv_many(&mut taken, BATCH) => come,
            _ = &mut signal => return Err(import.stopped_at(import.done.next, "a signal".to_owned(), Failure::Other)),
        };
        for (number, line) in taken.drain(..) {
            let line = line.map_err(|reason| (number, reason));
            match line.and_then(|line| parse(&line).map_err(|reason| (number, reason))) {
                Ok(line) => import.add(&mut batch, number, line).await?,
                Err((number, reason)) => {
                    import.push(&mut batch).await?;
                    return Err(import.stopped_at(number, reason, Failure::Refused));
                }
            }
        }
        import.push(&mut batch).await?;
        if come == 0 {
            break;
        }
    }
    let Done { imported, expired, .. } = import.done;
    let text = format!("{imported} imported, {expired} left out because their time to live has ended");
    output.line(&text, &row! { "imported": imported, "expired": expired })
}

fn read_lines(mut source: Box<dyn BufRead + Send>, from: u64, lines: &mpsc::Sender<Numbered>) {
    for number in 1.. {
        let mut line = Vec::new();
        let read = source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(read) if read as u64 == LONGEST_LINE => Err(format!("it is longer than {LONGEST_LINE} bytes")),
            Ok(_) => Ok(line),
            Err(error) => Err(error.to_string()),
        };
        let is_last = line.is_err();
        let wanted = is_last || (number >= from && line.as_ref().is_ok_and(|line| !line.trim_ascii().is_empty()));
        if (wanted && lines.blocking_send((number, line)).is_err()) || is_last {
            return;
        }
    }
}

fn parse(line: &[u8]) -> Result<Line, String> {
    serde_json::from_slice(line).map_err(|error| format!("it is no message: {error}"))
}

#[derive(Debug, Default)]
struct Batch {
    pushes: Vec<Push>,
    bytes: usize,
    first: u64,
    last: u64,
}

#[derive(Debug, Default)]
struct Done {
    imported: u64,
    expired: u64,
    /// First line that is not done.
    next: u64,
}

struct Import<'a> {
    client: &'a MqClient,
    args: ImportArgs,
    /// Modes of the topics.
    modes: BTreeMap<String, Mode>,
    declared: BTreeSet<(String, String)>,
    done: Done,
}

impl Import<'_> {
    /// Adds a line to the batch, which is pushed first if it is full.
    async fn add(&mut self, batch: &mut Batch, number: u64, line: Line) -> Result<(), Failure> {
        let push = match self.prepare(line).await {
            Ok(push) => push,
            Err(failure) => {
                self.push(batch).await?;
                let text = failure.to_string();
                return Err(self.stopped_at(number, text, |text| failure.with_text(text)));
            }
        };
        let Some(push) = push else {
            self.done.expired += 1;
            batch.last = number;
            return Ok(());
        };
        if batch.pushes.len() >= BATCH || batch.bytes + push.body.len() > BATCH_BYTES {
            self.push(batch).await?;
        }
        if batch.pushes.is_empty() {
            batch.first = number;
        }
        batch.last = number;
        batch.bytes += push.body.len();
        batch.pushes.push(push);
        Ok(())
    }

    /// The push of a line; `None` if the message's time to live has ended.
    async fn prepare(&mut self, line: Line) -> Result<Option<Push>, Failure> {
        let refused = Failure::Refused;
        let topic = self.args.topic.clone().or(line.topic);
        let topic = topic.ok_or_else(|| refused("it has no topic: name one with --topic".to_owned()))?;
        let queue = self.args.queue.clone().or(line.queue).unwrap_or_else(|| DEFAULT_QUEUE.to_owned());
        let body = bytes("body", line.body, line.body_base64).map_err(refused)?;
        let headers = line.headers.into_iter().map(|header| {
            let value = bytes("value", header.value, header.value_base64);
            value.map(|value| (header.key, value)).map_err(|error| refused(format!("a header: {error}")))
        });
        let ttr_ms = line.ttr_ms.map(u32::try_from).transpose();
        let mut push = Push {
            route_key: self.route_key(&topic, &queue).await?,
            priority: line.priority,
            ttr_ms: ttr_ms.map_err(|_| refused("ttr_ms: at most 49 days".to_owned()))?,
            dedup: line.id.filter(|_| self.args.dedup).map(|id| format!("import:{id}")),
            headers: headers.collect::<Result<_, _>>()?,
            ..Push::new(topic, body)
        };
        if let Some(group) = line.group {
            push = push.with_group(group);
        }
        if let Some(due) = line.due_ms.filter(|_| line.state.as_deref() != Some("dead")) {
            push = push.with_due_ms(due);
        }
        // A dead letter begins anew, as when it is redriven.
        if let Some(end) = line.expires_ms.filter(|_| line.state.as_deref() != Some("dead")) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            match end.saturating_sub(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)) {
                0 => return Ok(None),
                left => push = push.with_ttl_ms(left),
            }
        }
        Ok(Some(push))
    }

    /// The route key that leads to one queue, which is made if it is not there. `None` for the queue `default`.
    async fn route_key(&mut self, topic: &str, queue: &str) -> Result<Option<String>, Failure> {
        if queue == DEFAULT_QUEUE {
            return Ok(None);
        }
        if self.declared.insert((topic.to_owned(), queue.to_owned())) {
            self.client.declare(topic, queue).await?;
        }
        if !self.modes.contains_key(topic) {
            let stats = self.client.stats(Some(topic)).await?;
            let mode = stats.iter().flat_map(|(_, topics)| topics).map(|topic| topic.mode).next().unwrap_or_default();
            self.modes.insert(topic.to_owned(), mode);
        }
        Ok(Some(match self.modes.get(topic) {
            Some(Mode::Fuzzy) => format!("^{}$", regex::escape(queue)),
            _ => queue.to_owned(),
        }))
    }

    /// Pushes the batch.
    async fn push(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let Batch { pushes, first, last, .. } = std::mem::take(batch);
        if !pushes.is_empty() {
            let count = pushes.len() as u64;
            if let Err(error) = self.client.push_batch(pushes).await {
                let unknown = matches!(&error, QueueError::Status(status) if status.outcome() == Outcome::Unknown);
                let doubt =
                    if unknown { format!("; lines {first} to {last} may have been imported") } else { String::new() };
                let failure = Failure::from(error);
                let text = format!("{failure}{doubt}");
                return Err(self.stopped_at(first, text, |text| failure.with_text(text)));
            }
            self.done.imported += count;
        }
        self.done.next = self.done.next.max(last + 1);
        Ok(())
    }

    fn stopped_at(&self, line: u64, reason: String, failure: impl FnOnce(String) -> Failure) -> Failure {
        let source = self.args.source.display();
        let done = self.done.imported;
        failure(format!(
            "the import of {source} stopped at line {line} after {done} messages: {reason}; go on with --from-line {line}"
        ))
    }
}
