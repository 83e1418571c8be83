//! `ms mq`: speaks to the nodes of the queue.

mod bench;

use std::error::Error;

use clap::{Args, Subcommand};
use ms_mq::{MqClient, Pop, Push, Receipt};

#[derive(Args, Debug)]
pub(crate) struct MqArgs {
    /// Where the nodes are listed, such as etcd://127.0.0.1:2379, or static://127.0.0.1:9503 for one that is not.
    #[arg(long, global = true, default_value = "static://127.0.0.1:9503")]
    registry: String,
    #[command(subcommand)]
    command: MqCommand,
}

#[derive(Debug, Subcommand)]
enum MqCommand {
    /// Makes a queue on every node.
    Declare { topic: String, queue: String },
    /// Pushes a message, and prints its id.
    Push {
        topic: String,
        body: String,
        /// Which queues it goes to. Default: the queue `default`.
        #[arg(long)]
        route_key: Option<String>,
        /// After how many milliseconds it is delivered.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
        /// Higher ones are delivered first.
        #[arg(long, default_value_t = 0)]
        priority: u8,
        /// A second push with this key is the first one.
        #[arg(long)]
        dedup: Option<String>,
    },
    /// Takes a message, and prints its receipt, retries and body.
    Pop {
        topic: String,
        #[arg(default_value = ms_mq::DEFAULT_QUEUE)]
        queue: String,
        /// How long to wait for one.
        #[arg(long, default_value_t = 0)]
        wait_ms: u64,
    },
    /// The message of this receipt is done with.
    Ack { receipt: Receipt },
    /// How topics stand, on every node.
    Stats { topic: Option<String> },
    /// Pushes, pops and acks, and prints how many a second.
    Bench(bench::BenchArgs),
}

pub(crate) async fn run(args: MqArgs) -> Result<(), Box<dyn Error>> {
    let client = MqClient::new(ms_register::connect(&args.registry).await?)?;
    match args.command {
        MqCommand::Declare { topic, queue } => client.declare(&topic, &queue).await?,
        MqCommand::Push { topic, body, route_key, delay_ms, priority, dedup } => {
            let push = Push { route_key, delay_ms, priority, dedup, ..Push::new(topic, body.into_bytes()) };
            println!("{}", client.push(push).await?);
        }
        MqCommand::Pop { topic, queue, wait_ms } => {
            let popped = client.pop(&Pop { wait_ms, ..Pop::new(topic, queue) }).await?;
            let Some(delivery) = popped.first() else { return Err("no message".into()) };
            let receipt = delivery.receipt.map(|receipt| receipt.to_string()).unwrap_or_default();
            println!("{receipt}\t{}\t{}", delivery.retries, String::from_utf8_lossy(&delivery.body));
        }
        MqCommand::Ack { receipt } => client.ack(receipt).await?,
        MqCommand::Stats { topic } => stats(&client, topic.as_deref()).await?,
        MqCommand::Bench(args) => bench::run(&client, &args).await?,
    }
    Ok(())
}

async fn stats(client: &MqClient, topic: Option<&str>) -> Result<(), Box<dyn Error>> {
    println!("node\ttopic\tqueue\tready\tdelayed\tleased\tdead\tpushed\tpopped");
    for (node, topics) in client.stats(topic).await? {
        for topic in topics {
            for queue in topic.queues {
                println!(
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    node.id(),
                    topic.topic,
                    queue.queue,
                    queue.ready,
                    queue.delayed,
                    queue.leased,
                    queue.dead,
                    queue.pushed,
                    queue.popped
                );
            }
        }
    }
    Ok(())
}
