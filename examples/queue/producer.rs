//! Pushes jobs to the nodes in turn.

use std::{error::Error, time::Duration};

use ms_mq::{MqClient, Push, QueueError};
use tokio::time::{interval, sleep};

use crate::args::ProducerArgs;

/// A push that fails is tried again so often.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Pushes jobs 1 to `count`, each until a node has taken it.
pub(crate) async fn run(queue: &MqClient, args: &ProducerArgs) -> Result<(), Box<dyn Error>> {
    let mut pace = interval(Duration::from_secs(1) / args.rate);
    for job in 1..=args.count {
        pace.tick().await;
        let mut tries = 1;
        let id = loop {
            match queue.push(Push::new(args.topic.as_str(), format!("job {job}").into_bytes())).await {
                Ok(id) => break id,
                // The node says what is wrong: it would say it again.
                Err(error @ QueueError::Service(_)) => return Err(error.into()),
                Err(error) if tries == TRIES => return Err(error.into()),
                // Nobody knows whether a node has taken it: it may be there twice, and the consumer sorts that out.
                Err(error) => eprintln!("job {job} is pushed again: {error}"),
            }
            tries += 1;
            sleep(PAUSE).await;
        };
        println!("job {job} is on node {}", id.node());
    }
    Ok(())
}
