//! The goods service, end to end: an HTTP application calls a service that it finds through a registry.
//!
//! ```text
//! cargo run --example goods
//! cargo run --example goods --features etcd,nacos,zookeeper -- goods-center --registry etcd://127.0.0.1:2379 --port 9112
//! cargo run --example goods --features etcd,nacos,zookeeper -- order-center --registry etcd://127.0.0.1:2379
//! ```

mod args;
mod center;
mod order;

use std::{error::Error, process::ExitCode, sync::Arc};

use clap::Parser;
use ms_register::{Memory, MsRegister, RegisterError};
use ms_rpc::{SecondSignal, shutdown_signal};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use args::{CenterArgs, Cli, OrderArgs, Role};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,nacos_sdk=warn,zookeeper_client=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goods: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    match cli.role {
        Some(Role::GoodsCenter { registry, background, args }) => {
            let registry = connect(&registry, background).await?;
            center::server(&args, registry).await?.run_until(shutdown_signal()).await?;
        }
        Some(Role::OrderCenter { registry, background, args }) => {
            let registry = connect(&registry, background).await?;
            order_center(&args, registry).await?;
        }
        None => all_in_one().await?,
    }
    Ok(())
}

async fn connect(registry: &str, background: bool) -> Result<Arc<dyn MsRegister>, RegisterError> {
    if background { ms_register::connect_in_background(registry) } else { ms_register::connect(registry).await }
}

async fn order_center(args: &OrderArgs, registry: Arc<dyn MsRegister>) -> Result<(), Box<dyn Error>> {
    let in_use = |error| format!("cannot serve HTTP on {}: {error}; choose another with --http", args.http);
    let listener = TcpListener::bind(args.http).await.map_err(in_use)?;
    println!("try: curl 'http://{}/find?id=5'", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serve = order::serve(args, registry, listener, async {
        // An error is the end too.
        let _ = stopped.await;
    });
    let signals = async {
        let second = shutdown_signal().await;
        let _ = stop.send(());
        second.wait().await;
    };
    tokio::select! {
        served = serve => served?,
        () = signals => {}
    }
    Ok(())
}

/// Two goods-centers and an order-center on one registry in memory.
async fn all_in_one() -> Result<(), Box<dyn Error>> {
    let defaults = |role: &str| Cli::parse_from(["goods", role, "--registry", "memory://"]).role;
    let (Some(Role::GoodsCenter { args: center, .. }), Some(Role::OrderCenter { args: order, .. })) =
        (defaults("goods-center"), defaults("order-center"))
    else {
        return Err("the command line has no such roles".into());
    };
    let center: CenterArgs = center;
    let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
    let first = center::server(&center, registry.clone()).await?.start().await?;
    let second = center::server(&center, registry.clone()).await?.start().await?;
    let served = order_center(&order, registry).await;
    tokio::join!(first.shutdown(), second.shutdown());
    served
}
