use std::time::{Duration, Instant};

use ms_rpc::ClientProxy;
use tokio::time::sleep;

use super::scene::static_list;
use crate::{Failure, Fault, Load, NodeOptions, NodeProgram, Relay, Row, ShopClient, Tally, files};

const WINDOW: Duration = Duration::from_millis(100);
/// How many connects in a window are too many, for 2,000 clients.
const MOST: usize = 300;
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// So many clients lose their only server at the same moment, for `outage`. Each makes a call a second.
///
/// # Errors
/// What broke in the harness.
pub async fn clients_reconnect(program: &NodeProgram, clients: usize, outage: Duration) -> Result<Row, Failure> {
    files::need(3 * clients as u64 + 500)?;
    let node = program.start(NodeOptions::default()).await?;
    let relay = Relay::to(node.address()).await?;
    let registry = static_list(&[relay.address()]).await?;
    let shops: Vec<_> = (0..clients).map(|_| ShopClient::new(ClientProxy::new(registry.clone()))).collect();
    for some in shops.chunks(100) {
        futures_util::future::try_join_all(some.iter().map(|shop| shop.find(0))).await?;
    }
    // So that no connection counts as a short one.
    sleep(Duration::from_secs(2)).await;

    let count = clients as u64;
    let load = Load::start(clients as u32, move |number| {
        let shop = shops[(number % count) as usize].clone();
        async move { shop.find(number).await.map(|found| u64::from(found.port)) }
    });
    sleep(Duration::from_secs(1)).await;
    let lost = Instant::now();
    relay.set(Fault::Drop);
    sleep(outage).await;
    relay.set(Fault::None);
    let healed = Instant::now();
    sleep(BACK_WITHIN).await;
    let tally = load.stop().await?;

    let mut row = Row::new(format!("{clients} clients lose their only server at once, for {outage:?}"));
    let connects: Vec<_> = relay.accepted().into_iter().filter(|at| *at >= lost).collect();
    let ((most, at), goal) = (busiest(&connects), MOST * clients / 2_000);
    row.figure(
        format!("connects within 100 ms: at most {goal}"),
        format!("connects within 100 ms: {most}"),
        most <= goal,
    );
    row.note(format!("the most of them {:.1?} after the loss", at.map(|at| at - lost).unwrap_or_default()));
    row.within("all are served again after", all_served(&tally, count, healed), BACK_WITHIN);
    row.note(format!("{} connects in all; {} of {} calls failed", connects.len(), tally.failures(), tally.calls()));
    Ok(row)
}

/// The most connects in any window, and when that begins.
fn busiest(connects: &[Instant]) -> (usize, Option<Instant>) {
    let until = |from: &Instant| connects.partition_point(|at| *at < *from + WINDOW);
    let windows = connects.iter().enumerate().map(|(first, from)| (until(from) - first, Some(*from)));
    windows.max().unwrap_or_default()
}

/// How long after `healed` the last client had its first answer.
fn all_served(tally: &Tally, clients: u64, healed: Instant) -> Option<Duration> {
    let mut first = vec![None; clients as usize];
    for call in tally.ended().iter().filter(|call| call.result.is_ok() && call.end() >= healed) {
        let first = &mut first[(call.number % clients) as usize];
        *first = Some(first.map_or(call.end(), |first: Instant| first.min(call.end())));
    }
    first.into_iter().try_fold(Duration::ZERO, |last, first| Some(last.max(first? - healed)))
}
