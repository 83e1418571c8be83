//! `ms mq dead`: dead letters.

use clap::{Args, Subcommand};
use ms_mq::{DEFAULT_QUEUE, MessageId, MqClient};

use super::look::message;
use crate::{
    exit::Failure,
    output::{Output, row},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Lists dead letters with the reasons of their deaths; they stay where they are.
    #[command(after_help = "Example:\n  ms mq dead list orders")]
    List {
        topic: String,
        #[arg(default_value = DEFAULT_QUEUE)]
        queue: String,
        /// Letters of each node.
        #[arg(long, default_value_t = 100)]
        max: usize,
    },
    /// Makes dead letters ready again, their retries at 0, and prints their number.
    #[command(
        after_help = "Examples:\n  ms mq dead redrive orders --id 1311806441676312576\n  ms mq dead redrive orders --all"
    )]
    Redrive(Chosen),
    /// Removes dead letters for good, and prints their number.
    #[command(
        after_help = "Examples:\n  ms mq dead drop orders --id 1311806441676312576\n  ms mq dead drop orders --all"
    )]
    Drop(Chosen),
}

/// Some dead letters of a queue, or all.
#[derive(Args, Debug)]
pub(crate) struct Chosen {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// One letter; may be given several times.
    #[arg(long, required_unless_present = "all")]
    id: Vec<MessageId>,
    /// Every letter of the queue.
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

pub(super) async fn run(client: &MqClient, command: DeadCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DeadCommand::List { topic, queue, max } => {
            let found = client.list(&topic, &queue, max, true).await?;
            let rows: Vec<_> = found.iter().flat_map(|(_, letters)| letters).map(message).collect();
            output.rows(&["id", "retries", "reason"], &rows)
        }
        DeadCommand::Redrive(Chosen { topic, queue, id, all }) => {
            let redriven = client.redrive(&topic, &queue, (!all).then_some(&id[..])).await?;
            if redriven == 0 && !all {
                return Err(Failure::Refused("none of these is a dead letter of the queue".to_owned()));
            }
            output.line(&redriven.to_string(), &row! { "redriven": redriven })
        }
        DeadCommand::Drop(chosen) => {
            let dropped = discard(client, &chosen).await?;
            output.line(&dropped.to_string(), &row! { "dropped": dropped })
        }
    }
}

async fn discard(client: &MqClient, chosen: &Chosen) -> Result<u64, Failure> {
    let Chosen { topic, queue, id, all } = chosen;
    if *all {
        return Ok(client.purge_dead(topic, queue).await?);
    }
    for id in id {
        // Never a live message.
        let info = client.get(topic, queue, *id).await?;
        if info.state != "dead" {
            return Err(Failure::Refused(format!("message {id} is {}, and no dead letter", info.state)));
        }
        client.cancel(topic, queue, *id).await?;
    }
    Ok(id.len() as u64)
}
