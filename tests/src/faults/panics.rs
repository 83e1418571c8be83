use std::time::{Duration, Instant};

use ms_rpc::{CallOptions, Client, Code};

use crate::{Failure, NodeOptions, NodeProgram, Relay, Row, ShopClient};

/// How many calls the server lets be in flight.
const PERMITS: usize = 50;
/// How long each of those calls takes that find out whether all permits are there.
const WORK: Duration = Duration::from_millis(300);

/// A method panics so many times, as often as the server's permits allow at a time, over one connection.
///
/// # Errors
/// What broke in the harness.
pub async fn handlers_panic(program: &NodeProgram, panics: usize) -> Result<Row, Failure> {
    let options = NodeOptions { permits: Some(PERMITS), ..NodeOptions::default() };
    let node = program.start(options).await?;
    // It counts connections.
    let relay = Relay::to(node.address()).await?;
    let shop = ShopClient::new(Client::connect(&relay.address().to_string()).await?);
    let shop = shop.with(CallOptions::new().deadline(Duration::from_secs(10)));

    let begin = Instant::now();
    let mut panicked = 0;
    let mut made = 0;
    while made < panics {
        let at_once = PERMITS.min(panics - made);
        let answers = futures_util::future::join_all((0..at_once).map(|_| shop.fail())).await;
        panicked += answers.iter().filter(|answer| is_internal(answer)).count();
        made += at_once;
    }
    let took = begin.elapsed();
    let begin = Instant::now();
    let work = (0..PERMITS).map(|_| shop.work(WORK.as_millis() as u64));
    let worked = futures_util::future::join_all(work).await.iter().filter(|answer| answer.is_ok()).count();
    let together = begin.elapsed();
    // One more than there are permits.
    let work = (0..=PERMITS).map(|_| shop.work(WORK.as_millis() as u64));
    let refused = futures_util::future::join_all(work).await.iter().filter(|answer| answer.is_err()).count();

    let mut row = Row::new(format!("a method panics {panics} times"));
    row.count("calls that are told so", panicked as u64, panics as u64);
    row.count("connections lost", relay.accepted().len() as u64 - 1, 0);
    row.count("permits afterwards", worked as u64, PERMITS as u64);
    row.count("calls beyond them that are refused", refused as u64, 1);
    row.speed("as many calls at once take", Some(together), 2 * WORK);
    row.note(format!("{:.0} panics/s", panics as f64 / took.as_secs_f64()));
    Ok(row)
}

fn is_internal(answer: &Result<(), ms_rpc::Status>) -> bool {
    answer.as_ref().is_err_and(|status| status.code() == Code::Internal)
}
