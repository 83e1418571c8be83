use std::{io, sync::Arc, time::Duration};

use ms_rpc::Blob;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::Ledger;

/// What `find` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The id that was asked for.
    pub id: u64,
    /// The port of the instance that answers.
    pub port: u16,
}

/// The demo service that nodes serve.
#[ms_rpc::service(name = "shop")]
pub trait Shop {
    /// Reads: executing it twice does no harm.
    #[idempotent]
    async fn find(&self, id: u64) -> Found;
    /// Writes: each execution is noted in the node's ledger. Answers with the instance's port.
    async fn reserve(&self, id: u64) -> u16;
    /// Waits for so many milliseconds.
    async fn work(&self, ms: u64);
    /// So many bytes.
    async fn page(&self, bytes: u32) -> Blob;
    /// Panics.
    async fn fail(&self);
}

/// What one instance of the service needs.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) port: u16,
    /// How long `find` and `reserve` take, so that some calls are under way at any moment.
    pub(crate) pause: Duration,
    pub(crate) ledger: Option<Arc<Ledger>>,
}

impl Counter {
    async fn pause(&self) {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
    }
}

impl Shop for Counter {
    async fn find(&self, id: u64) -> Found {
        self.pause().await;
        Found { id, port: self.port }
    }

    async fn reserve(&self, id: u64) -> u16 {
        // Before the pause: a node that is killed meanwhile has executed it.
        self.ledger.iter().try_for_each(|ledger| ledger.note(id)).unwrap_or_else(|error: io::Error| {
            panic!("an execution cannot be noted: {error}");
        });
        self.pause().await;
        self.port
    }

    async fn work(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }

    async fn page(&self, bytes: u32) -> Blob {
        Blob::from(vec![7; bytes as usize])
    }

    async fn fail(&self) {
        panic!("as asked");
    }
}
