//! Keeper: renews the leases of all messages that are held.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use ms_rpc::{CallError, CallOptions};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    held::{Renewal, patience},
    settle::{End, Ending},
    shared::Shared,
};
use crate::{Extensions, MqError, MqNodeClient as Stub};

/// Runs until it is aborted. Messages that have waited for a handler too long are given back through `endings`.
pub(super) async fn run(shared: Arc<Shared>, endings: mpsc::WeakSender<Ending>) {
    let mut renewals = FuturesUnordered::new();
    loop {
        give_stale_back(&shared, &endings);
        let due = shared.held().due(Instant::now());
        for id in due.lost {
            warn!("the lease of message {id} of topic {:?} ended: it could not be renewed in time", shared.topic);
        }
        for renewal in due.renewals {
            renewals.push(renew(shared.clone(), renewal));
        }
        tokio::select! {
            () = shared.leases.notified() => {}
            () = until(due.next) => {}
            Some(()) = renewals.next(), if !renewals.is_empty() => {}
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

fn give_stale_back(shared: &Shared, endings: &mpsc::WeakSender<Ending>) {
    let Some(endings) = endings.upgrade() else { return };
    while let Ok(permit) = endings.try_reserve() {
        let Some(receipt) = shared.held().take_stale(Instant::now()) else { return };
        permit.send(Ending { receipt, end: End::Return });
    }
}

async fn renew(shared: Arc<Shared>, renewal: Renewal) {
    let Renewal { receipt, length } = renewal;
    let (asked, length_ms) = (Instant::now(), u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    let touch = |node: Stub| async move {
        let node = node.with(CallOptions::new().deadline(patience(length)).idempotent());
        node.touch(receipt, Some(length_ms), Extensions::default()).await.map(drop)
    };
    match shared.nodes.at_origin(&receipt, touch).await {
        Ok(()) => shared.held().renewed(&renewal, asked),
        Err(CallError::Service(error @ (MqError::NotLeased(_) | MqError::OtherNode { .. }))) => {
            if let Some(id) = shared.held().lost(&receipt) {
                warn!("the lease of message {id} of topic {:?} is lost: {error}", shared.topic);
            }
        }
        Err(error) => {
            debug!("the lease of message {} is not renewed yet: {error}", receipt.id());
            shared.held().not_renewed(&renewal, Instant::now());
        }
    }
}
