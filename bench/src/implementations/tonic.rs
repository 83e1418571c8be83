//! tonic with the messages and the glue that its code generator would write, by hand, so that nobody needs `protoc`.

mod goods;

use std::net::SocketAddr;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request,
    client::Grpc,
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig, server::TcpIncoming,
    },
};
use tonic_prost::ProstCodec;

use super::certificates::{Files, issue};
use crate::peer::{Caller, Ends, Failure, Peer};
use goods::{Body, Find, Goods, Item};

/// gRPC over HTTP/2, plain text, protobuf.
#[derive(Debug)]
pub(crate) struct Tonic;

impl Peer for Tonic {
    const NAME: &'static str = "tonic";
    const PACKAGE: &'static str = "tonic";
    type Caller = Client;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder().add_service(Goods).serve_with_incoming(incoming).await?;
        Err("the server stopped".into())
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<Client>, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Client { grpc: Grpc::new(endpoint.connect().await?) });
        }
        Ok(clients)
    }
}

/// The same over mutual TLS 1.3.
#[derive(Debug)]
pub(crate) struct TonicTls;

impl Peer for TonicTls {
    const NAME: &'static str = "tonic-tls";
    const PACKAGE: &'static str = "tonic";
    type Caller = Client;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let (authority, own) = issue(listener.local_addr()?)?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(own.certificate, own.key))
            .client_ca_root(Certificate::from_pem(authority.ca()));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder().tls_config(tls)?.add_service(Goods).serve_with_incoming(incoming).await?;
        Err("the server stopped".into())
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<Client>, Failure> {
        let [ca, certificate, key] = Files::of(address).read().await?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(certificate, key))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.tcp_nodelay(true);
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Client { grpc: Grpc::new(endpoint.connect().await?) });
        }
        Ok(clients)
    }
}

/// One connection, called as a generated client calls it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    grpc: Grpc<Channel>,
}

impl Client {
    async fn unary<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Failure>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }
}

impl Caller for Client {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        let item: Item = self.unary(goods::FIND, Find { id }).await?;
        Ok(item.id)
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        let echoed: Body = self.unary(goods::ECHO, Body { bytes: body }).await?;
        Ok(Ends::of(&echoed.bytes))
    }

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        let computed: Find = self.unary(goods::COMPUTE, Find { id: number }).await?;
        Ok(computed.id)
    }
}
