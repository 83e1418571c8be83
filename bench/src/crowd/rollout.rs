//! Servers and clients that move from plaintext to TLS, step by step, under load.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use ms_register::Memory;
use ms_rpc::{
    ClientProxy, RunningServer, Server,
    tls::{Pem, Tls, dev::DevAuthority},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep},
};

use crate::{
    implementations::{GoodsClient, goods_server},
    peer::Failure,
};

/// Time between two calls of a client.
const PACE: Duration = Duration::from_millis(2);
/// Time between two steps.
const STEP: Duration = Duration::from_millis(500);
const SERVERS: usize = 3;
const CLIENTS: usize = 2;

/// How a side speaks.
#[derive(Clone, Copy, Debug)]
enum Speaks {
    Plaintext,
    Both,
    Tls,
}

/// Calls that were made, and those that failed.
pub(super) async fn run() -> Result<(u64, u64), Failure> {
    let authority = DevAuthority::new("bench")?;
    let tls = |service: &str| -> Result<Tls, Failure> {
        let issued = authority.issue(service)?;
        let (certificate, key) = (Pem::bytes(issued.certificate), Pem::bytes(issued.key));
        Ok(Tls::mutual(Pem::bytes(authority.ca()), certificate, key).trust_domain("bench").build()?)
    };
    let (goods, order) = (tls("goods")?, tls("order")?);
    let registry = Arc::new(Memory::new());
    let server = async |speaks: Speaks| -> Result<RunningServer, Failure> {
        let server = goods_server(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)?;
        let server: Server = match speaks {
            Speaks::Plaintext => server,
            Speaks::Both => server.tls_permissive(&goods),
            Speaks::Tls => server.tls(&goods),
        };
        Ok(server.register_with(registry.clone()).start().await?)
    };
    let client = |speaks: Speaks| -> Result<GoodsClient, Failure> {
        let proxy = ClientProxy::builder(registry.clone());
        let proxy = match speaks {
            Speaks::Plaintext => proxy,
            Speaks::Both => proxy.tls_preferred(&order),
            Speaks::Tls => proxy.tls(&order),
        };
        Ok(GoodsClient::new(proxy.build()?))
    };
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(server(Speaks::Plaintext).await?);
    }
    let mut loads = Vec::new();
    for _ in 0..CLIENTS {
        loads.push(Load::start(client(Speaks::Plaintext)?));
    }
    for step in [Speaks::Both, Speaks::Tls] {
        for running in &mut servers {
            sleep(STEP).await;
            let next = server(step).await?;
            std::mem::replace(running, next).shutdown().await;
        }
        for load in &loads {
            sleep(STEP).await;
            load.client.send_replace(client(step)?);
        }
    }
    sleep(STEP).await;
    let (mut calls, mut failed) = (0, 0);
    for Load { client, task } in loads {
        drop(client);
        let (made, lost) = task.await?;
        (calls, failed) = (calls + made, failed + lost);
    }
    for server in servers {
        server.shutdown().await;
    }
    Ok((calls, failed))
}

/// Calls on a schedule, each by the client of the moment.
struct Load {
    client: watch::Sender<GoodsClient>,
    task: JoinHandle<(u64, u64)>,
}

impl Load {
    fn start(client: GoodsClient) -> Self {
        let (client, current) = watch::channel(client);
        let task = tokio::spawn(async move {
            let (mut calls, mut failed, mut schedule) = (0, 0, interval(PACE));
            while current.has_changed().is_ok() {
                schedule.tick().await;
                let client = current.borrow().clone();
                calls += 1;
                if let Err(error) = client.find(1).await {
                    eprintln!("call {calls}: {error}");
                    failed += 1;
                }
            }
            (calls, failed)
        });
        Self { client, task }
    }
}
