use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Instance, MsRegister, RegisterError, ServiceName};
use tokio::time::sleep;

use super::{
    Registry,
    scene::{in_turn, must_be_called, until},
};
use crate::{Data, Failure, Load, Node, NodeOptions, NodeProgram, Row, ShopClient, ports};

const SERVICES: [&str; 3] = ["books", "maps", "prints"];
/// Of each service, from one process.
const INSTANCES: usize = 2;
const ALL: usize = SERVICES.len() * INSTANCES;
/// Calls a second.
const RATE: u32 = 1_000;

/// The registry is killed and starts again on no data after `outage`. Then all is deregistered, and must stay so for
/// `linger`.
///
/// # Errors
/// What broke in the harness.
pub async fn registry_wiped(
    program: &NodeProgram,
    registry: Registry,
    outage: Duration,
    linger: Duration,
) -> Result<Row, Failure> {
    let mut server = registry.start().await?;
    let mut nodes = Vec::new();
    for service in SERVICES {
        let addresses = ports::addresses(INSTANCES)?;
        let options = NodeOptions { addresses, service: service.to_owned(), ..NodeOptions::default() };
        nodes.push(program.start(NodeOptions { registry: Some(server.url()), ..options }).await?);
    }
    let load = reserving_everywhere(&ms_register::connect(&server.url()).await?, &nodes).await?;

    sleep(Duration::from_secs(1)).await;
    server.kill();
    sleep(outage).await;
    server.start(Data::Wiped).await?;
    let empty = Instant::now();
    // A client that has seen nothing of the outage reads what is there.
    let seen = ms_register::connect(&server.url()).await?;
    let limit = registry.lists_again_within();
    let all_listed = until(2 * limit, || async { lists(&*seen).await.is_ok_and(|all| all.len() == ALL) }).await;
    let again = all_listed.map(|_| empty.elapsed());
    // What is listed twice, or not for long, shows now.
    sleep(linger).await;
    let listed = lists(&*seen).await?;
    let tally = load.stop().await?;

    let mut row = Row::new(format!("{} starts again on no data after {outage:?}", registry.name()));
    row.count("failed calls", tally.failures(), 0);
    row.within("all 6 instances are listed again after", again, limit);
    row.count("entries then", listed.len() as u64, ALL as u64);
    let different: HashSet<_> = listed.iter().map(|(service, instance)| (*service, instance.address())).collect();
    row.count("different ones of them", different.len() as u64, ALL as u64);
    row.count("entries after all has been deregistered", zombies(&*seen, nodes, linger).await? as u64, 0);
    row.note(format!("{} calls at {:.0}/s", tally.calls(), tally.rate()));
    row.failures(&tally);
    Ok(row)
}

/// Calls each service in turn, after each instance has been called.
async fn reserving_everywhere(registry: &Arc<dyn MsRegister>, nodes: &[Node]) -> Result<Load, Failure> {
    let proxy = in_turn(registry)?;
    let shops = SERVICES.map(|service| ShopClient::named(service, &proxy));
    for (shop, node) in shops.iter().zip(nodes) {
        for address in node.addresses() {
            must_be_called(shop, *address).await?;
        }
    }
    Ok(Load::start(RATE, move |number| {
        let shop = shops[number as usize % SERVICES.len()].clone();
        async move { shop.reserve(number).await.map(u64::from) }
    }))
}

async fn lists(registry: &dyn MsRegister) -> Result<Vec<(&'static str, Instance)>, RegisterError> {
    let mut all = Vec::new();
    for service in SERVICES {
        let listed = registry.list(&ServiceName::new(service)?).await?;
        all.extend(listed.into_iter().map(|instance| (service, instance)));
    }
    Ok(all)
}

/// What is still listed, or again, when all nodes have shut down.
async fn zombies(registry: &dyn MsRegister, mut nodes: Vec<Node>, linger: Duration) -> Result<usize, Failure> {
    futures_util::future::try_join_all(nodes.iter_mut().map(Node::stop)).await?;
    let at_once = lists(registry).await?.len();
    sleep(linger).await;
    Ok(at_once.max(lists(registry).await?.len()))
}
