use std::{sync::Arc, time::Duration};

use ms_register::{Instance, MsRegister, RegisterError, ServiceName};

/// One registry of a test's own, on no data, and what a stranger can do to it. Its methods panic where they fail.
#[allow(async_fn_in_trait, reason = "each test runs on one thread")]
pub trait Fixture: Sized {
    /// Longest time that a change may take to reach a watch.
    const SETTLES: Duration;
    /// Longest time after a start on empty data until all owners are listed again.
    const RECOVERS: Duration;
    /// Longest time that an outage may take to reach a watch.
    const NOTICES: Duration;

    /// Starts the registry, and waits until it serves.
    async fn start() -> Self;

    /// A new client. A registry within this process gives the same one again.
    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError>;

    /// Writes the instance in the stored form, without our code.
    async fn write(&self, service: &ServiceName, instance: &Instance);

    /// Removes what [`write`](Self::write) wrote.
    async fn remove(&self, service: &ServiceName, instance: &Instance);

    /// Waits until `count` candidates campaign for `goods` or lead it. By default as far as they come on this thread: for
    /// registries that do not show their candidates.
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

/// The service of this name.
///
/// # Panics
/// The text is no name.
pub fn service(name: &str) -> ServiceName {
    name.parse().expect("a service's name")
}

/// A registry in which others may write what is no instance.
#[allow(async_fn_in_trait, reason = "each test runs on one thread")]
pub trait Untidy: Fixture {
    /// Writes something under the service that is no instance.
    async fn write_garbage(&self, service: &ServiceName);
}

/// The ids of a list.
pub fn ids(instances: &[Instance]) -> Vec<&str> {
    instances.iter().map(Instance::id).collect()
}

/// Awaits, at most for `limit`.
///
/// # Panics
/// The limit has passed.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
