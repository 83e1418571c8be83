use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::scene::{Calls, client, is_unknown, listed_by_hand, must_be_called, nodes, warm};
use crate::{Failure, Ledger, NodeOptions, NodeProgram, Row, Tally};

/// Calls a second, half of them idempotent.
const RATE: u32 = 2_000;
/// How long a call takes: some are under way on each instance at any moment.
const PAUSE: Duration = Duration::from_millis(10);

/// One of three instances after the other is killed under load and started again on its port.
///
/// # Errors
/// What broke in the harness.
pub async fn instances_killed(program: &NodeProgram, kills: usize) -> Result<Row, Failure> {
    let directory = tempfile::tempdir()?;
    let ledger = Ledger::open(directory.path().join("ledger"))?;
    let options = NodeOptions { pause: PAUSE, ledger: Some(ledger.path().to_owned()), ..NodeOptions::default() };
    let mut nodes = nodes(program, 3, &options).await?;
    let shop = client(&listed_by_hand(&nodes).await?)?;
    warm(&shop, &nodes).await?;

    let calls = Calls::start(&shop, RATE);
    let mut killed = Vec::with_capacity(kills);
    for kill in 0..kills {
        let node = &mut nodes[kill % 3];
        killed.push(node.kill().await?);
        node.start().await?;
        must_be_called(&shop, node.address()).await?;
    }
    let (finds, reserves) = (calls.finds.stop().await?, calls.reserves.stop().await?);

    let executions = ledger.executions()?;
    let twice = executions.values().filter(|times| **times > 1).count();
    let forgotten = reserves.calls() - reserves.failures() - executed_and_answered(&reserves, &executions);
    let mut row = Row::new(format!("an instance of three is SIGKILLed under load, {kills} times"));
    row.count("non-idempotent calls executed twice", twice as u64, 0);
    row.count("calls answered and not executed", forgotten, 0);
    row.share("idempotent calls that succeed", finds.calls() - finds.failures(), finds.calls(), 0.9999);
    row.speed("calls in flight fail after", slowest(&reserves, &killed), Duration::from_millis(100));
    row.note(format!(
        "{} calls at {:.0}/s; {} non-idempotent calls lost",
        finds.calls() + reserves.calls(),
        finds.rate() + reserves.rate(),
        reserves.failures()
    ));
    row.failures(&finds.and(reserves));
    Ok(row)
}

fn executed_and_answered(reserves: &Tally, executions: &HashMap<u64, u64>) -> u64 {
    let answered = reserves.ended().iter().filter(|call| call.result.is_ok());
    answered.filter(|call| executions.contains_key(&call.number)).count() as u64
}

/// The longest time from a kill to the end of a call that it cost; zero if it cost none.
fn slowest(reserves: &Tally, killed: &[Instant]) -> Option<Duration> {
    let lost = reserves.failed().filter(|(_, status)| is_unknown(status));
    let after = lost.filter_map(|(call, _)| {
        let kill = killed.iter().rfind(|kill| **kill <= call.end())?;
        Some(call.end() - (*kill).max(call.begin))
    });
    Some(after.max().unwrap_or_default())
}
