use std::{sync::Arc, time::Duration};

use ms_register::{Instance, MsRegister, RegisterError, ServiceName};

/// One registry of a test's own, and what a stranger can do to it.
#[allow(async_fn_in_trait, reason = "each test runs on one thread")]
pub(crate) trait Fixture: Sized {
    /// How long a change may take to reach a watch.
    const SETTLES: Duration;
    /// How long after a start on empty data all owners may take to be listed again.
    const RECOVERS: Duration;
    /// How long an outage may take to reach a watch.
    const NOTICES: Duration;

    async fn start() -> Self;

    /// A client of its own. What has no clients (`memory://`) gives the same registry again.
    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError>;

    /// Writes the instance in the stored form, without our code.
    async fn write(&self, service: &ServiceName, instance: &Instance);

    /// Removes what [`write`](Self::write) wrote.
    async fn remove(&self, service: &ServiceName, instance: &Instance);

    /// Waits until so many campaign for `goods` or lead it. Where nothing shows how many they are, as far as they come on
    /// this thread.
    async fn contend(&self, _count: usize) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// Ends the registry as a crash does.
    async fn down(&mut self);

    /// Starts it again, on the data that it had.
    async fn up(&mut self);

    /// Starts it again, on no data.
    async fn up_without_data(&mut self);
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// A registry in which others may write what is no instance.
#[allow(async_fn_in_trait, reason = "each test runs on one thread")]
pub(crate) trait Untidy: Fixture {
    /// Writes something under the service that is no instance.
    async fn write_garbage(&self, service: &ServiceName);
}

/// The ids of a list.
pub(crate) fn ids(instances: &[Instance]) -> Vec<&str> {
    instances.iter().map(Instance::id).collect()
}

/// Awaits, at most for `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
