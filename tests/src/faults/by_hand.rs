use std::time::{Duration, Instant};

use ms_register::ServiceName;
use tokio::time::timeout;

use super::{
    Registry,
    scene::{Calls, client, nodes, warm},
};
use crate::{Failure, NodeOptions, NodeProgram, Row};

/// Calls a second, half of them idempotent.
const RATE: u32 = 500;
const LIMIT: Duration = Duration::from_secs(2);

/// Under load, all keys in etcd are deleted by hand, and then all leases revoked, `rounds` times over.
///
/// # Errors
/// What broke in the harness.
pub async fn keys_deleted(program: &NodeProgram, rounds: usize) -> Result<Row, Failure> {
    const INSTANCES: usize = 3;
    let etcd = Registry::Etcd.start().await?;
    let options = NodeOptions { registry: Some(etcd.url()), ..NodeOptions::default() };
    let nodes = nodes(program, INSTANCES, &options).await?;
    let registry = ms_register::connect(&etcd.url()).await?;
    let shop = client(&registry);
    warm(&shop, &nodes).await?;
    let calls = Calls::start(&shop, RATE);

    let service = ServiceName::new("shop")?;
    let mut watch = registry.watch(&service);
    let mut slowest = Some(Duration::ZERO);
    for round in 0..2 * rounds {
        if round % 2 == 0 {
            etcd.etcdctl(&["del", "", "--from-key"]).await?;
        } else {
            let leases = etcd.etcdctl(&["lease", "list"]).await?;
            for lease in leases.lines().skip(1) {
                etcd.etcdctl(&["lease", "revoke", lease]).await?;
            }
        }
        let gone = Instant::now();
        let back = timeout(5 * LIMIT, async {
            while registry.list(&service).await.is_ok_and(|listed| listed.len() < INSTANCES) {
                let _ = watch.changed().await;
            }
        });
        let back = back.await.ok().map(|()| gone.elapsed());
        slowest = slowest.zip(back).map(|(slowest, back)| slowest.max(back));
    }
    let tally = calls.stop().await?;
    let mut row = Row::new(format!("all keys in etcd are deleted, all leases revoked, by hand, {rounds} times"));
    row.count("failed calls", tally.failures(), 0);
    row.within("all are listed again after", slowest, LIMIT);
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}
