//! Dials nodes to see whether they are there.

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Networks,
    node::{Node, Undone, WeakNode},
    record::Joined,
    state::Request,
};

const EVERY: Duration = Duration::from_secs(2);
/// For names, and for each address that they have, together.
const WITHIN: Duration = Duration::from_secs(1);

/// Probes all nodes for as long as there is one to ask.
pub(crate) fn start(node: &Node, networks: Networks) {
    tokio::spawn(run(node.downgrade(), networks));
}

async fn run(node: WeakNode, networks: Networks) {
    let mut rounds = interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let Some(node) = node.upgrade() else { return };
        let mut probes = JoinSet::new();
        for joined in node.view().joined.values() {
            probes.spawn(probe(joined.clone(), networks.clone()));
        }
        let outcomes: Vec<_> = probes.join_all().await.into_iter().flatten().collect();
        if !outcomes.is_empty() && matches!(node.ask(Request::Probed(outcomes)).await, Err(Undone::Failed(_))) {
            return;
        }
    }
}

/// `None`: that says nothing about the node.
async fn probe(node: Joined, networks: Networks) -> Option<(u16, String, bool)> {
    let answered = match dial_all(&node, &networks).await {
        Ok(()) => true,
        Err(error) if is_own_fault(&error) => return None,
        Err(_) => false,
    };
    Some((node.id, node.tcp_addr, answered))
}

/// Dials both addresses; a node without one over HTTP gives none.
pub(crate) async fn dial_all(node: &Joined, networks: &Networks) -> io::Result<()> {
    let http = async {
        match node.http_addr.as_str() {
            "" => Ok(()),
            address => dial(address, networks).await,
        }
    };
    let (tcp, http) = tokio::join!(dial(&node.tcp_addr, networks), http);
    tcp.and(http)
}

/// Succeeds if a listener answers at the address. Nothing outside the networks is dialled, whatever the name stands for by now.
async fn dial(address: &str, networks: &Networks) -> io::Result<()> {
    let attempt = async {
        let mut last = io::Error::other("it lies outside the networks that may be dialled");
        for found in lookup_host(address).await? {
            if networks.contain(found.ip()) {
                match TcpStream::connect(found).await {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    };
    timeout(WITHIN, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Returns true if this process, or the system, has too many files open.
fn is_own_fault(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
