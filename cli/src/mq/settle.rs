//! `ms mq ack`, `nack`, `bury`, `touch` and `return`.

use std::time::Duration;

use clap::Args;
use ms_mq::{MqClient, QueueError, Receipt};

use crate::{exit::Failure, times};

#[derive(Args, Debug)]
pub(crate) struct AckArgs {
    #[arg(required = true)]
    receipts: Vec<Receipt>,
}

#[derive(Args, Debug)]
pub(crate) struct NackArgs {
    receipt: Receipt,
    /// Time until the next delivery.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = times::parse)]
    delay: Duration,
    /// Kept with the message if it becomes a dead letter.
    #[arg(long, default_value = "nacked by ms mq nack")]
    reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct BuryArgs {
    receipt: Receipt,
    /// Kept with the dead letter.
    #[arg(long, default_value = "buried by ms mq bury")]
    reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct TouchArgs {
    receipt: Receipt,
    /// Time that the lease lasts from now on. Default: as long as at first.
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    lease: Option<Duration>,
}

/// Acknowledges all; the first refusal is the result.
pub(super) async fn ack(client: &MqClient, args: &AckArgs) -> Result<(), Failure> {
    // One by one finds the node also in a list without numbers.
    if let [receipt] = args.receipts[..] {
        return Ok(client.ack(receipt).await?);
    }
    let results = client.ack_batch(&args.receipts).await?;
    results.into_iter().try_for_each(|result| result.map_err(|error| QueueError::Service(error).into()))
}

pub(super) async fn nack(client: &MqClient, args: &NackArgs) -> Result<(), Failure> {
    Ok(client.nack(args.receipt, args.delay, &args.reason).await?)
}

pub(super) async fn bury(client: &MqClient, args: &BuryArgs) -> Result<(), Failure> {
    Ok(client.bury(args.receipt, &args.reason).await?)
}

pub(super) async fn touch(client: &MqClient, args: &TouchArgs) -> Result<(), Failure> {
    Ok(client.touch(args.receipt, args.lease).await?)
}

pub(super) async fn give_back(client: &MqClient, args: &AckArgs) -> Result<(), Failure> {
    Ok(client.give_back(&args.receipts).await?)
}
