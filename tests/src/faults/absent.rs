use std::time::{Duration, Instant};

use super::{
    Registry,
    scene::{client, until_called},
};
use crate::{Data, Failure, NodeOptions, NodeProgram, Row, Server};

/// The time that is promised, and what it takes to start a process.
const LIMIT: Duration = Duration::from_millis(3_500);

/// A client and a server start while the registry is down, and while it is frozen.
///
/// # Errors
/// What broke in the harness.
pub async fn registry_absent(program: &NodeProgram, registry: Registry) -> Result<Row, Failure> {
    let mut server = registry.start().await?;
    let url = server.url();
    let mut row = Row::new(format!("{} is down, or frozen, when a client or a server starts", registry.name()));
    server.freeze()?;
    starts(program, &url, "frozen", &mut row).await;
    server.thaw()?;
    server.kill();
    starts(program, &url, "down", &mut row).await;
    starts_in_background(program, registry, &mut server, &mut row).await?;
    Ok(row)
}

/// A client and a server that need not wait for the registry find each other when it comes up.
async fn starts_in_background(
    program: &NodeProgram,
    registry: Registry,
    server: &mut Server,
    row: &mut Row,
) -> Result<(), Failure> {
    let url = server.url();
    let begin = Instant::now();
    let shop = client(&ms_register::connect_in_background(&url)?)?;
    row.within("in the background, a client starts after", Some(begin.elapsed()), LIMIT);
    let begin = Instant::now();
    let options = NodeOptions { registry: Some(url), in_background: true, ..NodeOptions::default() };
    let node = program.start(options).await?;
    row.within("in the background, a server starts after", Some(begin.elapsed()), LIMIT);
    server.start(Data::Kept).await?;
    let limit = registry.lists_again_within();
    row.within("the one calls the other after", until_called(&shop, node.address(), 4 * limit).await, limit);
    Ok(())
}

async fn starts(program: &NodeProgram, url: &str, how: &str, row: &mut Row) {
    let begin = Instant::now();
    let client = ms_register::connect(url).await;
    let after = begin.elapsed();
    let text = client.err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
    judge(row, &format!("{how}, a client"), url, after, &text);

    let begin = Instant::now();
    let node = program.start(NodeOptions { registry: Some(url.to_owned()), ..NodeOptions::default() }).await;
    let after = begin.elapsed();
    let text = node.err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
    judge(row, &format!("{how}, a server"), url, after, &text);
}

fn judge(row: &mut Row, who: &str, url: &str, after: Duration, text: &str) {
    row.within(&format!("{who} says so after"), Some(after), LIMIT);
    row.count(&format!("{who} names it"), u64::from(text.contains(url)), 1);
    if !text.contains(url) {
        row.note(format!("{who} says: {text}"));
    }
}
