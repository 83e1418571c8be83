//! Back ends: what they implement, and the service that gates call.

use std::sync::Arc;

use ms_rpc::{Blob, Service};

use crate::Member;

/// What a back end does with the messages of clients.
///
/// ```
/// use ms_gate::{GateBackend, Member};
/// use ms_rpc::Blob;
///
/// struct Echo;
///
/// impl GateBackend for Echo {
///     async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob> {
///         println!("{}: message {msg_id}", from.id);
///         Some(data)
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = ms_register::connect("etcd://127.0.0.1:2379").await?;
/// ms_rpc::Server::bind("127.0.0.1:0").await?
///     .register_with(registry)
///     .serve_as("im", ms_gate::backend(Echo.into()))
///     .run_until(ms_rpc::shutdown_signal()).await?;
/// # Ok(())
/// # }
/// ```
pub trait GateBackend: Send + Sync + 'static {
    /// Handles a message of a client. `Some`: its answer, which goes to that client with the same message id. It runs within the
    /// gate's deadline, [`GateLimits::backend_timeout`](crate::GateLimits::backend_timeout).
    fn message(&self, from: Member, msg_id: u32, data: Blob) -> impl Future<Output = Option<Blob>> + Send;

    /// A client has connected; for back ends that [follow](crate::GateClient::follow) the members. Default: nothing.
    fn joined(&self, member: Member) -> impl Future<Output = ()> + Send {
        let _ = member;
        async {}
    }

    /// A client has gone, or its gate has; for back ends that [follow](crate::GateClient::follow) the members. Each member that
    /// joined leaves once. Default: nothing.
    fn left(&self, member: Member) -> impl Future<Output = ()> + Send {
        let _ = member;
        async {}
    }
}

/// The service of a back end, to be served under the name of its group: `server.serve_as("im", backend(..))`.
pub fn backend<B: GateBackend>(backend: Arc<B>) -> impl Service {
    MessagesServer::new(Adapter(backend))
}

/// What gates call of a back end.
#[ms_rpc::service(name = "gate-backend")]
pub(crate) trait Messages {
    /// See [`GateBackend::message`].
    async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob>;
}

struct Adapter<B>(Arc<B>);

impl<B: GateBackend> Messages for Adapter<B> {
    async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob> {
        self.0.message(from, msg_id, data).await
    }
}
