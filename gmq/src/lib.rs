//! The TCP port of a gmq node, on any [`Engine`](ms_mq::Engine): programs of gmq push to it and pop from it unchanged.
//!
//! Three protocols share the port and the engine. The text protocol has one command a line, with bodies of `u32 + bytes`; an
//! older variant of it has fewer parameters, by which it is told apart; a connection whose first four bytes are `v111` speaks
//! the binary protocol before those. Channels (`subscribe`, `publish`) belong to the port, and nothing of them is kept.
//!
//! ```no_run
//! # async fn example(node: ms_mq::Node) -> std::io::Result<()> {
//! let server = ms_gmq::GmqServer::bind(([127, 0, 0, 1], 9503).into()).await?;
//! server.serve(node, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
//! # Ok(())
//! # }
//! ```

mod channels;
#[cfg(feature = "internals")]
pub mod internals;
mod limits;
mod message;
mod protocol;
mod server;
mod session;
mod text;
mod v111;

pub use server::GmqServer;
