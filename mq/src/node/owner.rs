//! The life of the log's thread.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tracing::error;

use super::{inner::Shared, writer::Writer};
use crate::{
    MqError,
    store::{File, Store},
};

/// Ends the thread when it is dropped.
pub(super) struct Owner<F: File> {
    shared: Arc<Shared<F>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// A log's thread that panics must not leave a node that takes what nobody writes.
struct LastWord<F: File>(Arc<Shared<F>>);

impl<F: File> Drop for LastWord<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut inner = self.0.lock();
            inner.failure = Some(MqError::DiskFailed("the thread of the log panicked".to_owned()));
            // The waiters of a group hear that it is gone.
            inner.groups.clear();
            inner.wake_all();
            drop(inner);
            self.0.failed.notify_waiters();
        }
    }
}

impl<F: File> Owner<F> {
    /// Starts the thread.
    pub(super) fn start<S: Store<File = F>>(writer: Writer<S>) -> io::Result<Self> {
        let shared = writer.shared.clone();
        let thread = std::thread::Builder::new().name("mq-log".to_owned()).spawn(move || {
            let _last = LastWord(writer.shared.clone());
            writer.run();
        })?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Tells it to end, and waits for that.
    pub(super) fn close(&self) {
        let mut inner = self.shared.lock();
        inner.closing = true;
        inner.wake_all();
        drop(inner);
        self.shared.space.notify_waiters();
        self.shared.work.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            error!("the thread of the queue's log panicked");
        }
    }
}

impl<F: File> Drop for Owner<F> {
    fn drop(&mut self) {
        self.close();
    }
}
