//! Carriers of calls.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use tokio::time::timeout_at;

use super::{
    Client, ClientProxy, InProcess,
    fork::fork,
    options::{CallOptions, ClientConfig},
    request::{CallRequest, EncodeArguments, Encoded, not_sent},
};
use crate::{Answer, Code, Invocation, Next, Outcome, Status, call::Innermost};

/// Carrier of calls: a [`ClientProxy`], a [`Client`], a [`Local`](crate::Local), or the user's own, such as a fake, a router,
/// or one around another channel.
///
/// ```
/// # #[ms_rpc::service(name = "goods")]
/// # pub trait Goods { async fn find(&self, id: i64) -> String; }
/// use std::sync::Arc;
///
/// use ms_rpc::{Answer, Channel, Invocation, Status};
///
/// #[derive(Debug)]
/// struct Fake;
///
/// #[async_trait::async_trait]
/// impl Channel for Fake {
///     async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
///         let (id,): (i64,) = call.arguments()?;
///         Answer::value(call.codec(), &format!("number {id}"))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Status> {
/// let goods = GoodsClient::new(Arc::new(Fake));
/// assert_eq!(goods.find(5).await?, "number 5");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Channel: fmt::Debug + Send + Sync + 'static {
    /// Makes the call. The caller gives it up at its deadline, whatever happens here.
    ///
    /// # Errors
    /// The call's status; a method's own error is an [`Answer`].
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status>;
}

/// Handle of any channel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyChannel {
    pub(super) via: Via,
}

#[derive(Clone, Debug)]
pub(super) enum Via {
    /// Through a registry.
    Proxy(ClientProxy),
    /// Over one connection.
    Connection(Client),
    /// To a server in this process.
    Local(InProcess),
    /// The user's own.
    Custom { channel: Arc<dyn Channel>, config: Arc<ClientConfig>, options: CallOptions },
}

impl From<ClientProxy> for AnyChannel {
    fn from(proxy: ClientProxy) -> Self {
        Self { via: Via::Proxy(proxy) }
    }
}

impl From<&ClientProxy> for AnyChannel {
    fn from(proxy: &ClientProxy) -> Self {
        proxy.clone().into()
    }
}

impl From<Client> for AnyChannel {
    fn from(client: Client) -> Self {
        Self { via: Via::Connection(client) }
    }
}

impl From<InProcess> for AnyChannel {
    fn from(local: InProcess) -> Self {
        Self { via: Via::Local(local) }
    }
}

impl<C: Channel> From<Arc<C>> for AnyChannel {
    fn from(channel: Arc<C>) -> Self {
        let (config, options) = (Arc::default(), CallOptions::new());
        Self { via: Via::Custom { channel, config, options } }
    }
}

#[async_trait]
impl Channel for AnyChannel {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        Carrier { channel: self, options: self.options() }.run(call).await
    }
}

#[async_trait]
impl Channel for ClientProxy {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        AnyChannel::from(self).invoke(call).await
    }
}

#[async_trait]
impl Channel for Client {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        AnyChannel::from(self.clone()).invoke(call).await
    }
}

/// A channel behind the layers of a call, with the options of that call.
struct Carrier<'a> {
    channel: &'a AnyChannel,
    options: &'a CallOptions,
}

#[async_trait]
impl Innermost for Carrier<'_> {
    async fn run(&self, call: &mut Invocation) -> Result<Answer, Status> {
        if let Via::Custom { channel, .. } = &self.channel.via {
            return channel.invoke(call).await;
        }
        let (arguments, idempotent) = (Encoded(call.arguments.clone()), call.idempotent);
        let request = CallRequest::of(call, self.channel.config(), self.options);
        self.channel.carry(&request, &arguments, idempotent).await
    }
}

impl AnyChannel {
    /// The same channel with these options merged over its own.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        let mut channel = self.clone();
        let own = channel.options_mut();
        *own = std::mem::take(own).merge(options);
        channel
    }

    pub(super) fn config(&self) -> &ClientConfig {
        match &self.via {
            Via::Proxy(proxy) => proxy.config(),
            Via::Connection(client) => client.config(),
            Via::Local(local) => local.config(),
            Via::Custom { config, .. } => config,
        }
    }

    pub(super) fn options(&self) -> &CallOptions {
        match &self.via {
            Via::Proxy(proxy) => &proxy.options,
            Via::Connection(client) => &client.options,
            Via::Local(local) => &local.options,
            Via::Custom { options, .. } => options,
        }
    }

    pub(super) fn options_mut(&mut self) -> &mut CallOptions {
        match &mut self.via {
            Via::Proxy(proxy) => &mut proxy.options,
            Via::Connection(client) => &mut client.options,
            Via::Local(local) => &mut local.options,
            Via::Custom { options, .. } => options,
        }
    }

    /// Makes a call, within its layers.
    pub(super) async fn exchange<A: Serialize>(
        &self,
        request: &CallRequest<'_>,
        options: &CallOptions,
        arguments: &A,
        idempotent: bool,
    ) -> Result<Answer, Status> {
        if options.layers.is_empty() && !matches!(self.via, Via::Custom { .. }) {
            return self.carry(request, arguments, idempotent).await;
        }
        let mut call = request.invocation(arguments, idempotent)?;
        let next = Next { layers: &options.layers, innermost: &Carrier { channel: self, options } };
        let answer = Box::pin(timeout_at(request.deadline(), next.run(&mut call))).await;
        answer.unwrap_or_else(|_| Err(request.overdue(Outcome::Unknown))).map_err(Status::of_another_call)
    }

    /// Makes a call, behind all layers.
    async fn carry<A: EncodeArguments>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
        idempotent: bool,
    ) -> Result<Answer, Status> {
        match &self.via {
            Via::Proxy(proxy) => {
                let resolver = proxy.resolver(request.service)?;
                if request.fork {
                    return Box::pin(fork(proxy, &resolver, request, arguments, idempotent)).await;
                }
                proxy.exchange(&resolver, request, arguments, idempotent).await
            }
            Via::Connection(client) => client.exchange(request, arguments).await,
            Via::Local(local) => {
                request.attempt_begins();
                local.exchange(request, arguments).await
            }
            Via::Custom { .. } => Err(not_sent(Code::Internal, "the user's own channels take invocations")),
        }
    }
}
