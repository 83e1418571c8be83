//! `ms mq`: operations on the nodes of the queue.

mod bench;
mod consume;
mod dead;
mod look;
mod offline;
mod pop;
mod push;
mod settings;
mod settle;
mod top;
mod transfer;

use clap::{Args, Subcommand};
use ms_mq::{DEFAULT_QUEUE, MqClient, Selection};

use crate::{
    caller::CallerArgs,
    exit::Failure,
    output::{Output, row},
};

/// Text below the help of `ms mq`.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 2 wrong arguments, 3 no message, 4 a node refused, \
    5 no node or registry could be reached, 1 anything else.\n\
    On a terminal, lists are tables; elsewhere tab-separated lines with a header.";

/// A node with its default address.
const NODE: &str = "static://127.0.0.1:9503";

#[derive(Args, Debug)]
pub(crate) struct MqArgs {
    #[command(flatten)]
    caller: CallerArgs,
    /// One JSON object a line. Bodies and headers that are no UTF-8 are in base64, under `body_base64`.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: MqCommand,
}

#[derive(Debug, Subcommand)]
enum MqCommand {
    /// Makes a queue on every node; an existing queue stays as it is.
    #[command(after_help = "Example:\n  ms mq declare orders default")]
    Declare { topic: String, queue: String },
    /// Changes the settings of a topic on every node; what is not given stays as it is.
    #[command(after_help = "Example:\n  ms mq configure orders --ttr 2m --max-retries 10")]
    Configure(settings::ConfigureArgs),
    /// Pushes messages, and prints their ids.
    #[command(after_help = "Examples:\n  ms mq push orders 'order 17' --delay 10m -H tenant=blue\n  \
        ms mq push orders @photo.jpg\n  seq 1000 | ms mq push orders --lines -")]
    Push(push::PushArgs),
    /// Takes messages: bodies go to stdout byte for byte, their receipts to stderr.
    #[command(
        after_help = "Examples:\n  ms mq pop orders --wait 30s --ack > body\n  ms mq pop orders --json | jq -r .receipt"
    )]
    Pop(pop::PopArgs),
    /// Runs a command for each message: the body is its stdin, success is an ack, all else a nack.
    #[command(after_help = "Example:\n  ms mq consume orders --concurrency 4 -- ./handle-order --verbose\n\n\
        The command finds MS_MQ_ID, MS_MQ_TOPIC, MS_MQ_QUEUE, MS_MQ_RETRIES and MS_MQ_HEADERS (JSON) in its environment. \
        Leases are renewed while it runs; it is killed when its lease is lost. SIGTERM, SIGINT and SIGHUP end it.")]
    Consume(consume::ConsumeArgs),
    /// Acknowledges deliveries: their messages are done.
    #[command(after_help = "Example:\n  ms mq ack RECEIPT")]
    Ack(settle::AckArgs),
    /// Ends a delivery as failed: the message comes again, or is dead.
    #[command(after_help = "Example:\n  ms mq nack RECEIPT --delay 10m --reason 'no such customer'")]
    Nack(settle::NackArgs),
    /// Ends a delivery as failed for good: the message is a dead letter at once.
    #[command(after_help = "Example:\n  ms mq bury RECEIPT --reason 'it cannot be read'")]
    Bury(settle::BuryArgs),
    /// Renews a lease.
    #[command(after_help = "Example:\n  ms mq touch RECEIPT --lease 5m")]
    Touch(settle::TouchArgs),
    /// Gives deliveries back unhandled: their messages are ready at once, and no retry is counted.
    #[command(after_help = "Example:\n  ms mq return RECEIPT")]
    Return(settle::AckArgs),
    /// Shows the messages that would be delivered next; they stay where they are.
    #[command(after_help = "Example:\n  ms mq peek orders --max 3")]
    Peek(look::PeekArgs),
    /// Prints the body of one message, byte for byte; with `--json` all of the message.
    #[command(after_help = "Example:\n  ms mq get orders 1311806441676312576 > body")]
    Get(look::GetArgs),
    /// Lists the messages of a queue, without bodies.
    #[command(after_help = "Example:\n  ms mq list orders --max 100")]
    List(look::ListArgs),
    /// Dead letters: list, redrive, drop.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Stops the delivery of a queue's messages.
    #[command(after_help = "Example:\n  ms mq pause orders")]
    Pause(QueueArgs),
    /// Resumes the delivery of a queue's messages.
    #[command(after_help = "Example:\n  ms mq resume orders")]
    Resume(QueueArgs),
    /// Drops the ready, delayed and leased messages of a queue, and prints their number.
    #[command(after_help = "Example:\n  ms mq purge orders")]
    Purge(QueueArgs),
    /// Moves messages to another queue, on each node that has both, and prints their number; what is leased stays.
    #[command(after_help = "Examples:\n  ms mq move orders --to refunds\n  \
        ms mq move orders --dead --to default --to-topic replayed")]
    Move(look::TransferArgs),
    /// Copies messages to another queue, as new messages, and prints their number.
    #[command(after_help = "Example:\n  ms mq copy orders --to audit --id 1311806441676312576")]
    Copy(look::TransferArgs),
    /// Removes one message from a queue, whatever its state.
    #[command(after_help = "Example:\n  ms mq cancel orders 1311806441676312576")]
    Cancel(look::GetArgs),
    /// Gives a message that is ready or delayed another due time.
    #[command(after_help = "Examples:\n  ms mq reschedule orders 1311806441676312576 --delay 10m\n  \
        ms mq reschedule orders 1311806441676312576 --due 2027-01-31T08:00:00Z")]
    Reschedule(look::RescheduleArgs),
    /// Gives a message another priority.
    #[command(after_help = "Example:\n  ms mq prioritize orders 1311806441676312576 9")]
    Prioritize(look::PrioritizeArgs),
    /// Deletes a queue, or without one the topic, with all messages and dead letters.
    #[command(after_help = "Examples:\n  ms mq delete orders refunds\n  ms mq delete orders")]
    Delete { topic: String, queue: Option<String> },
    /// Shows the queues of a topic, or of all topics, on every node.
    #[command(after_help = "Example:\n  ms mq stats orders")]
    Stats { topic: Option<String> },
    /// Shows the rates of queues, summed over all nodes.
    #[command(after_help = "Examples:\n  ms mq top\n  ms mq top orders --once --interval 10s --json")]
    Top(top::TopArgs),
    /// Writes the messages of a queue as lines of JSON; they stay where they are.
    #[command(
        after_help = "Examples:\n  ms mq export orders > orders.ndjson\n  ms mq export orders --dead --after 1311806441676312576"
    )]
    Export(transfer::ExportArgs),
    /// Pushes messages that `export` wrote; they get new ids, and dead letters are ready again.
    #[command(
        after_help = "Examples:\n  ms mq import orders.ndjson\n  ms mq export orders | ms mq import --topic copies -"
    )]
    Import(transfer::ImportArgs),
    /// Makes a backup on every running node: `backups/NAME` in its directory, by hard links.
    #[command(
        after_help = "Example:\n  ms mq backup friday\n\nCopy the backup to another disk, and then remove it: until then \
        it keeps the space of messages that are done."
    )]
    Backup(offline::BackupArgs),
    /// Copies a backup to a new directory for a node.
    #[command(after_help = "Example:\n  ms mq restore /var/lib/mq/backups/friday /var/lib/mq-restored")]
    Restore(offline::RestoreArgs),
    /// Shows what is in the directory of a node that is stopped: segments, queues, damage. Changes nothing.
    #[command(after_help = "Example:\n  ms mq inspect /var/lib/mq")]
    Inspect(offline::DirectoryArgs),
    /// Reads every byte that counts in the directory of a node that is stopped, and names each place that is damaged. Changes
    /// nothing; exit code 1 for damage.
    #[command(after_help = "Example:\n  ms mq verify /var/lib/mq/backups/friday")]
    Verify(offline::DirectoryArgs),
    /// Pushes, pops and acks, and prints how many a second.
    #[command(after_help = "Example:\n  ms mq bench --count 100000 --size 256")]
    Bench(bench::BenchArgs),
}

/// One queue.
#[derive(Args, Debug)]
pub(crate) struct QueueArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
}

pub(crate) async fn run(args: MqArgs) -> Result<(), Failure> {
    let output = Output::new(args.json);
    // Verbs of a directory need no node.
    match &args.command {
        MqCommand::Inspect(args) => return offline::inspect(args, &output),
        MqCommand::Verify(args) => return offline::verify(args, &output),
        MqCommand::Restore(args) => return offline::restore(args, &output),
        _ => {}
    }
    let (registry, caller) = args.caller.open(Some(NODE)).await?;
    let client = MqClient::configured(registry, Selection::default(), |builder| caller.proxy(builder))
        .map_err(|error| Failure::from(Box::<dyn std::error::Error>::from(error)))?;
    match args.command {
        MqCommand::Declare { topic, queue } => Ok(client.declare(&topic, &queue).await?),
        MqCommand::Configure(args) => settings::configure(&client, args).await,
        MqCommand::Push(args) => push::run(&client, args, &output).await,
        MqCommand::Pop(args) => pop::run(&client, args, &output).await,
        MqCommand::Consume(args) => consume::run(&client, args).await,
        MqCommand::Ack(args) => settle::ack(&client, &args).await,
        MqCommand::Nack(args) => settle::nack(&client, &args).await,
        MqCommand::Bury(args) => settle::bury(&client, &args).await,
        MqCommand::Touch(args) => settle::touch(&client, &args).await,
        MqCommand::Return(args) => settle::give_back(&client, &args).await,
        MqCommand::Peek(args) => look::peek(&client, &args, &output).await,
        MqCommand::Get(args) => look::get(&client, &args, &output).await,
        MqCommand::List(args) => look::list(&client, &args, &output).await,
        MqCommand::Dead(command) => dead::run(&client, command, &output).await,
        MqCommand::Pause(QueueArgs { topic, queue }) => Ok(client.pause(&topic, &queue, true).await?),
        MqCommand::Resume(QueueArgs { topic, queue }) => Ok(client.pause(&topic, &queue, false).await?),
        MqCommand::Purge(QueueArgs { topic, queue }) => {
            let purged = client.purge(&topic, &queue).await?;
            output.line(&purged.to_string(), &row! { "purged": purged })
        }
        MqCommand::Move(args) => look::transfer(&client, args, false, &output).await,
        MqCommand::Copy(args) => look::transfer(&client, args, true, &output).await,
        MqCommand::Cancel(args) => look::cancel(&client, &args).await,
        MqCommand::Reschedule(args) => look::reschedule(&client, &args).await,
        MqCommand::Prioritize(args) => look::prioritize(&client, &args).await,
        MqCommand::Delete { topic, queue } => Ok(client.delete(&topic, queue.as_deref()).await?),
        MqCommand::Stats { topic } => look::stats(&client, topic.as_deref(), &output).await,
        MqCommand::Top(args) => top::run(&client, &args, &output).await,
        MqCommand::Export(args) => transfer::export(&client, &args, &output).await,
        MqCommand::Import(args) => transfer::import(&client, args, &output).await,
        MqCommand::Backup(args) => offline::backup(&client, &args, &output).await,
        MqCommand::Inspect(_) | MqCommand::Verify(_) | MqCommand::Restore(_) => Ok(()),
        MqCommand::Bench(args) => bench::run(&client, &args, &output).await,
    }
}
