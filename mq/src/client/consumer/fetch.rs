//! Fetchers: one per node, each with one pop under way while there is room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ms_register::Instance;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{
    settle::Ending,
    shared::{Phase, Shared},
};
use crate::{Pop, client::waits::SLICE};

/// Time between two looks at the list of nodes.
const LOOK: Duration = Duration::from_millis(500);
/// Pause after an error.
const PAUSE: Duration = Duration::from_millis(500);
/// Time for an answer beyond the wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs until the consumer stops, and the pops that are under way have ended.
pub(super) async fn run(shared: Arc<Shared>, endings: mpsc::Sender<Ending>) {
    let mut fetchers = JoinSet::new();
    let mut known: BTreeMap<String, AbortHandle> = BTreeMap::new();
    let count = watch::Sender::new(1);
    while shared.is_running() {
        match shared.nodes.listed().await {
            Ok(nodes) => {
                count.send_replace(nodes.len());
                known.retain(|id, fetcher| {
                    let is_listed = nodes.iter().any(|node| node.id() == id);
                    if !is_listed {
                        fetcher.abort();
                    }
                    is_listed
                });
                for node in nodes {
                    let id = node.id().to_owned();
                    known.entry(id).or_insert_with(|| fetchers.spawn(fetch(shared.clone(), node, count.subscribe())));
                }
            }
            Err(error) => shared.report.failed("", usize::MAX, &error),
        }
        while fetchers.try_join_next().is_some() {}
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shared.reached(Phase::Stopping) => {}
        }
    }
    while fetchers.join_next().await.is_some() {}
    drop(endings);
}

/// Pops from one node.
async fn fetch(shared: Arc<Shared>, node: Instance, nodes: watch::Receiver<usize>) {
    let mut freed = shared.room.subscribe();
    while shared.is_running() {
        freed.mark_unchanged();
        let count = *nodes.borrow();
        let room = shared.held().room(count);
        let Some((max_messages, max_bytes)) = room else {
            tokio::select! {
                // An error is impossible: the sender lives as long as `shared`.
                _ = freed.changed() => {}
                () = shared.reached(Phase::Stopping) => {}
            }
            continue;
        };
        let wish = Pop { max_messages, max_bytes, ..Pop::new(shared.topic.as_str(), shared.queue.as_str()) };
        match shared.waits.pop(&shared.nodes, &node, &wish, SLICE, PATIENCE).await {
            Ok(deliveries) => {
                shared.report.popped(node.id());
                if !deliveries.is_empty() {
                    shared.held().add(deliveries, max_messages, Instant::now());
                    shared.work.notify_one();
                    shared.leases.notify_one();
                }
            }
            Err(error) => {
                shared.report.failed(node.id(), count, &error);
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shared.reached(Phase::Stopping) => {}
                }
            }
        }
    }
}
