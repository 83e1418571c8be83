use std::{collections::BTreeSet, time::Duration};

use ms_lb::{Choice, KeySource, MqttBalancer, MqttConfig, Routes, Rule, original::BrokerNet};
use ms_rpc::{Balancer, EjectionConfig};
use ms_tests::{Mosquitto, Program};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{BALANCERS, SERVICES, World};

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of a broker, and what it hears.
struct Peer {
    client: AsyncClient,
    heard: mpsc::Receiver<(String, String)>,
}

impl Peer {
    /// Returns when the broker has confirmed what is subscribed.
    async fn subscribed(broker: &Mosquitto, filter: &str) -> Self {
        let mut options = MqttOptions::new(format!("peer-{}", fastrand::u64(..)), "127.0.0.1", broker.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, 64);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let (hear, heard) = mpsc::channel(64);
        timeout(PATIENCE, async { while !is_confirmed(&mut events).await {} }).await.unwrap();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(message)) = event {
                    let text = String::from_utf8(message.payload.to_vec()).unwrap();
                    if hear.send((message.topic, text)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { client, heard }
    }

    async fn publish(&self, topic: &str, text: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, text).await.unwrap();
    }

    async fn hear(&mut self) -> (String, String) {
        timeout(PATIENCE, self.heard.recv()).await.unwrap().unwrap()
    }
}

async fn is_confirmed(events: &mut EventLoop) -> bool {
    matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_)))
}

/// Two brokers, and a load balancer between them.
struct Brokers {
    world: World,
    front: Mosquitto,
    back: Mosquitto,
}

impl Brokers {
    async fn start() -> Self {
        let (front, back) = (Mosquitto::start().await.unwrap(), Mosquitto::start().await.unwrap());
        Self { world: World::new().await, front, back }
    }

    async fn balancer(&self) -> Program {
        let net = |port: u16, code: &str| json!({ "host": "127.0.0.1", "port": port, "user-name": "", "user-pwd": "", "server-uniquecode": code });
        let conns = self.world.conns();
        let file = json!({
            "broker-reg": {
                "path-prefix": BALANCERS, "server-mode": "zookeeper", "server-name": "mqtt-nginx",
                "nodedata": net(self.front.port(), "own-code"), "weight": 1, "conns": conns,
            },
            "service-reg": {
                "path-prefix": SERVICES, "server-mode": "zookeeper_mqtt", "normal-node-algorithm": "roundrobin", "conns": conns,
            },
            "recvbroker-info": { "nets": [net(self.back.port(), "")] },
            "router-rule": { "rules": [
                { "rule": "^configs/", "server-name": "configs", "is-master": false },
                { "rule": "^gone/", "server-name": "gone", "is-master": false },
            ] },
        });
        self.world.write("mqtt-load-balance.cfg", &file);
        self.world.ms(&["lb", "mqtt", "-c", "mqtt-load-balance.cfg"]).await
    }

    /// A service's entry in ZooKeeper, with the address of its broker.
    async fn listed(&self, code: &str) -> Program {
        let port = self.back.port().to_string();
        self.world.peer("mqtt", SERVICES, &["configs", code, &port]).await
    }

    /// A server as go-micro-service's subscribes: to requests that end with its own code.
    async fn server(&self, code: &str) -> Peer {
        Peer::subscribed(&self.back, &format!("/+/+/POST/+/configs/serverinfo/{code}/")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_one_server_each_and_answers_come_back() {
    let brokers = Brokers::start().await;
    let (_one, _two, _three) =
        (brokers.listed("one").await, brokers.listed("two").await, brokers.listed("three").await);
    let balancer = brokers.balancer().await;
    let own = json!({
        "serverip": "127.0.0.1", "serverport": brokers.front.port(), "username": "", "userpwd": "", "serveruniquecode": "own-code", "weight": 1,
    });
    assert_eq!(brokers.world.found(BALANCERS, "mqtt-nginx").await["normals"], json!([own]));

    // `one` leads, so the others are normals: they share the address of their broker.
    let (mut two, mut three) = (brokers.server("two").await, brokers.server("three").await);
    let mut client = Peer::subscribed(&brokers.front, "/1.0/cgws/+/+").await;
    // Each thread takes turns of its own: of two requests both may reach the same server.
    let mut reached = BTreeSet::new();
    for round in 0..10 {
        let topic = format!("/1.0/cgws/POST/s-{round}");
        let mut expected = Vec::new();
        for _ in 0..2 {
            client.publish(&format!("{topic}/own-code/configs/serverinfo/"), "hello").await;
        }
        for _ in 0..2 {
            let (code, (relayed, text)) = tokio::select! {
                heard = two.hear() => ("two", heard),
                heard = three.hear() => ("three", heard),
            };
            assert_eq!(text, "hello");
            let steps: Vec<_> = relayed.split('/').collect();
            assert_eq!(
                (steps[1], steps[3], steps[5], steps[6], steps[7], steps.len()),
                ("1.0", "POST", "configs", "serverinfo", code, 9),
                "{relayed}"
            );
            let server = if code == "two" { &two } else { &three };
            server.publish(&steps[..5].join("/"), &format!("done by {code}")).await;
            expected.push((topic.clone(), format!("done by {code}")));
            reached.insert(code);
        }
        let mut answers = vec![client.hear().await, client.hear().await];
        answers.sort();
        expected.sort();
        assert_eq!(answers, expected);
    }
    assert_eq!(reached, BTreeSet::from(["three", "two"]));
    assert!(two.heard.try_recv().is_err() && three.heard.try_recv().is_err(), "nothing is delivered twice");
    assert!(balancer.stop().await.unwrap().success());
    assert_eq!(brokers.world.found(BALANCERS, "mqtt-nginx").await["normals"], json!([]), "it left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_listed_no_more_gets_nothing_while_another_is() {
    let brokers = Brokers::start().await;
    let one = brokers.listed("one").await;
    let _balancer = brokers.balancer().await;
    let client = Peer::subscribed(&brokers.front, "/1.0/cgws/+/+").await;
    let mut first = brokers.server("one").await;
    client.publish("/1.0/cgws/POST/s/own-code/configs/serverinfo/", "hello").await;
    first.hear().await;
    drop(one);
    let gone = async { while brokers.world.found(SERVICES, "configs").await["master"] != Value::Null {} };
    timeout(PATIENCE, gone).await.unwrap();
    let _two = brokers.listed("two").await;
    let mut second = brokers.server("two").await;
    // Until the balancer knows of it, requests go to the last one that was listed.
    let known = async {
        loop {
            client.publish("/1.0/cgws/POST/probe/own-code/configs/serverinfo/", "probe").await;
            if timeout(Duration::from_millis(200), second.heard.recv()).await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, known).await.unwrap();
    while first.heard.try_recv().is_ok() {}
    for request in 0..6 {
        client.publish("/1.0/cgws/POST/s/own-code/configs/serverinfo/", &request.to_string()).await;
    }
    let mut heard = 0;
    while heard < 6 {
        heard += u32::from(second.hear().await.1 != "probe");
    }
    assert!(first.heard.try_recv().is_err(), "nothing goes to the one that has left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_and_no_rule_are_answered_within_a_second() {
    let brokers = Brokers::start().await;
    let _balancer = brokers.balancer().await;
    let mut client = Peer::subscribed(&brokers.front, "/2.0/cgws/+/+").await;
    for (rest, error, text) in [("gone/x/", 503, "`gone`"), ("other/x/", 404, "no rule matches other/x/")] {
        let asked = Instant::now();
        client.publish(&format!("/2.0/cgws/GET/s/own-code/{rest}"), "").await;
        let (topic, answer) = client.hear().await;
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((topic.as_str(), &answer["error"]), ("/2.0/cgws/GET/s", &json!(error)));
        assert!(answer["error-string"].as_str().unwrap().contains(text), "{answer}");
    }
    // Their senders wait for no answer: the next one is that of the request behind them.
    client.publish("/2.0/cgws/UPDATED/s/own-code/gone/x/", "").await;
    client.publish("/2.0/cgws/DELETED/s/own-code/other/x/", "").await;
    client.publish("/2.0/cgws/PUT/last/own-code/other/x/", "").await;
    assert_eq!(client.hear().await.0, "/2.0/cgws/PUT/last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_is_used_again() {
    let mut brokers = Brokers::start().await;
    let _listed = brokers.listed("one").await;
    let _balancer = brokers.balancer().await;
    let mut client = Peer::subscribed(&brokers.front, "/1.0/cgws/+/+").await;
    brokers.back.down();
    let topic = "/1.0/cgws/POST/s/own-code/configs/serverinfo/";
    loop {
        // Until the balancer has seen it: a request before that is on its way to nobody.
        client.publish(topic, "").await;
        let answered = timeout(Duration::from_millis(200), client.heard.recv()).await;
        if let Ok(Some((_, answer))) = answered {
            assert!(answer.contains("no broker of the services can be reached"), "{answer}");
            break;
        }
    }
    brokers.back.up().await.unwrap();
    let mut server = brokers.server("one").await;
    let asked = loop {
        client.publish(topic, "again").await;
        tokio::select! {
            heard = server.hear() => break heard.0,
            // It is not connected again yet.
            refused = client.hear() => assert!(refused.1.contains("\"error\":503"), "{refused:?}"),
        }
    };
    let steps: Vec<_> = asked.split('/').collect();
    server.publish(&steps[..5].join("/"), "here again").await;
    while client.hear().await.1 != "here again" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_answered_for_and_ejected() {
    let (front, back) = (Mosquitto::start().await.unwrap(), Mosquitto::start().await.unwrap());
    let registry = ms_register::connect("static://127.0.0.1:1,127.0.0.1:2").await.unwrap();
    let choice = Choice::Balanced(Balancer::RoundRobin.into(), KeySource::None);
    let rule = Rule::new(".*", "configs", choice).unwrap();
    let routes = Routes::new(&registry, vec![rule], &EjectionConfig::default()).unwrap();
    routes.settle(PATIENCE).await;
    let net = |broker: &Mosquitto| -> BrokerNet {
        serde_json::from_value(json!({ "host": "127.0.0.1", "port": broker.port() })).unwrap()
    };
    let mut config = MqttConfig::default();
    config.timeout = Duration::from_millis(200);
    let balancer = MqttBalancer::start(routes, "own", &net(&front), &[net(&back)], config);
    balancer.connected(PATIENCE).await.unwrap();

    // The ids of a static list are addresses; of these two servers one answers, and one never does.
    let mut alive = Peer::subscribed(&back, "/+/+/GET/+/x/127.0.0.1:1/").await;
    let mut client = Peer::subscribed(&front, "/1.0/cgws/+/+").await;
    let mut late = 0;
    for _ in 0..20 {
        client.publish("/1.0/cgws/GET/s/own/x/", "").await;
        let answer = tokio::select! {
            (topic, _) = alive.hear() => {
                let steps: Vec<_> = topic.split('/').collect();
                alive.publish(&steps[..5].join("/"), "here").await;
                client.hear().await.1
            }
            (_, answer) = client.hear() => answer,
        };
        if answer != "here" {
            assert!(
                answer.contains("\"error\":504") && answer.contains("`configs` does not answer within 200ms"),
                "{answer}"
            );
            late += 1;
        }
    }
    assert_eq!(late, 5, "after five it is left out");
}
