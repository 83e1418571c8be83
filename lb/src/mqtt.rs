//! MQTT load balancer in go-micro-service's manner: takes requests from one broker to services behind others, and the answers back.

mod broker;
mod pending;
mod topic;

use std::{fmt, time::Duration};

use bytes::Bytes;
use ms_rpc::Outcome;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, warn};

use crate::{
    original::BrokerNet,
    routes::{Chosen, Routes},
    rule::KeySource,
};
use broker::{Broker, Message};
use pending::Pending;
use topic::Request;

/// Messages of a broker that wait to be handled; then its connection waits.
const WAITING: usize = 1_024;

/// Settings of an MQTT load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MqttConfig {
    /// Time for the answer of a service. Default 60 s.
    pub timeout: Duration,
    /// Requests that wait for an answer at a time; more are refused. Default 65,536.
    pub most: usize,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), most: 65_536 }
    }
}

/// MQTT load balancer. It ends when it is dropped.
///
/// A request is published at `/<version>/<name>/<ACTION>/<session>/<code of the balancer>/<topic>/`, and answered at
/// `/<version>/<name>/<ACTION>/<session>`. The rules see `<topic>/`; the chosen server gets the request at a topic that ends with its own code.
///
/// What cannot be relayed is answered with JSON, `{"error":503,"error-string":".."}`: 404 no rule matches, 503 no instance is listed, 504 the service does not
/// answer in time. Senders of `UPDATED` and `DELETED` wait for no answer, and get none of these.
pub struct MqttBalancer {
    front: Broker,
    backs: Vec<Broker>,
    relaying: JoinHandle<()>,
}

impl MqttBalancer {
    /// Connects to the brokers in the background, and begins to relay. Needs a tokio runtime. `code` is the balancer's own code at `front`, the
    /// broker of its clients; services subscribe at all of `backs`, or are told the same there.
    pub fn start(routes: Routes, code: &str, front: &BrokerNet, backs: &[BrokerNet], config: MqttConfig) -> Self {
        let name = format!("ms-lb-{}", uuid::Uuid::new_v4().simple());
        let (request, requests) = mpsc::channel(WAITING);
        let (answer, answers) = mpsc::channel(WAITING);
        let front = Broker::start(front, topic::requests(code), &request);
        let backs: Vec<_> = backs.iter().map(|net| Broker::start(net, topic::answers(&name), &answer)).collect();
        let relay = Relay {
            routes,
            code: code.to_owned(),
            name,
            front: front.clone(),
            backs: backs.clone(),
            turn: 0,
            pending: Pending::new(config.most),
            timeout: config.timeout,
        };
        let relaying = tokio::spawn(relay.run(requests, answers));
        Self { front, backs, relaying }
    }

    /// Waits until all brokers have confirmed what is subscribed.
    ///
    /// # Errors
    /// The brokers that have not within this time, and why.
    pub async fn connected(&self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        for broker in self.backs.iter().chain([&self.front]) {
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, broker.connected()).await.is_err() {
                return Err(format!("the broker {} cannot be reached: {}", broker.address(), broker.problem()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MqttBalancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttBalancer").field("front", &self.front).field("backs", &self.backs).finish_non_exhaustive()
    }
}

impl Drop for MqttBalancer {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

/// A request whose answer is awaited.
struct Waiting {
    /// Topic for the answer.
    answer_to: String,
    service: String,
    /// The server, if the sender waits for its answer: of others silence says nothing.
    chosen: Option<Chosen>,
    sent: Instant,
}

struct Relay {
    routes: Routes,
    code: String,
    /// Name under which services answer; no other has it.
    name: String,
    front: Broker,
    backs: Vec<Broker>,
    /// The broker that is asked next.
    turn: usize,
    pending: Pending<Waiting>,
    timeout: Duration,
}

/// Reason for an answer of the balancer's own.
struct Refusal(u16, String);

impl Relay {
    async fn run(mut self, mut requests: mpsc::Receiver<Message>, mut answers: mpsc::Receiver<Message>) {
        loop {
            let due = self.pending.next_due();
            tokio::select! {
                Some(message) = requests.recv() => self.request(message),
                Some(message) = answers.recv() => self.answer(message),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.expire(),
                else => return,
            }
        }
    }

    fn request(&mut self, message: Message) {
        let Some(request) = Request::parse(&message.topic, &self.code) else {
            return debug!("{} is no request", message.topic);
        };
        if let Err(refusal) = self.relay(&request, &message) {
            debug!("{} is refused: {}", message.topic, refusal.1);
            if request.is_awaited() {
                self.refuse(request.answer_to(), refusal);
            }
        }
    }

    fn relay(&mut self, request: &Request<'_>, message: &Message) -> Result<(), Refusal> {
        let Some(route) = self.routes.find(request.rest) else {
            return Err(Refusal(404, format!("no rule matches {}", request.rest)));
        };
        let key = match route.key() {
            KeySource::None => None,
            // A client has no address here: its name stands for it.
            KeySource::Client => Some(request.name.as_bytes()),
            KeySource::Url | KeySource::Header(_) => Some(request.rest.as_bytes()),
        };
        // A server that is gone is noticed only by its silence.
        let chosen = route.choose_listed(key).map_err(|reason| Refusal(503, reason))?;
        let service = route.service().to_owned();
        let (code, now) = (chosen.instance().id().to_owned(), Instant::now());
        let chosen = request.is_awaited().then_some(chosen);
        let waiting = Waiting { answer_to: request.answer_to(), service, chosen, sent: now };
        let Some(session) = self.pending.insert(now + self.timeout, waiting) else {
            return Err(Refusal(503, "too many requests wait for an answer".to_owned()));
        };
        let to = request.relayed(&self.name, session, &code);
        let sent = self.next_back().and_then(|back| back.publish(to, message.qos, message.payload.clone()));
        sent.map_err(|reason| {
            self.pending.take(session);
            Refusal(503, reason)
        })
    }

    /// The connected broker whose turn it is.
    fn next_back(&mut self) -> Result<&Broker, String> {
        let count = self.backs.len();
        let next = (0..count).map(|step| (self.turn + step) % count).find(|index| self.backs[*index].is_connected());
        let index = next.ok_or("no broker of the services can be reached")?;
        self.turn = index + 1;
        Ok(&self.backs[index])
    }

    fn answer(&mut self, message: Message) {
        let Some(waiting) = topic::session(&message.topic).and_then(|session| self.pending.take(session)) else {
            return debug!("nobody waits for {}", message.topic);
        };
        if let Some(chosen) = waiting.chosen {
            chosen.finish(Outcome::Answered, waiting.sent.elapsed());
        }
        self.deliver(waiting.answer_to, message.payload);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for waiting in self.pending.expired(now) {
            let Some(chosen) = waiting.chosen else { continue };
            chosen.finish(Outcome::Unknown, waiting.sent.elapsed());
            let text = format!("`{}` does not answer within {:?}", waiting.service, self.timeout);
            self.refuse(waiting.answer_to, Refusal(504, text));
        }
    }

    fn refuse(&self, to: String, Refusal(error, reason): Refusal) {
        let answer = serde_json::json!({ "error": error, "error-string": reason });
        self.deliver(to, answer.to_string().into());
    }

    fn deliver(&self, to: String, payload: Bytes) {
        if let Err(reason) = self.front.publish(to, rumqttc::QoS::AtLeastOnce, payload) {
            warn!("an answer is lost: {reason}");
        }
    }
}
