//! Facts of a call besides its result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Metadata;

/// Record of a call: the instance that answered, the metadata of its answer, and the number of attempts.
///
/// Cheap to clone; clones are one record. A call clears it when it begins, so give concurrent calls one each. With a
/// broadcast or a fork it holds what the last answer brought: that of a fork is the winner's.
///
/// ```
/// # use ms_rpc::{CallInfo, CallOptions, ClientProxy, Status};
/// # async fn example(proxy: ClientProxy) -> Result<(), Status> {
/// let info = CallInfo::default();
/// let item = proxy.with(CallOptions::new().info(&info)).call("goods", "find", &serde_json::json!([5])).await?;
/// println!("{:?} answered, attempt {}: {item}", info.instance(), info.attempts());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallInfo(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    instance: Option<String>,
    metadata: Metadata,
    attempts: u32,
}

impl CallInfo {
    /// The instance of the last attempt that ended, by its id in the registry, whether it answered or
    /// failed. Its address, if the call goes over a [`Client`](crate::Client) or the instance has left the registry
    /// meanwhile; `None` before an attempt has ended, and for a service in this process.
    pub fn instance(&self) -> Option<String> {
        self.lock().instance.clone()
    }

    /// The first text of the answer's metadata under `key`.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.lock().metadata.get(key).map(str::to_owned)
    }

    /// The metadata of the answer, an error's too. Empty without an answer.
    pub fn all_metadata(&self) -> Metadata {
        self.lock().metadata.clone()
    }

    /// Attempts that were made: 0 if no instance could be picked, 2 after one retry.
    pub fn attempts(&self) -> u32 {
        self.lock().attempts
    }

    pub(super) fn clear(&self) {
        *self.lock() = Record::default();
    }

    pub(super) fn begin_attempt(&self) {
        let mut record = self.lock();
        record.attempts += 1;
        record.metadata = Metadata::default();
    }

    pub(super) fn set_metadata(&self, metadata: Metadata) {
        self.lock().metadata = metadata;
    }

    pub(super) fn end_attempt(&self, instance: String) {
        self.lock().instance = Some(instance);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
