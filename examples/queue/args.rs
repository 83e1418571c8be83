//! The command line.

use clap::{Args, Parser, Subcommand};

/// The message queue: without a role, two nodes, a producer and a consumer in one process, on a registry in memory.
#[derive(Debug, Parser)]
#[command(name = "queue")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Pushes numbered jobs.
    Producer {
        /// Such as etcd://127.0.0.1:2379, nacos://127.0.0.1:8848 or static://127.0.0.1:9503.
        #[arg(long)]
        registry: String,
        #[command(flatten)]
        args: ProducerArgs,
    },
    /// Handles jobs.
    Consumer {
        /// Such as etcd://127.0.0.1:2379, nacos://127.0.0.1:8848 or static://127.0.0.1:9503.
        #[arg(long)]
        registry: String,
        #[command(flatten)]
        args: ConsumerArgs,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProducerArgs {
    /// The topic; it is made if it is not there.
    #[arg(long, default_value = TOPIC)]
    pub(crate) topic: String,
    /// How many jobs.
    #[arg(long, default_value_t = 20)]
    pub(crate) count: u64,
    /// How many of them a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
}

impl Default for ProducerArgs {
    fn default() -> Self {
        Self { topic: TOPIC.to_owned(), count: 20, rate: 20 }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConsumerArgs {
    /// The topic.
    #[arg(long, default_value = TOPIC)]
    pub(crate) topic: String,
    /// How many jobs are handled at once.
    #[arg(long, default_value_t = 4)]
    pub(crate) concurrency: usize,
    /// It ends after so many different jobs. Default: on Ctrl-C.
    #[arg(long)]
    pub(crate) count: Option<usize>,
}

impl Default for ConsumerArgs {
    fn default() -> Self {
        Self { topic: TOPIC.to_owned(), concurrency: 4, count: None }
    }
}

const TOPIC: &str = "orders";
