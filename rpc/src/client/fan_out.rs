//! One call to several instances: to all of them, or to all until one succeeds.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use ms_register::Instance;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    by_name::Arguments, instances::Member, options::CallOptions, proxy::ClientProxy, request::time_of,
    resolver::Resolver, stub::Stub,
};
use crate::Status;

/// Methods of every client that [`service`](crate::service) generates, besides those of its service.
pub trait TypedClient: Clone + Send + Sync {
    /// The stub that its methods are called through.
    fn stub(&self) -> &Stub;

    /// A client that calls through `stub`.
    fn from_stub(stub: Stub) -> Self;

    /// Makes `call` on every instance that is listed and that the proxy's selector asks for, whatever its weight, all at
    /// once; returns every result with its instance, sorted by id. Each call goes to its instance and no other, with
    /// these options and within their deadline. Through a proxy only.
    ///
    /// ```
    /// # use ms_rpc::{ClientProxy, Status, TypedClient};
    /// # #[ms_rpc::service(name = "goods")]
    /// # trait Goods { async fn forget(&self, id: i64); }
    /// # async fn example(goods: GoodsClient) -> Result<(), Status> {
    /// for (instance, result) in goods.broadcast(|goods| async move { goods.forget(5).await }).await? {
    ///     println!("{}: {result:?}", instance.id());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no instance, or the registry has not said in time whether there is one. What becomes of a call is in its
    /// result.
    fn broadcast<F, C>(&self, call: F) -> impl Future<Output = Result<Vec<(Instance, C::Output)>, Status>> + Send
    where
        F: Fn(Self) -> C + Send + Sync,
        C: Future + Send,
        C::Output: Send,
    {
        async move {
            let stub = self.stub();
            let (proxy, resolver) = stub.through_proxy()?;
            let call = |instance: &str, waited| call(Self::from_stub(stub.of_broadcast(instance, waited)));
            to_all(proxy, &resolver, stub.options(), call).await
        }
    }

    /// The same client, but its calls go to all instances at once: see [`CallOptions::fork`].
    #[must_use]
    fn fork(&self) -> Self {
        Self::from_stub(self.stub().with(CallOptions::new().fork()))
    }
}

impl ClientProxy {
    /// Calls a method by names, in JSON, on every instance that is listed and that the proxy's selector asks for, whatever
    /// its weight, all at once; returns every result with its instance, sorted by id.
    ///
    /// # Errors
    /// There is no instance, or the registry has not said in time whether there is one. What becomes of a call is in its
    /// result.
    pub async fn broadcast(
        &self,
        service: &str,
        method: &str,
        arguments: &Value,
    ) -> Result<Vec<(Instance, Result<Value, Status>)>, Status> {
        let options = self.options_of(service, method);
        let call = |instance: &str, waited| {
            let proxy = self.with(options.of_broadcast(instance, waited, self.config().timeout));
            async move { proxy.call(service, method, arguments).await }
        };
        to_all(self, &self.resolver(service)?, &options, call).await
    }

    /// The same with a tuple of arguments, in the proxy's codec.
    ///
    /// # Errors
    /// As for [`broadcast`](Self::broadcast).
    pub async fn broadcast_as<A, T>(
        &self,
        service: &str,
        method: &str,
        arguments: &A,
    ) -> Result<Vec<(Instance, Result<T, Status>)>, Status>
    where
        A: Arguments,
        T: DeserializeOwned,
    {
        let options = self.options_of(service, method);
        let call = |instance: &str, waited| {
            let proxy = self.with(options.of_broadcast(instance, waited, self.config().timeout));
            async move { proxy.call_as(service, method, arguments).await }
        };
        to_all(self, &self.resolver(service)?, &options, call).await
    }
}

/// Makes a call on each instance: `call` gets the instance's id and how long the registry was waited for.
async fn to_all<C: Future>(
    proxy: &ClientProxy,
    resolver: &Arc<Resolver>,
    options: &CallOptions,
    call: impl Fn(&str, Duration) -> C,
) -> Result<Vec<(Instance, C::Output)>, Status> {
    let began = Instant::now();
    let instances = resolver.listed(began + time_of(proxy.config(), options)).await?;
    // The time that the registry took is part of the calls' time.
    let waited = began.elapsed();
    let calls = instances.selected().map(|endpoint| {
        let instance = Instance::clone(endpoint.instance());
        let call = call(instance.id(), waited);
        async move { (instance, call.await) }
    });
    Ok(join_all(calls).await)
}
