//! ms-rpc over mutual TLS 1.3.

use std::net::SocketAddr;

use ms_rpc::{
    Client, ClientBuilder,
    tls::{Pem, Tls},
};
use tokio::net::TcpListener;

use super::{
    certificates::{Files, issue},
    ms_rpc::{GoodsClient, server},
};
use crate::peer::{Failure, Peer};

/// One [`Client`] for each connection.
#[derive(Debug)]
pub(crate) struct MsTls;

impl Peer for MsTls {
    const NAME: &'static str = "ms-tls";
    const PACKAGE: &'static str = "ms-rpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let (authority, own) = issue(listener.local_addr()?)?;
        let tls = Tls::mutual(Pem::bytes(authority.ca()), Pem::bytes(own.certificate), Pem::bytes(own.key)).build()?;
        let _running = server(listener)?.tls(&tls).start().await?;
        std::future::pending().await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        let builder = builder(&Files::of(address)).await?;
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(GoodsClient::new(builder.clone().connect(&address.to_string()).await?));
        }
        Ok(clients)
    }
}

/// Settings of a client in the harness itself, of the server at this address.
pub(crate) async fn harness_client(server: SocketAddr) -> Result<ClientBuilder, Failure> {
    builder(&Files::of_harness(server)).await
}

/// Settings of a client that presents these files.
async fn builder(files: &Files) -> Result<ClientBuilder, Failure> {
    let [ca, certificate, key] = files.read().await?.map(Pem::bytes);
    let tls = Tls::mutual(ca, certificate, key).trust_domain("bench").build()?;
    Ok(Client::builder().tls(&tls).service("goods"))
}
