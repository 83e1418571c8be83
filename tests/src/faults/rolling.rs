use std::time::Duration;

use super::{
    Registry,
    scene::{Calls, client, must_be_called, nodes, warm, working},
};
use crate::{Failure, Ledger, NodeOptions, NodeProgram, Row};

/// Calls a second that take longer than a restart.
const SLOW_RATE: u32 = 50;
const SLOW: Duration = Duration::from_millis(500);

/// Three instances, one after the other, are asked to shut down (SIGTERM) under load and started again on their ports,
/// `rounds` times over.
///
/// # Errors
/// What broke in the harness.
pub async fn rolling_restart(
    program: &NodeProgram,
    registry: Registry,
    rounds: usize,
    rate: u32,
) -> Result<Row, Failure> {
    let server = registry.start().await?;
    let directory = tempfile::tempdir()?;
    let ledger = Ledger::open(directory.path().join("ledger"))?;
    let options = NodeOptions {
        registry: Some(server.url()),
        ledger: Some(ledger.path().to_owned()),
        pause: Duration::from_millis(5),
        ..NodeOptions::default()
    };
    let mut nodes = nodes(program, 3, &options).await?;
    let shop = client(&ms_register::connect(&server.url()).await?)?;
    warm(&shop, &nodes).await?;

    let calls = Calls::start(&shop, rate);
    let slow = working(&shop, SLOW_RATE, SLOW);
    let mut unclean = 0;
    for node in (0..rounds).flat_map(|_| 0..3) {
        let node = &mut nodes[node];
        unclean += u64::from(!node.stop().await?.success());
        node.start().await?;
        must_be_called(&shop, node.address()).await?;
    }
    let (finds, reserves) = (calls.finds.stop().await?, calls.reserves.stop().await?);
    let slow = slow.stop().await?;

    let twice = ledger.executions()?.values().filter(|times| **times > 1).count();
    let mut row = Row::new(format!("three instances in {} are restarted in turn, {rounds} rounds", registry.name()));
    row.count("failed idempotent calls", finds.failures(), 0);
    row.count("failed non-idempotent calls", reserves.failures(), 0);
    row.count(&format!("failed calls of {SLOW:?}"), slow.failures(), 0);
    row.count("non-idempotent calls executed twice", twice as u64, 0);
    row.count("shutdowns that end with an error", unclean, 0);
    let made = finds.rate() + reserves.rate();
    row.note(format!("{} calls at {made:.0}/s of {rate}/s wanted", finds.calls() + reserves.calls()));
    let tally = finds.and(reserves);
    row.note(format!("p99 {:.1?}", tally.quantile(0.99).unwrap_or_default()));
    row.failures(&tally.and(slow));
    Ok(row)
}
