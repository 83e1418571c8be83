//! A server's services, called from within its process.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    AnyChannel, CallOptions, Guest, Peer, Server, ServerError, Service,
    client::{InProcess, ServeFrame, Served},
    proto::Frame,
    server::{LocalServer, RunningServer},
};

/// Services in this process, called without a socket: the same encoding, deadlines, interceptors, limits and errors. For
/// tests, and for a program that serves and calls at once. Cheap to clone. Methods run on their callers' tasks, but for those
/// that compute or block: they have tokio's blocking threads.
///
/// ```
/// # #[ms_rpc::service(name = "goods")]
/// # pub trait Goods { async fn find(&self, id: i64) -> String; }
/// # struct Shop;
/// # impl Goods for Shop { async fn find(&self, id: i64) -> String { id.to_string() } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ms_rpc::Status> {
/// let goods = GoodsClient::new(ms_rpc::Local::new(GoodsServer::new(Shop)));
/// assert_eq!(goods.find(5).await?, "5");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Local {
    server: LocalServer,
    options: CallOptions,
}

impl Local {
    /// One service, without limits and interceptors, under its own name.
    pub fn new(service: impl Service) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self::of(Server::without_listener(nowhere).serve(service).local())
    }

    fn of(server: LocalServer) -> Self {
        Self { server, options: CallOptions::new() }
    }

    /// The same services with these options merged over its own, for typed clients made of it.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options: self.options.clone().merge(options), ..self.clone() }
    }

    /// Names of the methods of a service, in the order of its definition; `None` if it is not served.
    pub fn methods(&self, service: &str) -> Option<Vec<&'static str>> {
        Some(self.server.methods(service)?.collect())
    }

    /// The same, called by this peer: interceptors, layers and methods see it.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        self.server.peer = peer;
        self
    }
}

impl Server {
    /// The services of this server, with its interceptors and limits, for callers in this process alone: nothing is listened
    /// on or registered.
    ///
    /// # Errors
    /// As for [`start`](Self::start) that concern names and limits.
    pub fn into_local(self) -> Result<Local, ServerError> {
        self.check()?;
        Ok(Local::of(self.local()))
    }
}

impl RunningServer {
    /// The services of this server for callers in this process; the limits are shared with the connections.
    pub fn local(&self) -> Local {
        Local::of(self.local_server())
    }
}

impl Guest {
    /// The server's services, called by this peer: its address is known, and no name.
    pub fn services(&self) -> Local {
        Local::of(self.server())
    }
}

impl ServeFrame for LocalServer {
    fn serve(&self, request: Frame) -> Served<'_> {
        Box::pin(Self::serve(self, request))
    }
}

impl From<Local> for AnyChannel {
    fn from(local: Local) -> Self {
        InProcess::new(Arc::new(local.server), local.options).into()
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("peer", &self.server.peer).finish_non_exhaustive()
    }
}
