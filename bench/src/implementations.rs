//! What is measured. To add an implementation: write its file, implement [`Peer`] there, and add its line to [`ALL`].

mod certificates;
mod ms_guarded;
mod ms_rpc;
mod ms_tls;
mod raw;
mod tarpc;
mod tonic;

pub(crate) use ms_rpc::{GoodsClient, server as goods_server};
pub(crate) use ms_tls::harness_client as tls_client;

use std::{future::Future, net::SocketAddr, pin::Pin};

use tokio::net::TcpListener;

use crate::{
    drive::{self, Plan},
    peer::{Failure, Peer},
};

/// Every implementation, in the order of the tables.
pub(crate) const ALL: &[Implementation] = &[
    Implementation::of::<raw::Raw>(),
    Implementation::of::<raw::RawItem>(),
    Implementation::of::<ms_rpc::MsClient>(),
    Implementation::of::<ms_rpc::MsProxy>(),
    Implementation::of::<ms_guarded::MsGuarded>(),
    Implementation::of::<ms_tls::MsTls>(),
    Implementation::of::<tarpc::Tarpc>(),
    Implementation::of::<tonic::Tonic>(),
    Implementation::of::<tonic::TonicTls>(),
];

/// One implementation, with its type erased; what it runs is still compiled for that type alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    /// Serves until the process ends.
    pub(crate) serve: fn(TcpListener) -> Running,
    /// Connects to the address, makes the calls of the plan and reports them on stdout.
    pub(crate) drive: fn(SocketAddr, Plan) -> Running,
}

/// A server or a driver at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

impl Implementation {
    const fn of<P: Peer>() -> Self {
        Self {
            name: P::NAME,
            package: P::PACKAGE,
            serve: |listener| Box::pin(P::serve(listener)),
            drive: |address, plan| Box::pin(drive::run::<P>(address, plan)),
        }
    }

    /// The implementation of that name.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        ALL.iter().find(|known| known.name == name).copied().ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|known| known.name).collect();
            format!("no implementation is named `{name}`; there are {}", known.join(", ")).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;

    use super::*;
    use crate::peer::{Caller, Ends};

    /// Small and large bodies at once over two connections, around the length where the loop stops copying.
    async fn answers<P: Peer>() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(P::serve(listener));
        let callers = P::connect(address, 2).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for task in 0..32 {
            let mut caller = callers[task % callers.len()].clone();
            calls.spawn(async move {
                for call in 0..40 {
                    let id = (task * 1_000 + call) as i64;
                    assert_eq!(caller.find(id).await.unwrap(), id);
                    if call == 0 {
                        assert_eq!(caller.compute(id).await.unwrap(), id);
                    }
                    let length = [0, 7, 1_024, 8_191, 8_192, 65_536, 300_000][(task + call) % 7];
                    let body: Bytes = (0..length).map(|index| (index * 7 + task + call) as u8).collect();
                    assert_eq!(caller.echo(body.clone()).await.unwrap(), Ends::of(&body));
                }
            });
        }
        while let Some(ended) = calls.join_next().await {
            ended.unwrap();
        }
        server.abort();
    }

    #[tokio::test]
    async fn raw_answers() {
        answers::<raw::Raw>().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn raw_answers_on_two_threads() {
        answers::<raw::Raw>().await;
    }

    #[tokio::test]
    async fn raw_item_answers() {
        answers::<raw::RawItem>().await;
    }

    #[tokio::test]
    async fn ms_client_answers() {
        answers::<ms_rpc::MsClient>().await;
    }

    #[tokio::test]
    async fn ms_proxy_answers() {
        answers::<ms_rpc::MsProxy>().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn ms_proxy_answers_on_two_threads() {
        answers::<ms_rpc::MsProxy>().await;
    }

    #[tokio::test]
    async fn ms_tls_answers() {
        answers::<ms_tls::MsTls>().await;
    }

    #[tokio::test]
    async fn ms_guarded_answers() {
        answers::<ms_guarded::MsGuarded>().await;
    }

    #[tokio::test]
    async fn tarpc_answers() {
        answers::<tarpc::Tarpc>().await;
    }

    #[tokio::test]
    async fn tonic_answers() {
        answers::<tonic::Tonic>().await;
    }

    #[tokio::test]
    async fn tonic_tls_answers() {
        answers::<tonic::TonicTls>().await;
    }
}
