//! ms-rpc over mutual TLS 1.3. The server's process makes the certificates, and leaves the client's in a folder that its port names.

use std::{env, fs, net::SocketAddr, path::PathBuf};

use ms_rpc::{
    Client,
    tls::{Pem, Tls, dev::DevAuthority},
};
use tokio::net::TcpListener;

use super::ms_rpc::{GoodsClient, server};
use crate::peer::{Failure, Peer};

/// One [`Client`] for each connection.
#[derive(Debug)]
pub(crate) struct MsTls;

impl Peer for MsTls {
    const NAME: &'static str = "ms-tls";
    const PACKAGE: &'static str = "ms-rpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let authority = DevAuthority::new("bench")?;
        let (client, folder) = (authority.issue("client")?, folder(listener.local_addr()?));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("own.pem"), client.certificate)?;
        fs::write(folder.join("own.key"), client.key)?;
        fs::write(folder.join("ca.pem"), authority.ca())?;
        let _running = server(listener)?.tls(&authority.tls("goods")?.build()?).start().await?;
        std::future::pending().await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        let folder = folder(address);
        let [ca, certificate, key] = ["ca.pem", "own.pem", "own.key"].map(|name| Pem::file(folder.join(name)));
        let tls = loop {
            // The server is still writing them.
            if let Ok(tls) = Tls::mutual(ca.clone(), certificate.clone(), key.clone()).trust_domain("bench").build() {
                break tls;
            }
            tokio::task::yield_now().await;
        };
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let client = Client::builder().tls(&tls).service("goods").connect(&address.to_string()).await?;
            clients.push(GoodsClient::new(client));
        }
        Ok(clients)
    }
}

fn folder(server: SocketAddr) -> PathBuf {
    env::temp_dir().join(format!("ms-rpc-bench-{}", server.port()))
}
