//! `ms mq pop`.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use ms_mq::{DEFAULT_QUEUE, Delivery, MqClient, Pop};
use serde_json::{Map, Value};

use crate::{
    exit::Failure,
    output::{Output, put_bytes, put_headers, row},
    times,
};

#[derive(Args, Debug)]
pub(crate) struct PopArgs {
    topic: String,
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,
    /// Time to wait for a message.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = times::parse)]
    wait: Duration,
    /// Messages at most. Several need --json or --lines, so that their bodies can be told apart.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
    /// Ends each body with a line feed.
    #[arg(long)]
    lines: bool,
    /// Acknowledges once the bodies are written; else the receipts are for `ack`, `nack` or `touch`.
    #[arg(long)]
    ack: bool,
}

pub(super) async fn run(client: &MqClient, args: PopArgs, output: &Output) -> Result<(), Failure> {
    if args.max > 1 && !args.lines && !output.is_json() {
        return Err(Failure::Usage("--max: several bodies need --json or --lines to be told apart".to_owned()));
    }
    let wish = Pop {
        wait_ms: times::millis(args.wait),
        max_messages: args.max,
        ..Pop::new(args.topic.as_str(), args.queue.as_str())
    };
    let popped = client.pop(&wish).await?;
    if popped.is_empty() {
        return Err(Failure::Empty("no message".to_owned()));
    }
    let receipts: Vec<_> = popped.iter().filter_map(|delivery| delivery.receipt).collect();
    if let Err(failure) = write(&popped, &args, output) {
        // A message that was not written is for the next consumer.
        client.give_back(&receipts).await?;
        return Err(failure);
    }
    if args.ack {
        for receipt in receipts {
            client.ack(receipt).await?;
        }
    }
    Ok(())
}

fn write(popped: &[Delivery], args: &PopArgs, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.rows(&[], &popped.iter().map(object).collect::<Vec<_>>());
    }
    for delivery in popped {
        let end: &[u8] = if args.lines { b"\n" } else { b"" };
        output.bytes(&[&delivery.body, end])?;
        if let (Some(receipt), false) = (delivery.receipt, args.ack) {
            writeln!(io::stderr(), "receipt {receipt} of message {}, retries {}", delivery.id, delivery.retries)?;
        }
    }
    Ok(())
}

fn object(delivery: &Delivery) -> Map<String, Value> {
    let mut row = row! {
        "id": delivery.id.to_string(),
        "node": delivery.id.node().get(),
        "receipt": delivery.receipt.map(|receipt| receipt.to_string()),
        "lease_ms": delivery.lease().map(times::millis),
        "retries": delivery.retries,
    };
    put_headers(&mut row, delivery.headers.iter().map(|(key, value)| (key.as_str(), &value[..])));
    put_bytes(&mut row, "body", &delivery.body);
    row
}
