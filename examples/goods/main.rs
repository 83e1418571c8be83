//! The goods service, end to end: an HTTP application calls a service that it finds through a registry.
//!
//! ```text
//! cargo run --example goods
//! cargo run --example goods -- --tls
//! cargo run --example goods --features etcd,nacos,zookeeper -- goods-center --registry etcd://127.0.0.1:2379 --port 9112
//! cargo run --example goods --features etcd,nacos,zookeeper -- order-center --registry etcd://127.0.0.1:2379
//! ```

mod args;
mod center;
mod order;

use std::{error::Error, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use clap::Parser;
use ms_register::{Memory, MsRegister, RegisterError};
use ms_rpc::{
    Client, RunningServer, SecondSignal,
    axum::healthz,
    shutdown_signal,
    tls::{Tls, dev::DevAuthority},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time::timeout};
use tracing::info;
use tracing_subscriber::EnvFilter;

use args::{Cli, OrderArgs, Role};

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
        Some(Role::GoodsCenter { registry, background, args, tls }) => {
            let registry = connect(&registry, background).await?;
            center::server(&args, registry, tls.tls()?.as_ref()).await?.run_until(shutdown_signal()).await?;
        }
        Some(Role::OrderCenter { registry, background, args, tls }) => {
            let registry = connect(&registry, background).await?;
            order_center(&args, registry, tls.tls()?.as_ref()).await?;
        }
        None => all_in_one(cli.tls).await?,
    }
    Ok(())
}

async fn connect(registry: &str, background: bool) -> Result<Arc<dyn MsRegister>, RegisterError> {
    if background { ms_register::connect_in_background(registry) } else { ms_register::connect(registry).await }
}

/// Bound for the HTTP requests in flight after the shutdown signal.
const HTTP_DRAIN: Duration = Duration::from_secs(10);

async fn order_center(
    args: &OrderArgs,
    registry: Arc<dyn MsRegister>,
    tls: Option<&Tls>,
) -> Result<(), Box<dyn Error>> {
    // Listened for from here on: a signal during the start is not lost.
    let signal = shutdown_signal();
    serve(args, order::routes(args, registry, tls)?, Vec::new(), signal).await
}

/// Calls with the certificate of another authority, and without any: both are refused.
async fn try_as_stranger(server: &RunningServer) -> Result<(), Box<dyn Error>> {
    let address = server.address().to_string();
    let stranger = DevAuthority::new("dev")?.tls("order")?.build()?;
    for (who, client) in
        [("certificate of a stranger", Client::builder().tls(&stranger)), ("no TLS", Client::builder())]
    {
        match client.service("goods").connect(&address).await {
            Ok(_) => return Err(format!("{who} was taken").into()),
            Err(refused) => info!("{who}: {refused}"),
        }
    }
    Ok(())
}

/// Two goods-centers and an order-center in one process, on one registry in memory.
async fn all_in_one(secured: bool) -> Result<(), Box<dyn Error>> {
    let defaults = |role: &str| Cli::parse_from(["goods", role, "--registry", "memory://"]).role;
    let (Some(Role::GoodsCenter { args: center, .. }), Some(Role::OrderCenter { args: order, .. })) =
        (defaults("goods-center"), defaults("order-center"))
    else {
        return Err("the command line has no such roles".into());
    };
    let signal = shutdown_signal();
    let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
    // Each listens, and is then registered.
    let authority = DevAuthority::new("dev")?;
    let as_service =
        |service| if secured { Ok(Some(authority.tls(service)?.build()?)) } else { Ok::<_, Box<dyn Error>>(None) };
    let goods = as_service("goods")?;
    let first = center::server(&center, registry.clone(), goods.as_ref()).await?.start().await?;
    let second = center::server(&center, registry.clone(), goods.as_ref()).await?.start().await?;
    if secured {
        try_as_stranger(&first).await?;
    }
    let routes =
        order::routes(&order, registry, as_service("order")?.as_ref())?.route("/healthz", get(healthz(&first)));
    serve(&order, routes, vec![first, second], signal).await
}

/// Serves HTTP beside the RPC servers until the signal. Then HTTP ends first, whose handlers call the RPC servers; these
/// deregister and drain after it. A second signal ends all of it at once.
async fn serve(
    args: &OrderArgs,
    routes: Router,
    servers: Vec<RunningServer>,
    signal: impl Future<Output: SecondSignal>,
) -> Result<(), Box<dyn Error>> {
    let in_use = |error| format!("cannot serve HTTP on {}: {error}; choose another with --http", args.http);
    let listener = TcpListener::bind(args.http).await.map_err(in_use)?;
    println!("try: curl 'http://{}/find?id=5'", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // An error is the end too.
        let _ = stopped.await;
    };
    let mut http = pin!(axum::serve(listener, routes).with_graceful_shutdown(stopped).into_future());
    let second = tokio::select! {
        ended = &mut http => return Ok(ended?),
        second = signal => second,
    };
    let shutdown = async {
        let _ = stop.send(());
        let drained = timeout(HTTP_DRAIN, http).await;
        let mut ending = JoinSet::new();
        servers.into_iter().for_each(|server| drop(ending.spawn(server.shutdown())));
        ending.join_all().await;
        drained.map_err(|_| format!("HTTP requests were cut off after {HTTP_DRAIN:?}"))?.map_err(Box::<dyn Error>::from)
    };
    tokio::select! {
        ended = shutdown => ended,
        () = second.wait() => Ok(()),
    }
}
