//! State that all connections of a gate share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use ms_rpc::{Blob, ClientProxy};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    GateLimits, Member, Routes,
    directory::Directory,
    meter::Meter,
    outbox::{End, Outbox},
};

/// Handler of a message at the gate itself.
pub(crate) type Handler = Arc<dyn Fn(Member, u32, Blob) -> BoxFuture<'static, Option<Blob>> + Send + Sync>;
/// What is pushed to a member.
pub(crate) type Recipient = Arc<Outbox>;

/// State of a gate.
pub(crate) struct Shared {
    /// Group of the gates themselves.
    pub(crate) group: String,
    pub(crate) limits: GateLimits,
    pub(crate) routes: ArcSwap<Routes>,
    pub(crate) handlers: HashMap<u32, Handler>,
    /// Origins of pages whose scripts may connect; `*`: of all.
    pub(crate) origins: Vec<String>,
    pub(crate) proxy: ClientProxy,
    pub(crate) meter: Meter,
    members: Mutex<Directory<Recipient>>,
    changed: watch::Sender<()>,
    is_ending: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        (group, limits, routes): (String, GateLimits, Routes),
        (handlers, origins): (HashMap<u32, Handler>, Vec<String>),
        proxy: ClientProxy,
    ) -> Self {
        Self {
            group,
            limits,
            routes: ArcSwap::from_pointee(routes),
            handlers,
            origins,
            proxy,
            meter: Meter::new(),
            members: Mutex::new(Directory::new("".into(), 1)),
            changed: watch::Sender::new(()),
            is_ending: AtomicBool::new(false),
        }
    }

    /// Begins with this directory, which is empty, when the gate's id is known: before the first client.
    pub(crate) fn open(&self, members: Directory<Recipient>) {
        *self.members() = members;
    }

    pub(crate) fn members(&self) -> MutexGuard<'_, Directory<Recipient>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notified of members that come and go.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Messages go to these groups from now on. Each is followed in the registry at once, so that its list is known before it is used.
    pub(crate) fn set_routes(&self, routes: Arc<Routes>) {
        for group in routes.groups().filter(|group| *group != self.group) {
            if let Err(status) = self.proxy.instances(group) {
                warn!("group `{group}` is not followed: {status}");
            }
        }
        self.routes.store(routes);
    }

    /// Takes a client in.
    pub(crate) fn join(&self, address: Arc<str>, to: Recipient) -> Member {
        let member = self.members().join(address, to.clone());
        if self.is_ending() {
            to.end(End::Shutdown);
        }
        self.changed.send_replace(());
        self.meter.joined();
        member
    }

    pub(crate) fn leave(&self, number: u64) {
        self.members().leave(number);
        self.changed.send_replace(());
        self.meter.left();
    }

    /// Queues a frame for a member; a member for which too much waits is dropped.
    pub(crate) fn push(&self, to: &Recipient, frame: Bytes) -> bool {
        let pushed = to.push(frame);
        if pushed {
            self.meter.pushed();
        }
        pushed
    }

    /// Returns true when the gate shuts down.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Ends all connections, and those of clients that come too late.
    pub(crate) fn end_all(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.changed.send_replace(());
        for member in self.members().all() {
            member.end(End::Shutdown);
        }
    }
}
