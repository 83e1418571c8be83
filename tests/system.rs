//! All parts at once: a message of a client on its way through a gate, a back end in ZooKeeper, a queue, and a channel.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ms_gate::{Gate, GateBackend, Member, Routes, backend};
use ms_gmq::GmqServer;
use ms_mq::{
    ConsumerOptions, DEFAULT_QUEUE, Delivery, MqClient, MqNodeServer, NODE_ID, Node, NodeConfig, NodeId, Push, STORE_ID,
};
use ms_rpc::{Blob, ClientProxy, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap()
}

/// A back end that takes orders: it queues each, and answers with the message's id.
struct Orders(MqClient);

impl GateBackend for Orders {
    async fn message(&self, _from: Member, _msg_id: u32, data: Blob) -> Option<Blob> {
        let id = self.0.push(Push::new("orders", data.to_vec())).await.unwrap();
        Some(id.to_string().into_bytes().into())
    }
}

/// A client of gmq's text protocol.
struct Channel(TcpStream);

impl Channel {
    async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn answer(&mut self) -> (u16, String) {
        within(async {
            let kind = self.0.read_u16().await.unwrap();
            let mut data = vec![0; self.0.read_u32().await.unwrap() as usize];
            self.0.read_exact(&mut data).await.unwrap();
            (kind, String::from_utf8(data).unwrap())
        })
        .await
    }

    async fn ask(&mut self, command: &[u8]) -> (u16, String) {
        self.0.write_all(command).await.unwrap();
        self.answer().await
    }

    async fn publish(&mut self, channel: &str, text: &str) -> (u16, String) {
        let line = format!("publish {channel}\n");
        self.ask(&[line.as_bytes(), &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()).await
    }
}

/// One frame of a zinx client: there and back.
async fn tlv(stream: &mut TcpStream, id: u32, data: &[u8]) -> (u32, Vec<u8>) {
    let frame = [&id.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), data].concat();
    stream.write_all(&frame).await.unwrap();
    within(async {
        let id = stream.read_u32().await.unwrap();
        let mut data = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut data).await.unwrap();
        (id, data)
    })
    .await
}

#[tokio::test]
async fn a_message_goes_from_a_gate_by_zookeeper_and_a_queue_to_a_channel() {
    let zookeeper = ms_tests::Server::zookeeper().await.unwrap();
    let registry = ms_register::connect(&zookeeper.url()).await.unwrap();
    // Back ends are where go-micro-service looks for them.
    let normals = ms_register::connect(&format!("{}/server?layout=master-normal", zookeeper.url())).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(directory.path(), &NodeConfig::new(NodeId::new(1).unwrap())).unwrap();
    let queue = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone());
    let queue = queue.metadata(NODE_ID, "1").metadata(STORE_ID, format!("{:x}", node.store_id()));
    let queue = queue.serve(MqNodeServer::new(node.clone())).start().await.unwrap();
    let gmq = GmqServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let channels = gmq.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let gmq = tokio::spawn(gmq.serve(node.clone(), async { drop(stopped.await) }));

    let orders = Orders(MqClient::new(registry.clone()).unwrap());
    let back_end = Server::bind("127.0.0.1:0").await.unwrap().register_with(normals.clone());
    let back_end = back_end.serve_as("orders", backend(Arc::new(orders))).start().await.unwrap();
    let gate = Gate::new(ClientProxy::new(normals.clone())).routes(Routes::new().add(7, "orders").unwrap());
    let gate = gate.tcp("127.0.0.1:0").await.unwrap();
    let gate = gate.start(Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone())).await.unwrap();

    // A consumer tells the channel of each order.
    let consumers = MqClient::new(registry.clone()).unwrap();
    let tell = move |order: Delivery| async move {
        let text = format!("{}: {}", order.id, String::from_utf8_lossy(&order.body));
        match Channel::open(channels).await.publish("news", &text).await {
            (103, _) => Ok(()),
            (_, refused) => Err(refused),
        }
    };
    let consumer = consumers.consume("orders", DEFAULT_QUEUE, ConsumerOptions::default(), tell);

    let mut subscriber = Channel::open(channels).await;
    assert_eq!(subscriber.ask(b"subscribe news\n").await, (103, "ok".to_owned()));
    let mut client = TcpStream::connect(gate.tcp_address().unwrap()).await.unwrap();
    let (answered, id) = tlv(&mut client, 7, b"two apples").await;
    assert_eq!(answered, 7);
    let id = String::from_utf8(id).unwrap();
    assert_eq!(subscriber.answer().await, (104, format!("{id}: two apples")));

    let stopped = consumer.stop(PATIENCE).await;
    assert_eq!((stopped.cut_off, stopped.unsettled), (0, 0));
    within(gate.shutdown()).await;
    within(back_end.shutdown()).await;
    within(queue.shutdown()).await;
    drop(stop);
    within(gmq).await.unwrap();
}
