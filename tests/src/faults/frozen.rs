use std::time::{Duration, Instant};

use ms_rpc::CallOptions;
use tokio::time::sleep;

use super::scene::{Calls, client, listed_by_hand, nodes, static_list, until_called, warm};
use crate::{Failure, Fault, Node, NodeOptions, NodeProgram, Relay, Row, ShopClient};

/// Calls a second, half of them idempotent.
const RATE: u32 = 1_000;
const DEADLINE: Duration = Duration::from_secs(1);
/// Calls before the fault, to be compared with.
const BEFORE: Duration = Duration::from_secs(1);
/// How long the instance may take to be called again when it is well.
const PATIENCE: Duration = Duration::from_secs(70);

/// One of three instances is stopped (SIGSTOP) for `length`, with its sockets open, and then goes on.
///
/// # Errors
/// What broke in the harness.
pub async fn instance_frozen(program: &NodeProgram, length: Duration) -> Result<Row, Failure> {
    let nodes = nodes(program, 3, &NodeOptions::default()).await?;
    let shop = client(&listed_by_hand(&nodes).await?)?;
    let mut row = Row::new(format!("an instance of three is frozen (SIGSTOP) for {length:?}"));
    let [hurt, heal] = [Node::freeze, Node::thaw];
    unresponsive(&mut row, &shop, &nodes, length, || hurt(&nodes[0]), || heal(&nodes[0])).await?;
    Ok(row)
}

/// Between the clients and one of three instances nothing passes for `length`, while connections stay open and new ones
/// are accepted.
///
/// # Errors
/// What broke in the harness.
pub async fn instance_black_holed(program: &NodeProgram, length: Duration) -> Result<Row, Failure> {
    let nodes = nodes(program, 3, &NodeOptions::default()).await?;
    let relay = Relay::to(nodes[0].address()).await?;
    let shop = client(&static_list(&[relay.address(), nodes[1].address(), nodes[2].address()]).await?)?;
    let mut row = Row::new(format!("an instance of three is behind a black hole for {length:?}"));
    let set = |fault| {
        relay.set(fault);
        Ok(())
    };
    unresponsive(&mut row, &shop, &nodes, length, || set(Fault::BlackHole), || set(Fault::None)).await?;
    Ok(row)
}

async fn unresponsive(
    row: &mut Row,
    shop: &ShopClient,
    nodes: &[Node],
    length: Duration,
    hurt: impl Fn() -> Result<(), Failure>,
    heal: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let shop = shop.with(CallOptions::new().deadline(DEADLINE));
    warm(&shop, nodes).await?;
    let calls = Calls::start(&shop, RATE);
    sleep(BEFORE).await;
    let hurt_at = Instant::now();
    hurt()?;
    sleep(length).await;
    heal()?;
    let back = until_called(&shop, nodes[0].address(), PATIENCE).await;
    let tally = calls.stop().await?;

    let noticed = tally.failed().map(|(call, _)| call.begin.saturating_duration_since(hurt_at)).max();
    row.within(
        "the last call that it costs is made after",
        Some(noticed.unwrap_or_default()),
        Duration::from_millis(3_500),
    );
    row.speed("a call outlives its deadline by", Some(tally.overrun(DEADLINE)), Duration::from_millis(50));
    row.note(format!("{} of {} calls at {:.0}/s failed", tally.failures(), tally.calls(), tally.rate()));
    row.note(back.map_or_else(|| "it is not called again".to_owned(), |back| format!("called again after {back:.1?}")));
    row.failures(&tally);
    Ok(())
}
