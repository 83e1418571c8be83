//! Requests of the text protocol, carried out.

use std::time::Duration;

use ms_mq::{Change, Delivery, Engine, Look, MessageId, Mode, MqError, Pop, Push, QueueName, Settings, Verb};
use serde::Serialize;

use super::{
    MESSAGE, RESULT, answer, channel_message,
    decode::Request,
    line::{self, Command},
};
use crate::{
    channels::Subscriber,
    limits::CHANNELS,
    message::Message,
    protocol::{Leased, Refusal, Reply},
};

/// Time that a pop waits in the engine before it begins anew.
const WAIT: Duration = Duration::from_secs(3600);

pub(super) async fn perform<E: Engine>(
    engine: &E,
    subscriber: &Subscriber,
    request: Request,
) -> Result<Reply, Refusal> {
    match request {
        Request::Push(push) => self::push(engine, push).await,
        Request::PushAll(pushes) => push_all(engine, pushes).await,
        Request::Publish(channel, message) => publish(engine, subscriber, &channel, &message),
        Request::Line(command) => self::command(engine, subscriber, command).await,
    }
}

async fn command<E: Engine>(engine: &E, subscriber: &Subscriber, command: Command) -> Result<Reply, Refusal> {
    match command {
        Command::Declare(queue) => declare(engine, queue).await,
        Command::Pop(queue) => pop(engine, queue).await,
        Command::Ack { id, queue } => ack(engine, &id, queue).await,
        Command::Dead(topic, second) => dead(engine, &topic, &second).await,
        Command::Configure(topic, settings) => {
            let configured = engine.change(Change::Configure(topic, settings)).await;
            configured.map_err(|error| Refusal::new("E_INVALID_SET", error))?;
            Ok(ok())
        }
        Command::Subscribe(channel) => {
            let refused = |text: String| Refusal::new("E_INVALID_SUBSCRIBE", text);
            engine.permits(Verb::Take, &channel).map_err(|error| refused(error.to_string()))?;
            if subscriber.subscribe(&channel) {
                return Ok(ok());
            }
            Err(refused(format!("this connection has {CHANNELS} channels: use another one for more")))
        }
        Command::PublishLine(channel, message) => publish(engine, subscriber, &channel, message.as_bytes()),
        // The first two come with their bodies, as requests of their own.
        Command::Push(_) | Command::PushAll(..) | Command::Publish(_) | Command::Ping => Ok(Reply::default()),
    }
}

fn ok() -> Reply {
    answer(RESULT, b"ok").into()
}

fn publish<E: Engine>(engine: &E, subscriber: &Subscriber, channel: &str, message: &[u8]) -> Result<Reply, Refusal> {
    engine.permits(Verb::Push, channel).map_err(|error| Refusal::new("E_INVALID_PUBLISH", error))?;
    match subscriber.channels().publish(channel, &channel_message(message)) {
        0 => Err(Refusal::new("E_INVALID_PUBLISH", "no subscribers")),
        _ => Ok(ok()),
    }
}

async fn declare<E: Engine>(engine: &E, queue: QueueName) -> Result<Reply, Refusal> {
    let refused = |error: MqError| Refusal::new("E_INVALID_DECLARE", error);
    // New topics of gmq are fuzzy.
    if mode(engine, &queue.topic).await.map_err(refused)?.is_none() {
        let fuzzy = Settings { mode: Some(Mode::Fuzzy), ..Settings::default() };
        engine.change(Change::Configure(queue.topic.clone(), fuzzy)).await.map_err(refused)?;
    }
    engine.change(Change::Declare(queue)).await.map_err(refused)?;
    Ok(ok())
}

/// The mode of a topic; `None` if there is none.
async fn mode<E: Engine>(engine: &E, topic: &str) -> Result<Option<Mode>, MqError> {
    match engine.look(Look::Stats { topic: Some(topic.to_owned()), after: None }).await {
        Ok(seen) => Ok(seen.topics().0.first().map(|topic| topic.mode)),
        Err(MqError::NoTopic(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn push<E: Engine>(engine: &E, push: Push) -> Result<Reply, Refusal> {
    let routed = push.route_key.as_ref().map(|route| (push.topic.clone(), route.clone()));
    match engine.push(push).await {
        Ok(id) => Ok(answer(RESULT, id.to_string().as_bytes()).into()),
        Err(error) => Err(unmatched(engine, routed, &error)
            .await
            .map_or_else(|| Refusal::new("E_INVALID_PUSH", &error), |text| Refusal::new("E_INVALID_READ", text))),
    }
}

async fn push_all<E: Engine>(engine: &E, pushes: Vec<Push>) -> Result<Reply, Refusal> {
    let routed = pushes.iter().find_map(|push| Some((push.topic.clone(), push.route_key.clone()?)));
    match engine.push_batch(pushes).await {
        Ok(ids) => {
            let ids: Vec<_> = ids.iter().map(MessageId::to_string).collect();
            Ok(answer(RESULT, format!("[{}]", ids.join(",")).as_bytes()).into())
        }
        Err(error) => {
            let text = unmatched(engine, routed, &error).await;
            Err(Refusal::new("E_INVALID_PUSH", text.unwrap_or_else(|| error.to_string())))
        }
    }
}

/// The error of a push, in gmq's words, if it had no queue to go to.
async fn unmatched<E: Engine>(engine: &E, routed: Option<(String, String)>, error: &MqError) -> Option<String> {
    let (topic, first) = routed?;
    let route = match error {
        MqError::NoQueue(route) => route,
        MqError::NoTopic(_) => &first,
        _ => return None,
    };
    let mode = match mode(engine, &topic).await {
        Ok(Some(Mode::Exact)) => 1,
        _ => 2,
    };
    Some(format!("routeKey:{route} is not match with queue, the mode is {mode}"))
}

async fn pop<E: Engine>(engine: &E, QueueName { topic, queue }: QueueName) -> Result<Reply, Refusal> {
    let pop = Pop { wait_ms: WAIT.as_millis() as u64, ..Pop::new(topic, queue) };
    loop {
        let popped = engine.pop(&pop).await.map_err(|error| {
            let text = match error {
                MqError::NoTopic(_) | MqError::NoQueue(_) => format!("bindKey:{} can't match queue", pop.queue),
                other => other.to_string(),
            };
            Refusal::new("E_INVALID_POP", text)
        })?;
        if let Some(delivery) = popped.first() {
            return Ok(messages(engine, &popped, &Message::from(delivery)));
        }
    }
}

/// An answer with these messages, which it holds until it is written.
fn messages<E: Engine>(engine: &E, deliveries: &[Delivery], data: &impl Serialize) -> Reply {
    let leased = Leased::new(engine, deliveries.iter().filter_map(|delivery| delivery.receipt).collect());
    // Strings and numbers are always JSON.
    let data = serde_json::to_vec(data).unwrap_or_default();
    Reply { bytes: answer(MESSAGE, &data), leased }
}

async fn ack<E: Engine>(engine: &E, id: &str, queue: QueueName) -> Result<Reply, Refusal> {
    let refused = |text: String| Refusal::new("E_INVALID_ACK", text);
    let number: MessageId = id.parse().map_err(|_| refused(format!("msgId:{id} is not exist.")))?;
    let key = queue.queue.clone();
    match engine.change(Change::AckById(queue, number)).await {
        Ok(_) => Ok(ok()),
        Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => {
            Err(refused(format!("bindkey:{key} is not associated with queue")))
        }
        // Leased no more, or not yet.
        Err(MqError::NoMessage(_) | MqError::NotLeased(_)) => Err(refused(format!("msgId:{id} is not exist."))),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Leases dead letters: the oldest of a queue, or in the older variant so many of the queue `default`. A number that is the bind
/// key of a queue is that.
async fn dead<E: Engine>(engine: &E, topic: &str, second: &str) -> Result<Reply, Refusal> {
    let refused = |text: String| Refusal::new("E_INVALID_DEAD", text);
    let QueueName { topic, queue } = line::name(topic, second);
    let count = second.parse::<u32>().ok();
    let found = match engine.pop_dead(&Pop::new(&topic, &queue)).await {
        Ok(found) => found,
        Err(MqError::NoTopic(_) | MqError::NoQueue(_)) if count.is_some() => {
            let default = line::name(&topic, "");
            let pop = Pop { max_messages: count.unwrap_or(1).clamp(1, 1000), ..Pop::new(default.topic, default.queue) };
            let letters = match engine.pop_dead(&pop).await {
                Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => Vec::new(),
                letters => letters.map_err(|error| refused(error.to_string()))?,
            };
            if letters.is_empty() {
                return Err(refused("no message".to_owned()));
            }
            let list: Vec<_> = letters.iter().map(Message::from).collect();
            return Ok(messages(engine, &letters, &list));
        }
        Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => Vec::new(),
        Err(error) => return Err(refused(error.to_string())),
    };
    match found.first() {
        Some(delivery) => Ok(messages(engine, &found, &Message::from(delivery))),
        None => Err(refused(format!("bindkey:{queue} is not associated with queue"))),
    }
}
