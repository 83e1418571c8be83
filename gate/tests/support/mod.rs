//! Gates, back ends and clients for the tests.

#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod clients;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ms_gate::{Gate, GateBackend, GateClient, Member, Routes, RunningGate, backend};
use ms_register::{Memory, MsRegister};
use ms_rpc::{Balancer, Blob, ClientProxy, RunningServer, Server};
use tokio::sync::mpsc;

pub(crate) use clients::{Peer, Tlv, hex};

/// Longest wait for something that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Time of a back end for a message.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// A back end as in zinx-cluster's demo: it answers message 2 by its name, and lets the other one answer message 3.
pub(crate) struct Im {
    pub(crate) name: &'static str,
    /// Id of the other one's instance.
    pub(crate) other: Mutex<Option<String>>,
    pub(crate) client: GateClient,
    /// Members that were seen: joined or left.
    pub(crate) seen: mpsc::Sender<(&'static str, Member)>,
    pub(crate) heard: Mutex<Vec<(Member, u32, Blob)>>,
}

impl GateBackend for Im {
    async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob> {
        self.heard.lock().unwrap().push((from.clone(), msg_id, data.clone()));
        match msg_id {
            2 => Some([self.name.as_bytes(), b": ", &data].concat().into()),
            3 => {
                let other = self.other.lock().unwrap().clone();
                let answer = self.client.forward("im", other.as_deref(), (from, 2, data)).await.unwrap();
                Some([self.name.as_bytes(), b" asked ", &answer.unwrap()].concat().into())
            }
            // To its own group, whose balancer brings it back here or to the other one: a circle.
            4 => match self.client.forward("im", None, (from, 4, data)).await {
                Ok(answer) => answer,
                Err(status) => Some(status.message().as_bytes().to_vec().into()),
            },
            5 => std::future::pending().await,
            6 => None,
            _ => Some(data),
        }
    }

    async fn joined(&self, member: Member) {
        self.seen.send(("joined", member)).await.unwrap();
    }

    async fn left(&self, member: Member) {
        self.seen.send(("left", member)).await.unwrap();
    }
}

/// A registry, and programs that find each other through it.
pub(crate) struct Cluster {
    pub(crate) registry: Arc<Memory>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Memory::new()) }
    }

    pub(crate) fn registry(&self) -> Arc<dyn MsRegister> {
        self.registry.clone()
    }

    pub(crate) fn proxy(&self) -> ClientProxy {
        // Both back ends are to be seen.
        ClientProxy::builder(self.registry()).balancer(Balancer::RoundRobin).build().unwrap()
    }

    pub(crate) fn client(&self) -> GateClient {
        GateClient::new(self.proxy())
    }

    /// A gate with both doors, which answers message 1 itself, and sends 2 to 9 to the group `im`.
    pub(crate) fn gate(&self) -> Gate {
        let routes = (2..10).try_fold(Routes::new(), |routes, id| routes.add(id, "im")).unwrap();
        Gate::new(self.proxy())
            .routes(routes)
            .handle(1, |member: Member, _, data: Blob| async move {
                Some([member.id.to_string().as_bytes(), b" ", &data].concat().into())
            })
            .limits(|limits| limits.backend_timeout = DEADLINE)
    }

    pub(crate) async fn start(&self, gate: Gate) -> RunningGate {
        let gate = gate.tcp("127.0.0.1:0").await.unwrap().web_socket("127.0.0.1:0").await.unwrap();
        let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(self.registry());
        gate.start(server).await.unwrap()
    }

    /// A back end of this name in the group `im`, with the members that it sees.
    pub(crate) async fn im(
        &self,
        name: &'static str,
    ) -> (RunningServer, Arc<Im>, mpsc::Receiver<(&'static str, Member)>) {
        let (seen, sees) = mpsc::channel(1_000);
        let im = Im { name, other: Mutex::default(), client: self.client(), seen, heard: Mutex::default() };
        let im = Arc::new(im);
        let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(self.registry());
        let running = server.serve_as("im", backend(im.clone())).start().await.unwrap();
        (running, im, sees)
    }

    /// Two back ends that know each other.
    pub(crate) async fn ims(&self) -> [(RunningServer, Arc<Im>); 2] {
        let ((first, one, _), (second, two, _)) = (self.im("im-1").await, self.im("im-2").await);
        *one.other.lock().unwrap() = Some(second.address().to_string());
        *two.other.lock().unwrap() = Some(first.address().to_string());
        [(first, one), (second, two)]
    }
}
