use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Instance, Memory, MsRegister, ServiceName};
use tokio::time::sleep;

use super::scene::{Calls, client, nodes, warm};
use crate::{Failure, Node, NodeOptions, NodeProgram, Row, ShopClient};

/// Calls a second, half of them idempotent.
const RATE: u32 = 500;
const HALF_SECOND: Duration = Duration::from_millis(500);
/// How long a list that shrank suddenly is not believed, with a registry that says nothing of leases.
const HOLD: Duration = Duration::from_secs(10);

/// A registry answers an empty list for `length`, and the right one again. Meanwhile one of the three instances is killed.
///
/// # Errors
/// What broke in the harness.
pub async fn list_emptied(program: &NodeProgram, length: Duration) -> Result<Row, Failure> {
    let (memory, mut nodes, shop) = listed(program, 3).await?;
    let calls = Calls::start(&shop, RATE);
    sleep(HALF_SECOND).await;
    let emptied = Instant::now();
    memory.wipe();
    sleep(length / 2).await;
    let killed = nodes[2].kill().await?;
    let noticed = Instant::now() + HALF_SECOND / 5;
    sleep(length / 2).await;
    nodes.iter().take(2).for_each(|node| insert(&memory, node));
    let full = Instant::now();
    sleep(HALF_SECOND).await;
    let tally = calls.stop().await?;

    let mut row = Row::new(format!("a registry answers an empty list for {length:?}; meanwhile an instance is killed"));
    // When it dies some calls are under way, and nobody knows what became of them.
    let failed = tally.failed().filter(|(call, _)| call.begin > noticed || call.end() < killed).count();
    row.count("failed calls, but for those under way at the death", failed as u64, 0);
    row.count("fewest instances called before", tally.fewest_serving(HALF_SECOND, emptied, killed) as u64, 3);
    row.count("fewest instances called after", tally.fewest_serving(HALF_SECOND, noticed, full) as u64, 2);
    row.note(format!("{} of {} calls at {:.0}/s failed", tally.failures(), tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}

/// After an outage of the registry, three of four instances are missing from its list, though they serve, and stay so.
///
/// # Errors
/// What broke in the harness.
pub async fn list_halved(program: &NodeProgram) -> Result<Row, Failure> {
    let (memory, nodes, shop) = listed(program, 4).await?;
    let calls = Calls::start(&shop, RATE);
    sleep(HALF_SECOND).await;
    let down = Instant::now();
    memory.set_down(true);
    sleep(HALF_SECOND).await;
    for node in &nodes[1..] {
        memory.remove(&service()?, &node.address().to_string());
    }
    memory.set_down(false);
    let halved = Instant::now();
    sleep(HOLD + Duration::from_secs(4)).await;
    let tally = calls.stop().await?;

    let mut row = Row::new("three of four instances are missing from the list after an outage, and stay so");
    row.count("failed calls", tally.failures(), 0);
    let fewest = tally.fewest_serving(HALF_SECOND, down, halved + HOLD - HALF_SECOND);
    row.count("fewest instances called during the hold", fewest as u64, 4);
    let stays = u64::from(nodes[0].address().port());
    let missing = tally.ended().iter().filter(|call| call.result.as_ref().is_ok_and(|port| *port != stays));
    let believed = missing.map(|call| call.begin.saturating_duration_since(halved)).max();
    row.within("the list is believed after", believed, HOLD + Duration::from_secs(2));
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}

/// Instances that somebody else has written into a registry, so that nobody writes them again.
async fn listed(program: &NodeProgram, count: usize) -> Result<(Arc<Memory>, Vec<Node>, ShopClient), Failure> {
    let nodes = nodes(program, count, &NodeOptions::default()).await?;
    let memory = Arc::new(Memory::new());
    nodes.iter().for_each(|node| insert(&memory, node));
    let registry: Arc<dyn MsRegister> = memory.clone();
    let shop = client(&registry)?;
    warm(&shop, &nodes).await?;
    Ok((memory, nodes, shop))
}

fn insert(memory: &Memory, node: &Node) {
    if let Ok(service) = service() {
        memory.insert(&service, Instance::new(node.address().ip().to_string(), node.address().port()));
    }
}

fn service() -> Result<ServiceName, Failure> {
    Ok(ServiceName::new("shop")?)
}
