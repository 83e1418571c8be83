//! A chat: a gate, two back ends, and a page that talks to the gate over WebSocket.
//!
//! ```text
//! cargo run -p ms-examples --example chat
//! ```
//!
//! The same in pieces, with the files of zinx-cluster in place of a registry, from the folder `examples/chat`:
//!
//! ```text
//! cargo run -p ms-examples --example chat -- im --node-id 2
//! cargo run -p ms-examples --example chat -- im --node-id 3
//! cargo run -p ms-examples --example chat -- gate
//! ```

mod im;
mod page;

use std::{error::Error, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use ms_gate::{GATES, Gate, GateClient, Member, RouteFile, Routes, RunningGate};
use ms_register::{Instance, Memory, MsRegister};
use ms_rpc::{Blob, ClientProxy, Server, shutdown_signal};
use serde_json::json;
use tracing_subscriber::EnvFilter;

/// A chat over a gate. Without a role: all of it in this process, with a page for browsers.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Where the gate serves clients over TCP.
    #[arg(long, default_value = "127.0.0.1:10000")]
    tcp: String,
    /// Where it serves them over WebSocket.
    #[arg(long, default_value = "127.0.0.1:10001")]
    ws: String,
    /// Where the page is.
    #[arg(long, default_value = "127.0.0.1:9010")]
    http: SocketAddr,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The gate of a `dinx.json`.
    Gate(Files),
    /// A back end of a `dinx.json`.
    Im(Files),
}

#[derive(Args, Debug)]
struct Files {
    /// List of gates and back ends.
    #[arg(long, default_value = "conf/dinx.json")]
    dinx: PathBuf,
    /// Groups that take the messages.
    #[arg(long, default_value = "conf/route.json")]
    route: PathBuf,
    /// ID of this process in the list.
    #[arg(long, default_value = "1")]
    node_id: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let done = match cli.role {
        None => all_in_one(&cli.tcp, &cli.ws, cli.http).await,
        Some(Role::Gate(files)) => gate_alone(files).await,
        Some(Role::Im(files)) => im_alone(files).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The gate answers message 1 itself: the content is the name under which others see the client.
fn gate(registry: &Arc<dyn MsRegister>, routes: Routes) -> Gate {
    let proxy = ClientProxy::new(registry.clone());
    let gates = GateClient::new(proxy.clone());
    Gate::new(proxy).routes(routes).handle(1, move |member: Member, _, name: Blob| {
        let gates = gates.clone();
        async move {
            let name = String::from_utf8_lossy(&name).trim().chars().take(32).collect::<String>();
            let taken = !name.is_empty() && gates.bind(&member.id, &name).await.unwrap_or(false);
            Some(json!({"id": member.id.to_string(), "name": taken.then_some(name)}).to_string().into_bytes().into())
        }
    })
}

async fn all_in_one(tcp: &str, ws: &str, http: SocketAddr) -> Result<(), Box<dyn Error>> {
    let signal = shutdown_signal();
    let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
    let mut back_ends = Vec::new();
    for name in ["im-1", "im-2"] {
        let server = Server::bind("127.0.0.1:0").await?.register_with(registry.clone());
        back_ends.push(server.serve_as("im", im::service(name, &registry)).start().await?);
    }
    let routes = Routes::new().add(2, "im")?.add(3, "im")?;
    // Browsers say where the page is from, under either name of this machine.
    let gate =
        gate(&registry, routes).origin(format!("http://{http}")).origin(format!("http://localhost:{}", http.port()));
    let server = Server::bind("127.0.0.1:0").await?.register_with(registry.clone());
    let gate = gate.tcp(tcp).await?.web_socket(ws).await?.start(server).await?;
    let page = page::serve(http, gate.web_socket_address()).await?;
    println!("the chat is ready: open http://{http}/ in two browsers; {}", doors(&gate));
    let _ = signal.await;
    page.abort();
    gate.shutdown().await;
    for server in back_ends {
        server.shutdown().await;
    }
    Ok(())
}

fn doors(gate: &RunningGate) -> String {
    let text = |address: Option<SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    format!("TCP on {}, WebSocket on {}", text(gate.tcp_address()), text(gate.web_socket_address()))
}

/// The registry of a `dinx.json`, and the entry of this process.
async fn of_file(files: &Files, group: &str) -> Result<(Arc<dyn MsRegister>, Instance), Box<dyn Error>> {
    let registry = ms_register::connect(&format!("file://{}", files.dinx.display())).await?;
    let id = files.node_id.to_string();
    let nodes = registry.list(&group.parse()?).await?;
    let node = nodes.into_iter().find(|node| node.metadata().get("dinx.id") == Some(&id));
    let node = node.ok_or_else(|| format!("{}: group `{group}` has no node {id}", files.dinx.display()))?;
    Ok((registry, node))
}

async fn gate_alone(files: Files) -> Result<(), Box<dyn Error>> {
    let signal = shutdown_signal();
    let (registry, node) = of_file(&files, GATES).await?;
    let route = RouteFile::read(&files.route).await?;
    let clients: SocketAddr = node.metadata().get("dinx.clients").ok_or("this node is no gate")?.parse()?;
    let web_socket = SocketAddr::new(clients.ip(), clients.port() + 1);
    let gate = gate(&registry, route.routes().clone()).id(node.id());
    let gate = gate.tcp(&clients.to_string()).await?.web_socket(&web_socket.to_string()).await?;
    let gate = gate.start(Server::bind(&node.address()).await?).await?;
    let following = route.follow(&gate);
    println!("gate {} is ready: {}", gate.id(), doors(&gate));
    let _ = signal.await;
    drop(following);
    gate.shutdown().await;
    Ok(())
}

async fn im_alone(files: Files) -> Result<(), Box<dyn Error>> {
    let (registry, node) = of_file(&files, "im").await?;
    let name = node.metadata().get("dinx.name").cloned().unwrap_or_default();
    let server = Server::bind(&node.address()).await?.serve_as("im", im::service(&name, &registry));
    println!("{name} is ready: RPC on {}", server.address());
    server.run_until(shutdown_signal()).await?;
    Ok(())
}
