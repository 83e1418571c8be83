use std::{
    io::{self, Read},
    sync::Arc,
    thread,
};

use ms_rpc::{RunningServer, Server, shutdown_signal};
use tokio::{net::TcpSocket, sync::oneshot};
use tracing_subscriber::EnvFilter;

use super::NodeOptions;
use crate::{Failure, Ledger, ShopServer, files, shop::Counter};

/// How many connections may wait to be accepted, so that a crowd that dials at once is not sent away by the system.
const BACKLOG: u32 = 4_096;

/// The node program: serves until SIGTERM, then shuts down; or until its stdin ends, then at once. It says `ready` on
/// stdout when every server listens and is listed.
///
/// # Errors
/// `options` that are none, and whatever keeps a server from starting.
pub fn run(options: &str) -> Result<(), Failure> {
    let options: NodeOptions = serde_json::from_str(options)?;
    tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(EnvFilter::from_default_env()).init();
    files::allow_at_most(options.max_files.unwrap_or(u64::MAX))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let orphaned = end_of_stdin();
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = serve(options) => outcome,
            _ = orphaned => Ok(()),
        }
    });
    runtime.shutdown_background();
    outcome
}

async fn serve(options: NodeOptions) -> Result<(), Failure> {
    let registry = match &options.registry {
        Some(url) if options.in_background => Some(ms_register::connect_in_background(url)?),
        Some(url) => Some(ms_register::connect(url).await?),
        None => None,
    };
    let ledger = options.ledger.as_ref().map(Ledger::open).transpose()?.map(Arc::new);
    let mut servers = Vec::new();
    for address in &options.addresses {
        let shop = Counter { port: address.port(), pause: options.pause, ledger: ledger.clone() };
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        let mut server =
            Server::from_listener(socket.listen(BACKLOG)?)?.serve_as(&options.service, ShopServer::new(shop));
        if let Some(registry) = &registry {
            server = server.register_with(registry.clone());
        }
        if let Some(calls) = options.permits {
            server = server.limits(|limits| limits.max_in_flight_total = calls);
        }
        servers.push(server.start().await?);
    }
    println!("ready");
    shutdown_signal().await;
    futures_util::future::join_all(servers.into_iter().map(RunningServer::shutdown)).await;
    Ok(())
}

/// Resolves when the process that started this one has ended.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (ended, wait) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    wait
}
