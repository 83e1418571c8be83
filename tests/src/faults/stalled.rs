use std::time::{Duration, Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::scene::{client, finding, listed_by_hand, must_be_called, until};
use crate::{
    Failure, Node, NodeOptions, NodeProgram, Row,
    wire::{self, Codec},
};

/// Calls a second of a client that reads.
const RATE: u32 = 500;
/// What each client that does not read asks for: far more than the server is willing to keep for it.
const PAGES: u64 = 128;
const PAGE: u32 = 64 << 10;
/// A server closes a client that takes nothing after 10 s; what has to be seen by then, and some time to see it.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);
const SETTLES: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// So many clients ask for much and read nothing, while another one goes on.
///
/// # Errors
/// What broke in the harness.
pub async fn clients_stop_reading(program: &NodeProgram, clients: usize) -> Result<Row, Failure> {
    let nodes = [program.start(NodeOptions::default()).await?];
    let [node] = &nodes;
    let shop = client(&listed_by_hand(&nodes).await?)?;
    must_be_called(&shop, node.address()).await?;
    let load = finding(&shop, RATE);
    sleep(Duration::from_secs(5)).await;
    let calm = load.stop().await?;
    let (memory, files) = (node.rss()?, node.open_files()?);

    let load = finding(&shop, RATE);
    let stalled = stalled(node, clients).await?;
    // The flood of their requests has been dealt with by then.
    let settled = Instant::now() + SETTLES;
    let mut most = memory;
    let closed = until(2 * CLOSED_WITHIN, || {
        most = most.max(node.rss().unwrap_or_default());
        let open = node.open_files();
        async move { open.is_ok_and(|open| open <= files) }
    });
    let closed = closed.await;
    drop(stalled);
    let tally = load.stop().await?;

    let mut row =
        Row::new(format!("{clients} clients ask for {} MiB each and read nothing", PAGES * u64::from(PAGE) / MIB));
    let grown = (most - memory) as f64 / MIB as f64;
    row.figure("memory grows by at most 128 MiB", format!("memory grows by {grown:.1} MiB"), grown <= 128.0);
    row.within("all are closed after", closed, CLOSED_WITHIN);
    row.count("failed calls of the client that reads", calm.failures() + tally.failures(), 0);
    let before = calm.quantile(0.99).unwrap_or_default();
    let beside = tally.quantile_of(0.99, |call| call.result.is_ok() && call.begin >= settled);
    row.speed("its p99 meanwhile, twice of before", beside, 2 * before);
    row.note(format!("its p99 with the flood of their requests: {:.1?}", tally.quantile(0.99).unwrap_or_default()));
    row.failures(&tally);
    Ok(row)
}

async fn stalled(node: &Node, clients: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut stalled = Vec::with_capacity(clients);
    for number in 0..clients {
        let mut stream = wire::connect(node.address()).await?;
        let codec = [Codec::Bincode, Codec::Json][number % 2];
        let requests: Vec<u8> = (1..=PAGES).flat_map(|sequence| wire::request(sequence, "page", PAGE, codec)).collect();
        stream.write_all(&requests).await?;
        stalled.push(stream);
    }
    Ok(stalled)
}
