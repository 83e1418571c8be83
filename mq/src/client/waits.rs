//! Pops that wait at a node. A pop that its caller drops is parked: the next one for the same messages takes it over, and
//! what comes before that is given back, so no answer is lost between two pops.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use ms_register::Instance;
use ms_rpc::{CallOptions, Code, Status};
use tokio::{runtime::Handle, sync::oneshot};
use tracing::debug;

use super::{QueueError, nodes::Nodes};
use crate::{Delivery, Extensions, MqNodeClient as Stub, Pop};

/// Longest wait of one call. Short, since a parked pop takes messages and gives them back until its wait is over.
pub(super) const SLICE: Duration = Duration::from_millis(250);

type Popped = Result<Vec<Delivery>, QueueError>;

/// Pops that are under way at the nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits(Arc<Mutex<Parked>>);

#[derive(Debug, Default)]
struct Parked {
    last: u64,
    pops: HashMap<Key, Vec<(u64, oneshot::Receiver<Popped>)>>,
}

/// Pops with equal keys bring the same messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    node: String,
    topic: String,
    queue: String,
    most: (u32, u32),
    waits: bool,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pops at one node, and waits there for at most `wait`, up to [`SLICE`]. A node that does not answer within `patience`
    /// beyond that fails the pop.
    pub(super) fn pop(
        &self,
        nodes: &Nodes,
        node: &Instance,
        wish: &Pop,
        wait: Duration,
        patience: Duration,
    ) -> Waiting {
        let wait = wait.min(SLICE);
        let key = Key {
            node: node.id().to_owned(),
            topic: wish.topic.clone(),
            queue: wish.queue.clone(),
            most: (wish.max_messages, wish.max_bytes),
            waits: !wait.is_zero(),
        };
        let mut parked = self.lock();
        if key.waits
            && let Some((token, receiver)) = parked.pops.get_mut(&key).and_then(Vec::pop)
        {
            return Waiting { waits: self.clone(), key, token, receiver: Some(receiver), origin: nodes.at(node) };
        }
        parked.last += 1;
        let token = parked.last;
        drop(parked);
        let (sender, receiver) = oneshot::channel();
        let wish = Pop { wait_ms: wait.as_millis() as u64, ..wish.clone() };
        let (waits, origin, task_key) = (self.clone(), nodes.at(node), key.clone());
        let (learns, instance) = (nodes.clone(), node.clone());
        let options = CallOptions::new().deadline(wait + patience);
        let stub = if key.waits { nodes.waiting_at(node, options) } else { origin.with(options) };
        tokio::spawn(async move {
            let popped = stub.pop(wish).await.map(|answer| answer.value);
            if let Ok([Delivery { receipt: Some(receipt), .. }, ..]) = popped.as_deref() {
                learns.learn(&instance, receipt);
            }
            if let Some(Ok(deliveries)) = waits.hand_over(&task_key, token, popped, sender) {
                give_back(&origin, &deliveries).await;
            }
        });
        Waiting { waits: self.clone(), key, token, receiver: Some(receiver), origin: nodes.at(node) }
    }
}

impl Waits {
    /// Hands a result to the pop that waits for it; returns it if that one was dropped.
    fn hand_over(&self, key: &Key, token: u64, popped: Popped, sender: oneshot::Sender<Popped>) -> Option<Popped> {
        // Sent under the lock, since a pop that is dropped looks under the lock whether its result has come.
        let mut parked = self.lock();
        match parked.take(key, token) {
            Some(_) => Some(popped),
            None => sender.send(popped).err(),
        }
    }
}

impl Parked {
    fn take(&mut self, key: &Key, token: u64) -> Option<oneshot::Receiver<Popped>> {
        let pops = self.pops.get_mut(key)?;
        let found = pops.iter().position(|(of, _)| *of == token).map(|at| pops.swap_remove(at).1);
        if pops.is_empty() {
            self.pops.remove(key);
        }
        found
    }
}

/// A pop at one node that is under way. Dropped, it is parked.
#[derive(Debug)]
pub(super) struct Waiting {
    waits: Waits,
    key: Key,
    token: u64,
    /// Absent once the result was read.
    receiver: Option<oneshot::Receiver<Popped>>,
    origin: Stub,
}

impl Future for Waiting {
    type Output = Popped;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Popped> {
        let popped = match &mut self.receiver {
            Some(receiver) => ready!(Pin::new(receiver).poll(context)),
            None => return Poll::Pending,
        };
        self.receiver = None;
        let ended = || Err(Status::new(Code::Cancelled, "the runtime of the pop has ended").into());
        Poll::Ready(popped.unwrap_or_else(|_| ended()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        let mut parked = self.waits.lock();
        match receiver.try_recv() {
            Ok(popped) => {
                drop(parked);
                let (Ok(deliveries), Ok(runtime)) = (popped, Handle::try_current()) else { return };
                let origin = self.origin.clone();
                runtime.spawn(async move { give_back(&origin, &deliveries).await });
            }
            Err(oneshot::error::TryRecvError::Empty) => {
                parked.pops.entry(self.key.clone()).or_default().push((self.token, receiver));
            }
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
    }
}

/// Returns messages to their node, ready at once and without counting a retry.
pub(super) async fn give_back(origin: &Stub, deliveries: &[Delivery]) {
    let receipts: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.receipt).collect();
    if receipts.is_empty() {
        return;
    }
    if let Err(error) = origin.give_back(receipts, Extensions::default()).await {
        debug!("{} messages come again when their leases end: {error}", deliveries.len());
    }
}
