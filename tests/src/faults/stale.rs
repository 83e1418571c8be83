use std::{path::Path, time::Duration};

use tokio::time::sleep;

use super::{
    Registry,
    scene::{client, must_be_called, reserving, until_called},
};
use crate::{Failure, Ledger, NodeOptions, NodeProgram, Row, ShopClient};

/// Calls a second.
const RATE: u32 = 200;

/// An instance dies, and while the registry still lists it, its port is taken: first by a `shop` of another scope, then by
/// another service with the same methods, each for `length`.
///
/// # Errors
/// What broke in the harness.
pub async fn stale_entry(program: &NodeProgram, length: Duration) -> Result<Row, Failure> {
    let etcd = Registry::Etcd.start().await?;
    let directory = tempfile::tempdir()?;
    // It stays listed for long after its end.
    let right = NodeOptions { registry: Some(format!("{}?ttl=120", etcd.url())), ..NodeOptions::default() };
    let mut node = program.start(right.clone()).await?;
    let shop = client(&ms_register::connect(&etcd.url()).await?)?;
    must_be_called(&shop, node.address()).await?;
    node.kill().await?;

    let addresses = vec![node.address()];
    let elsewhere =
        NodeOptions { addresses: addresses.clone(), registry: Some(format!("{}/other", etcd.url())), ..right.clone() };
    let other = NodeOptions { addresses, service: "orders".to_owned(), ..right };
    let mut row = Row::new(format!("the port of a dead instance that is still listed is taken for {length:?} each"));
    for (what, options) in [("a server of another scope", elsewhere), ("another service", other)] {
        let executed = taken_over(program, options, &shop, directory.path(), length, &mut row).await?;
        row.count(&format!("calls executed by {what}"), executed, 0);
    }
    node.start().await?;
    let back = until_called(&shop, node.address(), Duration::from_secs(30)).await;
    row.note(format!("the right one, back on its port, is called after {back:.1?}"));
    Ok(row)
}

/// How many calls the wrong server executes.
async fn taken_over(
    program: &NodeProgram,
    options: NodeOptions,
    shop: &ShopClient,
    directory: &Path,
    length: Duration,
    row: &mut Row,
) -> Result<u64, Failure> {
    let ledger = Ledger::open(directory.join(&options.service))?;
    let options = NodeOptions { ledger: Some(ledger.path().to_owned()), ..options };
    let mut wrong = program.start(options).await?;
    let load = reserving(shop, RATE);
    sleep(length).await;
    let tally = load.stop().await?;
    wrong.kill().await?;
    row.failures(&tally);
    Ok(ledger.executions()?.values().sum::<u64>() + tally.calls() - tally.failures())
}
