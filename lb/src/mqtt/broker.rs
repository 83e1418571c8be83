//! Connection to a broker: made again whenever it is lost, and with it what is subscribed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ms_register::Backoff;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, SubscribeReasonCode};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::sleep,
};
use tracing::{info, warn};

use crate::original::BrokerNet;

/// Largest message that is taken from a broker, in bytes; a broker that sends a larger one is left, and connected again.
const LARGEST: usize = 4 << 20;
/// More that a relayed message may have: its topic is another one.
const LARGEST_TOPIC: usize = 1 << 17;
/// Messages on their way to a broker; more are refused.
const OUTGOING: usize = 4_096;
/// Time after which a silent broker is pinged.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) payload: Bytes,
}

/// A broker. Cheap to clone; the connection ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    address: Arc<str>,
    client: AsyncClient,
    connected: watch::Receiver<bool>,
    problem: Arc<Mutex<String>>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Broker {
    /// Connects in the background. What is published under `filter` goes to `messages`.
    pub(super) fn start(net: &BrokerNet, filter: String, messages: &mpsc::Sender<Message>) -> Self {
        // No two clients of a broker have one id: it ends the connection of the first one.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut options = MqttOptions::new(id, &net.host, net.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true);
        options.set_max_packet_size(LARGEST, LARGEST + LARGEST_TOPIC);
        if !net.user_name.is_empty() {
            options.set_credentials(&net.user_name, &net.user_pwd);
        }
        let (client, events) = AsyncClient::new(options, OUTGOING);
        let (state, connected) = watch::channel(false);
        let (address, problem) = (net.address(), Arc::new(Mutex::new("it does not answer".to_owned())));
        let follower = Follower {
            address: address.clone(),
            filter,
            client: client.clone(),
            state,
            problem: problem.clone(),
            messages: messages.clone(),
        };
        let task = tokio::spawn(follower.run(events)).abort_handle();
        Self { address: address.into(), client, connected, problem, _task: Arc::new(Task(task)) }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Reason why it could not be reached when that was tried last.
    pub(super) fn problem(&self) -> String {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits until the broker has confirmed what is subscribed.
    pub(super) async fn connected(&self) {
        // An error: the task is gone, with the last clone of this.
        let _ = self.connected.clone().wait_for(|connected| *connected).await;
    }

    /// Publishes without waiting.
    pub(super) fn publish(&self, topic: String, qos: QoS, payload: Bytes) -> Result<(), String> {
        if !self.is_connected() {
            return Err(format!("the broker {} cannot be reached", self.address));
        }
        let busy = |_| format!("the broker {} takes no more messages", self.address);
        self.client.try_publish(topic, qos, false, payload).map_err(busy)
    }
}

/// The task behind a broker.
struct Follower {
    address: String,
    filter: String,
    client: AsyncClient,
    state: watch::Sender<bool>,
    problem: Arc<Mutex<String>>,
    messages: mpsc::Sender<Message>,
}

impl Follower {
    async fn run(self, mut events: EventLoop) {
        let mut backoff = Backoff::default();
        loop {
            let failure = match events.poll().await {
                Ok(Event::Incoming(packet)) => self.incoming(packet, &mut backoff).await,
                Ok(Event::Outgoing(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = failure {
                self.lost(reason);
                sleep(backoff.next_delay()).await;
            }
        }
    }

    async fn incoming(&self, packet: Packet, backoff: &mut Backoff) -> Result<(), String> {
        match packet {
            Packet::ConnAck(_) => {
                let busy = |_| "it takes no messages".to_owned();
                self.client.try_subscribe(&self.filter, QoS::AtLeastOnce).map_err(busy)?;
            }
            Packet::SubAck(answer) => {
                if answer.return_codes.iter().any(|code| matches!(code, SubscribeReasonCode::Failure)) {
                    return Err(format!("it refuses the topics {}", self.filter));
                }
                backoff.reset();
                if !self.state.send_replace(true) {
                    info!("the broker {} is connected", self.address);
                }
            }
            // Retained messages are old requests.
            Packet::Publish(message) if !message.retain => {
                let message = Message { topic: message.topic, qos: message.qos, payload: message.payload };
                // An error: the relay has ended.
                let _ = self.messages.send(message).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says so once for each reason.
    fn lost(&self, reason: String) {
        let was_connected = self.state.send_replace(false);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if was_connected || *problem != reason {
            warn!("the broker {} cannot be reached: {reason}", self.address);
        }
        *problem = reason;
    }
}
