//! Handles the jobs of all nodes, each once, though some may come twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ms_mq::{ConsumerOptions, DEFAULT_QUEUE, Delivery, MqClient};
use ms_rpc::shutdown_signal;
use tokio::sync::Notify;

use crate::args::ConsumerArgs;

/// Time for the jobs that are under way when the consumer stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// The jobs that were done; a real consumer keeps them where it keeps their results.
#[derive(Debug, Default)]
struct Done {
    jobs: Mutex<HashSet<String>>,
    enough: Notify,
}

impl Done {
    /// Ok acks the message; an error brings it back later.
    fn handle(&self, delivery: &Delivery, wanted: Option<usize>) -> Result<(), String> {
        let job = String::from_utf8(delivery.body.to_vec()).map_err(|_| "a job is text".to_owned())?;
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if !jobs.insert(job.clone()) {
            println!("{job} is done already");
            return Ok(());
        }
        println!("{job} of node {} is done", delivery.id.node());
        if Some(jobs.len()) == wanted {
            self.enough.notify_one();
        }
        Ok(())
    }
}

/// Handles jobs until there were enough, or a signal comes; then finishes those that are under way.
pub(crate) async fn run(queue: &MqClient, args: &ConsumerArgs) {
    let done = Arc::new(Done::default());
    let options = ConsumerOptions { concurrency: args.concurrency, ..ConsumerOptions::default() };
    let (seen, wanted) = (done.clone(), args.count);
    let consumer = queue.consume(&args.topic, DEFAULT_QUEUE, options, move |delivery: Delivery| {
        let seen = seen.clone();
        async move { seen.handle(&delivery, wanted) }
    });
    tokio::select! {
        () = done.enough.notified() => {}
        _ = shutdown_signal() => {}
    }
    consumer.stop(PATIENCE).await;
}
