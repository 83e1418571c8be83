use std::time::{Duration, Instant};

use ms_register::ServiceName;
use tokio::time::timeout;

use super::{
    Registry,
    scene::{Calls, client, nodes, warm},
};
use crate::{Failure, NodeOptions, NodeProgram, Row, Server, request};

/// Calls a second, half of them idempotent.
const RATE: u32 = 500;
const LIMIT: Duration = Duration::from_secs(2);

/// Under load, all that is written in etcd, gregister or ZooKeeper is deleted by hand, and then all leases are revoked or the parents
/// deleted too, `rounds` times over.
///
/// # Errors
/// What broke in the harness.
pub async fn keys_deleted(program: &NodeProgram, kind: Registry, rounds: usize) -> Result<Row, Failure> {
    const INSTANCES: usize = 3;
    let server = kind.start().await?;
    let options = NodeOptions { registry: Some(server.url()), ..NodeOptions::default() };
    let nodes = nodes(program, INSTANCES, &options).await?;
    let registry = ms_register::connect(&server.url()).await?;
    let shop = client(&registry)?;
    warm(&shop, &nodes).await?;
    let calls = Calls::start(&shop, RATE);

    let service = ServiceName::new("shop")?;
    let mut watch = registry.watch(&service);
    let mut slowest = Some(Duration::ZERO);
    for round in 0..2 * rounds {
        delete(kind, &server, round % 2 == 1).await?;
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
    let more = match kind {
        Registry::Etcd => "all leases revoked",
        Registry::Gregister => "twice",
        Registry::Nacos | Registry::Zookeeper => "their parent too",
    };
    let mut row = Row::new(format!("all keys in {} are deleted, {more}, by hand, {rounds} times", kind.name()));
    row.count("failed calls", tally.failures(), 0);
    row.within("all are listed again after", slowest, LIMIT);
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}

/// Deletes all instances of `shop`; `deeper`: and what they stand on.
async fn delete(kind: Registry, server: &Server, deeper: bool) -> Result<(), Failure> {
    match kind {
        Registry::Etcd if deeper => {
            let leases = server.etcdctl(&["lease", "list"]).await?;
            for lease in leases.lines().skip(1) {
                server.etcdctl(&["lease", "revoke", lease]).await?;
            }
        }
        Registry::Etcd => drop(server.etcdctl(&["del", "", "--from-key"]).await?),
        Registry::Gregister => remove_all(server).await?,
        Registry::Zookeeper => server.delete_children("/ms-rpc/shop", deeper).await?,
        Registry::Nacos => return Err("in Nacos nothing is deleted by hand here".into()),
    }
    Ok(())
}

/// As somebody with curl would.
async fn remove_all(server: &Server) -> Result<(), Failure> {
    let address = server.address();
    let listed = request("GET", &address, "/v1/services/shop").await?;
    let listed: serde_json::Value = serde_json::from_str(&listed.body)?;
    for id in listed["instances"].as_array().into_iter().flatten().filter_map(|instance| instance["id"].as_str()) {
        request("DELETE", &address, &format!("/v1/services/shop/{id}")).await?;
    }
    Ok(())
}
