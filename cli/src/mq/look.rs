//! `ms mq peek`, `get`, `list`, `move`, `copy`, `cancel`, `reschedule`, `prioritize` and `stats`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use ms_mq::{DEFAULT_QUEUE, MessageId, MessageInfo, MqClient, QueueName, QueueStats, TopicStats, Which};
use serde_json::{Map, Value};

use crate::{
    exit::Failure,
    output::{Output, put_bytes, put_headers, row},
    times,
};

#[derive(Args, Debug)]
pub(crate) struct PeekArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Messages of each node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    topic: String,
    id: MessageId,
    #[arg(long, default_value = DEFAULT_QUEUE)]
    queue: String,
}

#[derive(Args, Debug)]
pub(crate) struct TransferArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// The other queue, which must be there.
    #[arg(long, value_name = "QUEUE")]
    to: String,
    /// Topic of the other queue. Default: the same.
    #[arg(long, value_name = "TOPIC")]
    to_topic: Option<String>,
    /// Dead letters, which are ready there. Default: messages that are ready, delayed or held.
    #[arg(long, conflicts_with = "id")]
    dead: bool,
    /// One message, dead letter or not; may be given several times.
    #[arg(long)]
    id: Vec<MessageId>,
}

#[derive(Args, Debug)]
pub(crate) struct RescheduleArgs {
    topic: String,
    id: MessageId,
    #[arg(long, default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Date when it is delivered, such as 2027-01-31T08:00:00Z, within 366 days; in the past: at once.
    #[arg(long, value_name = "DATE", value_parser = times::date, required_unless_present = "delay", conflicts_with = "delay")]
    due: Option<u64>,
    /// Time from now until it is delivered.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    delay: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct PrioritizeArgs {
    topic: String,
    id: MessageId,
    /// 0 to 255: higher ones are delivered first.
    priority: u8,
    #[arg(long, default_value = DEFAULT_QUEUE)]
    queue: String,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Messages of each node.
    #[arg(long, default_value_t = 100)]
    max: usize,
}

pub(super) async fn peek(client: &MqClient, args: &PeekArgs, output: &Output) -> Result<(), Failure> {
    let found = client.peek(&args.topic, &args.queue, args.max).await?;
    let rows: Vec<_> = found.iter().flat_map(|(_, messages)| messages).map(message).collect();
    if rows.is_empty() {
        return Err(Failure::Empty("no message is ready".to_owned()));
    }
    output.rows(&["id", "retries", "priority", "body"], &rows)
}

pub(super) async fn get(client: &MqClient, args: &GetArgs, output: &Output) -> Result<(), Failure> {
    let found = client.get(&args.topic, &args.queue, args.id).await?;
    if output.is_json() {
        return output.rows(&[], &[message(&found)]);
    }
    output.bytes(&[found.body.as_deref().unwrap_or_default()])
}

pub(super) async fn list(client: &MqClient, args: &ListArgs, output: &Output) -> Result<(), Failure> {
    let found = client.list(&args.topic, &args.queue, args.max, false).await?;
    let rows: Vec<_> = found.iter().flat_map(|(_, messages)| messages).map(message).collect();
    output.rows(&["id", "state", "due_ms", "retries", "priority"], &rows)
}

pub(super) async fn transfer(
    client: &MqClient,
    args: TransferArgs,
    copy: bool,
    output: &Output,
) -> Result<(), Failure> {
    let to = QueueName::new(args.to_topic.as_deref().unwrap_or(&args.topic), args.to);
    let from = QueueName::new(args.topic, args.queue);
    let which = match (args.dead, args.id) {
        (true, _) => Which::Dead,
        (false, ids) if ids.is_empty() => Which::Waiting,
        (false, ids) => Which::Ids(ids),
    };
    if copy {
        let copied = client.copy_messages(&from, &to, &which).await?;
        return output.line(&copied.to_string(), &row! { "copied": copied });
    }
    let moved = client.move_messages(&from, &to, &which).await?;
    output.line(&moved.to_string(), &row! { "moved": moved })
}

pub(super) async fn cancel(client: &MqClient, args: &GetArgs) -> Result<(), Failure> {
    Ok(client.cancel(&args.topic, &args.queue, args.id).await?)
}

pub(super) async fn reschedule(client: &MqClient, args: &RescheduleArgs) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let due = args.due.unwrap_or_else(|| times::millis(now.saturating_add(args.delay.unwrap_or_default())));
    Ok(client.reschedule(&args.topic, &args.queue, args.id, due).await?)
}

pub(super) async fn prioritize(client: &MqClient, args: &PrioritizeArgs) -> Result<(), Failure> {
    Ok(client.reprioritize(&args.topic, &args.queue, args.id, args.priority).await?)
}

/// A message as an object: the body and headers only if the node sent them.
pub(super) fn message(info: &MessageInfo) -> Map<String, Value> {
    let mut row = row! {
        "id": info.id.to_string(),
        "node": info.id.node().get(),
        "state": info.state.as_str(),
        "due_ms": info.due_ms,
        "retries": info.retries,
        "priority": info.priority,
        "ttr_ms": info.ttr_ms(),
        "expires_ms": info.expires_ms(),
        "group": info.group.as_deref(),
    };
    if let Some(reason) = &info.reason {
        row.insert("reason".to_owned(), reason.as_str().into());
    }
    if let Some(body) = &info.body {
        put_headers(&mut row, info.headers.iter().map(|(key, value)| (key.as_str(), &value[..])));
        put_bytes(&mut row, "body", body);
    }
    row
}

pub(super) async fn stats(client: &MqClient, topic: Option<&str>, output: &Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (node, topics) in client.stats(topic).await? {
        for topic in topics {
            rows.extend(topic.queues.iter().map(|queue| queue_row(node.id().into(), &topic, queue)));
        }
    }
    output.rows(&STATS, &rows)
}

/// Columns of `stats`.
const STATS: [&str; 15] = [
    "node",
    "topic",
    "queue",
    "ready",
    "delayed",
    "held",
    "leased",
    "dead",
    "pushed",
    "popped",
    "acked",
    "failed",
    "died",
    "oldest_ms",
    "paused",
];

/// A queue as it stands on a node, and the settings of its topic.
pub(super) fn queue_row(node: Value, topic: &TopicStats, queue: &QueueStats) -> Map<String, Value> {
    row! {
        "node": node,
        "topic": topic.topic.as_str(),
        "queue": queue.queue.as_str(),
        "ready": queue.ready,
        "delayed": queue.delayed,
        "held": queue.held,
        "leased": queue.leased,
        "dead": queue.dead,
        "pushed": queue.pushed,
        "popped": queue.popped,
        "acked": queue.acked,
        "failed": queue.failed,
        "died": queue.died,
        "outlived": queue.outlived,
        "dropped": queue.dropped,
        "oldest_ms": queue.oldest_ms,
        "paused": queue.paused,
        "settings": topic.settings_as_json(),
    }
}
