//! The message queue at work: a producer and a consumer that find its nodes through a registry.
//!
//! ```text
//! cargo run --example queue
//! cargo run -p ms-cli --features etcd -- mq-node --registry etcd://127.0.0.1:2379 --data target/mq
//! cargo run --example queue --features etcd -- producer --registry etcd://127.0.0.1:2379
//! cargo run --example queue --features etcd -- consumer --registry etcd://127.0.0.1:2379
//! ```

mod args;
mod consumer;
mod producer;

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use ms_mq::{MqClient, MqNodeServer, NODE_ID, Node, NodeConfig, NodeId, STORE_ID};
use ms_register::{Memory, MsRegister};
use ms_rpc::{RunningServer, Server};
use tracing_subscriber::EnvFilter;

use args::{Cli, ConsumerArgs, ProducerArgs, Role};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queue: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    match cli.role {
        Some(Role::Producer { registry, args }) => {
            producer::run(&MqClient::new(ms_register::connect(&registry).await?)?, &args).await?;
        }
        Some(Role::Consumer { registry, args }) => {
            consumer::run(&MqClient::new(ms_register::connect(&registry).await?)?, &args).await;
        }
        None => all_in_one().await?,
    }
    Ok(())
}

/// Two nodes, a producer and a consumer on one registry in memory; what the nodes store goes with them.
async fn all_in_one() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let registry = Arc::new(Memory::new());
    let first = node(1, directory.path().join("1"), registry.clone()).await?;
    let second = node(2, directory.path().join("2"), registry.clone()).await?;
    let client = MqClient::new(registry)?;
    let (produce, consume) = (ProducerArgs::default(), ConsumerArgs { count: Some(20), ..ConsumerArgs::default() });
    let (produced, ()) = tokio::join!(producer::run(&client, &produce), consumer::run(&client, &consume));
    drop(client);
    tokio::join!(first.shutdown(), second.shutdown());
    produced
}

/// What `ms mq-node` is: the engine over its directory, as a service that is listed with its number.
async fn node(id: u16, data: PathBuf, registry: Arc<dyn MsRegister>) -> Result<RunningServer, Box<dyn Error>> {
    let config = NodeConfig::new(NodeId::new(id).ok_or("a node's number is 1 to 1023")?);
    let node = tokio::task::spawn_blocking(move || Node::open(&data, &config)).await??;
    let server = Server::bind("127.0.0.1:0").await?.register_with(registry);
    let server = server.metadata(NODE_ID, id.to_string()).metadata(STORE_ID, format!("{:x}", node.store_id()));
    Ok(server.serve(MqNodeServer::new(node)).start().await?)
}
