//! A service in this process, listed in any registry.

use std::{sync::Arc, time::Duration};

use ms_register::MsRegister;
use ms_rpc::{Blob, ClientProxy, RunningServer, Server};
use ms_tests::{Found, Shop, ShopClient, ShopServer};

/// Answers with the port that it listens on.
struct Clerk(u16);

impl Shop for Clerk {
    async fn find(&self, id: u64) -> Found {
        Found { id, port: self.0 }
    }

    async fn reserve(&self, _: u64) -> u16 {
        self.0
    }

    async fn work(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn page(&self, bytes: u32) -> Blob {
        Blob::from(vec![7; bytes as usize])
    }

    async fn fail(&self) {
        panic!("as asked");
    }
}

/// A server of `shop` that is listed in this registry.
pub(crate) async fn listed(registry: &Arc<dyn MsRegister>) -> RunningServer {
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone());
    let clerk = Clerk(server.address().port());
    server.serve(ShopServer::new(clerk)).start().await.unwrap()
}

pub(crate) fn client(registry: &Arc<dyn MsRegister>) -> ShopClient {
    ShopClient::new(ClientProxy::new(registry.clone()))
}
