use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    Registry,
    scene::{client, finding, must_be_called, until_called},
};
use crate::{Failure, NodeOptions, NodeProgram, Row};

/// Calls a second.
const RATE: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(20);

/// While its registry is down, the only instance of a service is killed, stays away for each of `absences`, in seconds,
/// and starts again on its port.
///
/// # Errors
/// What broke in the harness.
pub async fn restart_without_registry(program: &NodeProgram, absences: &[u64]) -> Result<Row, Failure> {
    let mut etcd = Registry::Etcd.start().await?;
    let options = NodeOptions { registry: Some(etcd.url()), ..NodeOptions::default() };
    let mut node = program.start(options).await?;
    let shop = client(&ms_register::connect(&etcd.url()).await?)?;
    must_be_called(&shop, node.address()).await?;
    etcd.kill();
    node.options_mut().in_background = true;

    let load = finding(&shop, RATE);
    let mut listens = Vec::new();
    for absence in absences {
        sleep(Duration::from_secs(1)).await;
        node.kill().await?;
        sleep(Duration::from_secs(*absence)).await;
        node.start().await?;
        listens.push(Instant::now());
        until_called(&shop, node.address(), PATIENCE).await;
    }
    sleep(Duration::from_secs(1)).await;
    let tally = load.stop().await?;
    let mut row = Row::new("the only instance is restarted on its port while the registry is down");
    for (absence, listens) in absences.iter().zip(listens) {
        let answered = tally.ended().iter().filter(|call| call.result.is_ok() && call.end() >= listens);
        let first = answered.map(|call| call.end() - listens).min();
        row.within(&format!("calls resume after {absence} s away"), first, Duration::from_secs(1));
    }
    row.note(format!("{} of {} calls failed meanwhile", tally.failures(), tally.calls()));
    Ok(row)
}
