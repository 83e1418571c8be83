use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    Registry,
    scene::{Calls, client, nodes, until_called, warm},
};
use crate::{Data, Failure, NodeOptions, NodeProgram, Row};

/// Calls a second, half of them idempotent.
const RATE: u32 = 1_000;
/// Calls after the registry is back: until long after the lists are.
const AFTER: Duration = Duration::from_secs(5);

/// The registry is killed under load and stays away for `outage`. Meanwhile an instance is added.
///
/// # Errors
/// What broke in the harness.
pub async fn registry_killed(program: &NodeProgram, registry: Registry, outage: Duration) -> Result<Row, Failure> {
    let mut server = registry.start().await?;
    let options = NodeOptions { registry: Some(server.url()), ..NodeOptions::default() };
    let nodes = nodes(program, 3, &options).await?;
    let shop = client(&ms_register::connect(&server.url()).await?)?;
    warm(&shop, &nodes).await?;

    let calls = Calls::start(&shop, RATE);
    sleep(Duration::from_secs(1)).await;
    let down = Instant::now();
    server.kill();
    let added = program.start(NodeOptions { in_background: true, ..options }).await?;
    sleep(outage).await;
    server.start(Data::Kept).await?;
    let limit = registry.lists_new_within();
    let called = until_called(&shop, added.address(), 2 * limit).await;
    sleep(AFTER).await;
    let up = Instant::now();
    let tally = calls.stop().await?;
    let mut row = Row::new(format!("{} is killed for {outage:?} under load", registry.name()));
    row.count("failed calls", tally.failures(), 0);
    let fewest = tally.fewest_serving(Duration::from_secs(1), down, up);
    row.count("at least three instances are called in any second", u64::from(fewest >= nodes.len()), 1);
    row.within("an instance added meanwhile is called after", called, limit);
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}

/// The registry, with short leases, is frozen under load for `pause`, and goes on: all leases end at once.
///
/// # Errors
/// What broke in the harness.
pub async fn registry_paused(program: &NodeProgram, registry: Registry, pause: Duration) -> Result<Row, Failure> {
    let server = registry.start().await?;
    let url = match registry {
        Registry::Etcd | Registry::Gregister => format!("{}?ttl=5", server.url()),
        Registry::Nacos => server.url(),
        Registry::Zookeeper => format!("{}?session=5", server.url()),
    };
    let nodes = nodes(program, 3, &NodeOptions { registry: Some(url.clone()), ..NodeOptions::default() }).await?;
    let shop = client(&ms_register::connect(&url).await?)?;
    warm(&shop, &nodes).await?;

    let calls = Calls::start(&shop, RATE);
    sleep(Duration::from_secs(1)).await;
    let frozen = Instant::now();
    server.freeze()?;
    sleep(pause).await;
    server.thaw()?;
    sleep(2 * AFTER).await;
    let end = Instant::now();
    let tally = calls.stop().await?;
    let mut row = Row::new(format!("{} is frozen for {pause:?} under load, and goes on", registry.name()));
    row.count("failed calls", tally.failures(), 0);
    let fewest = tally.fewest_serving(Duration::from_millis(500), frozen, end);
    row.count("fewest instances called in any half second", fewest as u64, 3);
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}
