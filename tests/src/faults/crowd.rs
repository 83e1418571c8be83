use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ms_rpc::{CallOptions, Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, sleep, timeout},
};

use super::scene::{finding, until};
use crate::{
    Failure, NodeOptions, NodeProgram, Row, ShopClient, files,
    wire::{self, Codec},
};

/// Calls a second of one client among them all.
const RATE: u32 = 200;
/// How many of the crowd connect at a time.
const AT_A_TIME: usize = 500;
const GONE_WITHIN: Duration = Duration::from_secs(15);
const MIB: u64 = 1 << 20;

/// A server has so many idle connections, after one call on each, and as many slow clients: half of them say HELLO, the
/// others make a request, at a byte a second.
///
/// # Errors
/// What broke in the harness.
pub async fn idle_and_slow(program: &NodeProgram, idle: usize, slow: usize) -> Result<Row, Failure> {
    files::need((idle + slow) as u64 + 500)?;
    let node = program.start(NodeOptions::default()).await?;
    let address = node.address();
    let single = ShopClient::new(Client::connect(&address.to_string()).await?);
    let begin = Instant::now();
    let crowd = crowd(address, idle).await?;
    let connected = begin.elapsed();
    let memory_idle = node.rss()?;

    let load = finding(&single, RATE);
    let slow_ones = (0..slow).map(|number| tokio::spawn(dawdle(address, number % 2 == 0)));
    let gone = timeout(2 * GONE_WITHIN, futures_util::future::try_join_all(slow_ones)).await;
    let gone = match gone {
        Ok(times) => times?.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().max(),
        Err(_) => None,
    };
    let memory = node.rss()?;
    let tally = load.stop().await?;
    let lost = futures_util::future::join_all(crowd.iter().map(|shop| shop.find(1))).await;
    let lost = lost.iter().filter(|answer| answer.is_err()).count();

    let mut row = Row::new(format!("{idle} idle connections, {slow} slow clients"));
    let mebibytes = memory.max(memory_idle) as f64 / MIB as f64;
    row.figure("server's memory: 64 MiB", format!("server's memory: {mebibytes:.1} MiB"), mebibytes <= 64.0);
    row.within("all slow ones are gone after", gone, GONE_WITHIN);
    row.count("idle connections lost", lost as u64, 0);
    row.count("failed calls of one more client", tally.failures(), 0);
    row.note(format!("all idle ones connected after {connected:.1?}"));
    row.failures(&tally);
    Ok(row)
}

/// So many clients, each with a connection that has made a call.
async fn crowd(address: SocketAddr, size: usize) -> Result<Vec<ShopClient>, Failure> {
    let patient = CallOptions::new().deadline(Duration::from_secs(10));
    let mut crowd = Vec::with_capacity(size);
    while crowd.len() < size {
        let joining = (0..AT_A_TIME.min(size - crowd.len())).map(|_| async {
            let shop = ShopClient::new(Client::connect(&address.to_string()).await?).with(patient.clone());
            shop.find(0).await?;
            Ok::<_, ms_rpc::Status>(shop)
        });
        crowd.extend(futures_util::future::try_join_all(joining).await?);
    }
    Ok(crowd)
}

/// Sends a byte a second until the server closes the connection; says after how long.
async fn dawdle(address: SocketAddr, in_hello: bool) -> Result<Duration, Failure> {
    let (mut stream, bytes) = if in_hello {
        (TcpStream::connect(address).await?, wire::hello())
    } else {
        (
            wire::connect(address).await?,
            wire::request(1, "a_method_whose_name_takes_more_than_fifteen_seconds", 1, Codec::Json),
        )
    };
    let begin = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    let mut bytes = bytes.into_iter();
    let mut heard = [0; 256];
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Some(byte) = bytes.next() else { return Err("a slow client was heard to the end".into()) };
                if stream.write_all(&[byte]).await.is_err() {
                    return Ok(begin.elapsed());
                }
            }
            // The server's HELLO and GOAWAY come, and then its end.
            length = stream.read(&mut heard) => if length.unwrap_or(0) == 0 {
                return Ok(begin.elapsed());
            },
        }
    }
}

/// More clients come than a server may have files open; then they go.
///
/// # Errors
/// What broke in the harness.
pub async fn out_of_files(program: &NodeProgram) -> Result<Row, Failure> {
    const FILES: u64 = 64;
    let node = program.start(NodeOptions { max_files: Some(FILES), ..NodeOptions::default() }).await?;
    let address = node.address();
    let single = ShopClient::new(Client::connect(&address.to_string()).await?);
    let load = finding(&single, RATE);
    let mut crowd = Vec::new();
    for _ in 0..2 * FILES {
        crowd.push(TcpStream::connect(address).await?);
    }
    let full =
        until(Duration::from_secs(5), || async { node.open_files().is_ok_and(|open| open as u64 >= FILES) }).await;
    sleep(Duration::from_secs(1)).await;
    drop(crowd);
    let begin = Instant::now();
    let late = Client::builder().connect_timeout(Duration::from_secs(10)).connect(&address.to_string()).await;
    let served = match late {
        Ok(client) => ShopClient::new(client).find(1).await.ok().map(|_| begin.elapsed()),
        Err(_) => None,
    };
    let tally = load.stop().await?;
    let mut row = Row::new(format!("{} clients come to a server that may have {FILES} files open, and go", 2 * FILES));
    row.count("the server's files ran out", u64::from(full.is_some()), 1);
    row.count("failed calls of the client before them", tally.failures(), 0);
    row.within("the next client is served after", served, Duration::from_secs(5));
    row.failures(&tally);
    Ok(row)
}
