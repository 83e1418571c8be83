//! Programs that are measured: a gate, a back end that echoes, and a proxy and an echo of bytes.

use std::{net::SocketAddr, num::NonZeroUsize};

use clap::{Args, ValueEnum};
use ms_gate::{Gate, GateBackend, Member, Routes, backend};
use ms_rpc::{Blob, ClientProxy, Server};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{peer::Failure, process};

/// One of the programs.
#[derive(Args, Debug)]
pub(crate) struct GateProgram {
    what: What,
    /// Address of the program behind it.
    #[arg(long)]
    back_end: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Gate,
    BackEnd,
    Proxy,
    Echo,
}

/// Addresses of a program.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Listening {
    pub(crate) clients: SocketAddr,
    pub(crate) rpc: SocketAddr,
}

/// The message that back ends answer.
pub(super) const MESSAGE: u32 = 2;
const ANY: &str = "127.0.0.1:0";

struct Echo;

impl GateBackend for Echo {
    async fn message(&self, _: Member, _: u32, data: Blob) -> Option<Blob> {
        Some(data)
    }
}

/// Serves as a program until its stdin ends.
pub(crate) fn serve(program: &GateProgram) -> Result<(), Failure> {
    process::allow_many_sockets()?;
    process::runtime(NonZeroUsize::MIN)?.block_on(async {
        match program.what {
            What::BackEnd => {
                let running = Server::bind(ANY).await?.serve_as("im", backend(Echo.into())).start().await?;
                tell(running.address(), running.address());
                process::stdin_ends().await
            }
            What::Gate => {
                let back = program.back_end.map_or_else(|| "127.0.0.1:1".to_owned(), |address| address.to_string());
                let registry = ms_register::connect(&format!("static://?im={back}")).await?;
                let gate = Gate::new(ClientProxy::new(registry)).routes(Routes::new().add(MESSAGE, "im")?);
                let gate = gate.limits(|limits| {
                    limits.max_per_address = usize::MAX;
                    limits.messages_per_second = 0;
                });
                let server = Server::bind(ANY).await?;
                let rpc = server.address();
                let running = gate.tcp(ANY).await?.start(server).await?;
                tell(running.tcp_address().ok_or("no door")?, rpc);
                process::stdin_ends().await
            }
            What::Echo => {
                relay(|mut stream| async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = copy(&mut reader, &mut writer).await;
                })
                .await
            }
            What::Proxy => {
                let far = program.back_end.ok_or("a proxy stands before something")?;
                relay(move |mut stream| async move {
                    if let Ok(mut far) = TcpStream::connect(far).await
                        && far.set_nodelay(true).is_ok()
                    {
                        let _ = copy_bidirectional(&mut stream, &mut far).await;
                    }
                })
                .await
            }
        }
    })
}

async fn relay<F>(serve: impl Fn(TcpStream) -> F) -> Result<(), Failure>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(ANY).await?;
    tell(listener.local_addr()?, listener.local_addr()?);
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    };
    tokio::select! {
        failed = accepting => failed,
        ended = process::stdin_ends() => ended,
    }
}

fn tell(clients: SocketAddr, rpc: SocketAddr) {
    println!("{{\"clients\":\"{clients}\",\"rpc\":\"{rpc}\"}}");
}
