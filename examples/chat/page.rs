//! The page of the chat, over HTTP.

use std::{error::Error, net::SocketAddr};

use axum::{Router, response::Html, routing::get};
use tokio::{net::TcpListener, task::JoinHandle};

const PAGE: &str = include_str!("page.html");

/// Serves the page until the task is aborted; its script connects to `gate`.
pub(crate) async fn serve(
    address: SocketAddr,
    gate: Option<SocketAddr>,
) -> Result<JoinHandle<std::io::Result<()>>, Box<dyn Error>> {
    let gate = gate.ok_or("the gate has no door for WebSockets")?;
    let page = PAGE.replace("ws://127.0.0.1:10001", &format!("ws://{gate}"));
    let routes = Router::new().route("/", get(move || std::future::ready(Html(page.clone()))));
    let in_use = |error| format!("cannot serve the page on {address}: {error}; choose another address with --http");
    let listener = TcpListener::bind(address).await.map_err(in_use)?;
    Ok(tokio::spawn(async move { axum::serve(listener, routes).await }))
}
