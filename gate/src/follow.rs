//! Members of all gates, followed by a back end.

mod view;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ms_register::{Freshness, MsRegister, ServiceName, Snapshot};
use ms_rpc::{CallOptions, Status};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tracing::debug;

use crate::{GateBackend, GateClient, node::GateNodeClient};

use view::View;

/// Longest wait of one question for changes.
const WAIT: Duration = Duration::from_secs(20);
/// Pause after a question that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Members of a gate that did not answer for so long have left, even if it is still listed.
const LOST: Duration = Duration::from_secs(30);

/// Follows the members of all gates until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it follows no more"]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl GateClient {
    /// Tells `backend` of each member that [joins](GateBackend::joined) and [leaves](GateBackend::left), at all gates that `registry`
    /// lists, from now on; those that are connected join first. Members of a gate that is listed no more have left, and so have those of
    /// a gate that did not answer for 30 s.
    ///
    /// # Errors
    /// The name of the gates' service is illegal.
    pub fn follow<B: GateBackend>(&self, registry: &Arc<dyn MsRegister>, backend: Arc<B>) -> Result<Following, Status> {
        let service = ServiceName::new(&*self.group)?;
        let (client, registry) = (self.clone(), registry.clone());
        Ok(Following(tokio::spawn(async move { follow_all(client, registry, service, backend).await })))
    }
}

async fn follow_all<B: GateBackend>(
    client: GateClient,
    registry: Arc<dyn MsRegister>,
    service: ServiceName,
    backend: Arc<B>,
) {
    let mut watch = registry.watch(&service);
    let mut gates: HashMap<String, watch::Sender<bool>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut snapshot = watch.current();
    loop {
        for id in listed(&snapshot) {
            gates.entry(id.clone()).or_insert_with(|| {
                let (gone, is_gone) = watch::channel(false);
                let options = CallOptions::new().instance(&id).deadline(WAIT);
                tasks.spawn(follow_gate(client.gates.with(options), is_gone, backend.clone()));
                gone
            });
        }
        if snapshot.freshness() == Freshness::Live {
            gates.retain(|id, gone| {
                let is_listed = listed(&snapshot).any(|known| known == *id);
                if !is_listed {
                    gone.send_replace(true);
                }
                is_listed
            });
        }
        tokio::select! {
            changed = watch.changed() => match changed {
                Ok(next) => snapshot = next,
                Err(closed) => return debug!("gates are followed no more: {closed}"),
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

fn listed(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    snapshot.instances().iter().map(|instance| instance.id().to_owned())
}

/// Follows the members of one gate until it is gone, and they with it.
async fn follow_gate<B: GateBackend>(gate: GateNodeClient, mut is_gone: watch::Receiver<bool>, backend: Arc<B>) {
    let (mut view, mut heard) = (View::default(), Instant::now());
    loop {
        let asked = Instant::now();
        let answer = tokio::select! {
            answer = gate.changes(view.cursor()) => answer,
            _ = is_gone.wait_for(|gone| *gone) => break,
        };
        let (joined, left) = match answer {
            Ok(changes) => {
                heard = Instant::now();
                let applied = view.apply(changes);
                // A gate that shuts down waits for nothing.
                if applied == (Vec::new(), Vec::new()) && asked.elapsed() < PAUSE {
                    sleep(PAUSE).await;
                }
                applied
            }
            Err(status) => {
                debug!("the members of a gate are not known: {status}");
                let left = if heard.elapsed() >= LOST { view.clear() } else { Vec::new() };
                sleep(PAUSE).await;
                (Vec::new(), left)
            }
        };
        for member in joined {
            backend.joined(member).await;
        }
        for member in left {
            backend.left(member).await;
        }
    }
    for member in view.clear() {
        backend.left(member).await;
    }
}
