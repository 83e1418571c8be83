//! Requests of the binary protocol, carried out.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use ms_mq::{Change, DEFAULT_QUEUE, Delivery, End, Engine, Look, MessageId, MqError, Pop, QueueName};
use tokio::time::timeout;

use super::frame::{GONE_AT_POP, Job, RESERVED, Request, message};
use crate::{
    limits::POP_WAIT,
    message::Body,
    protocol::{Leased, Reply},
};

/// Topics that a connection remembers.
const REMEMBERED: usize = 64;
/// Pause of a job that is too long for this protocol: others come first meanwhile.
const TOO_LONG: Duration = Duration::from_secs(1);

pub(super) async fn perform<E: Engine>(
    engine: &E,
    topics: &Mutex<Vec<String>>,
    request: Request,
) -> Result<Reply, String> {
    match request {
        Request::Push(push) => {
            let id = engine.push(push).await.map_err(|error| error.to_string())?;
            Ok(message(&id.to_string()).into())
        }
        Request::Pop(wanted) => match timeout(POP_WAIT, first(engine, &wanted)).await {
            Ok(found) => {
                let (topic, delivery) = found.map_err(|error| error.to_string())?;
                remember(topics, &topic);
                job(engine, topic, delivery).await
            }
            Err(_) => Ok(message("nothing").into()),
        },
        Request::Ack(id) => {
            let remembered = topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ack(engine, &remembered, MessageId(id)).await
        }
        Request::Ping => Ok(Reply::default()),
    }
}

/// The next message of the first topic that has one. Topics that do not exist have none.
async fn first<E: Engine>(engine: &E, topics: &[String]) -> Result<(String, Delivery), MqError> {
    let wait_ms = 2 * POP_WAIT.as_millis() as u64;
    let wait = async |topic: &String| {
        let pop = Pop { wait_ms, ..Pop::new(topic, DEFAULT_QUEUE) };
        match engine.pop(&pop).await {
            Ok(popped) => popped.into_iter().next().map(|delivery| Ok((topic.clone(), delivery))),
            Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => None,
            Err(error) => Some(Err(error)),
        }
    };
    let mut waiting: Vec<_> = topics.iter().map(|topic| Some(Box::pin(wait(topic)))).collect();
    // Polled in their order; those that are dropped unfinished have taken nothing.
    let mut found = pin!(poll_fn(|context| {
        for slot in &mut waiting {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(Some(found)) => return Poll::Ready(found),
                Poll::Ready(None) => *slot = None,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }));
    found.as_mut().await
}

fn remember(topics: &Mutex<Vec<String>>, topic: &str) {
    let mut topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
    topics.retain(|known| known != topic);
    topics.truncate(REMEMBERED - 1);
    topics.insert(0, topic.to_owned());
}

async fn job<E: Engine>(engine: &E, topic: String, delivery: Delivery) -> Result<Reply, String> {
    let is_gone = delivery.headers.iter().any(|(name, _)| name == GONE_AT_POP);
    let ttr = delivery.lease().filter(|_| !is_gone).unwrap_or_default();
    let Body { text, encoding } = Body::new(&delivery.body);
    let job = Job {
        id: delivery.id.0,
        topic,
        delay: 0,
        ttr: ttr.as_millis().div_ceil(1000) as u64,
        body: text,
        encoding,
        status: RESERVED,
        consume_num: delivery.retries,
    };
    let leased = Leased::new(engine, delivery.receipt.into_iter().collect());
    let (Some(bytes), receipt) = (job.answer(), delivery.receipt) else {
        let text = format!("message {} is too long for a frame of this protocol: pop it by another one", delivery.id);
        if let (Some(receipt), Some(leased)) = (delivery.receipt, leased) {
            let ended = engine.end(&receipt, &End::nack(TOO_LONG, "it is too long for a frame of v111")).await;
            if ended.is_ok() {
                leased.delivered();
            }
        }
        return Err(text);
    };
    match (receipt, leased) {
        (Some(receipt), Some(leased)) if is_gone => {
            engine.end(&receipt, &End::Ack).await.map_err(|error| error.to_string())?;
            leased.delivered();
            Ok(bytes.into())
        }
        (_, leased) => Ok(Reply { bytes, leased }),
    }
}

/// Ends the lease of a job, wherever it is: the request names no topic.
async fn ack<E: Engine>(engine: &E, remembered: &[String], id: MessageId) -> Result<Reply, String> {
    for topic in remembered {
        if ack_in(engine, topic, id).await? {
            return Ok(message("success").into());
        }
    }
    let mut after = None;
    loop {
        let seen = engine.look(Look::Stats { topic: None, after }).await.map_err(|error| error.to_string())?;
        let (topics, next) = seen.topics();
        for topic in topics {
            if topic.queues.iter().any(|queue| queue.queue == DEFAULT_QUEUE && queue.leased > 0)
                && ack_in(engine, &topic.topic, id).await?
            {
                return Ok(message("success").into());
            }
        }
        if next.is_none() {
            return Err(format!("job {id} is not leased"));
        }
        after = next;
    }
}

/// Returns false if the job is not leased there.
async fn ack_in<E: Engine>(engine: &E, topic: &str, id: MessageId) -> Result<bool, String> {
    match engine.change(Change::AckById(QueueName::new(topic, DEFAULT_QUEUE), id)).await {
        Ok(_) => Ok(true),
        Err(MqError::NoTopic(_) | MqError::NoQueue(_) | MqError::NoMessage(_) | MqError::NotLeased(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
