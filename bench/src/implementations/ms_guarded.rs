//! ms-rpc with authentication and a hundred rules.

use std::net::SocketAddr;

use ms_rpc::{Client, Server, auth::Tokens};
use tokio::net::TcpListener;

use super::ms_rpc::{GoodsClient, server};
use crate::peer::{Failure, Peer};

/// One [`Client`] for each connection, with a token; the last of the rules allows it.
#[derive(Debug)]
pub(crate) struct MsGuarded;

const RULES: usize = 100;
const TOKEN: &str = "3f9c1d5e7a804d3ab6c2";

fn guarded(server: Server) -> Server {
    // The network is this machine's own.
    let server = server.tokens(&Tokens::single("client", TOKEN)).insecure();
    let server = (0..RULES / 2).fold(server, |server, number| server.deny(format!("stranger-{number}-*"), "goods/*"));
    let server =
        (0..RULES / 2 - 1).fold(server, |server, number| server.allow(format!("friend-{number}"), "goods/find"));
    server.allow("client", "goods")
}

impl Peer for MsGuarded {
    const NAME: &'static str = "ms-guarded";
    const PACKAGE: &'static str = "ms-rpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let _running = guarded(server(listener)?).start().await?;
        std::future::pending().await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let client = Client::builder().credentials(TOKEN).connect(&address.to_string()).await?;
            clients.push(GoodsClient::new(client));
        }
        Ok(clients)
    }
}
